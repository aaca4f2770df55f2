"""`mcr sft`, `mcr cvo`, `mcr generate`: the settings of a profile, from a shell or a launcher; `mcr predict`:
one tweet.

python -m mcr_lib sft --profile NAME [--setting NAME] [--out DIR]                           one process, or
one per visible GPU
torchrun --nproc_per_node 4 -m mcr_lib cvo --profile NAME [--setting NAME] [--out DIR]      several
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError
from mcr_lib.prompts import KINDS
from mcr_lib.study.runs.progress import teller
from mcr_lib.training import launch


def add_commands(commands: Any) -> None:
    """Add the commands to the parser of `mcr`."""
    for name, told in (
        ("sft", "fine-tune the model of a setting"),
        ("cvo", "train the model of a setting by GRPO"),
    ):
        stage = commands.add_parser(
            name,
            help=told,
            description=f"{told}; what it starts from is made first, what is there is not made again",
        )
        _add_run(stage, f"of the profile (default: each whose stage is {name})")
        stage.set_defaults(run=_train, stage=name)
    generate = commands.add_parser("generate", help="answers of a setting to the tweets of a split")
    _add_run(generate, "of the profile (default: each)")
    generate.add_argument(
        "--split", action="append", default=[], help="repeatable (default: the profile's eval_split)"
    )
    generate.add_argument(
        "--examples", metavar="FILE", help="other tweets than the split's: a file like data/*.jsonl of a run"
    )
    generate.add_argument("--stem", metavar="NAME", help="of the file of answers (default: SETTING.SPLIT)")
    generate.set_defaults(run=_generate)
    predict = commands.add_parser("predict", help="the entities of one tweet and where its image shows them")
    predict.add_argument(
        "--model",
        default="tiny-base",
        metavar="DIR",
        help="a backbone, a model of the hub, or that of a setting (default: %(default)s)",
    )
    predict.add_argument("--base", metavar="DIR", help="of an adapter, where its base is not where it was")
    predict.add_argument(
        "--image", metavar="FILE", help="of any size; turned upright as its EXIF data say (default: none)"
    )
    predict.add_argument("--text", required=True, help="the tweet")
    predict.add_argument(
        "--prompt",
        choices=[kind for kind in KINDS if kind != "cot-3shot"],
        help="default: the one it was trained for",
    )
    predict.add_argument(
        "--max-new-tokens", type=int, default=512, metavar="N", help="of the answer (default: %(default)s)"
    )
    predict.add_argument("--draw", metavar="OUT.png", help="write the image with the boxes")
    predict.add_argument("--json", action="store_true", help="print one JSON object")
    predict.set_defaults(run=_predict)
    adapters = commands.add_parser("adapters", help="LoRA adapters").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    merge = adapters.add_parser("merge", help="write an adapter merged into its base, as a whole model")
    merge.add_argument(
        "adapter", metavar="DIR", help="folder of an adapter, such as settings/NAME/model of a run"
    )
    merge.add_argument("out", metavar="OUT", help="folder to write; must not be there")
    merge.add_argument("--base", metavar="DIR", help="its base, where that is not where it was")
    merge.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the weights (default: %(default)s)",
    )
    merge.set_defaults(run=_merge)


def _add_run(parser: argparse.ArgumentParser, settings: str) -> None:
    parser.add_argument(
        "--profile",
        default="tiny",
        metavar="NAME",
        help="of notebooks/profiles, or a yaml file (default: %(default)s)",
    )
    parser.add_argument("--setting", metavar="NAME", help=settings)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: outputs/NAME)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="pairs",
        help="override a key; repeatable",
    )


def _train(arguments: argparse.Namespace) -> int:
    with _study(arguments) as study:
        for name in _settings(
            arguments, study, [name for name in study.settings if study[name].stage == arguments.stage]
        ):
            if study[name].stage != arguments.stage:
                raise UserError(f"setting {name} has stage {study[name].stage}, not {arguments.stage}")
            is_there = study.is_done(name)
            facts = study.train(name)
            if launch.rank() == 0:
                took = (
                    "is there already"
                    if is_there
                    else f"{facts['n_steps']} updates in {facts['seconds']:.0f} s"
                )
                print(f"{name}: {took}; {study.run.setting(name)}")
    return 0


def _settings(arguments: argparse.Namespace, study: Any, all_of_them: list[str]) -> list[str]:
    if arguments.setting is None and not all_of_them:
        stage = f" of stage {arguments.stage}" if "stage" in arguments else ""
        raise UserError(
            f"profile {arguments.profile} has no setting{stage}; it has {', '.join(study.settings) or 'none at all'}"
        )
    return all_of_them if arguments.setting is None else [arguments.setting]


def _generate(arguments: argparse.Namespace) -> int:
    from mcr_lib.study.runs import prepare

    if (len(arguments.split) > 1 or arguments.setting is None) and (arguments.stem or arguments.examples):
        raise UserError(
            "--stem and --examples are of one file of answers; give --setting and at most one --split with them"
        )
    with _study(arguments) as study:
        examples = None if arguments.examples is None else prepare.read_file(Path(arguments.examples))
        for name, split in product(
            _settings(arguments, study, [*study.settings]), arguments.split or [study.config.eval_split]
        ):
            path = study.answer(name, split, examples=examples, stem=arguments.stem)
            if launch.rank() == 0:
                print(path)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from mcr_lib.study.commands import predict

    _needs("transformers")
    said = predict.predict(
        arguments.model, arguments.text, image=arguments.image, prompt=arguments.prompt, max_new_tokens=arguments.max_new_tokens,
        base=arguments.base,
    )  # fmt: skip
    if arguments.draw:
        predict.draw(said, arguments.image, arguments.draw)
    print(json.dumps(said, indent=2, ensure_ascii=False) if arguments.json else predict.summary(said))
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    _needs("transformers")
    import torch

    from mcr_lib.training import backbones, cards

    out = Path(arguments.out)
    part = out.with_name(f"{out.name}.part")
    if out.exists():
        raise UserError(f"{out} is there already; name a folder that is not")
    if cards.card(arguments.adapter)["kind"] != "adapter":
        raise UserError(f"{arguments.adapter} is a whole model already; there is nothing to merge")
    shutil.rmtree(part, ignore_errors=True)
    backbones.save(
        backbones.load(
            arguments.adapter, device="cpu", dtype=getattr(torch, arguments.dtype), base=arguments.base
        ),
        part,
    )
    part.rename(out)
    print(out)
    return 0


@contextmanager
def _study(arguments: argparse.Namespace) -> Iterator[Any]:
    """The study of a command, its run folder held by the main process alone."""
    from mcr_lib.study.runs import config
    from mcr_lib.study.runs.settings import Study

    _needs("trl")
    loaded = config.load(
        arguments.profile, arguments.out and Path(arguments.out).absolute(), config.parse_set(arguments.pairs)
    )
    is_main = launch.rank() == 0
    study = Study(loaded, teller(sys.stderr) if is_main else None)
    with study.run.locked() if is_main else nullcontext():
        yield study


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise UserError(
            f"{package} is not installed; pip install '.[train]' in the clone brings what models need"
        )
