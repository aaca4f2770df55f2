"""Answers from a model: batched, in order of length, resumable, shared by several processes; the transformers
backend.

Rows of a predictions file are appended to `<file>.part` batch by batch, by further processes to
`<file>.<rank>.part`; a killed run goes on from there, with however many processes, and the finished file is
written whole in the order of the examples. What a batch is, and what its chance is drawn from, does not
depend on how many processes there are, so neither does the file. Greedy answers do not depend on the batch
they are in (but for rounding).
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
    """The model's text for each chat, and the sizes to which the processor resized the images of each.

    Every option of generation is told: what a released model brings along (Qwen2.5-VL: a penalty on repeated
    tokens, which bends the digits of boxes) does not count.

    Args:
        chats: without the model's turn.
        images: of each chat in the order of its image parts, those of worked examples first.
        temperature: 0 = greedy.

    Returns:
        Texts without special tokens; per chat the (width, height) in pixels of each of its images as the
        model saw it.
    """
    model, processor = backbone.model, backbone.processor
    texts = [
        processor.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    flat = [image for some in images for image in some]
    inputs = processor(
        text=texts, images=flat or None, padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        if temperature
        else _GREEDY
    )
    was_training = model.training
    model.eval()
    out = model.generate(
        **inputs, **sampling, max_new_tokens=max_new_tokens, num_beams=1, repetition_penalty=1.0, use_cache=True,
        suppress_tokens=[model.config.image_token_id],
    )  # fmt: skip
    model.train(was_training)
    said = processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    grid, patch = inputs.get("image_grid_thw"), processor.image_processor.patch_size
    sizes = iter(
        [] if grid is None else [(width * patch, height * patch) for _, height, width in grid.tolist()]
    )
    return said, [[next(sizes) for _ in some] for some in images]


_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
"""The last three have no effect without sampling; these are the values of which the library does not warn."""


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
    load_images: Callable[[Example], list[Image.Image]] | None = None,
    progress: Progress | None = None,
    **told: Any,
) -> None:
    """Write a predictions file with the model's answer to every example.

    Args:
        path: of the finished file; what a killed run had done lies in `<path>.part` and is kept when its
            header is the same.
        shots: for the prompt "cot-3shot": tweets with what a perfect model writes about them
            (`mrsi.worked_examples`).
        load_images: pictures of an example; `None` = its image files.
        seed: of sampling; each batch draws from (seed, number of the batch).
        told: further entries of the file's header.

    Raises:
        UserError: an image cannot be read, or the file cannot be written.
    """
    path = Path(path)
    header = {
        "setting": setting, "seed": seed, "prompt": prompt, "prompt_version": prompts.PROMPT_VERSION, "wording": backbone.wording,
        "temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "batch_size": batch_size, "backbone": backbone.name,
        "coordinate_space": backbone.space, "shots": [example.id for example, _ in shots], **told,
    }  # fmt: skip
    load_images = load_images or (lambda example: [open_image(image) for image in example.images])
    shot_images = [image for example, _ in shots for image in load_images(example)]
    state = launch.together(backbone.model.device.type)
    if state.is_main_process:
        _gather(path, header)
    state.wait_for_everyone()
    done = _resumed(_part(path), header)
    state.wait_for_everyone()
    order = sorted(range(len(examples)), key=lambda k: (-len(examples[k].text), k))
    batches = [
        [examples[k] for k in order[start : start + batch_size]] for start in range(0, len(order), batch_size)
    ]
    # a batch is answered as a whole, or chance would fall otherwise
    todo = [
        (number, batch)
        for number, batch in enumerate(batches)
        if any(example.id not in done for example in batch)
    ]
    n_done = len(examples) - sum(len(batch) for _, batch in todo)
    with _appending(
        _part(path, state.process_index), header, is_new=not done or not state.is_main_process
    ) as file:
        for number, batch in todo[state.process_index :: state.num_processes]:
            torch.manual_seed(seed * 100_003 + number)
            chats = [
                prompts.messages(example, prompt, wording=backbone.wording, shots=shots) for example in batch
            ]
            images = [load_images(example) for example in batch]
            said, sizes = answer_batch(
                backbone, chats, [[*shot_images, *own] for own in images],
                max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
            )  # fmt: skip
            for example, text, own, size in zip(batch, said, images, sizes, strict=True):
                file.write(json.dumps(_row(example, text, own, size[len(shot_images) :], backbone)) + "\n")
            file.flush()
            n_done += len(batch)
            if progress and state.is_main_process and (n := n_done + _n_rows_of_others(path)) < len(examples):
                progress(n, len(examples))
    state.wait_for_everyone()
    if state.is_main_process:
        _finish(path, header, examples)
        if progress:
            progress(len(examples), len(examples))
    state.wait_for_everyone()


def _finish(path: Path, header: dict[str, Any], examples: Sequence[Example]) -> None:
    """Write the finished file from the parts of all processes."""
    _gather(path, header)
    answered = _resumed(_part(path), header)
    write_predictions(path, (answered[example.id] for example in examples), **header)
    _part(path).unlink()


def _row(
    example: Example, text: str, images: Sequence[Image.Image], sizes: Sequence[Size], backbone: Backbone
) -> dict[str, Any]:
    """The row of an answer; boxes are those of the first image."""
    row = {
        "id": example.id,
        "answer": text,
        "image_size_px": list(images[0].size) if images else example.image_size_px,
    }
    return row | (
        {"coordinate_space": backbone.space, "model_size": list(sizes[0])}
        if sizes
        else {"coordinate_space": "original_px"}
    )


def _part(path: Path, rank: int = 0) -> Path:
    """Where a process writes its answers until all are there."""
    return path.with_name(f"{path.name}.{rank}.part" if rank else f"{path.name}.part")


def _parts_of_others(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.[0-9]*.part"))


def _n_rows_of_others(path: Path) -> int:
    return sum(max(0, part.read_bytes().count(b"\n") - 1) for part in _parts_of_others(path))


def _gather(path: Path, header: dict[str, Any]) -> None:
    """Put what all processes answered, now or in an earlier run of the same kind, into the first one's part,
    its last line whole.
    """
    others = _parts_of_others(path)
    rows = {id: row for part in (_part(path), *others) for id, row in _resumed(part, header).items()}
    if others:
        write_predictions(_part(path), rows.values(), **header)
        for part in others:
            part.unlink()


def _resumed(part: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an earlier run of the same kind had answered: id -> row."""
    if not part.is_file():
        return {}
    whole = part.read_bytes()
    if not whole.endswith(b"\n"):
        part.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a kill may cut the last line
    if not whole.strip():
        return {}
    found, rows = read_jsonl(part, kind=KIND)
    if any(found.get(key) != value for key, value in header.items()):
        return {}
    return {row["id"]: row for _, row in rows}


def _appending(part: Path, header: dict[str, Any], *, is_new: bool) -> TextIO:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w" if is_new else "a", encoding="utf-8")
        if is_new:
            file.write(json.dumps({"format_version": FORMAT_VERSION, "kind": KIND, **header}) + "\n")
            file.flush()
    except OSError as error:
        raise UserError(
            f"cannot write {part}: {error.strerror or error}; choose a folder with room that you may write to"
        ) from error
    return file
