"""The tiny backbone: the real Qwen2.5-VL classes at a few million parameters and a tokenizer for the testbed.

It runs the whole study on a laptop's CPU, with the same code as 7B. For economy, frequent parts of an answer
are single tokens (`ANSWER_TOKENS`), and so are the phrases that tell where an emblem stands and what it looks
like, and every number up to `LARGEST_NUMBER`, also after a comma.
Words with and without a leading space start from one vector, numbers from smooth features of their value, so
that copying words and distinguishing 31 from 32 need not be learned from scratch, and a phrase from its words
(ours; paper silent).
"""

import math
from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

UNIT_PX = 28
MIN_PIXELS, MAX_PIXELS = 112 * 112, 168 * 168
LARGEST_NUMBER = 168

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
ANSWER_TOKENS = (
    "<think>", "</think>", "<answer>[", "]</answer>", '{"entity": "', '", "type": "', '", "bbox_2d": [',
    '", "bbox_2d": null}', "]}", '"}', ', {"entity": "',
)  # fmt: skip

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}"
    "{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The shape of Qwen's template, without its default system message."""

_PIECES = r"\n|, \d{1,3}(?!\d)| ?\d{1,3}(?!\d)|\d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s"


def train_tokenizer(
    texts: Iterable[str], *, phrases: Iterable[str] = (), vocab_size: int = 6000
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; words of these texts, with and without leading space, are tokens.

    So is each of the `phrases` after a space, which makes two equal ones easy to recognise.

    No piece crosses a newline, so the ids of a prompt are a prefix of the ids of prompt + answer.
    """
    words = sorted({word for text in texts for word in text.split()})
    numbers = [form.format(n) for n in range(LARGEST_NUMBER + 1) for form in ("{}", " {}", ", {}")]
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=1, show_progress=False, special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([*words, *(f" {word}" for word in words), *numbers], trainer)
    whole = [*ANSWER_TOKENS, *(f" {phrase}" for phrase in phrases)]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in whole])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left",
        chat_template=CHAT_TEMPLATE, model_max_length=4096,
    )  # fmt: skip


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """Make the real processor with a pixel budget of 16 to 36 visual tokens."""
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    images, videos = Qwen2VLImageProcessor(size=size), Qwen2VLVideoProcessor(size=size)
    return Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=CHAT_TEMPLATE
    )


def make_model(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, hidden: int = 192, n_layers: int = 4
) -> Qwen2_5_VLForConditionalGeneration:
    """Make the real model class with fresh weights and the token vectors of `_start_vectors`."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": hidden, "intermediate_size": 512,
            "num_hidden_layers": n_layers, "num_attention_heads": hidden // 32,
            "num_key_value_heads": hidden // 32, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 4, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4,
            "out_hidden_size": hidden, "window_size": 12 * UNIT_PX, "fullatt_block_indexes": [0, 1, 2, 3],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    _start_vectors(model.get_input_embeddings().weight.data, tokenizer)
    return model


def number_ids(tokenizer: PreTrainedTokenizerFast, form: str) -> list[int]:
    """Return the token ids of 0..LARGEST_NUMBER in one written form, e.g. "{}" or ", {}"."""
    ids = [tokenizer.encode(form.format(n), add_special_tokens=False) for n in range(LARGEST_NUMBER + 1)]
    assert all(len(i) == 1 for i in ids)
    return [i[0] for i in ids]


def _start_vectors(weight: torch.Tensor, tokenizer: PreTrainedTokenizerFast, *, scale: float = 0.04) -> None:
    """Set token vectors, shape (n_tokens, hidden): equal for a word's forms, smooth in a number's value."""
    n, hidden = weight.shape
    weight.normal_(0, scale)
    space = torch.randn(hidden) * scale
    texts = {i: tokenizer.decode([i]) for i in range(n)}
    plain = {text: i for i, text in texts.items() if text and not text.startswith(" ")}
    for i, text in texts.items():
        if text.startswith(" ") and text[1:] in plain:
            weight[i] = weight[plain[text[1:]]] + space
    lengths = torch.logspace(math.log10(6), math.log10(4 * LARGEST_NUMBER), hidden // 4)
    phases = torch.arange(LARGEST_NUMBER + 1)[:, None] * 2 * math.pi / lengths
    features = torch.cat([phases.sin(), phases.cos()], dim=1)
    mixed = features @ torch.randn(features.shape[1], hidden) * (scale / math.sqrt(features.shape[1] / 2))
    for form in ("{}", " {}", ", {}"):
        weight[number_ids(tokenizer, form)] = mixed + torch.randn(hidden) * scale
    start_phrases(weight, tokenizer)


def start_phrases(weight: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
    """Set the vector of each phrase to the sum of its words' over √n: with a word in common two are near."""
    ids = {tokenizer.decode([i]): i for i in range(len(weight))}
    for text, i in ids.items():
        words = text.split()
        if len(words) > 1 and text.startswith(" ") and all(word in ids for word in words):
            weight[i] = weight[[ids[word] for word in words]].sum(0) / len(words) ** 0.5
