"""`mcr sft`, `mcr cvo` and `mcr generate`: train and evaluate settings of a profile; `mcr adapters merge`.

python -m mcr_lib sft --profile NAME [--setting NAME] [--out DIR]                              one process
torchrun --nproc_per_node 4 -m mcr_lib cvo --profile NAME [--setting NAME] [--out DIR]         several
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError
from mcr_lib.study.commands.arguments import add_profile, group, load
from mcr_lib.training import launch

_STAGES = {"sft": "fine-tune the model of a setting", "cvo": "train the model of a setting by GRPO"}


def add_commands(commands: Any) -> None:
    """Add the commands to the parser of `mcr`."""
    for stage, about in _STAGES.items():
        order = "its start is trained first if need be; a trained model is not trained again"
        train = commands.add_parser(stage, help=about, description=f"{about}; {order}")
        add_profile(train)
        settings = f"of the profile (default: each whose stage is {stage})"
        train.add_argument("--setting", metavar="NAME", help=settings)
        train.set_defaults(run=_train, stage=stage)
    generate = commands.add_parser("generate", help="answers of a setting to the tweets of a split")
    add_profile(generate)
    generate.add_argument("--setting", metavar="NAME", help="of the profile (default: each)")
    splits = "repeatable (default: the profile's eval_split)"
    generate.add_argument("--split", action="append", default=[], help=splits)
    generate.set_defaults(run=_generate)

    about = "write an adapter merged into its base, as a whole model"
    merge = group(commands, "adapters", "LoRA adapters").add_parser("merge", help=about)
    add, types = merge.add_argument, ("float32", "bfloat16", "float16")
    add("adapter", metavar="DIR", help="folder of an adapter, such as settings/NAME/model of a run")
    add("out", metavar="OUT", help="folder to write; must not exist")
    add("--base", metavar="DIR", help="where its base model is now, if it has moved")
    add("--dtype", choices=types, default="float32", help="of the weights (default: %(default)s)")
    merge.set_defaults(run=_merge)


def _train(given: argparse.Namespace) -> int:
    with _study(given) as study:
        for name in _settings(given, study):
            if study[name].stage != given.stage:
                raise UserError(f"setting {name} has stage {study[name].stage}, not {given.stage}")
            was_done, record = study.is_done(name), study.train(name)
            if launch.rank() == 0:
                cost = f"{record['n_steps']} updates in {record['seconds']:.0f} s"
                print(f"{name}: {'is there already' if was_done else cost}; {study.run.setting(name)}")
    return 0


def _generate(given: argparse.Namespace) -> int:
    with _study(given) as study:
        splits = given.split or [study.config.eval_split]
        for name, split in product(_settings(given, study), splits):
            path = study.answer(name, split)
            if launch.rank() == 0:
                print(path)
    return 0


def _settings(given: argparse.Namespace, study: Any) -> list[str]:
    """The setting of the command line, or else those of the profile, of the command's stage if it has one."""
    if given.setting is not None:
        return [given.setting]
    stage = getattr(given, "stage", None)
    names = [name for name in study.settings if stage in (None, study[name].stage)]
    if not names:
        of_stage = f" of stage {stage}" if stage else ""
        known = ", ".join(study.settings) or "none at all"
        raise UserError(f"profile {given.profile} has no setting{of_stage}; it has {known}")
    return names


@contextmanager
def _study(given: argparse.Namespace) -> Iterator[Any]:
    """The study of a command; the first of several processes locks the run folder and reports progress."""
    require("trl")
    from mcr_lib.study.runs.progress import teller
    from mcr_lib.study.runs.settings import Study

    is_main = launch.rank() == 0
    study = Study(load(given), teller(sys.stderr) if is_main else None)
    with study.run.locked() if is_main else nullcontext():
        yield study


def _merge(given: argparse.Namespace) -> int:
    require("transformers")
    import torch

    from mcr_lib.training import backbones, cards

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


def require(package: str) -> None:
    """Check that a package of the extra `train` is installed."""
    if find_spec(package) is None:
        remedy = "pip install '.[train]' in the clone brings what models need"
        raise UserError(f"{package} is not installed; {remedy}")
