"""Make text-to-speech voices small and fast, and prove it.

Data flows one way, and every arrow is a file on disk::

    params -> optimize -> measure (on each device) + evaluate (anywhere) -> report

Importing this package loads nothing heavy: a Raspberry Pi that only times a voice never imports torch.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ttsopt")
except PackageNotFoundError:  # run from a source tree that was never installed, as on a device
    __version__ = "0+source"
