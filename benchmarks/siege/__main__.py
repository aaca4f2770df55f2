"""A siege of the library: what it does when it is killed, when the disk is full, when files and answers are
broken. `make siege` runs it; it prints a table and ends with 1 if anything failed.

    python -m benchmarks.siege [--only shards,fuzz,data,disk,kill,run] [--seed 0] [--share 1] [--quick]

    shards   a byte changed in the middle of files of answers and of their parts: told, and made anew
    fuzz     perfect answers broken in 1 to 4 places: read, rewarded, verified, scored
    data     broken annotation, images, sidecars, predictions, chains, run folders, checkpoints
    disk     a small disk (tmpfs, which needs the right to mount) that fills during the stages at nano size
    kill     kill -9 in the stages at nano size (SFT, filter, CVO, generation; full and LoRA)
    run      kill -9 in the notebooks of `mcr run --profile smoke`

A failure is printed with seed and moment; the same `--only` and `--seed` repeat it (moments in time only as
far as the machine repeats itself).
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.siege import broken, fuzz, stages
from benchmarks.siege.common import Section

QUICK = ("sft",)
SECTIONS = {  # name -> tries, tries with --quick, and what makes so many
    "shards": (40, 2, broken.run_shards),
    "fuzz": (10_000, 40, fuzz.run),
    "data": (200, 12, broken.run_data),
    "disk": (20, 1, stages.run_disk),
    "kill": (30, 1, stages.run_kill),
    "run": (5, 0, stages.run_notebooks),
}


def main(argv: list[str] | None = None) -> int:
    """Run the sections, print the table, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", help=f"sections, separated by commas (default: {','.join(SECTIONS)})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries, on a slow machine")
    parser.add_argument("--quick", action="store_true", help="a few tries of each, under a minute")
    parser.add_argument("--keep", action="store_true", help="keep the working folder")
    given = parser.parse_args(argv)
    names = given.only.split(",") if given.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"unknown section {unknown[0]}; known: {', '.join(SECTIONS)}")
    warnings.simplefilter("ignore")
    scratch = Path(tempfile.mkdtemp(prefix="siege-"))
    size = "quick" if given.quick else f"share {given.share:g}"
    print(f"seed {given.seed}, {size}; working in {scratch}", flush=True)
    sections = []
    try:
        for name in names:
            many, few, work = SECTIONS[name]
            n = few if given.quick else max(1, round(many * given.share))
            section = Section(name, given.seed)
            sections.append(section)
            if not n:
                section.skipped = "too long for --quick"
                continue
            at = scratch / ("stages" if name in ("disk", "kill") else name)
            at.mkdir(exist_ok=True)
            print(name, flush=True)
            try:
                work(section, at, n, **({"names": QUICK} if given.quick and at.name == "stages" else {}))
            except Exception as error:
                section.record("the section itself", f"{type(error).__name__}: {error}")
            section.seconds = time.monotonic() - section.began
    finally:
        stages.unmount(scratch / "stages")
        if not given.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return _table(sections)


def _table(sections: list[Section]) -> int:
    print(f"\n| {'section':8} | {'tries':>6} | {'passed':>6} | {'seconds':>7} |\n|---|---|---|---|")
    for section in sections:
        n_passed = section.tries - len(section.failures)
        print(f"| {section.name:8} | {section.tries:6,} | {n_passed:6,} | {section.seconds:7.0f} |")
    for section in sections:
        for note in ([f"skipped: {section.skipped}"] if section.skipped else []) + section.notes:
            print(f"{section.name}: {note}")
    for failure in (failure for section in sections for failure in section.failures):
        print(f"FAILED {failure}")
    return int(any(section.failures for section in sections))


if __name__ == "__main__":
    sys.exit(main())
