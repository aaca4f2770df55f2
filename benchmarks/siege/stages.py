"""Stages at `nano` size, and a whole `mcr run`, killed or without room at chosen moments.

Each stage is run once without a stop, from a copy of the run folder in which the stages before it are done.
A try starts from the same copy at the same path: the command is stopped, started again, and the run folder
must then hold what the unbroken one holds, digit for digit. Moments are times, or the appearance of the k-th
new file (between the files of a checkpoint, of a model, of a part).
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.siege import common
from benchmarks.siege.common import Section

STAGES = {  # name -> command at nano size; each needs those before it
    "sft": ("sft", "--setting", "sft"),
    "filter and cvo": ("cvo", "--setting", "mcr"),
    "sft, LoRA": ("sft", "--setting", "sft-lora"),
    "filter and cvo, LoRA": ("cvo", "--setting", "mcr-lora"),
    "generation": ("generate", "--setting", "mcr-lora", "--split", "test", "--set", "answer_batch_size=1"),
}
VALUES = ("sft.max_steps=6", "cvo.max_steps=2", "cvo.check_groups=0")
SHORT = ("--profile", "nano", *(part for value in VALUES for part in ("--set", value)))


@dataclass
class Stage:
    """A stage that ran without a stop."""

    name: str
    arguments: list[Any]
    before: Path  # copy of the run folder without this stage
    after: dict[str, Any]  # `common.state` with it
    seconds: float
    n_files: int  # that appeared


@dataclass
class Line:
    """All stages, unbroken, and the path at which they run."""

    run: Path
    stages: list[Stage]


_lines: dict[tuple[Path, tuple[str, ...]], Line] = {}  # both sections start from the same unbroken stages


def unbroken(section: Section, scratch: Path, names: tuple[str, ...]) -> Line:
    """The stages `names`, run once in order; on the small disk, where there is one."""
    if (key := (scratch, names)) not in _lines:
        _lines[key] = _run_in_order(
            section, (small_disk(scratch)[0] or scratch) / "run", scratch / "copies", names
        )
    return _lines[key]


def _run_in_order(section: Section, run: Path, copies: Path, names: tuple[str, ...]) -> Line:
    stages, said = [], copies / "said"
    copies.mkdir(parents=True, exist_ok=True)
    common.finish(["--version"], said)  # the first process waits for the imports that all share
    last = max([*STAGES].index(name) for name in names)
    for name, command in [*STAGES.items()][: last + 1]:
        before = copies / f"before {name}"
        shutil.copytree(run, before) if run.is_dir() else before.mkdir()
        arguments = [*command, *SHORT, "--out", run]
        n_files = len(_files(run))
        code, seconds = common.finish(arguments, said)
        if code:
            raise RuntimeError(f"{name} without a stop: {common.tail(said)}")
        n_new = len(_files(run)) - n_files
        stages.append(Stage(name, arguments, before, common.state(run), seconds, n_new))
        section.say(f"{name}: unbroken {seconds:.1f} s, {n_new} new files")
    return Line(run, [stage for stage in stages if stage.name in names])


def moments(line: Line, n: int, rng: Random) -> list[tuple[Stage, str, float]]:
    """n moments, more in quick stages: ("time", seconds) or ("file", number of new files), by turns."""
    by_speed = sorted(line.stages, key=lambda stage: stage.seconds)
    found, weights = [], [1 / max(stage.seconds, 5.0) ** 0.5 for stage in by_speed]
    for k in range(n):
        stage = by_speed[k] if k < len(by_speed) else rng.choices(by_speed, weights)[0]
        if k % 2:
            found.append((stage, "file", rng.randint(1, stage.n_files)))
        else:
            found.append((stage, "time", round(rng.uniform(0.02, 0.98) * stage.seconds, 2)))
    return found


def restore(line: Line, stage: Stage) -> None:
    """Put back the run folder as it was before a stage."""
    shutil.rmtree(line.run, ignore_errors=True)
    shutil.copytree(stage.before, line.run)


def wait_for(process: Any, folder: Path, kind: str, value: float) -> bool:
    """Wait for a moment; whether the process still runs then."""
    began, old, new = time.monotonic(), _files(folder), set()
    while process.is_alive():
        if kind == "time" and time.monotonic() - began >= value:
            return True
        if kind == "file":
            new |= _files(folder) - old
            if len(new) >= value:
                return True
        time.sleep(0.002)
    return False


def _files(folder: Path) -> set[str]:
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names}  # noqa: PTH118


def run_kill(section: Section, scratch: Path, n: int, names: tuple[str, ...] = (*STAGES,)) -> None:
    """kill -9 at n moments of the stages."""
    rng, line, n_late = Random(section.seed), unbroken(section, scratch, names), 0
    for k, (stage, kind, value) in enumerate(moments(line, n, rng)):
        restore(line, stage)
        said = scratch / f"said.{k}"
        process = common.start(stage.arguments, said)
        n_late += not wait_for(process, line.run, kind, value)
        common.kill(process)
        code, seconds = common.finish(stage.arguments, said)
        what = f"{stage.name}, killed at {kind} {value}"
        problem = f"exit code {code}: {common.tail(said)}" if code else None
        section.record(what, problem or common.difference(common.state(line.run), stage.after))
        section.say(f"{k + 1} of {n}: {what}, went on for {seconds:.1f} s")
    section.notes.append(f"{n_late} of {n} moments came after the end of their stage")


def run_notebooks(section: Section, scratch: Path, n: int) -> None:
    """An unbroken `mcr run`; then n times what one notebook wrote is removed, and the notebook is killed on
    its way, and run again.
    """
    rng, run, whole, said = Random(section.seed), scratch / "run", scratch / "whole", scratch / "said"
    arguments = ["run", "--profile", "smoke", "--out", run]
    common.finish(["--version"], said)
    code, seconds = common.finish(arguments, said)
    if code:
        raise RuntimeError(f"mcr run without a stop: {common.tail(said)}")
    section.say(f"mcr run --profile smoke, unbroken: {seconds:.0f} s")
    shutil.copytree(run, whole)
    entries = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))["notebooks"]
    names, expected = [*entries][1:], common.state(whole)
    for k in range(n):
        name = names[-1 - k % len(names)]
        took = entries[name]["seconds"]
        value = round(rng.uniform(0.1, 0.9) * took, 1)
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        own = _written(run, entries[name])
        for path in own:
            if path.name not in ("results.csv", "README.md"):  # to which several notebooks add
                path.unlink()
        command = [*arguments, "--only", name]
        process = common.start(command, said)
        was_running = wait_for(process, run, "time", value)
        common.kill(process)
        what = f"mcr run, killed {value} s into {name} ({took:.0f} s)"
        code, seconds = common.finish(command, said)
        wanted = {str(path.relative_to(run)) for path in own}
        of_notebook = [{key: each[key] for key in wanted & {*each}} for each in (common.state(run), expected)]
        problem = f"exit code {code}: {common.tail(said)}" if code else None
        section.record(what, problem or common.difference(*of_notebook))
        late = "" if was_running else ", too late"
        section.say(f"{what}{late}, went on for {seconds:.0f} s; {len(of_notebook[1])} files compared")


def _written(run: Path, entry: dict[str, Any]) -> list[Path]:
    """The files that a notebook was the last to write, by their times."""
    began = datetime.fromisoformat(entry["started"]).timestamp()
    times = {Path(name): Path(name).stat().st_mtime for name in _files(run)}
    kept = {"lock", "manifest.json", "profile.yaml"}
    return [p for p, at in times.items() if began <= at < began + entry["seconds"] and p.name not in kept]


def run_disk(section: Section, scratch: Path, n: int, names: tuple[str, ...] = (*STAGES,)) -> None:
    """A disk that fills at n moments: one sentence, and the same command goes on once there is room."""
    rng = Random(section.seed)
    disk, problem = small_disk(scratch)
    if disk is None:
        section.skipped = f"a small disk cannot be mounted here ({problem})"
        return
    line = unbroken(section, scratch, names)
    n_not_hit = 0
    for k, (stage, kind, value) in enumerate(moments(line, n, rng)):
        restore(line, stage)
        said, ballast = scratch / f"said.disk.{k}", disk / "ballast"
        finished = {p: p.stat().st_mtime_ns for p in (line.run / "settings").glob("*/model/*.safetensors")}
        process = common.start(stage.arguments, said)
        wait_for(process, line.run, kind, value)
        while process.is_alive():
            fill(ballast)
            time.sleep(0.002)
        code, what = process.exitcode, f"{stage.name}, full at {kind} {value}"
        err = said.read_text(encoding="utf-8", errors="replace")
        problem = common.one_sentence(code, err)
        n_not_hit += code == 0
        ballast.unlink(missing_ok=True)
        kept = all(p.is_file() and p.stat().st_mtime_ns == stamp for p, stamp in finished.items())
        problem = problem or (None if kept else "something finished was not kept")
        again, seconds = common.finish(stage.arguments, said)
        problem = problem or (f"exit code {again}: {common.tail(said)}" if again else None)
        section.record(what, problem or common.difference(common.state(line.run), stage.after))
        said_last = (err.strip().splitlines() or [""])[-1][:150]
        section.say(f"{k + 1} of {n}: {what}: exit {code}: {said_last}")
    section.notes.append(f"{n_not_hit} of {n} commands needed no more room, and ended well")


def fill(ballast: Path) -> None:
    """Take all room that is left."""
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@cache
def small_disk(scratch: Path, size_mb: int = 200) -> tuple[Path | None, str]:
    """A tmpfs of this size, mounted once until `unmount`; `None` and the reason where that is not allowed."""
    (folder := scratch / "disk").mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return None, str(error)
    return (None, done.stderr.strip()) if done.returncode else (folder, "")


def unmount(scratch: Path) -> None:
    """Give back the small disk."""
    if (folder := scratch / "disk").is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=False)
