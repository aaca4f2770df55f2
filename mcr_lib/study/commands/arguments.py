"""Arguments that several commands share, and the console that they print to."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line starts without it
    from mcr_lib.study.runs.config import Loaded


def group(commands: Any, name: str, help: str) -> Any:
    """Add a command that has commands of its own; returns the object that takes them."""
    parser = commands.add_parser(name, help=help)
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def add_profile(parser: ArgumentParser) -> None:
    """Add --profile, --out and --set; `load` reads them."""
    names = "of notebooks/profiles, or a yaml file (default: %(default)s)"
    parser.add_argument("--profile", default="tiny", metavar="NAME", help=names)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: outputs/NAME)")
    add_set(parser, "KEY=VALUE", "override a key of the profile; repeatable")


def add_set(parser: ArgumentParser, metavar: str, help: str) -> None:
    """Add --set."""
    parser.add_argument("--set", action="append", default=[], metavar=metavar, dest="pairs", help=help)


def add_data_set(parser: ArgumentParser, split: str | None = None) -> None:
    """Add --root and --version; for commands on a split also --source and --split."""
    parser.add_argument("--root", required=True, help="the folder that holds the data set's own folder")
    parser.add_argument("--version", help="of the annotation: v1 or v2 (default: the newest)")
    if split:
        parser.add_argument("--source", default="twitter-gmner", help="data set (default: %(default)s)")
        parser.add_argument("--split", default=split, help="default: %(default)s")


def load(given: Namespace) -> "Loaded":
    """The configuration that --profile, --out (from the working folder) and --set select."""
    from mcr_lib.study.runs import config

    out = given.out and Path(given.out).absolute()
    return config.load(given.profile, out, config.parse_set(given.pairs))


def console(width: int = 132) -> Any:
    """The console of rich, of this width where standard output is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)
