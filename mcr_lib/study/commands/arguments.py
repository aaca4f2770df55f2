"""What several commands share: the configuration that is given, and the console that they print to."""

import sys
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from mcr_lib.study.runs import config


def load(given: Namespace) -> config.Loaded:
    """The configuration that --profile, --out (from the working folder) and --set select."""
    out = given.out and Path(given.out).absolute()
    return config.load(given.profile, out, config.parse_set(given.pairs))


def console(width: int = 132) -> Console:
    """The console of rich, of this width where standard output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else width)
