"""Answers from a model: batched, in order of length, resumable; the transformers backend.

Rows of a predictions file are appended to `<file>.part` batch by batch; a killed run goes on from there, and the finished file is written
whole in the order of the examples. Greedy answers do not depend on the batch they are in (but for rounding).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mcr_lib import prompts
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.sources.files import read_jsonl
from mcr_lib.sources.images import open_image
from mcr_lib.sources.predictions import write_predictions
from mcr_lib.stages.backbones import Backbone

Progress = Callable[[int, int], None]
"""Called with (answers so far, answers in all)."""


@torch.no_grad()
def answer_batch(
    backbone: Backbone,
    chats: Sequence[Sequence[prompts.Message]],
    images: Sequence[Sequence[Image.Image]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
) -> tuple[list[str], list[tuple[int, int] | None]]:
    """The model's text for each chat, and the size to which the processor resized the first image of each.

    Args:
        chats: without the model's turn.
        images: of each chat, as many as it has image parts.
        temperature: 0 = greedy.

    Returns:
        Texts without special tokens; sizes as (width, height) in pixels, `None` for a chat without image.
    """
    model, processor = backbone.model, backbone.processor
    texts = [processor.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True) for chat in chats]
    flat = [image for some in images for image in some]
    inputs = processor(text=texts, images=flat or None, padding=True, padding_side="left", return_tensors="pt").to(model.device)
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {"do_sample": False}
    was_training = model.training
    model.eval()
    out = model.generate(**inputs, **sampling, max_new_tokens=max_new_tokens)
    model.train(was_training)
    said = processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said, _model_sizes(inputs.get("image_grid_thw"), images, processor.image_processor.patch_size)


def generate(
    backbone: Backbone,
    examples: Sequence[Example],
    path: str | Path,
    *,
    prompt: prompts.Kind = "direct",
    max_new_tokens: int,
    batch_size: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    setting: str = "base",
    load_images: Callable[[Example], list[Image.Image]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a predictions file with the model's answer to every example.

    Args:
        path: of the finished file; what a killed run had done lies in `<path>.part` and is kept when its header is the same.
        load_images: pictures of an example; `None` = its image files.
        seed: of sampling; each batch draws from (seed, number of the batch).

    Raises:
        UserError: an image cannot be read, or the file cannot be written.
    """
    path = Path(path)
    header = {
        "setting": setting, "seed": seed, "prompt": prompt, "prompt_version": prompts.PROMPT_VERSION, "wording": backbone.wording,
        "temperature": temperature, "max_new_tokens": max_new_tokens, "backbone": backbone.name, "coordinate_space": backbone.space,
    }  # fmt: skip
    load_images = load_images or (lambda example: [open_image(image) for image in example.images])
    part = path.with_name(path.name + ".part")
    done = _resumed(part, header)
    order = sorted(range(len(examples)), key=lambda k: (-len(examples[k].text), k))
    batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    with _appending(part, header, is_new=not done) as file:
        for number, batch in enumerate(batches):
            left = [examples[k] for k in batch if examples[k].id not in done]
            if left:
                torch.manual_seed(seed * 100_003 + number)
                chats = [prompts.messages(example, prompt, wording=backbone.wording) for example in left]
                images = [load_images(example) for example in left]
                said, sizes = answer_batch(
                    backbone, chats, images, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p
                )  # fmt: skip
                for example, text, size, pictures in zip(left, said, sizes, images, strict=True):
                    row = {"id": example.id, "answer": text, "image_size_px": list(pictures[0].size) if pictures else example.image_size_px}
                    row |= {"coordinate_space": backbone.space, "model_size": size} if size else {"coordinate_space": "original_px"}
                    done[example.id] = row
                    file.write(json.dumps(row) + "\n")
                file.flush()
            if progress:
                progress(len(done), len(examples))
    write_predictions(path, (done[example.id] for example in examples), **header)
    part.unlink()


def _model_sizes(grid: torch.Tensor | None, images: Sequence[Sequence[Any]], patch: int) -> list[tuple[int, int] | None]:
    rows: Iterator[list[int]] = iter([] if grid is None else grid.tolist())
    sizes = []
    for some in images:
        of_chat = [next(rows) for _ in some]
        sizes.append((of_chat[0][2] * patch, of_chat[0][1] * patch) if of_chat else None)
    return sizes


def _resumed(part: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an earlier run of the same kind had answered: id -> row."""
    if not part.is_file():
        return {}
    whole = part.read_bytes()
    part.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a kill may cut the last line
    if not whole.strip():
        return {}
    found, rows = read_jsonl(part, kind="predictions")
    if any(found.get(key) != value for key, value in header.items()):
        return {}
    return {row["id"]: row for _, row in rows}


def _appending(part: Path, header: dict[str, Any], *, is_new: bool):
    from mcr_lib.schema import FORMAT_VERSION

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w" if is_new else "a", encoding="utf-8")
        if is_new:
            file.write(json.dumps({"format_version": FORMAT_VERSION, "kind": "predictions", **header}) + "\n")
            file.flush()
    except OSError as error:
        raise UserError(f"cannot write {part}: {error.strerror or error}; choose a folder with room that you may write to") from error
    return file
