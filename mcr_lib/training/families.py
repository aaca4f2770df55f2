"""Families of backbones and the published models of each, as data: what the code must know of a model before
it is loaded.

    family        model class                          processor             boxes are written in   thinks
    qwen2.5-vl    Qwen2_5_VLForConditionalGeneration   Qwen2_5_VLProcessor   pixels as resized      when asked
    mimo-vl       the same                             the same              the same, unverified   always
    qwen3-vl      Qwen3VLForConditionalGeneration      Qwen3VLProcessor      thousandths of a side  when asked

The coordinate space of boxes is in `boxes.BOX_FORMATS`. Classes are named, not imported: this file needs no
torch. Shapes are those of each model's `config.json` on the hub, typed in; nothing here is read from a
network. How to add a family: docs/families.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LANGUAGE_LAYERS = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""The seven linear layers of every layer of the language model. Short names ("q_proj", "all-linear") would
also match the vision tower.
"""


@dataclass(frozen=True)
class Family:
    """What models of a family have in common.

    Args:
        video_processor_class: a processor needs one, though no video is used here.
        model_type: in config.json.
        patch: side of a patch in pixels; `patch * merge` is the family's unit in `boxes.BOX_FORMATS`.
        merge: patches along a side of an image token.
        thinks: "asked": it reasons when a prompt asks for it; "always": until it is fine-tuned on answers
            alone, even its answer to the prompt `direct` begins with reasoning.
        lora_targets: regular expression of the names of modules that LoRA adapts.
        lora_per_layer: number of them per layer of the language model.
        never_trained: parts of the model that LoRA does not adapt; in full fine-tuning see `train_vision`.
    """

    model_class: str
    processor_class: str
    image_processor_class: str
    video_processor_class: str
    model_type: str
    patch: int
    merge: int
    thinks: Literal["asked", "always"] = "asked"
    lora_targets: str = LANGUAGE_LAYERS
    lora_per_layer: int = 7
    never_trained: tuple[str, ...] = ("visual",)


_QWEN2_5 = (
    "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor", "Qwen2VLImageProcessor",
    "Qwen2VLVideoProcessor", "qwen2_5_vl", 14, 2,
)  # fmt: skip
_QWEN3 = (
    "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", "Qwen2VLImageProcessor",
    "Qwen3VLVideoProcessor", "qwen3_vl", 16, 2,
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    # The class's default shape is that of 72B, so a config without text_config is another model.
    # generation_config.json asks for a penalty on repeated tokens, which would distort the digits of boxes;
    # `generate` overrides it. Without a system message the chat template adds its own; the prompts of wording
    # `full` have theirs.
    "qwen2.5-vl": Family(*_QWEN2_5),
    # config.json says qwen2_5_vl: distinguished by its name or its vocabulary (`family_of`). That it writes
    # boxes in pixels as Qwen2.5-VL does is concluded from the architecture, not read anywhere. Answers to
    # `direct` begin with reasoning: max_new_tokens needs room for it.
    "mimo-vl": Family(*_QWEN2_5, thinks="always"),
    # Image features also enter the first layers of the language model (deepstack). The chat templates of its
    # Thinking models end a prompt with <think>; `backbones` removes it, since our answers begin with it.
    "qwen3-vl": Family(*_QWEN3),
}
"""Name, as in `boxes.BOX_FORMATS`, -> family. That table has more: families that can be scored but not loaded
here.
"""


@dataclass(frozen=True)
class Published:
    """A released model.

    Args:
        hub: its name on the Hugging Face hub.
        text: shape of the language model, as `vision` of the vision tower.
        tied: whether the output layer is the embedding.
        n_parameters: in all, as counted on the meta device from this shape (the hub's page rounds it).
        n_lora: of a LoRA of rank 16 on `lora_targets`; proportional for other ranks.
        min_pixels: of its preprocessor_config.json, as `max_pixels`; a profile has its own.
    """

    hub: str
    family: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    tied: bool
    n_parameters: int
    n_lora: int
    min_pixels: int
    max_pixels: int

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments of the family's configuration class."""
        shapes = {"text_config": dict(self.text), "vision_config": dict(self.vision)}
        return {**shapes, "tie_word_embeddings": self.tied, **TOKEN_IDS}


