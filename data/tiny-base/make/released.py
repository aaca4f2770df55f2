"""Models of released families with chance weights in the hub's form: to try a family before its download."""

import copy
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
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([token for token, _ in family.tokens.values()], special_tokens=True)
    token_ids = {key: tokenizer.convert_tokens_to_ids(token) for key, (token, _) in family.tokens.items()}
    kind = getattr(transformers, family.model_class)
    torch.manual_seed(seed)
    model = kind(kind.config_class(**shrunk(published, len(tokenizer)) | token_ids))
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config.update(**special, repetition_penalty=1.05)
    edges = {"shortest_edge": published.min_pixels, "longest_edge": published.max_pixels}
    sizes = {edge: pixels * family.frames for edge, pixels in edges.items()}
    parts = {"patch_size": family.patch, "merge_size": family.merge, "size": sizes}
    image = getattr(transformers, family.image_processor_class)(**parts)
    video = getattr(transformers, family.video_processor_class)(**parts)
    processor = getattr(transformers, family.processor_class)(image, tokenizer, video, chat_template=template)
    model.save_pretrained(folder, max_shard_size="300KB")
    processor.save_pretrained(folder)


def shrunk(model: families.Published, vocabulary: int) -> dict[str, Any]:
    """The `config` of a published shape reduced to a few ten thousand parameters."""
    rope = model.text["rope_parameters"]
    n_sections = int(16 * rope.get("partial_rotary_factor", 1))  # of half a head of 32
    share = sum(rope["mrope_section"]) // n_sections
    rope = {**rope, "mrope_section": [section // share for section in rope["mrope_section"]]}
    rope["mrope_section"][0] += n_sections - sum(rope["mrope_section"])
    text = {**model.text, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocabulary}
    text |= {"rope_parameters": rope, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    few = {
        "head_dim": 32,
        "full_attention_interval": 3,
        "linear_num_key_heads": 1,
        "linear_num_value_heads": 2,
    }
    few |= {"linear_key_head_dim": 16, "linear_value_head_dim": 16}
    text |= {key: few[key] for key in few if key in text}
    sizes = {"depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    few = {"fullatt_block_indexes": [1, 3], "deepstack_visual_indexes": [0, 1, 2]}
    vision = model.vision | sizes | {key: few[key] for key in few if key in model.vision}
    return {**model.config, "text_config": text, "vision_config": vision}
