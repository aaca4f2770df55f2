"""Speed and memory of what people wait for; `make bench` prints each figure beside its limit.

    python benchmarks/bench.py [DIR]      DIR: the folder of the real Twitter-GMNER (default: MCR_DATA_DIR)

Without the real data, the sample is multiplied to 10,000 tweets. Each step is a process of its own, so its
time includes the start and its memory is its own peak. Not a test: machines are noisy.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import grec_files
import numpy as np

from mcr_lib import data, yardsticks
from mcr_lib.data.predictions import finished_row, write_predictions
from mcr_lib.data.twitter_gmner import write_split
from mcr_lib.schema import CONSTRAINTS

REPOSITORY = Path(__file__).resolve().parents[1]


SEVEN = "formal,formal-entity,questions,conclusions,distill,checklist,terse"


def main() -> int:
    """Measure, print, and return 1 when a limit is broken."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        root = _data(scratch)
        predictions = _predictions(root, scratch)
        mcr = [sys.executable, "-m", "mcr_lib"]
        check = [*mcr, "data", "check", "twitter-gmner", "--root", str(root), "--json"]
        grec_files.write(scratch / "grec", 210_000)
        grec = [*mcr, "data", "check", "grec", "--root", str(scratch / "grec"), "--json"]
        score = [*mcr, "score", "--root", str(root), "--predictions", str(predictions), "--json"]
        run = [*mcr, "run", "--profile", "smoke", "--out", str(scratch / "run")]
        chains = [
            *mcr,
            "chains",
            "build",
            "--root",
            str(root),
            "--out",
            str(scratch / "chains"),
            "--d1-share",
            "1",
            "--styles",
            SEVEN,
            "--n-styles",
            "7",
        ]
        reward = [sys.executable, str(REPOSITORY / "benchmarks" / "bench_rewards.py"), str(root)]
        testbed = [
            *mcr,
            "testbed",
            "make",
            "--split",
            "train",
            "--n",
            "3000",
            "--out",
            str(scratch / "testbed"),
        ]
        rows = [
            ("mcr --help", 1, *_timed([*mcr, "--help"])),
            ("import mcr_lib.metrics", 1, *_timed([sys.executable, "-c", "import mcr_lib.metrics"])),
            ("load and check 10,000 tweets", 10, *_timed(check)),
            ("read and check 210,000 expressions", 20, *_timed(grec)),
            ("score 1,500 answers, 1,000 resamples", 5, *_timed(score)),
            ("build, verify, write 49,000 chains", 17.5, *_timed(chains)),
            ("reward 10,000 completions", 2, *_timed_within(reward)),
            ("make 3,000 testbed tweets with pictures", 10, *_timed(testbed)),
            ("mcr run, first time (smoke)", 60, *_timed(run)),
            ("mcr run, nothing to do", 5, *_timed(run)),
        ]
    print(f"{'':40}{'seconds':>10}{'limit':>8}{'peak MB':>10}")
    for what, limit, seconds, megabytes in rows:
        over = "  OVER" if seconds > limit or megabytes > 1000 else ""
        print(f"{what:40}{seconds:10.2f}{limit:8}{megabytes:10.0f}{over}")
    training = json.loads(_output([sys.executable, str(REPOSITORY / "benchmarks" / "bench_training.py")]))
    print(f"SFT over TRL alone: {100 * training['overhead']:+.1f} % CPU time (limit 10 %)")
    print(f"SFT, the second hundred of 200 updates: {training['grown_mb']:+.1f} MB (limit 10 MB)")
    base = json.loads(_output([sys.executable, str(REPOSITORY / "benchmarks" / "bench_base.py")]))
    print(
        f"tiny-base: loaded in {base['load_s']} s (limit 3), {base['answers_per_s']} greedy answers/s at"
        " batch 128 (at least 20)"
    )
    is_over = (
        training["overhead"] > 0.1
        or training["grown_mb"] > 10
        or base["load_s"] > 3
        or base["answers_per_s"] < 20
    )
    return int(is_over or any(seconds > limit or megabytes > 1000 for _, limit, seconds, megabytes in rows))


def _data(scratch: Path) -> Path:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MCR_DATA_DIR")
    if given:
        root = Path(given)
        print(f"real data in {root}")
        return root if (root / "Twitter10000_v2.0").is_dir() else root / "twitter-gmner"
    print("no real data given: the sample, multiplied to 10,000 tweets")
    for split, n in (("train", 7000), ("dev", 1500), ("test", 1500)):
        some = data.load_split("twitter-gmner", REPOSITORY / "data" / "sample", split=split)
        write_split(scratch, split, [replace(some[k % len(some)], id=f"{split}_{k}") for k in range(n)])
    return scratch


def _predictions(root: Path, scratch: Path) -> Path:
    rng = np.random.default_rng(0)
    accuracy = dict.fromkeys(CONSTRAINTS, 0.9)
    examples = data.load_split("twitter-gmner", root, split="test")
    write_predictions(
        scratch / "predictions.jsonl",
        (finished_row(e, yardsticks.degrade(e, accuracy, rng)) for e in examples),
    )
    return scratch / "predictions.jsonl"


def _timed_within(command: list[str]) -> tuple[float, float]:
    """CPU seconds that a process itself measured and printed, and its peak memory in MB."""
    _, megabytes = _timed(command)
    return float(_output(command)), megabytes


def _output(command: list[str]) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True
    ).stdout


def _timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process and its children; the peak is that of the largest process so
    far below this one.
    """
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL,"
        " stderr=subprocess.DEVNULL); "
    )
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        check=True,
    )
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return time.monotonic() - began, int(done.stdout) / unit


if __name__ == "__main__":
    sys.exit(main())
