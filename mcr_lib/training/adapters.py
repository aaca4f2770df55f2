"""LoRA adapters as folders: what they are of, how they are put on a model, and two of them as one.

A folder holds `adapter_model.safetensors` and `adapter_config.json` as PEFT writes them, so that PEFT alone
can read it too, the processor, a README.md, and `backbone.json`: what the card of a whole backbone tells, and
of which base the adapter is: its name on the hub, or its folder as seen from here, its family, and a
fingerprint of its weights. An adapter is always of a whole model: one that was trained on a model into which
another had been merged is written as the sum of both, of the sum of their ranks.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from mcr_lib.data.files import read_text, write_json
from mcr_lib.errors import UserError
from mcr_lib.training import cards

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning of PEFT and TRL, once per adapter or update, of a name that a later transformers
    will drop.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.*` is deprecated", FutureWarning)
        yield


def is_adapter(name: str) -> bool:
    """Whether a name or folder means an adapter; its files are not looked at."""
    path = cards.folder_of(name) / cards.CARD
    return path.is_file() and json.loads(read_text(path)).get("kind") == "adapter"


def base_of(name: str, folder: Path) -> dict[str, str]:
    """What the card of an adapter in a folder tells of its base: of a backbone itself, or of the base of an
    adapter.

    Args:
        name: of the model that was trained, whole or an adapter.
        folder: where the adapter will lie, which a base that is a folder is told from.
    """
    told = cards.card(name)
    if is_adapter(name):
        return base_of(locate_base(cards.folder_of(name), told), folder)
    place = (
        {"name": name}
        if name in cards.SHIPPED or cards.is_hub_name(name)
        else {"folder": os.path.relpath(Path(name).resolve(), folder)}
    )
    return {**place, "family": told["family"], "weights": _weights(told)}


def locate_base(folder: Path, told: Mapping[str, Any], given: str | None = None) -> str:
    """Name or folder of an adapter's base, which is what it was.

    Args:
        folder: of the adapter.
        told: its card.
        given: where the base is now; `None` = where the card says.

    Raises:
        UserError: it is not there, of another architecture, or has other weights.
    """
    wanted = told["base"]
    name = given or wanted.get("name") or str((folder / wanted["folder"]).resolve())
    if "folder" in wanted and not given and not Path(name).is_dir():
        raise UserError(f"adapter {folder}: its base {name} is not there; tell with --base where it is")
    found = cards.card(name)
    if found["family"] != wanted["family"]:
        raise UserError(
            f"adapter {folder} is of a {wanted['family']} model, and {name} is of another architecture, {found['family']}"
        )
    if (weights := _weights(found)) != wanted["weights"]:
        raise UserError(
            f"adapter {folder} is of another base than {name}: its weights are {weights}, not {wanted['weights']}"
        )
    return name


def attached(model: PreTrainedModel, folder: Path, train_as: LoraConfig | None = None) -> PeftModel:
    """A model with the adapter of a folder on it.

    Args:
        train_as: how it is to be trained on; `None` = not at all.

    Raises:
        UserError: the adapter does not fit, or is of another rank or alpha than it is to be trained with.
    """
    told = _config(folder)
    if train_as is not None and (train_as.r, train_as.lora_alpha) != (told["r"], told["lora_alpha"]):
        raise UserError(
            f"handover=continue goes on with an adapter of lora_rank {told['r']} and lora_alpha {told['lora_alpha']}, "
            f"and the options say {train_as.r} and {train_as.lora_alpha}; say the same, or handover=merge"
        )
    try:
        with quiet():
            return PeftModel.from_pretrained(
                model, folder, config=train_as, is_trainable=train_as is not None
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"adapter {folder} does not fit its base: {str(error).splitlines()[0][:160]}"
        ) from error


def write(model: PeftModel, folder: Path, base: Mapping[str, str], before: Path | None = None) -> None:
    """Write the adapter that was trained.

    Args:
        before: folder of an adapter that had been merged into the model.
    """
    model.peft_config["default"].base_model_name_or_path = base.get("name") or base["folder"]
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's, which has only blanks
    if before is not None:
        _add(before, folder)


def _add(before: Path, folder: Path) -> None:
    """Make the adapter of a folder the sum of both: factors side by side, each scaled as its own
    configuration says.

    B₁A₁·s₁ + B₂A₂·s₂ = [B₁ B₂] [s₁A₁; s₂A₂], of rank r₁ + r₂ and scale 1.
    """
    configs = [_config(place) for place in (before, folder)]
    first, second = (
        {k: v.float() for k, v in load_file(place / WEIGHTS).items()} for place in (before, folder)
    )
    scales = [config["lora_alpha"] / config["r"] for config in configs]
    both = {}
    for key in second:
        if ".lora_A." in key:
            both[key] = torch.cat([scales[0] * first[key], scales[1] * second[key]], dim=0)
        else:
            both[key] = torch.cat([first[key], second[key]], dim=1)
    save_file(
        {key: value.contiguous() for key, value in both.items()}, folder / WEIGHTS, metadata={"format": "pt"}
    )
    rank = sum(config["r"] for config in configs)
    write_json(folder / CONFIG, {**configs[1], "r": rank, "lora_alpha": rank})


def _config(folder: Path) -> dict[str, Any]:
    return json.loads(read_text(folder / CONFIG))


def _weights(told: Mapping[str, Any]) -> str:
    """Fingerprint of a backbone's weights, by the checksums in its card."""
    of_weights = sorted(
        (name, value) for name, value in told["sha256"].items() if name.endswith(".safetensors")
    )
    return hashlib.sha256(json.dumps(of_weights).encode()).hexdigest()[:12]
