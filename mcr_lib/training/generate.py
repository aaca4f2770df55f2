"""Answers from a model by transformers: batched by length, resumable, shared by several processes.

Rows of a predictions file are appended to `<file>.part` batch by batch, by further processes to
`<file>.<rank>.part`. A killed run continues from there with any number of processes, and the finished file is
written whole in the order of the examples. Batches and their random seeds do not depend on the number of
processes, so neither does the file. Greedy answers do not depend on their batch (except for rounding).
"""

import glob
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from PIL import Image

from mcr_lib import prompts
from mcr_lib.boxes import Size
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import KIND, write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION, Example
from mcr_lib.training import launch
from mcr_lib.training.backbones import Backbone

Progress = Callable[[int, int], None]
"""Called with (answers so far, answers in all)."""

_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
"""The last three have no effect without sampling; transformers warns of other values."""


@torch.no_grad()
def answer_batch(
    backbone: Backbone,
    chats: Sequence[Sequence[prompts.Message]],
    images: Sequence[Sequence[Image.Image]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
) -> tuple[list[str], list[list[Size]]]:
    """The model's answer to each chat, and the sizes of its images after resizing.

    Every option of generation is set here: defaults that a released model has (Qwen2.5-VL: a penalty on
    repeated tokens, which distorts the digits of boxes) do not apply.

    Args:
        chats: without the model's turn.
        images: of each chat in the order of its image parts, those of worked examples first.
        temperature: 0 = greedy.

    Returns:
        Texts without special tokens; per chat the (width, height) in pixels of each image as the model's
        input.
    """
    model, processor = backbone.model, backbone.processor
    as_text = {"tokenize": False, "add_generation_prompt": True}
    texts = [processor.apply_chat_template(list(chat), **as_text) for chat in chats]
    flat = [image for each in images for image in each]
    padding = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    inputs = processor(text=texts, images=flat or None, **padding).to(model.device)
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    was_training = model.training
    model.eval()
    out = model.generate(
        **inputs, **(sampling if temperature else _GREEDY), max_new_tokens=max_new_tokens, num_beams=1,
        repetition_penalty=1.0, use_cache=True, suppress_tokens=[model.config.image_token_id],
    )  # fmt: skip
    model.train(was_training)
    new_tokens = out[:, inputs["input_ids"].shape[1] :]
    answers = processor.tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
    patch = processor.image_processor.patch_size
    grids = inputs["image_grid_thw"].tolist() if "image_grid_thw" in inputs else []
    sizes = iter([(width * patch, height * patch) for _, height, width in grids])
    return answers, [[next(sizes) for _ in each] for each in images]


def generate(
    backbone: Backbone,
    examples: Sequence[Example],
    path: str | Path,
    *,
    prompt: prompts.Kind = "direct",
    shots: Sequence[tuple[Example, str]] = (),
    max_new_tokens: int,
    batch_size: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    setting: str = "base",
    progress: Progress | None = None,
    **entries: Any,
) -> None:
    """Writes a predictions file with the model's answer to every example.

    Args:
        path: of the finished file; answers of a killed run in `<path>.part` are reused when its header is the
            same.
        shots: for the prompt "cot-3shot": tweets with their worked answers (`mrsi.worked_examples`).
        seed: of sampling; each batch is seeded by (seed, number of the batch).
        entries: further entries of the file's header.

    Raises:
        UserError: an image cannot be read, or the file cannot be written.
    """
    path = Path(path)
    header = {
        "setting": setting, "seed": seed, "prompt": prompt, "prompt_version": prompts.PROMPT_VERSION,
        "wording": backbone.wording, "temperature": temperature, "top_p": top_p,
        "max_new_tokens": max_new_tokens, "batch_size": batch_size, "backbone": backbone.name,
        "coordinate_space": backbone.space, "shots": [example.id for example, _ in shots], **entries,
    }  # fmt: skip
    shot_images = [open_image(path) for example, _ in shots for path in example.images]
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    state = launch.together(backbone.model.device.type)
    is_main = state.is_main_process
    if is_main:
        _gather(path, header)
    state.wait_for_everyone()
    done = _read_part(_part(path), header)
    state.wait_for_everyone()
    by_length = sorted(examples, key=lambda example: -len(example.text))
    batches = [by_length[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    # a batch is answered as a whole, since its random draws depend on all of it
    todo = [(k, batch) for k, batch in enumerate(batches) if any(example.id not in done for example in batch)]
    n_done = len(examples) - sum(len(batch) for _, batch in todo)
    with _open_part(_part(path, state.process_index), header, is_new=not done or not is_main) as file:
        for number, batch in todo[state.process_index :: state.num_processes]:
            torch.manual_seed(seed * 100_003 + number)
            chats = [prompts.messages(e, prompt, wording=backbone.wording, shots=shots) for e in batch]
            images = [[open_image(path) for path in example.images] for example in batch]
            answers, sizes = answer_batch(
                backbone, chats, [[*shot_images, *own] for own in images], **options
            )
            for example, answer, own, size in zip(batch, answers, images, sizes, strict=True):
                row = _row(example, answer, own, size[len(shot_images) :], backbone)
                file.write(json.dumps(row) + "\n")
            file.flush()
            n_done += len(batch)
            if progress and is_main and (n := n_done + _n_rows_of_others(path)) < len(examples):
                progress(n, len(examples))
    state.wait_for_everyone()
    if is_main:
        _gather(path, header)
        answered = _read_part(_part(path), header)
        write_predictions(path, (answered[example.id] for example in examples), **header)
        _part(path).unlink()
        if progress:
            progress(len(examples), len(examples))
    state.wait_for_everyone()


def _row(
    example: Example, answer: str, images: Sequence[Image.Image], sizes: Sequence[Size], backbone: Backbone
) -> dict[str, Any]:
    """The row of an answer; boxes refer to the first image."""
    size_px = list(images[0].size) if images else example.image_size_px
    row = {"id": example.id, "answer": answer, "image_size_px": size_px}
    if not sizes:
        return row | {"coordinate_space": "original_px"}
    return row | {"coordinate_space": backbone.space, "model_size": list(sizes[0])}


def _part(path: Path, rank: int = 0) -> Path:
    """The file of a process for its answers until all are there."""
    return path.with_name(f"{path.name}.{rank}.part" if rank else f"{path.name}.part")


def _parts_of_others(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.[0-9]*.part"))


def _n_rows_of_others(path: Path) -> int:
    return sum(max(0, part.read_bytes().count(b"\n") - 1) for part in _parts_of_others(path))


def _gather(path: Path, header: dict[str, Any]) -> None:
    """Moves the answers of all processes, of this run or a killed one, into the first one's part."""
    others = _parts_of_others(path)
    rows = {id: row for part in (_part(path), *others) for id, row in _read_part(part, header).items()}
    if others:
        write_predictions(_part(path), rows.values(), **header)
        for part in others:
            part.unlink()


def _read_part(part: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers in a part of the same header: id -> row. A last line that a kill has cut is removed."""
    if not part.is_file():
        return {}
    content = part.read_bytes()
    if not content.endswith(b"\n"):
        part.write_bytes(content[: content.rfind(b"\n") + 1])
    if not content.strip():
        return {}
    own_header, rows = read_jsonl(part, kind=KIND)
    if any(own_header.get(key) != value for key, value in header.items()):
        return {}
    return {row["id"]: row for _, row in rows}


def _open_part(part: Path, header: dict[str, Any], *, is_new: bool) -> TextIO:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w" if is_new else "a", encoding="utf-8")
        if is_new:
            file.write(json.dumps({"format_version": FORMAT_VERSION, "kind": KIND, **header}) + "\n")
            file.flush()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write {part}: {reason}; choose a folder with room that you may write to"
        ) from error
    return file
