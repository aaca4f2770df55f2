"""`python -m mcr_lib ...` is `mcr ...`, also under torchrun or accelerate."""

import sys

from mcr_lib.study.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
