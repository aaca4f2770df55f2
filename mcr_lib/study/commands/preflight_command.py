"""`mcr preflight --profile NAME`, and the first thing that notebooks 03 and 04 show: would this run go
through on this machine?
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line starts without what the checks load
    from mcr_lib.study.runs.config import Loaded
    from mcr_lib.study.runs.preflight import Line

STYLES = {"✓": "green", "✗": "bold red", "–": "yellow"}


def add_commands(commands: Any) -> None:
    """Add the command to the parser of `mcr`."""
    preflight = commands.add_parser(
        "preflight", help="would a profile go through on this machine? a table, exit 2 on any ✗",
        description="✓ as it should be; ✗ with what to do; – cannot be checked on this machine, and why",
    )  # fmt: skip
    preflight.add_argument(
        "--profile",
        default="tiny",
        metavar="NAME",
        help="of notebooks/profiles, or a yaml file (default: %(default)s)",
    )
    preflight.add_argument("--out", metavar="DIR", help="run folder (default: outputs/NAME)")
    preflight.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="pairs",
        help="override a key; repeatable",
    )
    preflight.set_defaults(run=_preflight)


def lines(loaded: "Loaded") -> "list[Line]":
    """The table of a configuration."""
    from mcr_lib.study.runs.preflight import Context, run

    with tempfile.TemporaryDirectory() as scratch:
        return run(Context(loaded, Path(scratch) / "run"))


def rows(loaded: "Loaded") -> list[dict[str, str]]:
    """The table as rows for `tables.shown`, and last a line that sums it up."""
    found = lines(loaded)
    told = [
        {"check": line.check, "": line.mark, "found": line.result, "what to do": line.todo} for line in found
    ]
    return [
        *told,
        {
            "check": "in all",
            "": max((line.mark for line in found), key="✓–✗".index),
            "found": verdict(found),
            "what to do": "",
        },
    ]


def verdict(found: "Sequence[Line]") -> str:
    """How the table came out, in a sentence.

    Example:
        >>> from mcr_lib.study.runs.preflight import Line
        >>> verdict([Line("✓", "GPU", "none is needed"), Line("–", "memory", "no GPU here to compare it with")])
        '1 as it should be, 1 that cannot be checked here'
    """
    n = {mark: sum(line.mark == mark for line in found) for mark in STYLES}
    said = {"✓": "as it should be", "✗": "to be mended", "–": "that cannot be checked here"}
    return ", ".join(f"{n[mark]} {what}" for mark, what in said.items() if n[mark])


def _preflight(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from mcr_lib.study.runs import config

    loaded = config.load(
        arguments.profile, arguments.out and Path(arguments.out).absolute(), config.parse_set(arguments.pairs)
    )
    found = lines(loaded)
    table = Table(
        title=f"profile {arguments.profile}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for name, ratio in (("", 1), ("check", None), ("found", None), ("what to do", None)):
        table.add_column(name, overflow="fold", ratio=ratio if name else None)
    for line in found:
        table.add_row(
            f"[{STYLES[line.mark]}]{line.mark}[/]", line.check, _plain(line.result), _plain(line.todo)
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(verdict(found), highlight=False)
    return 2 if any(line.mark == "✗" for line in found) else 0


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
