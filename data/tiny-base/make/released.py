"""Models of released families with chance weights in the hub's form: to try a family before its download."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast as Tokenizer

from mcr_lib.training import families


def write(folder: str | Path, hub: str, tokenizer: Tokenizer, *, seed: int, template: str) -> None:
    """Write a model of `families.PUBLISHED` at its smallest as the hub's files: several shards, no card."""
    published = families.PUBLISHED[hub]
    family = families.FAMILIES[published.family]
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}  # the tokenizer needs them
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    token_ids = {key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()}
    kind = getattr(transformers, family.model_class)
    torch.manual_seed(seed)
    model = kind(kind.config_class(**shrunk(published, len(tokenizer)) | token_ids))
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config.update(**special, repetition_penalty=1.05)
    sizes = {"shortest_edge": published.min_pixels, "longest_edge": published.max_pixels}
    parts = {"patch_size": family.patch, "merge_size": family.merge, "size": sizes}
    image = getattr(transformers, family.image_processor_class)(**parts)
    video = getattr(transformers, family.video_processor_class)(**parts)
    processor = getattr(transformers, family.processor_class)(image, tokenizer, video, chat_template=template)
    model.save_pretrained(folder, max_shard_size="300KB")
    processor.save_pretrained(folder)


def shrunk(model: families.Published, vocabulary: int) -> dict[str, Any]:
    """The `config` of a published shape reduced to a few ten thousand parameters."""
    rope = model.text["rope_parameters"]
    rope = {**rope, "mrope_section": [section // 4 for section in rope["mrope_section"]]}
    text = {**model.text, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocabulary}
    text |= {"rope_parameters": rope, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    text |= {"head_dim": 32} if "head_dim" in text else {}
    sizes = {"depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    few = {"fullatt_block_indexes": [1, 3], "deepstack_visual_indexes": [0, 1, 2]}
    vision = model.vision | sizes | {key: few[key] for key in few if key in model.vision}
    return {**model.config, "text_config": text, "vision_config": vision}
