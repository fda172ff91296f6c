"""`python -m ttsopt_lib.cli` is `ttsopt`."""

from ttsopt_lib.cli import main

main()
