"""Files broken on purpose: data sets, predictions, chains, run folders, checkpoints, and shards of answers.

A file is cut at some place, emptied, doubled, overwritten, removed or replaced by a folder; then a command
reads it. It must do its work, report a quirk or a difference, or end with one sentence (exit 2): never with a
traceback, and never leave a file in the making. A command on a run folder that works all the same must give
the answers of the whole one.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.siege import common
from benchmarks.siege.common import REPOSITORY, Section, in_process, one_sentence
from mcr_lib.data import load_split, mrsi
from mcr_lib.errors import UserError
from mcr_lib.training import parts

SAMPLE = REPOSITORY / "data" / "sample"
SHORT = (
    "--profile",
    "nano",
    "--set",
    "sft.max_steps=4",
    "--set",
    "sft.save_steps=2",
    "--set",
    "answer_batch_size=1",
)
PLACES = ("byte", "line", "middle of a line", "first line", "last byte")
CUTS = ("cut", "cut", "cut", "empty", "gone", "folder")
CHANGES = ("flip", "zeros", "noise", "lost", "twice")
SHARES = {
    "annotation": 60,
    "testbed": 40,
    "predictions": 30,
    "chains": 30,
    "run folder": 25,
    "checkpoint": 15,
}
"""What is broken -> its part of 200 tries."""


def damage(path: Path, rng: Random, kinds: Sequence[str] = (*CUTS, *CHANGES)) -> str:
    """Break a file in some way; returns which."""
    content = path.read_bytes()
    at, end = sorted(rng.randint(0, len(content)) for _ in range(2))
    kind = rng.choice(kinds)
    if kind == "cut":
        place = rng.choice(PLACES)
        lines = [k for k, byte in enumerate(content) if byte == 10] or [0]
        at = {
            "line": rng.choice(lines) + 1,
            "middle of a line": rng.choice(lines) + 5,
            "last byte": len(content) - 1,
        }.get(place, rng.randint(0, lines[0]) if place == "first line" else at)
        path.write_bytes(content[: max(0, at)])
        return f"cut at {place} ({at} of {len(content)} bytes)"
    if kind in ("gone", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        return kind
    end = min(end, at + 2000)
    changed = {
        "empty": b"",
        "flip": content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        if at < len(content)
        else b"",
        "zeros": content[:at] + bytes(end - at) + content[end:],
        "noise": content[:at] + rng.randbytes(end - at) + content[end:],
        "lost": content[:at] + content[end:],
        "twice": content[:end] + content[at:],
    }[kind]
    path.write_bytes(changed)
    return f"{kind} at {at} to {end} of {len(content)} bytes"


def run_data(section: Section, scratch: Path, n: int) -> None:
    """n broken files over all kinds."""
    rng = Random(section.seed)
    for kind, share in SHARES.items():
        n_kind = max(1, round(n * share / sum(SHARES.values())))
        KINDS[kind](section, scratch / kind.replace(" ", "_"), n_kind, rng)
        section.say(f"{kind}: {n_kind} broken")


def _each(
    section: Section, whole: Path, at: Path, n: int, rng: Random, *, targets: Callable[[], Sequence[Path]],
    check: Callable[[], str | None], kinds: Sequence[str] = (*CUTS, *CHANGES),
) -> None:  # fmt: skip
    """n times: the whole folder is put in place, one file of it is broken, and a command reads it."""
    for _ in range(n):
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(whole, at)
        path = rng.choice(sorted(targets()))
        name, what = path.relative_to(at), damage(path, rng, kinds)
        problem = check()
        left = [p.name for p in at.rglob(".*.part")]
        section.record(f"{name}, {what}", problem or (f"left half-written: {left}" if left else None))


def _report(*arguments: Any) -> str | None:
    """The problem with a command that prints a JSON report; exit 1 is a difference that it reports."""
    code, out, err = in_process([*arguments, "--json"])
    if code in (0, 1) and "Traceback" not in err:
        try:
            json.loads(out)
        except ValueError:
            return f"no JSON on stdout: {out[:200]!r} {err[-200:]!r}"
        return None
    return one_sentence(code, err)


def _annotation(section: Section, scratch: Path, n: int, rng: Random) -> None:
    at = scratch / "root"
    check = ("data", "check", "twitter-gmner", "--root", at, "--images", at / "images")
    score = ("score", "--root", at, "--predictions", SAMPLE / "predictions.jsonl", "--resamples", 20)

    def targets() -> list[Path]:
        return rng.choice([list(at.glob("*/txt/*")), list(at.glob("*/xml/*")), list(at.glob("images/*"))])

    _each(section, SAMPLE, at, n, rng, targets=targets, check=lambda: _report(*check) or _report(*score))


def _testbed(section: Section, scratch: Path, n: int, rng: Random) -> None:
    whole, at = scratch / "whole", scratch / "root"
    in_process(["testbed", "make", "--n", 6, "--out", whole])

    def targets() -> list[Path]:
        kinds = ("Twitter10000/sidecar/*", "Twitter10000/txt/*", "Twitter10000/xml/*", "images/*")
        return list(at.glob(rng.choice(kinds)))

    check = ("data", "check", "testbed", "--root", at)
    _each(section, whole, at, n, rng, targets=targets, check=lambda: _report(*check))


def _predictions(section: Section, scratch: Path, n: int, rng: Random) -> None:
    whole, at = scratch / "whole", scratch / "at"
    whole.mkdir(parents=True)
    shutil.copy(SAMPLE / "predictions.jsonl", whole)
    score = ("score", "--root", SAMPLE, "--predictions", at / "predictions.jsonl", "--resamples", 20)
    targets = lambda: [at / "predictions.jsonl"]  # noqa: E731
    _each(section, whole, at, n, rng, targets=targets, check=lambda: _report(*score))


def _chains(section: Section, scratch: Path, n: int, rng: Random) -> None:
    whole, at = scratch / "whole", scratch / "at"
    in_process(["chains", "build", "--root", SAMPLE, "--out", whole, "--d1-share", 1])
    tweets = load_split("twitter-gmner", SAMPLE, split="train")
    expected = mrsi.read_chains(whole / "chains.jsonl", tweets)

    def check() -> str | None:
        try:
            read = mrsi.read_chains(at / "chains.jsonl", tweets)
        except UserError as error:
            return "more than one line" if "\n" in str(error) else None
        except Exception as error:
            return f"{type(error).__name__}: {error!s:.200}"
        return None if len(read) == len(expected) else f"{len(read)} chains of {len(expected)}, and no word"

    _each(section, whole, at, n, rng, targets=lambda: [at / "chains.jsonl"], check=check)


def _trained(scratch: Path, *, is_whole: bool) -> tuple[Path, Path, list[Any]]:
    """A run folder of nano, trained and answered or as a kill leaves it; its place; the command."""
    whole, at = scratch / "whole", scratch / "run"
    arguments = ["generate", *SHORT, "--setting", "sft", "--split", "test", "--out", at]
    code, _, err = in_process(arguments)
    if code:
        raise RuntimeError(f"nano could not be trained: {err[-500:]}")
    expected = common.state(at)
    if not is_whole:
        shutil.rmtree(at / "settings" / "sft" / "model")
        shutil.rmtree(at / "predictions")
        path = at / "settings" / "sft" / "fingerprint.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": "begun"}))
    shutil.copytree(at, whole)
    (scratch / "expected").mkdir()
    return whole, at, [arguments, expected]


def _run_folder(section: Section, scratch: Path, n: int, rng: Random, *, is_whole: bool = True) -> None:
    whole, at, (arguments, expected) = _trained(scratch, is_whole=is_whole)

    def targets() -> list[Path]:
        files = [path for path in at.rglob("*") if path.is_file() and path.name != "lock"]
        return [path for path in files if ("checkpoints" in path.parts) != is_whole]

    def check() -> str | None:
        if is_whole and rng.random() < 0.5:  # the model is needed again
            shutil.rmtree(at / "predictions", ignore_errors=True)
        code, _, err = in_process(arguments)
        problem = one_sentence(code, err)
        if problem or code:
            return problem
        answers = "predictions/sft.test.jsonl"  # after its header, which names the images by size
        is_same = common.content(at / answers)[1:] == expected[answers][1:]
        return None if is_same else "other answers, and no word"

    # weights have a checksum once the model is finished: a change of a checkpoint's goes unnoticed
    kinds = (*CUTS, *CHANGES) if is_whole else [kind for kind in CUTS if kind != "folder"]
    _each(section, whole, at, n, rng, targets=targets, check=check, kinds=kinds)


def _checkpoint(section: Section, scratch: Path, n: int, rng: Random) -> None:
    _run_folder(section, scratch, n, rng, is_whole=False)


KINDS = {
    "annotation": _annotation, "testbed": _testbed, "predictions": _predictions, "chains": _chains,
    "run folder": _run_folder, "checkpoint": _checkpoint,
}  # fmt: skip


def run_shards(section: Section, scratch: Path, n: int) -> None:
    """n shards of answers, finished files and parts by turns, with one byte changed in the middle."""
    rng = Random(section.seed)
    whole, at, (arguments, _) = _trained(scratch / "shards", is_whole=True)
    path, part = (at / "predictions" / name for name in ("sft.test.jsonl", "sft.test.jsonl.part"))
    content = path.read_bytes()
    head, *rows = [parts.sealed(_without_sum(json.loads(line))) for line in content.splitlines()]
    for k in range(n):
        shutil.rmtree(at)
        shutil.copytree(whole, at)
        target, of_target = path, content
        if k % 2:
            path.unlink()
            target, of_target = part, head + b"".join(rows[:-1])
        where = rng.randint(of_target.index(b"\n") + 1, len(of_target) - 2)
        byte = of_target[where]
        other = rng.choice([b for b in range(32, 127) if b != byte])  # text stays text
        target.write_bytes(of_target[:where] + bytes([other]) + of_target[where + 1 :])
        code, _, err = in_process(arguments)
        problem = one_sentence(code, err)
        if code != 2 or str(target) not in err or " anew" not in err:
            problem = problem or f"not noticed, or without file and remedy: exit {code}, {err[-200:]!r}"
        if not k % 2:
            target.unlink()  # as the sentence says; damaged lines of a part are removed already
        code, _, err = in_process(arguments)
        if code or path.read_bytes() != content:
            problem = problem or f"not made anew: exit {code}, {err[-200:]!r}"
        section.record(
            f"{target.name}, byte {where} of {len(of_target)}: {chr(byte)!r} to {chr(other)!r}", problem
        )


def _without_sum(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "sha256"}
