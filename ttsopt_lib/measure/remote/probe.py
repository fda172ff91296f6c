"""Sent to a device as text, before anything else is there: what it is and what it already has, as one JSON line.

Standard library only, and written so that a Python too old for the rest can still say its version.
"""

import sys

if __name__ == "__main__":  # no file of the home folder stands in for a library
    sys.path[:] = [path for path in sys.path if path]

import json  # noqa: E402
import os  # noqa: E402


def describe(root):
    """What stands below `root`, which is made where it is not there. Raises OSError."""
    voices = os.path.join(root, "voices")
    environments = os.path.join(root, "environments")
    for folder in (voices, environments):
        if not os.path.isdir(folder):
            os.makedirs(folder)
    ready = [name for name in os.listdir(environments) if os.path.exists(os.path.join(environments, name, ".ready"))]
    files = [name for name in os.listdir(voices) if os.path.isfile(os.path.join(voices, name))]
    disk = os.statvfs(root)
    return {
        "root": root,
        "python": list(sys.version_info[:2]),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "voices": {name: os.path.getsize(os.path.join(voices, name)) for name in files},
        "environments": ready,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(describe(os.path.abspath(sys.argv[1]))))
    except OSError as error:
        sys.exit("{}: {}".format(error.filename, error.strerror))  # noqa: UP032
