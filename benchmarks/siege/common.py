"""What the sections share: their results, commands as processes, and the content of a run folder."""

import contextlib
import csv
import io
import json
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mcr_lib.study.commands import cli

REPOSITORY = Path(__file__).resolve().parents[2]
PRELOADED = ["mcr_lib.training.sft", "mcr_lib.training.cvo", "mcr_lib.study.runs.settings"]
VOLATILE = {"seconds", "filter_seconds", "started", "made_with", "peak_memory_mb", "sha256"}
"""Keys of a JSON row or file that differ between two runs: times, and the sums over them."""
UNCOMPARED = ("lock", "manifest.json", "report.html", "fingerprint.json", "README.md", "profile.yaml")
"""Files that hold times, processes or paths; of them only the presence is compared."""


@dataclass
class Section:
    """The tries of one section, and what failed in a form that repeats it."""

    name: str
    seed: int
    tries: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def record(self, what: str, problem: str | None) -> None:
        """Count a try; `problem` is `None` if it passed."""
        self.tries += 1
        if problem:
            self.failures.append(f"{self.name}, seed {self.seed}, try {self.tries}, {what}: {problem}")
            print(f"  FAILED {self.failures[-1]}", flush=True)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"  {self.name} {time.monotonic() - self.began:4.0f} s: {text}", flush=True)


def start(arguments: Sequence[Any], said: Path) -> multiprocessing.Process:
    """`mcr ...` as a process, forked from one that has imported torch; its output goes to the file `said`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=([str(each) for each in arguments], str(said)))
    process.start()
    return process


def _command(arguments: list[str], said: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = open(said, "a", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    sys.exit(cli.main(arguments))


def finish(arguments: Sequence[Any], said: Path, timeout_s: float = 1200) -> tuple[int | None, float]:
    """The exit code of a command that is left alone, and its seconds."""
    began, process = time.monotonic(), start(arguments, said)
    process.join(timeout_s)
    return process.exitcode, time.monotonic() - began


def kill(process: multiprocessing.Process) -> None:
    """kill -9 to a command and everything below it, as when a machine fails."""
    with contextlib.suppress(psutil.NoSuchProcess):
        command = psutil.Process(process.pid)
        for one in (command, *command.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.join(60)


def tail(said: Path) -> str:
    """The last line that a command printed."""
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines() if said.is_file() else []
    return lines[-1][:300] if lines else "(nothing printed)"


def in_process(arguments: Sequence[Any]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `mcr ...` in this process; a traceback has the exit code 1 and is in
    stderr.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(each) for each in arguments])
        except SystemExit as error:  # of argparse
            code = error.code
        except Exception:
            code = 1
            traceback.print_exc()
    return code, out.getvalue(), err.getvalue()


def one_sentence(code: int | None, err: str) -> str | None:
    """The problem with how a command ended; `None` if all went well, or it ended with one sentence."""
    lines = [line for line in err.strip().splitlines() if line.strip()]
    if "Traceback" in err:
        return f"a traceback: {lines[-1][:300]}"
    if code == 0 or (code == 2 and lines and lines[-1].startswith("mcr: ")):
        return None
    return f"exit code {code}: {lines[-1][:300] if lines else '(nothing printed)'}"


def state(folder: Path) -> dict[str, Any]:
    """The files of a run folder, name -> content without what differs between two runs; checkpoints, the
    copies of notebooks and what a kill left of something in the making are left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or {"checkpoints", "notebooks", "testbed"} & {*name.parts} or path.name[0] == ".":
            continue
        if re.match(r"backbone\.\d+\.part/", str(name)):
            continue
        found[str(name)] = None if path.name in UNCOMPARED else content(path)
    return found


def content(path: Path) -> Any:
    """What a file holds, without what differs between two runs."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [_steady(row) for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [_steady(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return _steady(json.loads(path.read_text("utf-8"))) if path.suffix == ".json" else path.read_bytes()


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(each) for key, each in value.items() if key not in VOLATILE}
    return [_steady(each) for each in value] if isinstance(value, list) else value


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """In which files two states differ; `None` if in none."""
    missing, extra = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    other = [name for name in expected if name in found and found[name] != expected[name]]
    kinds = {"missing": missing, "extra": extra, "different": other}
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names) or None


@contextlib.contextmanager
def watched(problems: list[str], what: str) -> Iterator[None]:
    """Add to `problems` if the block raises."""
    try:
        yield
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        problems.append(
            f"{what}: {type(error).__name__}: {error!s:.200} ({Path(at.filename).name}:{at.lineno})"
        )


def seconds_of(call: Callable[[], Any], times: int = 3) -> float:
    """The shortest CPU time of several calls."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best
