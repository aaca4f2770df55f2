"""LoRA adapters as folders: which base they are of, and how they are put on it.

A folder holds `adapter_model.safetensors` and `adapter_config.json` as PEFT writes them, so that PEFT alone
can read it too, the processor, a README.md, and `backbone.json`: the card of a whole backbone, and the base
of the adapter: its hub name, or its folder relative to the adapter's, its family, and a fingerprint of its
weights. The base is always a whole model, never another adapter.
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

CONFIG = "adapter_config.json"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses a warning of PEFT and TRL about a name that a later transformers will drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.*` is deprecated", FutureWarning)
        yield


def is_adapter(name: str) -> bool:
    """Whether a name or folder means an adapter, by its card alone."""
    path = cards.folder_of(name) / cards.CARD
    return path.is_file() and json.loads(read_text(path)).get("kind") == "adapter"


def base_of(name: str, folder: Path) -> dict[str, str]:
    """The entry `base` of the card of an adapter that will be in `folder`.

    It is the model that was trained, `name`, or its base if that is an adapter. A base that is a folder is
    given relative to the adapter's.
    """
    card = cards.card(name)
    if is_adapter(name):
        return base_of(locate_base(cards.folder_of(name), card), folder)
    if name in cards.SHIPPED or cards.is_hub_name(name):
        place = {"name": name}
    else:
        place = {"folder": os.path.relpath(Path(name).resolve(), folder)}
    return {**place, "family": card["family"], "weights": _weights(card)}


def locate_base(folder: Path, card: Mapping[str, Any], given: str | None = None) -> str:
    """Name or folder of an adapter's base, after checking that it is the base it was trained on.

    `given` is where the base is now; `None` = where the card of the adapter says.

    Raises:
        UserError: it is missing, of another architecture, or has other weights.
    """
    wanted = card["base"]
    name = given or wanted.get("name") or str((folder / wanted["folder"]).resolve())
    if "folder" in wanted and not given and not Path(name).is_dir():
        raise UserError(f"adapter {folder}: its base {name} is not there; tell with --base where it is")
    base = cards.card(name)
    if base["family"] != wanted["family"]:
        raise UserError(
            f"adapter {folder} is of a {wanted['family']} model, and {name} is of another architecture, "
            f"{base['family']}"
        )
    if (weights := _weights(base)) != wanted["weights"]:
        raise UserError(
            f"adapter {folder} is of another base than {name}: its weights are {weights}, "
            f"not {wanted['weights']}"
        )
    return name


def attached(model: PreTrainedModel, folder: Path, train_as: LoraConfig | None = None) -> PeftModel:
    """A model with the adapter of a folder on it, to be trained further if `train_as` is given.

    Raises:
        UserError: the adapter does not fit, or has another rank or alpha than `train_as`.
    """
    config = json.loads(read_text(folder / CONFIG))
    rank, alpha = config["r"], config["lora_alpha"]
    if train_as is not None and (train_as.r, train_as.lora_alpha) != (rank, alpha):
        raise UserError(
            f"training goes on with an adapter of lora_rank {rank} and lora_alpha {alpha}, and the options "
            f"say {train_as.r} and {train_as.lora_alpha}; say the same, or give the start save: merged"
        )
    is_trained = train_as is not None
    try:
        with quiet():
            return PeftModel.from_pretrained(model, folder, config=train_as, is_trainable=is_trained)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(f"adapter {folder} does not fit its base: {reason}") from error


def write(model: PeftModel, folder: Path, base: Mapping[str, str]) -> None:
    """Writes the adapter that was trained."""
    model.peft_config["default"].base_model_name_or_path = base.get("name") or base["folder"]
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's, a form without content


def _weights(card: Mapping[str, Any]) -> str:
    """Fingerprint of a backbone's weights, from the checksums in its card."""
    shards = sorted((name, value) for name, value in card["sha256"].items() if name.endswith(".safetensors"))
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:12]
