"""Backbones of random weights, written in a moment: for tests of everything but quality, and to try a family
before downloading its 16 GB.
"""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from mcr_lib.training import backbones, cards, families
from mcr_lib.training.backbones import Backbone

HIDDEN, N_LAYERS = 64, 2
"""Width and depth of the language model."""


def write(folder: str | Path, *, seed: int) -> None:
    """Writes the smallest model of `tiny-base`'s architecture as a folder that `backbones.load` reads.

    The same seed gives the same weights.
    """
    base = cards.folder_of("tiny-base")
    config = transformers.Qwen2_5_VLConfig.from_pretrained(base)
    text = config.text_config
    text.hidden_size, text.num_hidden_layers, text.layer_types = HIDDEN, N_LAYERS, text.layer_types[:N_LAYERS]
    text.num_attention_heads = text.num_key_value_heads = HIDDEN // 32
    config.vision_config.out_hidden_size = HIDDEN
    torch.manual_seed(seed)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    backbones.save(Backbone("random", "qwen2.5-vl", "brief", model, backbones.processor("tiny-base")), folder)


def write_released(
    folder: str | Path, hub: str, tokenizer: PreTrainedTokenizerFast, *, seed: int, template: str
) -> None:
    """Writes a model of `families.PUBLISHED` at its smallest, as the hub's files.

    It has the family's own classes, several shards and no card of ours. The tokenizer needs Qwen's special
    tokens.
    """
    published = families.PUBLISHED[hub]
    family, ids = families.FAMILIES[published.family], tokenizer.convert_tokens_to_ids
    kind = getattr(transformers, family.model_class)
    token_ids = {
        "image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"), "vision_end_token_id": ids("<|vision_end|>"),
    }  # fmt: skip
    torch.manual_seed(seed)
    model = kind(kind.config_class(**families.shrunk(published, len(tokenizer)), **token_ids))
    model.generation_config.update(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, repetition_penalty=1.05
    )
    sizes = {"shortest_edge": published.min_pixels, "longest_edge": published.max_pixels}
    parts = {"patch_size": family.patch, "merge_size": family.merge, "size": sizes}
    processor = getattr(transformers, family.processor_class)(
        image_processor=getattr(transformers, family.image_processor_class)(**parts), tokenizer=tokenizer,
        video_processor=getattr(transformers, family.video_processor_class)(**parts), chat_template=template,
    )  # fmt: skip
    model.save_pretrained(folder, max_shard_size="300KB")
    processor.save_pretrained(folder)
