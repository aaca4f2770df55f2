"""The record of a setting, and what is compared to see whether a model or answers are current."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcr_lib.schema import Example
from mcr_lib.study.runs.artifacts import fingerprint, read_versioned

FINGERPRINT = "fingerprint.json"


def of_images(examples: Iterable[Example]) -> str:
    """Fingerprint of the image files of some tweets, by name and size."""
    paths = (Path(path) for example in examples for path in example.images)
    return fingerprint(sorted((path.name, path.stat().st_size) for path in paths))


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a setting's folder; empty if there is none."""
    remedy = f"move {folder} away, or choose another run folder with --out"
    return read_versioned(folder / FINGERPRINT, f"is not of this release; {remedy}")


def is_done(folder: Path, expected: str) -> bool:
    """Whether a setting's folder holds a finished model with the expected fingerprint."""
    record, model = read_record(folder), folder / "model"
    return record.get("fingerprint") == expected and record.get("status") == "done" and model.is_dir()


def link(twin: Path, folder: Path) -> None:
    """Copy a setting's folder for a setting with the same fingerprint, by hard links where possible."""

    def link_or_copy(source: str, target: str) -> None:
        try:
            Path(target).hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(twin, folder, copy_function=link_or_copy, ignore=shutil.ignore_patterns("checkpoints"))
