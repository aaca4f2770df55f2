"""The card of a backbone: family, wording, and checksums of its files. Needs no torch, downloads nothing."""

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
from mcr_lib.schema import FORMAT_NEWS, FORMAT_VERSION
from mcr_lib.training import families

CARD = "backbone.json"  # in a folder of `backbones.save`; a released model's is made from its `config.json`
SHIPPED = {"tiny-base": "data/tiny-base"}  # name -> folder below the repository root
ENDS = 2**20  # bytes at either end of a shard that its fingerprint covers; all of 16 GB would take a minute


def is_hub_name(name: str) -> bool:
    """Whether a name can only mean a model of the hub: owner/model, and no folder of that name."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None and not Path(name).is_dir()


def folder_of(name: str) -> Path:
    """The folder that a name means: of a shipped backbone, of a downloaded model of the hub, or a path."""
    if name in SHIPPED:
        return Path(mcr_lib.__file__).resolve().parents[1] / SHIPPED[name]
    if not is_hub_name(name):
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        size = f" ({2 * known.n_parameters / 1e9:.0f} GB)" if (known := families.PUBLISHED.get(name)) else ""
        problem = f"{name} is no folder, and no model of that name has been downloaded"
        elsewhere = "(HF_HOME chooses the disk); a copy elsewhere is taken by --set backbone=FOLDER"
        remedy = f"hf download {name}{size} brings it, given a network {elsewhere}"
        raise UserError(f"{problem}: {remedy}") from error


def card(name: str) -> dict[str, Any]:
    """The card of a backbone by name or folder, after its files were compared with it."""
    folder = folder_of(name)
    if (folder / CARD).is_file():
        return _own_card(folder)
    if (folder / "config.json").is_file():
        return _released_card(folder, name)
    choices = f"{', '.join(SHIPPED)}, a folder or a hub name"
    raise UserError(f"{folder} is no backbone: {CARD} is not there, nor config.json; choose {choices}")


def is_released(name: str) -> bool:
    """Whether a name or folder means a released model, one without a card of ours."""
    return is_hub_name(name) or not (folder_of(name) / CARD).is_file()


def _own_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        card = json.loads(read_text(path))
        version, family, sums = card["format_version"], card["family"], dict(card["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no card of a backbone ({error!r:.80})") from error
    if version != FORMAT_VERSION:
        reads = f"this release reads {FORMAT_VERSION}"
        raise UserError(
            f"{path}: format_version {version!r}, but {reads}: {FORMAT_NEWS}; make the backbone anew"
        )
    if family not in BOX_FORMATS:
        raise UserError(f"{path}: unknown family {family!r}; known: {', '.join(BOX_FORMATS)}")
    for name, expected in sums.items():
        if not (is_there := (folder / name).is_file()) or checksum(folder / name) != expected:
            defect = "is not the file that was saved (cut or changed)" if is_there else "is missing"
            raise UserError(f"backbone {folder}: {name} {defect}; get the folder again")
    return card


def _released_card(folder: Path, name: str) -> dict[str, Any]:
    """The card that a released model would have; `sha256` of a shard is of its size and its two ends."""
    path, values = folder / "config.json", config(folder)
    if (family := families.family_of(values, name)) is None:
        types = ", ".join(sorted({known.model_type for known in families.FAMILIES.values()}))
        loadable = f"types that can be loaded: {types} (docs/families.md: how to add one)"
        raise UserError(f"{name} is a {values.get('model_type')!r}; {loadable}")
    if "quantization_config" in values:
        remedy = "take the original model, and quantization=4bit quantises it when it is loaded"
        raise UserError(f"{name} is stored quantised; {remedy}")
    others = (p for p in folder.iterdir() if p.suffix in (".jinja", ".txt", ".json") and p != path)
    sums = {p.name: checksum(p) for p in [path, *sorted(others)] if p.is_file()}
    sums |= {shard.name: _ends(shard) for shard in shards(folder, name)}
    head = {"format_version": FORMAT_VERSION, "kind": "released", "family": family}
    return {**head, "wording": "full", "prompt": "direct", "sha256": sums}


def shards(folder: Path, name: str) -> list[Path]:
    """The files of a released model's weights, after each was checked to be there and not cut."""
    from safetensors import SafetensorError  # not in the light core

    index, names = folder / "model.safetensors.index.json", ["model.safetensors"]
    again = f"get it again (hf download {name})" if is_hub_name(name) else "get it again"
    try:
        if index.is_file():
            names = sorted(set(json.loads(read_text(index))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{index}: no index of shards ({error!r:.60}); {again}") from error
    if missing := [shard for shard in names if not (folder / shard).is_file()]:
        count = f"{len(missing)} of {len(names)} files of weights are missing"
        raise UserError(f"{name}: {count}, the first is {missing[0]}; {again}")
    for shard in names:
        try:
            _shapes(folder / shard)
        except SafetensorError as error:
            defect = "is no whole safetensors file, its download was cut off"
            raise UserError(f"{name}: {shard} {defect} ({error}); {again}") from error
    return [folder / shard for shard in names]


def config(folder: Path) -> dict[str, Any]:
    """The config.json of a backbone's folder."""
    path = folder / "config.json"
    try:
        return dict(json.loads(read_text(path)))
    except (ValueError, TypeError) as error:
        defect = f"no configuration of a model ({error!r:.80}); get the folder again"
        raise UserError(f"{path}: {defect}") from error


def n_parameters(folder: Path, name: str) -> int:
    """Number of parameters of a backbone, from the headers of its files; a tied output layer counts once."""
    values = config(folder)
    is_tied = values.get("tie_word_embeddings") or values.get("text_config", {}).get("tie_word_embeddings")
    shapes = {key: shape for shard in shards(folder, name) for key, shape in _shapes(shard).items()}
    return sum(math.prod(shape) for key, shape in shapes.items() if not (is_tied and key == "lm_head.weight"))


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shapes(path: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in a file; `SafetensorError` where it is cut or no such file."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def _ends(path: Path) -> str:
    with path.open("rb") as file:
        size, first = path.stat().st_size, file.read(ENDS)
        file.seek(max(0, size - ENDS))
        digest = hashlib.sha256(str(size).encode() + first + file.read())
    return f"ends:{digest.hexdigest()}"
