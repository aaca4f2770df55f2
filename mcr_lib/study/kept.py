"""The folder of a setting as kept on disk: what `fingerprint.json` tells, and what fingerprints of images and of code are of."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mcr_lib
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example
from mcr_lib.sources.files import read_text
from mcr_lib.study import artifacts
from mcr_lib.study.artifacts import fingerprint

FINGERPRINT = "fingerprint.json"


def facts(folder: Path) -> dict[str, Any]:
    """What a setting's folder tells of it; empty where nothing is there.

    Raises:
        UserError: the file is of another version.
    """
    path = folder / FINGERPRINT
    if not path.is_file():
        return {}
    try:
        told = json.loads(read_text(path))
        if told["format_version"] == FORMAT_VERSION:
            return told
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} is not of this release; move {folder} away, or choose another run folder with --out")


def images(examples: Iterable[Example]) -> str:
    """Fingerprint of the image files of some tweets by name and size."""
    paths = (Path(path) for example in examples for path in example.images)
    return fingerprint(sorted((path.name, path.stat().st_size) for path in paths))


def code(stage: str) -> str:
    """Fingerprint of the code that decides what a stage makes of its rows."""
    of_stage = {"sft": ["stages/sft", "chains", "statements", "styles"], "cvo": ["stages/cvo", "rewards", "constraints", "matching"]}
    names = [
        "answer",
        "answer_reader",
        "boxes",
        "prompts",
        "stages/mrsi",
        "stages/adapters",
        "stages/backbones",
        "stages/training",
        *of_stage[stage],
    ]
    return artifacts.meaning_fingerprint(Path(mcr_lib.__file__).parent / f"{name}.py" for name in names)


def link(twin: Path, folder: Path) -> None:
    """Make a setting of what another one was made from too, by hard links where the file system has them."""

    def linked(source: str, target: str) -> None:
        try:
            Path(target).hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(twin, folder, copy_function=linked, ignore=shutil.ignore_patterns("checkpoints"))
