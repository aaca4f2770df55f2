"""What our set-up of SFT costs over TRL alone with the same rows and options, and whether memory stays flat;
one core, chance weights.

    python benchmarks/bench_training.py [updates of a run] [pairs of runs]

The last line printed is a JSON object: `overhead` (median over the pairs of ours / stock - 1, in CPU time,
which other work does not disturb), `stock_s`, `ours_s` (medians of a run), `grown_mb` (memory held after 200
updates over that after 100), `n_updates`, `n_pairs`.
"""

import ctypes
import gc
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from trl import SFTConfig, SFTTrainer

from mcr_lib.data import load_split, mrsi
from mcr_lib.testbed import folder as testbed_folder
from mcr_lib.training import adapters, backbones, loop, nano, sft
from mcr_lib.training.options import SftOptions


def main() -> None:
    """Alternate stock and ours, then train 200 updates and watch memory."""
    n_updates, n_pairs = (int(value) for value in (*sys.argv[1:], *("20", "5")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        nano.write(scratch / "backbone", seed=0)
        testbed_folder.write(scratch, "train", 64)
        tweets = load_split("testbed", scratch, split="train", images_dir=scratch)
        target = backbones.load(str(scratch / "backbone"), device="cpu").target
        built = mrsi.build_chains([(tweet, "terse") for tweet in tweets], seed=0).chains
        rows = list(mrsi.sft_rows(built, {e.id: e for e in tweets}, target, prompt="mcr"))
        options = SftOptions(
            max_steps=n_updates,
            batch_size=8,
            per_device_batch_size=8,
            lora_rank=0,
            learning_rate=1e-3,
            save_steps=1000,
        )
        pairs = []
        for k in range(n_pairs):
            stock = _timed(lambda k=k: _stock(scratch, rows, options, scratch / f"stock{k}"))
            ours = _timed(
                lambda k=k: sft.train(
                    str(scratch / "backbone"), rows, scratch / f"ours{k}", options, prompt="mcr", device="cpu"
                )
            )
            pairs.append((stock, ours))
        grown = _growth(scratch, rows, options.model_copy(update={"max_steps": 200}))
    print(json.dumps({
        "overhead": round(statistics.median(ours / stock for stock, ours in pairs) - 1, 4),
        "stock_s": round(statistics.median(stock for stock, _ in pairs), 2),
        "ours_s": round(statistics.median(o for _, o in pairs), 2),
        "grown_mb": round(grown, 1), "n_updates": n_updates, "n_pairs": n_pairs,
    }))  # fmt: skip


@adapters.quiet()
def _stock(scratch: Path, rows: list, options: SftOptions, folder: Path) -> None:
    """What one would write without this repository: load, train, save."""
    backbone = backbones.load(str(scratch / "backbone"), device="cpu")
    backbone.model.model.visual.requires_grad_(False)
    given = loop.arguments(options, folder, backbone.model.device)
    trainer = SFTTrainer(
        model=backbone.model,
        args=SFTConfig(**given),
        train_dataset=loop.dataset(rows),
        processing_class=backbone.processor,
    )
    trainer.train()
    trainer.save_model(str(folder / "model"))


def _timed(run) -> float:
    gc.collect()
    began = time.process_time()
    run()
    return time.process_time() - began


def _growth(scratch: Path, rows: list, options: SftOptions) -> float:
    """MB by which the memory held grows in the second half of the updates."""
    held = {}

    def note(done: int, of: int, row: object) -> None:
        if done in (of // 2, of):
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # free memory that glibc holds is no leak
            held[done] = psutil.Process().memory_info().rss / 2**20

    sft.train(
        str(scratch / "backbone"), rows, scratch / "long", options, prompt="mcr", device="cpu", progress=note
    )
    return held[options.max_steps] - held[options.max_steps // 2]


if __name__ == "__main__":
    main()
