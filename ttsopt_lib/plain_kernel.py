"""The process in which our notebooks run: IPython's kernel without what a user has set up for their own work.

Started by `Kernel`. No configuration file, no start-up file and no `PYTHONSTARTUP` is read:
a name that one of them defines would be taken for a parameter of the notebook. What a cell raises is told with its
module, by which the runner knows whether it is an error for a person or a defect of ours.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type


class _Shell(ZMQInteractiveShell):
    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        module = "" if etype.__module__ == "builtins" else f"{etype.__module__}."
        super()._showtraceback(SimpleNamespace(__name__=module + etype.__qualname__), evalue, stb)


class _Kernel(IPythonKernel):
    shell_class = Type(_Shell)


class PlainKernel(IPKernelApp):
    """A kernel that only its command line sets up."""

    kernel_class = Type(_Kernel)

    def load_config_file(self, *_: Any, **__: Any) -> None:
        """Nobody's configuration."""

    def _run_startup_files(self) -> None:
        """Nobody's code before ours."""


if __name__ == "__main__":
    PlainKernel.launch_instance()
