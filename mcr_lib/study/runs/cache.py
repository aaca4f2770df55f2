"""The folder of a setting as kept on disk: what `fingerprint.json` tells, and the fingerprint of images."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example
from mcr_lib.study.runs.artifacts import fingerprint

FINGERPRINT = "fingerprint.json"


def read_record(folder: Path) -> dict[str, Any]:
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
    raise UserError(
        f"{path} is not of this release; move {folder} away, or choose another run folder with --out"
    )


def images(examples: Iterable[Example]) -> str:
    """Fingerprint of the image files of some tweets by name and size."""
    paths = (Path(path) for example in examples for path in example.images)
    return fingerprint(sorted((path.name, path.stat().st_size) for path in paths))


def link(twin: Path, folder: Path) -> None:
    """Make a setting of what another one was made from too, by hard links where the file system has them."""

    def linked(source: str, target: str) -> None:
        try:
            Path(target).hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(twin, folder, copy_function=linked, ignore=shutil.ignore_patterns("checkpoints"))
