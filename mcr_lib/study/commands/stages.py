"""`mcr sft`, `mcr cvo` and `mcr generate`: train and evaluate settings of a profile; `mcr adapters merge`.

python -m mcr_lib sft --profile NAME [--setting NAME] [--out DIR]                              one process
torchrun --nproc_per_node 4 -m mcr_lib cvo --profile NAME [--setting NAME] [--out DIR]         several
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

import torch

from mcr_lib.errors import UserError
from mcr_lib.study.commands.arguments import load
from mcr_lib.study.runs.progress import teller
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import backbones, cards, launch


def train(given: Namespace) -> int:
    """`mcr sft` and `mcr cvo`."""
    with _study(given) as study:
        for name in _settings(given, study):
            if study[name].stage != given.stage:
                raise UserError(f"setting {name} has stage {study[name].stage}, not {given.stage}")
            was_done, record = study.is_done(name), study.train(name)
            if launch.rank() == 0:
                cost = f"{record['n_steps']} updates in {record['seconds']:.0f} s"
                print(f"{name}: {'is there already' if was_done else cost}; {study.run.setting(name)}")
    return 0


def generate(given: Namespace) -> int:
    """`mcr generate`."""
    with _study(given) as study:
        splits = given.split or [study.config.eval_split]
        for name, split in product(_settings(given, study), splits):
            path = study.answer(name, split)
            if launch.rank() == 0:
                print(path)
    return 0


def _settings(given: Namespace, study: Study) -> list[str]:
    """The setting of the command line, or else those of the profile, of the command's stage if it has one."""
    if given.setting is not None:
        return [given.setting]
    stage = getattr(given, "stage", None)
    return study.of_stage(*((stage,) if stage else ("none", "sft", "cvo")))


@contextmanager
def _study(given: Namespace) -> Iterator[Study]:
    """The study of a command; the first of several processes locks the run folder and reports progress."""
    is_main = launch.rank() == 0
    study = Study(load(given), teller(sys.stderr) if is_main else None)
    with study.run.locked() if is_main else nullcontext():
        yield study


def merge(given: Namespace) -> int:
    """`mcr adapters merge`."""
    out = Path(given.out)
    part = out.with_name(f"{out.name}.part")
    if out.exists():
        raise UserError(f"{out} is there already; name a folder that is not")
    if cards.card(given.adapter)["kind"] != "adapter":
        raise UserError(f"{given.adapter} is a whole model already; there is nothing to merge")
    shutil.rmtree(part, ignore_errors=True)
    dtype = getattr(torch, given.dtype)
    backbones.save(backbones.load(given.adapter, device="cpu", dtype=dtype, base=given.base), part)
    part.rename(out)
    print(out)
    return 0
