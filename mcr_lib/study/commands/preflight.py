"""`mcr preflight`, also the first table of notebooks 03 and 04: would a run succeed on this machine?"""

import tempfile
from argparse import Namespace
from pathlib import Path

from rich.markup import escape

from mcr_lib.study import render
from mcr_lib.study.commands.arguments import console, load
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.runs.preflight import Context, Line, run

_MARKS = {
    "✓": ("green", "as it should be"), "✗": ("bold red", "to be mended"),
    "–": ("yellow", "that cannot be checked here"),
}  # fmt: skip


def lines(loaded: Loaded) -> list[Line]:
    """The checks of a configuration."""
    with tempfile.TemporaryDirectory() as scratch:
        return run(Context(loaded, Path(scratch) / "run"))


def rows(loaded: Loaded) -> list[dict[str, str]]:
    """The checks as rows of a table, with a summary as the last one."""
    checks = lines(loaded)
    worst = max((line.mark for line in checks), key="✓–✗".index)
    values = [*((c.check, c.mark, c.result, c.todo) for c in checks), ("in all", worst, _verdict(checks), "")]
    return [dict(zip(("check", "", "found", "what to do"), row, strict=True)) for row in values]


def _verdict(checks: list[Line]) -> str:
    n = {mark: sum(line.mark == mark for line in checks) for mark in _MARKS}
    return ", ".join(f"{n[mark]} {meaning}" for mark, (_, meaning) in _MARKS.items() if n[mark])


def command(given: Namespace) -> int:
    """`mcr preflight`."""
    checks, out = lines(load(given)), console(width=160)
    marks = {mark: f"[{style}]{mark}[/]" for mark, (style, _) in _MARKS.items()}
    cells = [(marks[c.mark], c.check, escape(c.result), escape(c.todo)) for c in checks]
    columns = ("", "check", "found", "what to do")
    out.print(render.terminal(f"profile {given.profile}", columns, cells, is_text=True))
    out.print(_verdict(checks), highlight=False)
    return 2 if any(line.mark == "✗" for line in checks) else 0
