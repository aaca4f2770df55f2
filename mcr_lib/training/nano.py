"""A backbone of random weights, written in a moment, for tests."""

from pathlib import Path

import torch
import transformers

from mcr_lib.training import backbones, cards


def write(folder: str | Path, *, seed: int) -> None:
    """Writes the smallest model of `tiny-base`'s architecture as a folder that `backbones.load` reads."""
    config = transformers.Qwen2_5_VLConfig.from_pretrained(cards.folder_of("tiny-base"))
    text = config.text_config
    text.hidden_size = config.vision_config.out_hidden_size = 64
    text.num_hidden_layers, text.layer_types = 2, text.layer_types[:2]
    text.num_attention_heads = text.num_key_value_heads = 2
    torch.manual_seed(seed)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    processor = backbones.outline("tiny-base").processor
    backbones.save(backbones.Backbone("random", "qwen2.5-vl", "brief", model, processor), folder)
