"""Answers from a model by transformers: batched by length, resumable, shared by several processes (`Parts`).

Greedy answers do not depend on their batch, except for rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessor

from mcr_lib import prompts
from mcr_lib.boxes import Size
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import KIND
from mcr_lib.schema import Example
from mcr_lib.training import decode
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.parts import Parts

_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}  # others raise warnings


@torch.no_grad()
def answer_batch(
    backbone: Backbone, chats: Sequence[Sequence[prompts.Message]], images: Sequence[Sequence[Image.Image]],
    *, max_new_tokens: int, temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0,
    min_p: float | None = None, repetition_penalty: float = 1.0, processors: Sequence[LogitsProcessor] = (),
    shared_prefix: bool = True,
) -> tuple[list[str], list[list[Size]]]:  # fmt: skip
    """Answers, greedy at temperature 0, and the sizes in pixels of each chat's images as model input.

    `processors` see the scores of each token before temperature and cut. With `shared_prefix`, equal prompts
    side by side are read once, and answers that end leave the batch (`decode`): the same answers, sooner.
    """
    model, processor = backbone.model, backbone.processor
    as_text = {"tokenize": False, "add_generation_prompt": True}
    shares = shared_prefix and decode.can_share(model)
    firsts, place = decode.distinct([*zip(chats, images, strict=True)]) if shares else [range(len(chats))] * 2
    texts = [processor.apply_chat_template(list(chats[k]), **as_text) for k in firsts]
    flat = [image for k in firsts for image in images[k]]
    padding = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    inputs = processor(text=texts, images=flat or None, **padding).to(model.device, model.dtype)
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p}
    how = {"max_new_tokens": max_new_tokens, "num_beams": 1, "use_cache": True}
    how |= {"repetition_penalty": repetition_penalty, "logits_processor": [*processors]}
    how |= {"do_sample": True, **sampling} if temperature else _GREEDY
    was_training = model.training
    model.eval()
    answering = partial(decode.generate, model, place) if shares else model.generate
    out = answering(**inputs, **how, suppress_tokens=[model.config.image_token_id])
    model.train(was_training)
    new_tokens = out[:, inputs["input_ids"].shape[1] :]
    answers = processor.tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
    patch = processor.image_processor.patch_size
    grids = inputs["image_grid_thw"].tolist() if flat else []
    sizes = iter([(width * patch, height * patch) for _, height, width in grids])
    by_prompt = [[next(sizes) for _ in images[k]] for k in firsts]
    return answers, [by_prompt[k] for k in place]


def generate(
    backbone: Backbone, examples: Sequence[Example], path: str | Path, *, prompt: prompts.Kind = "direct",
    shots: Sequence[tuple[Example, str]] = (), max_new_tokens: int, batch_size: int = 128,
    temperature: float = 0.0, top_p: float = 1.0, seed: int = 0, setting: str = "base",
    progress: Callable[[int, int], None] | None = None, **entries: Any,
) -> None:  # fmt: skip
    """Writes a predictions file; `shots`: `mrsi.worked_examples`; `progress` gets answers so far, in all."""
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    header = {"setting": setting, "seed": seed, "prompt": prompt, "prompt_version": prompts.PROMPT_VERSION}
    header |= {"wording": backbone.wording, "style": backbone.style, "answer_form": backbone.form, **options}
    header |= {"batch_size": batch_size, "backbone": backbone.name}
    header |= {"coordinate_space": backbone.space, "shots": [example.id for example, _ in shots], **entries}
    of_shots = [open_image(path) for example, _ in shots for path in example.images]

    def answered(batch: Sequence[Example]) -> Iterator[dict[str, Any]]:
        chats = [backbone.messages(e, prompt, shots) for e in batch]
        images = [[open_image(path) for path in example.images] for example in batch]
        answers, sizes = answer_batch(backbone, chats, [[*of_shots, *own] for own in images], **options)
        for example, answer, own, size in zip(batch, answers, images, sizes, strict=True):
            size_px = list(own[0].size) if own else example.image_size_px
            row = {"id": example.id, "answer": answer, "image_size_px": size_px}
            row["coordinate_space"] = "original_px"
            if model_sizes := size[len(of_shots) :]:  # boxes refer to the first image
                row |= {"coordinate_space": backbone.space, "model_size": list(model_sizes[0])}
            yield row

    Parts(Path(path), KIND, header, itemgetter("id")).make(
        {example.id: example for example in examples}, answered, size=batch_size,
        length=lambda example: len(example.text), seed=seed, device=backbone.model.device.type,
        progress=progress,
    )  # fmt: skip
