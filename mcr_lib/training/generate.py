"""Answers from a model by transformers: batched by length, resumable, shared by several processes.

Rows are appended to `<file>.part` batch by batch, by further processes to `<file>.<rank>.part`. A killed run
of the same header continues from there; the file is written whole in the order of the examples. It does not
depend on the number of processes, and greedy answers not on their batch (except for rounding).
"""

import glob
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mcr_lib import prompts
from mcr_lib.boxes import Size
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import KIND, write_predictions
from mcr_lib.schema import Example
from mcr_lib.training import launch
from mcr_lib.training.backbones import Backbone

_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}  # others raise warnings


@torch.no_grad()
def answer_batch(
    backbone: Backbone, chats: Sequence[Sequence[prompts.Message]], images: Sequence[Sequence[Image.Image]],
    *, max_new_tokens: int, temperature: float = 0.0, top_p: float = 1.0,
) -> tuple[list[str], list[list[Size]]]:  # fmt: skip
    """Answers, greedy at temperature 0, and the sizes in pixels of each chat's images as model input."""
    model, processor = backbone.model, backbone.processor
    as_text = {"tokenize": False, "add_generation_prompt": True}
    texts = [processor.apply_chat_template(list(chat), **as_text) for chat in chats]
    flat = [image for each in images for image in each]
    padding = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    inputs = processor(text=texts, images=flat or None, **padding).to(model.device, model.dtype)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    how = {"max_new_tokens": max_new_tokens, "num_beams": 1, "repetition_penalty": 1.0, "use_cache": True}
    how |= sampling if temperature else _GREEDY
    was_training = model.training
    model.eval()
    out = model.generate(**inputs, **how, suppress_tokens=[model.config.image_token_id])
    model.train(was_training)
    new_tokens = out[:, inputs["input_ids"].shape[1] :]
    answers = processor.tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
    patch = processor.image_processor.patch_size
    grids = inputs["image_grid_thw"].tolist() if flat else []
    sizes = iter([(width * patch, height * patch) for _, height, width in grids])
    return answers, [[next(sizes) for _ in each] for each in images]


def generate(
    backbone: Backbone, examples: Sequence[Example], path: str | Path, *, prompt: prompts.Kind = "direct",
    shots: Sequence[tuple[Example, str]] = (), max_new_tokens: int, batch_size: int = 128,
    temperature: float = 0.0, top_p: float = 1.0, seed: int = 0, setting: str = "base",
    progress: Callable[[int, int], None] | None = None, **entries: Any,
) -> None:  # fmt: skip
    """Writes a predictions file; `shots`: `mrsi.worked_examples`; `progress` gets answers so far, in all."""
    path = Path(path)
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    header = {"setting": setting, "seed": seed, "prompt": prompt, "prompt_version": prompts.PROMPT_VERSION}
    header |= {
        "wording": backbone.wording,
        "style": backbone.style,
        "answer_form": backbone.form,
        **options,
        "batch_size": batch_size,
        "backbone": backbone.name,
    }
    header |= {"coordinate_space": backbone.space, "shots": [example.id for example, _ in shots], **entries}
    of_shots = [open_image(path) for example, _ in shots for path in example.images]
    state = launch.together(backbone.model.device.type)
    is_main, part = state.is_main_process, _part(path, state.process_index)
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
    if not is_main:
        write_predictions(part, (), **header)
    with part.open("a", encoding="utf-8") as file:
        for number, batch in todo[state.process_index :: state.num_processes]:
            torch.manual_seed(seed * 100_003 + number)
            chats = [backbone.messages(e, prompt, shots) for e in batch]
            images = [[open_image(path) for path in example.images] for example in batch]
            answers, sizes = answer_batch(backbone, chats, [[*of_shots, *own] for own in images], **options)
            for example, answer, own, size in zip(batch, answers, images, sizes, strict=True):
                size_px = list(own[0].size) if own else example.image_size_px
                row = {"id": example.id, "answer": answer, "image_size_px": size_px}
                row["coordinate_space"] = "original_px"
                if model_sizes := size[len(of_shots) :]:  # boxes refer to the first image
                    row |= {"coordinate_space": backbone.space, "model_size": list(model_sizes[0])}
                file.write(json.dumps(row) + "\n")
            file.flush()
            n_done += len(batch)
            if progress and is_main:
                n_others = sum(other.read_bytes().count(b"\n") - 1 for other in _parts_of_others(path))
                if (n := n_done + n_others) < len(examples):
                    progress(n, len(examples))
    state.wait_for_everyone()
    if is_main:
        answered = _gather(path, header)
        write_predictions(path, (answered[example.id] for example in examples), **header)
        part.unlink()
        if progress:
            progress(len(examples), len(examples))
    state.wait_for_everyone()


def _part(path: Path, rank: int = 0) -> Path:
    return path.with_name(f"{path.name}.{rank}.part" if rank else f"{path.name}.part")


def _parts_of_others(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.[0-9]*.part"))


def _gather(path: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Moves the answers of all processes, of this run or a killed one, into the first one's part."""
    others = _parts_of_others(path)
    rows = {id: row for part in (_part(path), *others) for id, row in _read_part(part, header).items()}
    write_predictions(_part(path), rows.values(), **header)
    for part in others:
        part.unlink()
    return rows


def _read_part(part: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers in a part of the same header: id -> row. A last line that a kill has cut is removed."""
    content = part.read_bytes() if part.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        part.write_bytes(whole)
    if not whole:
        return {}
    own_header, rows = read_jsonl(part, kind=KIND)
    is_same = all(own_header.get(key) == value for key, value in header.items())
    return {row["id"]: row for _, row in rows} if is_same else {}
