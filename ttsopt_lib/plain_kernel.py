"""The process in which our notebooks run: IPython's kernel without what a user has set up for their own work.

Started by :class:`ttsopt_lib.notebooks.Kernel`. No configuration file, no start-up file and no `PYTHONSTARTUP` is read:
a name that one of them defines would be taken for a parameter of the notebook.
"""

from __future__ import annotations

from typing import Any

from ipykernel.kernelapp import IPKernelApp


class PlainKernel(IPKernelApp):
    """A kernel that only its command line sets up."""

    def load_config_file(self, *_: Any, **__: Any) -> None:
        """Nobody's configuration."""

    def _run_startup_files(self) -> None:
        """Nobody's code before ours."""


if __name__ == "__main__":
    PlainKernel.launch_instance()
