"""The card of a backbone's folder: what it is and what its files must be. Read without torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

import mcr_lib
from mcr_lib.boxes import FAMILIES
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.sources.files import read_text

CARD = "backbone.json"

SHIPPED = {"tiny-base": "data/tiny-base"}
"""Name -> folder below the repository root."""


def folder_of(name: str) -> Path:
    """The folder that a backbone's name or path means."""
    return Path(mcr_lib.__file__).resolve().parents[1] / SHIPPED[name] if name in SHIPPED else Path(name).expanduser()


def card(name: str) -> dict[str, Any]:
    """The card of a backbone by name or folder; its files are checked against the checksums in it.

    Raises:
        UserError: the folder is no backbone of this release, or a file of it is missing or changed.
    """
    folder = folder_of(name)
    path = folder / CARD
    if not path.is_file():
        raise UserError(f"{folder} is no backbone: {CARD} is not there; choose {', '.join(SHIPPED)} or a folder that a run has saved")
    try:
        told = json.loads(read_text(path))
        version, family, sums = told["format_version"], told["family"], dict(told["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no card of a backbone ({error!r:.80})") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format_version {version!r}, but this release reads {FORMAT_VERSION}; make the backbone anew")
    if family not in FAMILIES:
        raise UserError(f"{path}: unknown family {family!r}; known: {', '.join(FAMILIES)}")
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise UserError(f"backbone {folder}: {name} is missing; get the folder again")
        if checksum(folder / name) != expected:
            raise UserError(f"backbone {folder}: {name} is not the file that was saved (cut or changed); get the folder again")
    return told


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
