"""Backbones of random weights, written in a moment: for tests, and to try a family before its download."""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedTokenizerFast as Tokenizer

from mcr_lib.training import backbones, cards, families


def write(folder: str | Path, *, seed: int) -> None:
    """Writes the smallest model of `tiny-base`'s architecture as a folder that `backbones.load` reads."""
    config = transformers.Qwen2_5_VLConfig.from_pretrained(cards.folder_of("tiny-base"))
    text = config.text_config
    text.hidden_size = config.vision_config.out_hidden_size = 64
    text.num_hidden_layers, text.layer_types = 2, text.layer_types[:2]
    text.num_attention_heads = text.num_key_value_heads = 2
    torch.manual_seed(seed)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    processor = backbones.processor("tiny-base")
    backbones.save(backbones.Backbone("random", "qwen2.5-vl", "brief", model, processor), folder)


def write_released(folder: str | Path, hub: str, tokenizer: Tokenizer, *, seed: int, template: str) -> None:
    """Writes a model of `families.PUBLISHED` at its smallest as the hub's files: several shards, no card."""
    published = families.PUBLISHED[hub]
    family = families.FAMILIES[published.family]
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}  # the tokenizer needs them
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    token_ids = {key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()}
    kind = getattr(transformers, family.model_class)
    torch.manual_seed(seed)
    model = kind(kind.config_class(**families.shrunk(published, len(tokenizer)) | token_ids))
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config.update(**special, repetition_penalty=1.05)
    sizes = {"shortest_edge": published.min_pixels, "longest_edge": published.max_pixels}
    parts = {"patch_size": family.patch, "merge_size": family.merge, "size": sizes}
    image = getattr(transformers, family.image_processor_class)(**parts)
    video = getattr(transformers, family.video_processor_class)(**parts)
    processor = getattr(transformers, family.processor_class)(image, tokenizer, video, chat_template=template)
    model.save_pretrained(folder, max_shard_size="300KB")
    processor.save_pretrained(folder)
