"""Families of backbones and their published models, as data, without torch. To add one: docs/families.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from mcr_lib.data.files import read_text

# Of the language model; short names ("q_proj", "all-linear") would also match the vision tower.
LANGUAGE_LAYERS = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
_LINEAR_TOO = LANGUAGE_LAYERS[:-1] + r"|linear_attn\.(in_proj_(qkv|z|b|a)|out_proj))"


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
    tokens: Mapping[str, tuple[str, int]]  # entry of config.json -> token and its id in published models
    # "always": until it is fine-tuned on answers alone, its answer to `direct` begins with reasoning, too
    thinks: Literal["asked", "always"] = "asked"
    switch: str | None = None  # of its chat template: false turns thinking off; `None` = it has none
    frames: int = 1  # times that its image processor counts an image's pixels against its budget
    lora_targets: str = LANGUAGE_LAYERS  # regular expression of the modules that LoRA adapts
    lora_per_layer: Mapping[str, int] = field(default_factory=lambda: {"full_attention": 7})  # by layer type


def _tokens(**tokens: tuple[str, int]) -> dict[str, tuple[str, int]]:
    return {f"{name}_token_id": token for name, token in tokens.items()}


def _qwen_tokens(start: int, end: int, image: int, video: int) -> dict[str, tuple[str, int]]:
    media = {"image": ("<|image_pad|>", image), "video": ("<|video_pad|>", video)}
    return _tokens(**media, vision_start=("<|vision_start|>", start), vision_end=("<|vision_end|>", end))


_QWEN_IDS = _qwen_tokens(151652, 151653, 151655, 151656)
_MEDIA_2 = ("Qwen2VLImageProcessor", "Qwen2VLVideoProcessor")
_MEDIA_3 = ("Qwen2VLImageProcessor", "Qwen3VLVideoProcessor")
_QWEN2_5 = ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor", *_MEDIA_2, "qwen2_5_vl", 14, 2)
_QWEN3 = ("Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", *_MEDIA_3, "qwen3_vl", 16, 2)
_QWEN3_5 = ("Qwen3_5ForConditionalGeneration", "Qwen3VLProcessor", *_MEDIA_3, "qwen3_5", 16, 2)
_MEDIA_GLM = ("Glm46VProcessor", "Glm46VImageProcessor", "Glm46VVideoProcessor")
FAMILIES: dict[str, Family] = {
    # generation_config.json asks for a penalty on repeated tokens, which would distort the digits of boxes;
    # `generate` overrides it. Without a system message the chat template adds its own.
    "qwen2.5-vl": Family(*_QWEN2_5, _QWEN_IDS),
    # config.json says qwen2_5_vl: distinguished by its name or its vocabulary. That it writes boxes in pixels
    # as Qwen2.5-VL does is concluded from the architecture, not read anywhere.
    "mimo-vl": Family(*_QWEN2_5, _QWEN_IDS, thinks="always"),
    # Image features also enter the first layers of the language model (deepstack). The chat templates of its
    # Thinking models end a prompt with <think>; `backbones` removes it, since our answers begin with it.
    "qwen3-vl": Family(*_QWEN3, _QWEN_IDS),
    # Dense Qwen3.5, 3.6 and 3.8. Three of four layers keep a state instead of keys and values.
    "qwen3.5": Family(
        *_QWEN3_5, _qwen_tokens(248053, 248054, 248056, 248057), switch="enable_thinking",
        lora_targets=_LINEAR_TOO, lora_per_layer={"full_attention": 7, "linear_attention": 8},
    ),
    # Dense GLM-4.6V (Flash) has the architecture of GLM-4.1V and a processor of its own. Ids other than
    # image_token_id are those of transformers' defaults.
    "glm-4.6v": Family(
        "Glm4vForConditionalGeneration", *_MEDIA_GLM, "glm4v", 14, 2,
        _tokens(
            image=("<|image|>", 151363), video=("<|video|>", 151364),
            image_start=("<|begin_of_image|>", 151339), image_end=("<|end_of_image|>", 151340),
            video_start=("<|begin_of_video|>", 151341), video_end=("<|end_of_video|>", 151342),
        ),
        switch="enable_thinking", frames=2,
        lora_targets=LANGUAGE_LAYERS.replace("gate|up", "gate_up"), lora_per_layer={"full_attention": 6},
    ),
}  # fmt: skip


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
        family = FAMILIES[self.family]
        ids = {name: number for name, (_, number) in family.tokens.items()}
        return {**shapes, "tie_word_embeddings": self.text["tie_word_embeddings"], **ids}


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


def layer_types(text: Mapping[str, Any]) -> list[str]:
    """The type of each layer of a language model by its configuration.

    Example:
        >>> layer_types({"num_hidden_layers": 2, "full_attention_interval": 2})
        ['linear_attention', 'full_attention']
    """
    interval = text.get("full_attention_interval") or (4 if "linear_num_value_heads" in text else 1)
    kinds = ("full_attention", "linear_attention")
    usual = [kinds[k % interval > 0] for k in range(1, text["num_hidden_layers"] + 1)]
    return list(text.get("layer_types") or usual)


def lora_modules(model_type: str, text: Mapping[str, Any]) -> int:
    """Number of modules that LoRA adapts in a model of this type and this language model."""
    family = next(f for f in FAMILIES.values() if f.model_type == model_type)
    return sum(family.lora_per_layer[kind] for kind in layer_types(text))


def linear_sizes(text: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(inputs, outputs) of every linear layer of a language model's layers: those that LoRA adapts."""
    hidden, inner, heads = (text[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads"))
    size = text.get("head_dim") or hidden // heads
    queries, keys = heads * size, (text.get("num_key_value_heads") or heads) * size
    is_hybrid, is_fused = "linear_num_value_heads" in text, text.get("model_type") == "glm4v_text"
    mlp = [(hidden, 2 * inner)] if is_fused else [(hidden, inner)] * 2
    mlp += [(inner, hidden)]
    gated = queries * (2 if is_hybrid else 1)  # the gate of its output is made beside the queries
    layers = {"full_attention": [(hidden, gated), (hidden, keys), (hidden, keys), (queries, hidden), *mlp]}
    if is_hybrid:
        n_keys, n_values = text["linear_num_key_heads"], text["linear_num_value_heads"]
        all_keys, values = n_keys * text["linear_key_head_dim"], n_values * text["linear_value_head_dim"]
        inputs = [(hidden, n) for n in (2 * all_keys + values, values, n_values, n_values)]
        layers["linear_attention"] = [*inputs, (values, hidden), *mlp]
    return [sizes for kind in layer_types(text) for sizes in layers[kind]]
