"""What several commands share: the configuration that is given, the console, and a served model."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mcr_lib.boxes import BOX_FORMATS
from mcr_lib.data import load_split
from mcr_lib.data.images import image_problem
from mcr_lib.data.mrsi import Target
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.runs import config
from mcr_lib.training.endpoint import Endpoint, Picture


def load(given: Namespace) -> config.Loaded:
    """The configuration that --profile, --out (from the working folder) and --set select."""
    out = given.out and Path(given.out).absolute()
    return config.load(given.profile, out, config.parse_set(given.pairs))


def console(width: int = 132) -> Console:
    """The console of rich, of this width where standard output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else width)


def endpoint(given: Namespace, kept: Path) -> Endpoint:
    """The served model of --endpoint, --model and the options beside them."""
    if not given.model:
        raise UserError("--endpoint needs --model, the name under which the server knows it")
    how = {f.name: getattr(given, f.name) for f in fields(Endpoint) if hasattr(given, f.name)}
    return Endpoint(given.endpoint, kept=kept, sampling=config.parse_set(given.pairs), **how)


def shown(given: Namespace, split: str) -> list[Example]:
    """The tweets of a split with their images."""
    folder, named = given.images or given.root, {"split": split, "version": given.version}
    examples = load_split(given.source, given.root, images_dir=folder, **named)
    examples = [e if any(Path(p).is_file() for p in e.images) else replace(e, images=()) for e in examples]
    if not any(example.images for example in examples):
        raise UserError(f"no tweet of {split} has an image below {folder}; --images tells where they are")
    return examples


def target(given: Namespace) -> Target:
    """How the served model reads images and writes boxes, by --family, else by its name."""
    family = given.family or next((f for f in BOX_FORMATS if f in given.model.lower()), None)
    if family is None:
        known = f"tell it by --family: {', '.join(BOX_FORMATS)}"
        raise UserError(f"how {given.model} writes boxes cannot be told by its name; {known}")
    fewest, most = (config.Config.model_fields[name].default for name in ("min_pixels", "max_pixels"))
    return Target(family, fewest, given.max_pixels or most)


def pictures(example: Example, target: Target) -> list[Picture]:
    """The images of a tweet, each in the size to which the model's processor would resize it."""
    sent = []
    for path in example.images:
        size, problem = image_problem(path)
        if problem:
            raise UserError(f"{path}: {problem}")
        sent.append((path, target.size(replace(example, image_size_px=size))))
    return sent


def tell(facts: Mapping[str, Any]) -> int:
    """Print the usage or the quote of an endpoint, and return the exit code: 1 if an answer is missing."""
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    if is_short := facts.get("unanswered", 0) > 0:
        print("mcr: for what is unanswered, run the same command again", file=sys.stderr)
    return int(is_short)
