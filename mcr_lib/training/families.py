"""Families of backbones and their published models, as data, without torch. To add one: docs/families.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from mcr_lib.data.files import read_text

# Of the language model; short names ("q_proj", "all-linear") would also match the vision tower.
LANGUAGE_LAYERS = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"


@dataclass(frozen=True)
class Family:
    """What models of a family have in common; `patch * merge` is their unit in `boxes.BOX_FORMATS`."""

    model_class: str
    processor_class: str
    image_processor_class: str
    video_processor_class: str  # a processor needs one, though no video is used here
    model_type: str  # in config.json
    patch: int  # side in pixels
    merge: int  # patches along a side of an image token
    # "always": until it is fine-tuned on answers alone, its answer to `direct` begins with reasoning, too
    thinks: Literal["asked", "always"] = "asked"
    lora_targets: str = LANGUAGE_LAYERS  # regular expression of the modules that LoRA adapts
    lora_per_layer: int = 7  # number of them per layer of the language model


_TOKEN_IDS = {"image_token_id": 151655, "video_token_id": 151656}
_TOKEN_IDS |= {"vision_start_token_id": 151652, "vision_end_token_id": 151653}
_MEDIA_2 = ("Qwen2VLImageProcessor", "Qwen2VLVideoProcessor")
_MEDIA_3 = ("Qwen2VLImageProcessor", "Qwen3VLVideoProcessor")
_QWEN2_5 = ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor", *_MEDIA_2, "qwen2_5_vl", 14, 2)
FAMILIES: dict[str, Family] = {
    # generation_config.json asks for a penalty on repeated tokens, which would distort the digits of boxes;
    # `generate` overrides it. Without a system message the chat template adds its own.
    "qwen2.5-vl": Family(*_QWEN2_5),
    # config.json says qwen2_5_vl: distinguished by its name or its vocabulary. That it writes boxes in pixels
    # as Qwen2.5-VL does is concluded from the architecture, not read anywhere.
    "mimo-vl": Family(*_QWEN2_5, thinks="always"),
    # Image features also enter the first layers of the language model (deepstack). The chat templates of its
    # Thinking models end a prompt with <think>; `backbones` removes it, since our answers begin with it.
    "qwen3-vl": Family("Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", *_MEDIA_3, "qwen3_vl", 16, 2),
}


@dataclass(frozen=True)
class Published:
    """A released model, as `published.yaml` describes it."""

    hub: str
    family: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    n_parameters: int
    n_lora: int  # of rank 16
    min_pixels: int
    max_pixels: int

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments of the family's configuration class."""
        shapes = {"text_config": dict(self.text), "vision_config": dict(self.vision)}
        return {**shapes, "tie_word_embeddings": self.text["tie_word_embeddings"], **_TOKEN_IDS}


_ROWS = yaml.safe_load(read_text(Path(__file__).with_name("published.yaml")))
PUBLISHED = {hub: Published(hub, **row) for hub, row in _ROWS.items()}


def family_of(config: Mapping[str, Any], name: str) -> str | None:
    """The family of a released model by its config.json and its name; `None` = an unknown model type.

    Example:
        >>> family_of({"model_type": "qwen2_5_vl", "vocab_size": 152064}, "mimo/Qwen2.5-VL-7B-Instruct")
        'qwen2.5-vl'
    """
    known = [key for key, family in FAMILIES.items() if family.model_type == config.get("model_type")]
    vocabulary = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    is_mimo = vocabulary == 151_680 or "mimo" in name.rstrip("/").rpartition("/")[2].lower()
    return next((key for key in known if (key == "mimo-vl") == is_mimo), known[0] if known else None)


def lora_modules(model_type: str, n_layers: int) -> int:
    """Number of modules that LoRA adapts in a model of this type."""
    return n_layers * next(f.lora_per_layer for f in FAMILIES.values() if f.model_type == model_type)
