"""`python -m ttsopt_lib` is `ttsopt`."""

from ttsopt_lib.cli import main

main()