TOKEN_IDS = {
    "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}  # fmt: skip
"""The same in all of these vocabularies."""

_TEXT_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip


def _text(*shape: int, rope: dict[str, Any], **more: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", **rope}
    return {
        **dict(zip(_TEXT_KEYS, shape, strict=True)),
        "rms_norm_eps": 1e-6,
        "rope_parameters": rope,
        **more,
    }


def _vision_2_5(out_hidden: int, *, intermediate: int = 3420) -> dict[str, Any]:
    return {
        "depth": 32, "hidden_size": 1280, "intermediate_size": intermediate, "num_heads": 16,
        "out_hidden_size": out_hidden, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    }  # fmt: skip


def _vision_3(out_hidden: int, depth: int, hidden: int, intermediate: int, deepstack: list[int]) -> dict:
    return {
        "depth": depth, "hidden_size": hidden, "intermediate_size": intermediate, "num_heads": 16,
        "out_hidden_size": out_hidden, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "num_position_embeddings": 2304, "deepstack_visual_indexes": deepstack,
    }  # fmt: skip


_ROPE_2_5 = {
    "rope": {"rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]}, "max_position_embeddings": 128_000,
}  # fmt: skip
_ROPE_MIMO = {
    "rope": {"rope_theta": 640_000.0, "mrope_section": [16, 24, 24]}, "max_position_embeddings": 128_000,
    "rms_norm_eps": 1e-5,
}  # fmt: skip
_ROPE_3 = {
    "rope": {"rope_theta": 5_000_000.0, "mrope_section": [24, 20, 20], "mrope_interleaved": True},
    "max_position_embeddings": 262_144, "head_dim": 128,
}  # fmt: skip
_PIXELS_2_5 = {"min_pixels": 56 * 56, "max_pixels": 16_384 * 28 * 28}
_PIXELS_3 = {"min_pixels": 256 * 256, "max_pixels": 4096 * 4096}

# From config.json and preprocessor_config.json of the hub's repositories; those of MiMo-VL as a public
# description of its architecture quotes them.
_MODELS = (
    Published(
        "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl",
        _text(2048, 11_008, 36, 16, 2, 151_936, True, **_ROPE_2_5), _vision_2_5(2048), tied=True,
        n_parameters=3_754_622_976, n_lora=29_933_568, **_PIXELS_2_5,
    ),
    Published(
        "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl",
        _text(3584, 18_944, 28, 28, 4, 152_064, False, **_ROPE_2_5), _vision_2_5(3584), tied=False,
        n_parameters=8_292_166_656, n_lora=40_370_176, **_PIXELS_2_5,
    ),
    Published(
        "XiaomiMiMo/MiMo-VL-7B-RL", "mimo-vl", _text(4096, 11_008, 36, 32, 8, 151_680, False, **_ROPE_MIMO),
        _vision_2_5(4096, intermediate=3456), tied=False,
        n_parameters=8_306_217_216, n_lora=41_435_136, **_PIXELS_2_5,
    ),
    Published(
        "Qwen/Qwen3-VL-4B-Instruct", "qwen3-vl", _text(2560, 9728, 36, 32, 8, 151_936, True, **_ROPE_3),
        _vision_3(2560, depth=24, hidden=1024, intermediate=4096, deepstack=[5, 11, 17]), tied=True,
        n_parameters=4_437_815_808, n_lora=33_030_144, **_PIXELS_3,
    ),
    Published(
        "Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl", _text(4096, 12_288, 36, 32, 8, 151_936, False, **_ROPE_3),
        _vision_3(4096, depth=27, hidden=1152, intermediate=4304, deepstack=[8, 16, 24]), tied=False,
        n_parameters=8_767_123_696, n_lora=43_646_976, **_PIXELS_3,
    ),
)  # fmt: skip
PUBLISHED: dict[str, Published] = {model.hub: model for model in _MODELS}
"""Hub name -> model."""

_MIMO_VOCABULARY = 151_680


def family_of(config: Mapping[str, Any], name: str) -> str | None:
    """The family of a released model by its config.json and its name; `None` = an unknown model type.

    Example:
        >>> family_of({"model_type": "qwen2_5_vl", "vocab_size": 152064}, "Qwen/Qwen2.5-VL-7B-Instruct")
        'qwen2.5-vl'
        >>> family_of({"model_type": "qwen2_5_vl", "vocab_size": 151680}, "my-copy")
        'mimo-vl'
        >>> family_of({"model_type": "qwen2_5_vl", "vocab_size": 152064}, "mimo/Qwen2.5-VL-7B-Instruct")
        'qwen2.5-vl'
    """
    known = [key for key, family in FAMILIES.items() if family.model_type == config.get("model_type")]
    vocabulary = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    last_name = name.rstrip("/").rpartition("/")[2]
    is_mimo = bool(re.search("mimo", last_name, re.IGNORECASE)) or vocabulary == _MIMO_VOCABULARY
    return next((key for key in known if (key == "mimo-vl") == is_mimo), known[0] if known else None)


def lora_modules(model_type: str, n_layers: int) -> int:
    """Number of modules that LoRA adapts in a model of this type.

    Example:
        >>> lora_modules("qwen2_5_vl", 28)
        196
    """
    family = next(family for family in FAMILIES.values() if family.model_type == model_type)
    return n_layers * family.lora_per_layer


def shrunk(model: Published, vocabulary: int) -> dict[str, Any]:
    """A published shape reduced to a few ten thousand parameters: three layers of two heads.

    It keeps what is special about the family: sections of the positions, layers with attention over the whole
    image, features that enter early layers. Token ids are the tokenizer's.
    """
    rope = dict(model.text["rope_parameters"])
    rope["mrope_section"] = [section // 4 for section in rope["mrope_section"]]
    text = {
        **model.text, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocabulary, "rope_parameters": rope,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    text |= {"head_dim": 32} if "head_dim" in model.text else {}
    vision = {**model.vision, "depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2}
    vision["out_hidden_size"] = 64
    for key, few in (("fullatt_block_indexes", [1, 3]), ("deepstack_visual_indexes", [0, 1, 2])):
        vision |= {key: few} if key in vision else {}
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": model.tied}
