"""Families of backbones and their published models, as data, without torch. To add one: docs/families.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
    """A released model: its name on the hub and the shapes of its language model and its vision tower."""

    hub: str
    family: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    n_parameters: int  # as counted on the meta device from this shape (the hub's page rounds it)
    n_lora: int  # of a LoRA of rank 16 on `lora_targets`; proportional for other ranks
    min_pixels: int  # of its preprocessor_config.json, as `max_pixels`; a profile has its own
    max_pixels: int

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments of the family's configuration class."""
        shapes = {"text_config": dict(self.text), "vision_config": dict(self.vision)}
        return {**shapes, "tie_word_embeddings": self.text["tie_word_embeddings"], **_TOKEN_IDS}


_TEXT_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip
_ROPE_2_5 = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]}
_ROPE_3 = {**_ROPE_2_5, "rope_theta": 5_000_000.0, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
_TEXT_2_5 = {"rms_norm_eps": 1e-6, "max_position_embeddings": 128_000, "rope_parameters": _ROPE_2_5}
_MIMO = {**_TEXT_2_5, "rms_norm_eps": 1e-5, "rope_parameters": {**_ROPE_2_5, "rope_theta": 640_000.0}}
_TEXT_3 = {**_TEXT_2_5, "max_position_embeddings": 262_144, "rope_parameters": _ROPE_3, "head_dim": 128}
_VISION_KEYS = ("out_hidden_size", "depth", "hidden_size", "intermediate_size")
_VISION = {"num_heads": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
_VISION_2_5 = {**_VISION, "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}
_VISION_3 = {**_VISION, "patch_size": 16, "num_position_embeddings": 2304}
_PIXELS_2_5, _PIXELS_3 = (56 * 56, 16_384 * 28 * 28), (256 * 256, 4096 * 4096)


def _text(like: dict[str, Any], *sizes: int) -> dict[str, Any]:
    return dict(zip(_TEXT_KEYS, sizes, strict=True)) | like


def _vision(*sizes: int, like: dict[str, Any], **more: Any) -> dict[str, Any]:
    return dict(zip(_VISION_KEYS, sizes, strict=True)) | like | more


# From config.json and preprocessor_config.json on the hub; MiMo-VL's as a public description quotes them.
PUBLISHED: dict[str, Published] = {model.hub: model for model in (
    Published("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl",
        _text(_TEXT_2_5, 2048, 11_008, 36, 16, 2, 151_936, True),
        _vision(2048, 32, 1280, 3420, like=_VISION_2_5), 3_754_622_976, 29_933_568, *_PIXELS_2_5),
    Published("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl",
        _text(_TEXT_2_5, 3584, 18_944, 28, 28, 4, 152_064, False),
        _vision(3584, 32, 1280, 3420, like=_VISION_2_5), 8_292_166_656, 40_370_176, *_PIXELS_2_5),
    Published("XiaomiMiMo/MiMo-VL-7B-RL", "mimo-vl", _text(_MIMO, 4096, 11_008, 36, 32, 8, 151_680, False),
        _vision(4096, 32, 1280, 3456, like=_VISION_2_5), 8_306_217_216, 41_435_136, *_PIXELS_2_5),
    Published("Qwen/Qwen3-VL-4B-Instruct", "qwen3-vl", _text(_TEXT_3, 2560, 9728, 36, 32, 8, 151_936, True),
        _vision(2560, 24, 1024, 4096, like=_VISION_3, deepstack_visual_indexes=[5, 11, 17]),
        4_437_815_808, 33_030_144, *_PIXELS_3),
    Published("Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl",
        _text(_TEXT_3, 4096, 12_288, 36, 32, 8, 151_936, False),
        _vision(4096, 27, 1152, 4304, like=_VISION_3, deepstack_visual_indexes=[8, 16, 24]),
        8_767_123_696, 43_646_976, *_PIXELS_3),
)}  # fmt: skip


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
