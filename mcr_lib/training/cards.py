"""What a backbone's folder says of itself: family, wording, and whether its files are those that were saved.
Read without torch.

Three kinds of names: a backbone that this repository ships, a folder, a model of the hub. A folder that
`backbones.save` wrote has a card, `backbone.json`; a released model has none, and is told by its
`config.json`. Nothing is ever downloaded here.
"""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import mcr_lib
from mcr_lib.boxes import BOX_FORMATS
from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.training import families

CARD = "backbone.json"

SHIPPED = {"tiny-base": "data/tiny-base"}
"""Name -> folder below the repository root."""

ENDS = 2**20
"""Bytes at either end of a shard that its fingerprint is of: reading all of 16 GB would take a minute."""


def is_hub_name(name: str) -> bool:
    """Whether a name can only mean a model of the hub: owner/model, and no folder of that name.

    Example:
        >>> is_hub_name("Qwen/Qwen2.5-VL-7B-Instruct"), is_hub_name("tiny-base"), is_hub_name("a/folder/deeper")
        (True, False, False)
    """
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None and not Path(name).is_dir()


def folder_of(name: str) -> Path:
    """The folder that a backbone's name or path means.

    Raises:
        UserError: a model of the hub that has not been downloaded; how to is told.
    """
    if name in SHIPPED:
        return Path(mcr_lib.__file__).resolve().parents[1] / SHIPPED[name]
    return _downloaded(name) if is_hub_name(name) else Path(name).expanduser()


def card(name: str) -> dict[str, Any]:
    """The card of a backbone by name or folder; its files are checked: against the checksums of its own card,
    or, of a released model, whether every shard is there and whole.

    Raises:
        UserError: the folder is no backbone that can be read, or a file of it is missing, cut or changed.
    """
    folder = folder_of(name)
    if (folder / CARD).is_file():
        return _own_card(folder)
    if (folder / "config.json").is_file():
        return _released_card(folder, name)
    raise UserError(
        f"{folder} is no backbone: {CARD} is not there, nor config.json; choose {', '.join(SHIPPED)}, a folder or a hub name"
    )


def is_released(name: str) -> bool:
    """Whether a name or folder means a released model: one without a card of ours."""
    return is_hub_name(name) or not (folder_of(name) / CARD).is_file()


def _own_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        told = json.loads(read_text(path))
        version, family, sums = told["format_version"], told["family"], dict(told["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no card of a backbone ({error!r:.80})") from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version {version!r}, but this release reads {FORMAT_VERSION}; make the backbone anew"
        )
    if family not in BOX_FORMATS:
        raise UserError(f"{path}: unknown family {family!r}; known: {', '.join(BOX_FORMATS)}")
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise UserError(f"backbone {folder}: {name} is missing; get the folder again")
        if checksum(folder / name) != expected:
            raise UserError(
                f"backbone {folder}: {name} is not the file that was saved (cut or changed); get the folder again"
            )
    return told


def _released_card(folder: Path, name: str) -> dict[str, Any]:
    """The card that a released model would have; `sha256` of a shard is of its header and its two ends."""
    path, told = folder / "config.json", config(folder)
    family = families.family_of(told, name)
    if family is None:
        known = ", ".join(sorted({known.model_type for known in families.FAMILIES.values()}))
        raise UserError(
            f"{name} is a {told.get('model_type')!r}; types that can be loaded: {known} (docs/families.md: how to add one)"
        )
    if "quantization_config" in told:
        raise UserError(
            f"{name} is stored quantised; take the original model, and quantization=4bit quantises it when it is loaded"
        )
    small = [
        path,
        *sorted(p for p in folder.iterdir() if p.suffix in (".jinja", ".txt", ".json") and p != path),
    ]
    sums = {p.name: checksum(p) for p in small if p.is_file()}
    sums |= {shard.name: _ends(shard) for shard in shards(folder, name)}
    return {
        "format_version": FORMAT_VERSION,
        "kind": "released",
        "family": family,
        "wording": "full",
        "prompt": "direct",
        "sha256": sums,
    }


def shards(folder: Path, name: str) -> list[Path]:
    """The files of a released model's weights, each there and of the length that its own header promises.

    Raises:
        UserError: one is missing or cut.
    """
    index = folder / "model.safetensors.index.json"
    again = f"get it again (hf download {name})" if is_hub_name(name) else "get it again"
    try:
        names = (
            sorted(set(json.loads(read_text(index))["weight_map"].values()))
            if index.is_file()
            else ["model.safetensors"]
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{index}: no index of shards ({error!r:.60}); {again}") from error
    missing = [shard for shard in names if not (folder / shard).is_file()]
    if missing:
        raise UserError(
            f"{name}: {len(missing)} of {len(names)} files of weights are missing, the first is {missing[0]}; {again}"
        )
    for shard in names:
        if (promised := _promised_length(folder / shard)) != (size := (folder / shard).stat().st_size):
            told = (
                "has no header of safetensors"
                if promised is None
                else f"has {size:,} bytes instead of {promised:,}"
            )
            raise UserError(f"{name}: {shard} {told}; its download was cut off: {again}")
    return [folder / shard for shard in names]


def config(folder: Path) -> dict[str, Any]:
    """The config.json of a backbone's folder.

    Raises:
        UserError: there is none, or it is no JSON object.
    """
    path = folder / "config.json"
    try:
        return dict(json.loads(read_text(path)))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: no configuration of a model ({error!r:.80}); get the folder again"
        ) from error


def n_parameters(folder: Path, name: str) -> int:
    """How many parameters a backbone has, by the headers of its files; an output layer that is the embedding
    counts once.

    Raises:
        UserError: a file of weights is missing or cut.
    """
    told = config(folder)
    is_tied = told.get("tie_word_embeddings") or told.get("text_config", {}).get("tie_word_embeddings")
    left_out = {"__metadata__", "lm_head.weight"} if is_tied else {"__metadata__"}
    headers = [_header(shard) or {} for shard in shards(folder, name)]
    return sum(
        math.prod(entry["shape"])
        for header in headers
        for key, entry in header.items()
        if key not in left_out
    )


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _promised_length(path: Path) -> int | None:
    """How long a safetensors file is by its header; `None` where there is none."""
    header = _header(path)
    try:
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (KeyError, TypeError, AttributeError, IndexError):
        return None
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little") + max(ends, default=0)


def _header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file, name of a weight -> type, shape and place; `None` where there is
    none.
    """
    with path.open("rb") as file:
        n = int.from_bytes(file.read(8), "little")
        try:
            return dict(json.loads(file.read(n))) if 0 < n < 2**27 else None
        except (ValueError, TypeError):
            return None


def _ends(path: Path) -> str:
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        digest.update(file.read(ENDS))
        file.seek(max(0, path.stat().st_size - ENDS))
        digest.update(file.read())
    return f"ends:{digest.hexdigest()}"


def _downloaded(name: str) -> Path:
    """Where the hub's cache holds a model."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        known = families.PUBLISHED.get(name)
        size = f" ({2 * known.n_parameters / 1e9:.0f} GB)" if known else ""
        raise UserError(
            f"{name} is no folder, and no model of that name has been downloaded: hf download {name}{size} brings it, given a network "
            "(HF_HOME chooses the disk); a copy elsewhere is taken by --set backbone=FOLDER"
        ) from error
