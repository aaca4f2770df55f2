"""Backbones: a model with its processor, and what one must know to speak with it.

`load` takes the name of a backbone that this repository ships ("tiny-base"), or a folder that `save` wrote. A folder holds safetensors, the
processor and `backbone.json`: family (`boxes.FAMILIES`), wording of prompts, the prompt that it was trained to be asked, prompt version,
and checksums of its files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedModel, ProcessorMixin, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.utils import logging

from mcr_lib import prompts
from mcr_lib.boxes import FAMILIES, Space
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.sources.files import write_json
from mcr_lib.stages.cards import CARD, card, checksum, folder_of
from mcr_lib.stages.mrsi import Target

CLASSES = {"qwen2.5-vl": (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor)}
"""Family -> model class and processor class."""


@dataclass(frozen=True)
class Backbone:
    """A model ready to be asked or trained.

    Args:
        name: as it was asked for, for reports.
        family: key of `boxes.FAMILIES`.
        wording: of prompts that it is asked in.
        model: on its device.
        processor: with the tokenizer padding on the left.
        prompt: which it was trained to be asked.
    """

    name: str
    family: str
    wording: prompts.Wording
    model: PreTrainedModel
    processor: ProcessorMixin
    prompt: prompts.Kind = "direct"

    @property
    def space(self) -> Space:
        """The coordinate space that it speaks."""
        return FAMILIES[self.family].space

    @property
    def target(self) -> Target:
        """What rows for it are made for."""
        return _target(self.processor, self.family, self.wording)


def load(name: str, *, device: str | None = None, dtype: torch.dtype = torch.float32, weights: str | Path | None = None) -> Backbone:
    """A backbone by name or folder.

    Args:
        device: `None` = a GPU where there is one.
        dtype: of the weights once loaded.
        weights: a checkpoint of it whose weights are taken instead of its own.

    Raises:
        UserError: the folder is missing, of another version or architecture, or a file of it is missing or not as it was saved.
    """
    folder = folder_of(name)
    told = card(name)
    processor = _processor(folder, told["family"])
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    attention = "sdpa" if device.startswith("cuda") else "eager"  # for few short rows a quarter faster on a CPU
    _be_quiet()
    source = folder if weights is None else Path(weights)
    try:
        model, found = CLASSES[told["family"]][0].from_pretrained(
            source, dtype=dtype, attn_implementation=attention, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError) as error:
        raise UserError(f"backbone {source} cannot be loaded: {str(error).splitlines()[0][:160]}") from error
    if lost := sorted(found["missing_keys"]) + sorted(found["unexpected_keys"]):
        raise UserError(f"backbone {source} is of another architecture: {len(lost)} weights do not fit, the first is {lost[0]}")
    model.config._name_or_path = str(folder)  # a reference model is loaded from there, and must not be the checkpoint
    return Backbone(name, told["family"], told["wording"], model.to(device).eval(), processor, told.get("prompt", "direct"))


def processor(name: str) -> ProcessorMixin:
    """The processor of a backbone by name or folder, without its model; the tokenizer pads on the left.

    Raises:
        UserError: the folder is no backbone of this release, or a file of it is missing or changed.
    """
    return _processor(folder_of(name), card(name)["family"])


def target(name: str) -> Target:
    """What rows for a backbone are made for, without loading its weights.

    Raises:
        UserError: as `load`.
    """
    told = card(name)
    return _target(_processor(folder_of(name), told["family"]), told["family"], told["wording"])


def save(backbone: Backbone, folder: str | Path, *, dtype: torch.dtype | None = None, **told: Any) -> None:
    """Write a backbone as a folder that `load` reads; `told` goes into its card.

    Args:
        dtype: of the stored weights; `None` = as they are.
    """
    folder = Path(folder)
    model = backbone.model
    _be_quiet()
    state = {name: value.to(dtype or value.dtype).contiguous() for name, value in model.state_dict().items()}
    before = model.config.dtype
    model.config.dtype = dtype or before
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    model.config.dtype = before
    backbone.processor.save_pretrained(folder)
    files = {p.name: checksum(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != CARD and p.suffix != ".md"}
    head = {"format_version": FORMAT_VERSION, "kind": "backbone", "family": backbone.family, "wording": backbone.wording}
    head["prompt"] = backbone.prompt
    write_json(folder / CARD, {**head, "prompt_version": prompts.PROMPT_VERSION, **told, "sha256": files})


def _processor(folder: Path, family: str) -> ProcessorMixin:
    if family not in CLASSES:
        raise UserError(f"{folder}: family {family!r} is of an architecture that cannot be loaded; known: {', '.join(CLASSES)}")
    try:
        found = CLASSES[family][1].from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the processor of {folder} cannot be loaded: {str(error).splitlines()[0][:160]}") from error
    found.tokenizer.padding_side = "left"
    return found


def _target(processor: ProcessorMixin, family: str, wording: prompts.Wording) -> Target:
    size = processor.image_processor.size
    return Target(family, size["shortest_edge"], size["longest_edge"], wording)


def _be_quiet() -> None:
    """No bars and no warnings of the library: what matters of them is checked here."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
