"""The `mcr` command: arguments. Exit codes: 0 done; 1 a check differs, no answer could be read, a notebook
failed, or a bug (with its traceback); 2 a mistake of the user, in one sentence; 130 interrupted.
"""

import os
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mcr_lib import __version__
from mcr_lib.boxes import BOX_FORMATS, SPACES
from mcr_lib.errors import UserError
from mcr_lib.prompts import KINDS
from mcr_lib.training import launch

_SCORE = """GMNER, MNER and EEG with 95 % intervals, per type, bias, how the answers were read, and
yardsticks; of GREC its own. A row of the file is a JSON object with "id" and "entities" (boxes in original
pixels) or "answer" (raw model text) with "coordinate_space"; docs/scoring.md shows the other formats."""
_MAKE = """The set is named after its split, and after its distribution if that is not gmner (test_unseen).
Read it with mcr data check testbed --root DIR, and score answers to it with mcr score --source testbed --root
DIR --split NAME."""
_COMPARE = """Merges run folders of one profile, one seed each (or several settings of a seed), and writes
evidence.json.gz, scores.json, claims.json and figures. What is missing in a run is reported and left out."""
_PAIRS = {"action": "append", "default": [], "dest": "pairs"}
_COMMANDS = {"title": "commands", "required": True, "metavar": "COMMAND"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = _parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):  # print what the terminal can show rather than fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if given.needs and find_spec(given.needs) is None:
            remedy = "pip install '.[train]' in the clone brings what models need"
            raise UserError(f"{given.needs} is not installed; {remedy}")
        module, function = given.run.split(".")
        return getattr(import_module(f"mcr_lib.study.commands.{module}"), function)(given)
    except UserError as error:
        print(f"mcr: {launch.whose()}{error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("mcr: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if "No space left on device" not in str(error):  # a full disk, in Python, safetensors, pyarrow
            raise
        print(f"mcr: the disk is full ({error}); make room, and the same command goes on", file=sys.stderr)
        return 2


def _parser() -> ArgumentParser:
    about = "Grounded multimodal named entity recognition: data, scores, notebooks."
    parser = ArgumentParser(prog="mcr", description=about)
    parser.add_argument("--version", action="version", version=f"mcr_lib {__version__}")
    commands = parser.add_subparsers(**_COMMANDS)
    _add_data(commands)
    run = _command(commands, "run", "runner.command", "run the notebooks of a profile by papermill")
    _add_profile(run)
    only = "run only this notebook (01 or its name); repeatable"
    run.add_argument("--only", action="append", default=[], metavar="NOTEBOOK", help=only)
    run.add_argument("--from", dest="start_from", metavar="NOTEBOOK", help="begin with this notebook")
    about = "write report.html of a run folder anew"
    report = _command(commands, "report", "report.command", about)
    _add_profile(report)
    pictures = "also the pictures of real tweets (default: only the testbed's)"
    report.add_argument("--pictures", action="store_true", help=pictures)
    _add_models(commands)
    about = "would a profile run on this machine? a table, exit 2 on any ✗"
    marks = "✓ as it should be; ✗ with what to do; – cannot be checked on this machine, and why"
    _add_profile(_command(commands, "preflight", "preflight.command", about, description=marks))
    _add_testbed(commands)
    about = "settings over several seeds: claims, or one pair of settings, tested"
    add = _command(commands, "compare", "compare.command", about, description=_COMPARE).add_argument
    add("runs", nargs="+", metavar="RUN", help="a run folder, or what mcr compare wrote")
    add("--out", metavar="DIR", help="where the files go (default: outputs/compared/PROFILE)")
    add("--pair", nargs=2, metavar=("A", "B"), help="test A minus B (default: the claims, else mcr sft)")
    add("--resamples", type=int, default=10_000, metavar="N", help="of the bootstrap (default: %(default)s)")
    add("--json", action="store_true", help="print the scores as one JSON object")
    return parser


def _command(commands: Any, name: str, run: str, about: str, needs: str = "", **more: str) -> ArgumentParser:
    """Add a command that calls `run` (module.function) and needs a package of the extra `train`."""
    parser = commands.add_parser(name, help=about, **more)
    parser.set_defaults(run=run, needs=needs)
    return parser


def _add_profile(parser: ArgumentParser, default_setting: str = "") -> None:
    names = "of notebooks/profiles, or a yaml file (default: %(default)s)"
    parser.add_argument("--profile", default="tiny", metavar="NAME", help=names)
    parser.add_argument("--out", metavar="DIR", help="run folder (default: outputs/NAME)")
    about = "override a key of the profile; repeatable"
    parser.add_argument("--set", metavar="KEY=VALUE", help=about, **_PAIRS)
    if default_setting:
        parser.add_argument("--setting", metavar="NAME", help=f"of the profile (default: {default_setting})")


def _add_data(commands: Any) -> None:
    about = "statistics beside the expected ones, images, quirks; exit 1 if they claim to be those"
    group = commands.add_parser("data", help="look at a data set").add_subparsers(**_COMMANDS)
    check = _command(group, "check", "data.check", about)
    check.add_argument("source", help="twitter-gmner, twitter-fmnerg, mner-mi, grec or testbed")
    score = _command(commands, "score", "data.score", "score a predictions file", description=_SCORE)
    about = "write verified chains of D1 with a data card and checksums"
    group = commands.add_parser("chains", help="reasoning chains").add_subparsers(**_COMMANDS)
    build = _command(group, "build", "chains.build", about)
    about = "prompted baselines: the answers of a served model to a split, as a predictions file"
    prompt = _command(commands, "prompt", "prompted.command", about)
    for parser, split in ((check, None), (score, "test"), (build, "train"), (prompt, "test")):
        add = parser.add_argument
        add("--root", required=True, help="the folder that holds the data set's own folder")
        add("--version", help="of the annotation: v1, v2, or plus of mner-mi (default: the source's first)")
        if split:
            add("--source", default="twitter-gmner", help="data set (default: %(default)s)")
            add("--split", default=split, help="default: %(default)s")
    images = "where the images are, at any depth (default: below --root)"
    check.add_argument("--images", metavar="DIR", help=images)
    scorers, modes = ("paper", "definition", "e2e", "unco-legacy"), ("strict", "lenient")
    formats = ("auto", "mcr", "e2e", "unco", "vllm-batch", "ms-swift", "detections")
    add = score.add_argument
    add("--predictions", required=True, metavar="FILE", help="JSONL or a JSON array")
    add("--scorer", choices=scorers, default="definition", help="default: %(default)s")
    add("--parse", choices=modes, default="strict", help="how answers are read (default: %(default)s)")
    about = "of the file; auto tells it by its keys (default: %(default)s)"
    add("--format", choices=formats, default="auto", help=about)
    about = "of boxes in rows that name none: original_px, model_px, norm1000 or norm1"
    add("--space", choices=SPACES, metavar="SPACE", help=about)
    other = "a second predictions file for the same tweets: paired test, verdict"
    add("--compare", metavar="OTHER", help=other)
    add("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)")
    add("--seed", type=int, default=0, help="of bootstrap and test (default: %(default)s)")
    add, share = build.add_argument, "share of the pairs in D1; 1 = all (default: %(default)s)"
    add("--out", required=True, metavar="DIR", help="where chains.jsonl, README.md and checksums.txt go")
    add("--styles", metavar="NAMES", help="separated by commas (default: the paper's five)")
    add("--n-styles", type=int, default=2, metavar="K", help="styles per tweet (default: %(default)s)")
    add("--d1-share", type=float, default=0.5, metavar="SHARE", help=share)
    add("--n-train", type=int, metavar="N", help="draw N examples by --seed first (GREC in the paper: 14000)")
    add("--seed", type=int, default=0, help="of styles, D1 and wordings (default: %(default)s)")
    add("--start", metavar="FILE", help="chains of another call, which stay where no new one passes")
    kind = "of the served model: rewrite (llm), or look at image and gold (mllm; default: %(default)s)"
    add("--writer", choices=("llm", "mllm"), default="llm", help=kind)
    about = "styles that are written anew (default: conclusion by an llm, distill by an mllm)"
    add("--write", metavar="NAMES", help=about)
    add("--tries", type=int, default=2, metavar="N", help="until a chain passes (default: %(default)s)")
    for parser in (check, score, build):
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    add = prompt.add_argument
    add("--out", required=True, metavar="FILE", help="the predictions file; answers are kept beside it")
    add("--prompt", choices=KINDS, default="direct", help="default: %(default)s")
    add("--n", type=int, metavar="N", help="only the first N tweets")
    add("--seed", type=int, default=0, help="of the worked examples, from train (default: %(default)s)")
    _add_endpoint(build, "temperature=0.7", is_required=False)
    _add_endpoint(prompt, "temperature=0", is_required=True)


def _add_endpoint(parser: ArgumentParser, temperature: str, *, is_required: bool) -> None:
    add = parser.add_argument_group("served model", "its key is read from OPENAI_API_KEY").add_argument
    about = "an OpenAI-compatible server, up to and with /v1"
    add("--endpoint", required=is_required, metavar="URL", help=about)
    add("--model", required=is_required, metavar="NAME", help="as the server calls it")
    add("--family", choices=BOX_FORMATS, help="how it writes boxes (default: by its name)")
    add("--images", metavar="DIR", help="where the images are, at any depth (default: below --root)")
    about = "of an image as it is sent; no more than the server lets be (default: the profiles')"
    add("--max-pixels", type=int, metavar="N", help=about)
    how = {"action": "append", "dest": "pairs", "default": ["max_tokens=2048", temperature]}
    about = "a field of the request; null leaves it out; repeatable (default: %(default)s)"
    add("--set", metavar="FIELD=VALUE", help=about, **how)
    for name, kind, about in (
        ("in-flight", int, "requests at a time (default: 8)"), ("per-minute", float, "most requests"),
        ("timeout-s", float, "seconds for an answer (default: 300)"), ("n-tries", int, "(default: 6)"),
    ):  # fmt: skip
        add(f"--{name}", type=kind, default=SUPPRESS, metavar="N", help=about)
    prices = {"metavar": ("IN", "OUT"), "help": "of a million tokens of input, of output"}
    add("--price", nargs=2, type=float, default=SUPPRESS, **prices)
    add("--dry-run", action="store_true", help="count and price the requests, and ask nothing")


def _add_models(commands: Any) -> None:
    stages = {"sft": "fine-tune the model of a setting", "cvo": "train the model of a setting by GRPO"}
    for stage, about in stages.items():
        order = f"{about}; its start is trained first if need be; a trained model is not trained again"
        train = _command(commands, stage, "stages.train", about, needs="trl", description=order)
        train.set_defaults(stage=stage)
        _add_profile(train, f"each whose stage is {stage}")
    about = "answers of a setting to the tweets of a split"
    generate = _command(commands, "generate", "stages.generate", about, needs="trl")
    _add_profile(generate, "each")
    splits = "repeatable (default: the profile's eval_split)"
    generate.add_argument("--split", action="append", default=[], help=splits)

    about = "write an adapter merged into its base, as a whole model"
    group = commands.add_parser("adapters", help="LoRA adapters").add_subparsers(**_COMMANDS)
    types = {"choices": ("float32", "bfloat16", "float16"), "default": "float32"}
    add = _command(group, "merge", "stages.merge", about, needs="transformers").add_argument
    add("adapter", metavar="DIR", help="folder of an adapter, such as settings/NAME/model of a run")
    add("out", metavar="OUT", help="folder to write; must not exist")
    add("--base", metavar="DIR", help="where its base model is now, if it has moved")
    add("--dtype", help="of the weights (default: %(default)s)", **types)

    about = "the entities of one tweet and where its image shows them"
    add = _command(commands, "predict", "predict.command", about, needs="transformers").add_argument
    model = "a backbone, a model of the hub, or the model folder of a setting (default: %(default)s)"
    add("--model", default="tiny-base", metavar="DIR", help=model)
    add("--base", metavar="DIR", help="of an adapter: where the base model is now, if it has moved")
    add("--image", metavar="FILE", help="of any size; turned upright as its EXIF data say (default: none)")
    add("--text", required=True, help="the tweet")
    kinds = [kind for kind in KINDS if kind != "cot-3shot"]
    add("--prompt", choices=kinds, help="default: the prompt format it was trained on")
    add("--max-new-tokens", type=int, default=512, metavar="N", help="of the answer (default: %(default)s)")
    add("--draw", metavar="OUT.png", help="write the image with the boxes")
    add("--json", action="store_true", help="print one JSON object")


def _add_testbed(commands: Any) -> None:
    group = commands.add_parser("testbed", help="the controlled world").add_subparsers(**_COMMANDS)
    about = "write a set: pictures, Twitter-GMNER's own files, and a sidecar"
    make = _command(group, "make", "testbed.make", about, description=_MAKE)
    add, kinds = make.add_argument, "caption, gmner, shortcut, adversarial or unseen (default: %(default)s)"
    add("--distribution", default="gmner", help=kinds)
    add("--n", type=int, default=300, help="tweets (default: %(default)s)")
    add("--out", required=True, metavar="DIR", help="folder of the data set; sets that are in it stay")
    gallery = _command(group, "gallery", "testbed.gallery", "draw the first tweets of each distribution")
    add = gallery.add_argument
    add("--distribution", action="append", help="only this one; repeatable (default: all)")
    add("--n", type=int, default=4, help="tweets per distribution (default: %(default)s)")
    add("--out", required=True, metavar="FILE.png", help="the picture; a CSV of its tweets goes beside it")
    for parser in (make, gallery):
        parser.add_argument("--split", default="test", help="train, dev or test (default: %(default)s)")
        parser.add_argument("--set", metavar="KNOB=VALUE", help="turn a knob; repeatable", **_PAIRS)
        parser.add_argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
