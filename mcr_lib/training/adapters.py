"""LoRA adapters as folders: which base they are of, and how they are put on it.

A folder holds what PEFT writes, so that PEFT alone can read it too, the processor, a README.md, and
`backbone.json`: the card of a whole backbone and, as `base`, the model that the adapter is of (never another
adapter): its hub name, or its folder relative to the adapter's, its family, and a fingerprint of its weights.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.training import cards


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses a warning of PEFT and TRL about a name that a later transformers will drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.*` is deprecated", FutureWarning)
        yield


def reason(error: Exception) -> str:
    """The first line of a library's error, cut to 160 characters."""
    return str(error).splitlines()[0][:160]


def is_adapter(name: str) -> bool:
    """Whether a name or folder means an adapter, by its card alone."""
    path = cards.folder_of(name) / cards.CARD
    return path.is_file() and json.loads(read_text(path)).get("kind") == "adapter"


def base_of(name: str, folder: Path) -> dict[str, str]:
    """The entry `base` of the card of an adapter in `folder` that was trained from `name`."""
    card = cards.card(name)
    if is_adapter(name):
        return base_of(locate_base(cards.folder_of(name), card), folder)
    is_named = name in cards.SHIPPED or cards.is_hub_name(name)
    place = {"name": name} if is_named else {"folder": os.path.relpath(Path(name).resolve(), folder)}
    return {**place, "family": card["family"], "weights": _weights(card)}


def locate_base(folder: Path, card: Mapping[str, Any], given: str | None = None) -> str:
    """The base of an adapter, after checking it; `given`: where it is now, `None` = where the card says."""
    wanted = card["base"]
    name = given or wanted.get("name") or str((folder / wanted["folder"]).resolve())
    if "folder" in wanted and not given and not Path(name).is_dir():
        raise UserError(f"adapter {folder}: its base {name} is not there; tell with --base where it is")
    base = cards.card(name)
    if base["family"] != wanted["family"]:
        other = f"{name} is of another architecture, {base['family']}"
        raise UserError(f"adapter {folder} is of a {wanted['family']} model, and {other}")
    if (weights := _weights(base)) != wanted["weights"]:
        differ = f"its weights are {weights}, not {wanted['weights']}"
        raise UserError(f"adapter {folder} is of another base than {name}: {differ}")
    return name


def attached(model: PreTrainedModel, folder: Path, train_as: LoraConfig | None = None) -> PeftModel:
    """A model with the adapter of a folder on it, to be trained further if `train_as` is given."""
    config = json.loads(read_text(folder / "adapter_config.json"))
    rank, alpha, is_trained = config["r"], config["lora_alpha"], train_as is not None
    if is_trained and (train_as.r, train_as.lora_alpha) != (rank, alpha):
        start = f"training goes on with an adapter of lora_rank {rank} and lora_alpha {alpha}"
        say = f"the options say {train_as.r} and {train_as.lora_alpha}"
        raise UserError(f"{start}, and {say}; say the same, or give the start save: merged")
    try:
        with quiet():
            return PeftModel.from_pretrained(model, folder, config=train_as, is_trainable=is_trained)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"adapter {folder} does not fit its base: {reason(error)}") from error


def write(model: PeftModel, folder: Path, base: Mapping[str, str], state: Mapping[str, Any] | None) -> None:
    """Writes the adapter that was trained; `state`: gathered weights, where no process has them whole."""
    model.peft_config["default"].base_model_name_or_path = base.get("name") or base["folder"]
    how = {} if state is None else {"state_dict": state}
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False, **how)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's, a form without content


def _weights(card: Mapping[str, Any]) -> str:
    shards = sorted((name, value) for name, value in card["sha256"].items() if name.endswith(".safetensors"))
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:12]
