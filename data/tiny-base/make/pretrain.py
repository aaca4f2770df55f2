"""Pretraining of the tiny base: a short curriculum of phases in a plain loop (TRL has no such losses).

    sight    the vision tower alone: name and box of the emblem in each cell            (`sight`)
    lookup   language, with fixed vision tower and guided attention                     (`tasks`, `guide`)
    joint    everything, mostly captions in the form of an answer, which plant both shortcuts
    chains   the language of chains: descriptions of pictures, comparisons of text with text, and captions
             with a chain before the answer, which compares nothing
    judge    a description of a picture is compared with names
    conclude a chain, and then the answer that it states
    look     more descriptions, so that pictures are seldom misread

Row k of a task is a function of (seed, k), and a step takes the same rows whatever happened before, so a run
that resumes from a checkpoint equals an uninterrupted one. Training uses bfloat16 autocast where the
processor has it; weights are float32.
"""

import ctypes
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import architecture
import sight
import tasks
from batches import IGNORED, Batch, Batcher
from guide import Guide
from mcr_lib.data.files import write_json
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.training import backbones, cards
from mcr_lib.training.backbones import Backbone

LOG_EVERY, SAVE_EVERY, TRIM_EVERY, POOL = 20, 100, 10, 6
EARLIER = "earlier.json"
"""Of a run that began from an earlier base: its phases, its number of words, the checksum of its weights."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the curriculum.

    Args:
        name: of the phase.
        steps: optimiser steps.
        batch: pictures (sight) or rows per step.
        lr: peak learning rate after 100 steps of warm-up; a cosine lowers it to a twentieth.
        mix: task -> share of rows; empty = the dense vision task.
        is_vision_fixed: whether the vision tower is frozen.
        box_weight: of the attention loss for boxes.
        word_weight: of the attention loss for words.
    """

    name: str
    steps: int
    batch: int
    lr: float
    mix: Mapping[str, float]
    is_vision_fixed: bool = False
    box_weight: float = 0.5
    word_weight: float = 0.3


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the base, apart from rounding.

    Args:
        phases: in order.
        seed: of weights and rows.
        hidden: width of the language model.
        n_layers: of the language model.
        guided_layers: layers with guided attention.
        n_box_heads: heads per layer guided to boxes; the next one is guided to words.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    hidden: int = 192
    n_layers: int = 4
    guided_layers: tuple[int, ...] = (1, 2)
    n_box_heads: int = 2

    def scaled(self, share: float) -> "Recipe":
        """Return the recipe with this share of the steps of each phase, at least one."""
        phases = tuple(replace(p, steps=max(1, round(p.steps * share))) for p in self.phases)
        return replace(self, phases=phases)

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON-ready dict, for cards and checkpoints."""
        return json.loads(json.dumps(asdict(self)))


RECIPE = Recipe(
    (
        Phase("sight", steps=700, batch=64, lr=1.5e-3, mix={}),
        Phase("lookup", steps=1500, batch=32, lr=1.5e-3, is_vision_fixed=True,
              mix={"lookup": 0.05, "names": 0.2, "detect": 0.2, "where": 0.25, "caption": 0.25,
                   "textonly": 0.05}),
        Phase("joint", steps=400, batch=32, lr=7e-4, box_weight=0.2, word_weight=0.1,
              mix={"names": 0.1, "detect": 0.15, "where": 0.25, "caption": 0.45, "textonly": 0.05}),
        Phase("chains", steps=600, batch=32, lr=7e-4, box_weight=0.5, word_weight=0.1,
              mix={"names": 0.02, "detect": 0.03, "where": 0.1, "caption": 0.2, "describe": 0.2,
                   "emblem": 0.1, "compare": 0.25, "chain": 0.1}),
        Phase("judge", steps=240, batch=32, lr=7e-4, box_weight=0.5, word_weight=0.1,
              mix={"names": 0.02, "detect": 0.03, "where": 0.1, "caption": 0.2, "describe": 0.1,
                   "compare": 0.05, "judge": 0.4, "chain": 0.1}),
        Phase("conclude", steps=240, batch=32, lr=7e-4, box_weight=0.5, word_weight=0.1,
              mix={"names": 0.02, "detect": 0.03, "where": 0.1, "caption": 0.2, "describe": 0.05,
                   "compare": 0.05, "judge": 0.05, "chain": 0.05, "conclude": 0.45}),
        Phase("look", steps=300, batch=32, lr=7e-4, box_weight=0.5, word_weight=0.1,
              mix={"names": 0.02, "detect": 0.03, "where": 0.05, "caption": 0.15, "describe": 0.35,
                   "compare": 0.02, "judge": 0.08, "chain": 0.05, "conclude": 0.25}),
    )
)  # fmt: skip
"""The recipe of the committed base."""

Report = Callable[[dict[str, Any]], None]
"""Called with every line of the log."""

Losses = dict[str, torch.Tensor]


def new_backbone(recipe: Recipe) -> Backbone:
    """Make the tiny backbone with fresh weights."""
    tokenizer = architecture.train_tokenizer(tasks.texts(), phrases=tasks.phrases())
    sizes = {"hidden": recipe.hidden, "n_layers": recipe.n_layers}
    model = architecture.make_model(tokenizer, seed=recipe.seed, **sizes)
    return Backbone("fresh", "qwen2.5-vl", "brief", model, architecture.make_processor(tokenizer))


def pretrain(
    recipe: Recipe, folder: str | Path, *, device: str | None = None, stop_after: int | None = None,
    report: Report = print, earlier: str | Path | None = None,
) -> Backbone:  # fmt: skip
    """Pretrain a base from scratch, or resume from the newest checkpoint in `folder`.

    Args:
        folder: of `log.jsonl` and `checkpoint/`.
        device: `None` = a GPU if there is one.
        stop_after: total steps after which to stop (for tests); `None` = the end.
        report: called with every line of the log.
        earlier: a base made by all phases but the last, whose weights and log the run begins with.

    Raises:
        UserError: the folder has a run of another recipe, or cannot be written; `earlier` is of another one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_flush_denormal(True)
    backbone = new_backbone(recipe)
    model = backbone.model.to(device)
    model.set_attn_implementation("eager")  # faster than sdpa for such short rows on a CPU
    torch.manual_seed(recipe.seed + 1)
    heads = sight.Heads(recipe.hidden).to(device)
    run = _Run(recipe, Path(folder), backbone, heads, device, report)
    done, first = run.resume(Path(earlier) if earlier else None), 0
    for phase in recipe.phases:
        if done < first + phase.steps:
            run.train(phase, first, max(0, done - first), stop_after)
            if stop_after is not None and first + phase.steps >= stop_after:
                break
        first += phase.steps
    model.set_attn_implementation("sdpa")
    model.requires_grad_(True)
    return backbone


def trim_memory() -> bool:
    """Return free memory of the C library to the system; `False` if there was none or it is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return bool(trim and trim(0))


class _Run:
    """A run of a recipe: its folder, modules and loop."""

    def __init__(
        self, recipe: Recipe, folder: Path, backbone: Backbone, heads: sight.Heads, device: str,
        report: Report,
    ) -> None:  # fmt: skip
        self.recipe, self.folder, self.device, self.report = recipe, folder, device, report
        self.model, self.heads, self.processor = backbone.model, heads, backbone.processor
        self.modules = nn.ModuleDict({"model": self.model, "heads": heads})
        self.batcher = Batcher(backbone.processor)
        self.guide = Guide(self.model, layers=recipe.guided_layers, n_box_heads=recipe.n_box_heads)
        self.is_fast_in_16_bits = device != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self.seconds = 0.0
        self._optimizer_state: dict[str, Any] | None = None

    def train(self, phase: Phase, first: int, start: int, stop_after: int | None) -> None:
        """Train the steps of a phase from `start` on; `first` steps belong to earlier phases."""
        is_sight = not phase.mix
        optimizer, parameters = self._optimizer(phase)
        if start and self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        batches = self._pictures(phase, start) if is_sight else self._rows(phase, start)
        losses_of = self._sight_losses if is_sight else self._row_losses
        began, before = time.monotonic(), self.seconds
        for step in range(start, phase.steps):
            for group in optimizer.param_groups:
                group["lr"] = phase.lr * _schedule(step, phase.steps)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.is_fast_in_16_bits):
                losses, total = losses_of(phase, next(batches))
            total.backward()
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            n = step + 1
            if n % TRIM_EVERY == 0:  # batches of changing shapes fragment the memory
                trim_memory()
            self.seconds = before + time.monotonic() - began
            if n % LOG_EVERY == 0 or step < 3:
                values = {name: round(value.item(), 4) for name, value in losses.items()}
                head = {"phase": phase.name, "step": n, "seconds": round(self.seconds, 1)}
                self._log({**head, **values, "norm": round(norm.item(), 3)})
            if n % SAVE_EVERY == 0 or n == phase.steps or first + n == stop_after:
                self._save(first + n, optimizer)
            if first + n == stop_after:
                return
        self._optimizer_state = None

    def _optimizer(self, phase: Phase) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
        visual = self.model.model.visual
        self.model.requires_grad_(True)
        visual.requires_grad_(not phase.is_vision_fixed)
        trained = self.model if phase.mix else nn.ModuleDict({"visual": visual, "heads": self.heads})
        parameters = [p for p in trained.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=phase.lr, betas=(0.9, 0.98), fused=True), parameters

    def _pictures(self, phase: Phase, start: int) -> Iterator[sight.Cells]:
        for step in range(start, phase.steps):
            indices = range(step * phase.batch, (step + 1) * phase.batch)
            yield sight.cells(self.processor, indices, split="train", seed=self.recipe.seed + 7)

    def _rows(self, phase: Phase, start: int) -> Iterator[Batch]:
        """Yield batches of similar length: the rows of POOL batches are drawn, sorted, cut and shuffled."""
        seed, n, first_pool = self.recipe.seed, phase.batch, start // POOL

        def length(row: tasks.Row) -> int:
            return len(row.answer) + len(self.batcher.prompt_text(row)) + (120 if row.image else 0)

        for pool in range(first_pool, math.ceil(phase.steps / POOL)):
            rng = Random(f"{seed}|{phase.name}|{pool}")
            chosen = rng.choices(list(phase.mix), list(phase.mix.values()), k=POOL * n)
            base = pool * POOL * n + _OFFSET[phase.name]
            rows = [next(tasks.rows(task, seed=seed, start=base + k)) for k, task in enumerate(chosen)]
            rows.sort(key=length)
            order = sorted(range(POOL), key=lambda _: rng.random())
            for k in order[start - pool * POOL if pool == first_pool else 0 :]:
                yield self.batcher(sorted(rows[k * n : (k + 1) * n], key=lambda row: row.image is None))

    def _sight_losses(self, phase: Phase, batch: sight.Cells) -> tuple[Losses, torch.Tensor]:
        batch = sight.Cells(*(getattr(batch, name).to(self.device) for name in batch.__slots__))
        numbers = sight.number_vectors(self.model, self.processor)
        losses = sight.sight(self.model, self.heads, numbers, batch)
        return losses, sum(losses.values())

    def _row_losses(self, phase: Phase, batch: Batch) -> tuple[Losses, torch.Tensor]:
        inputs = {name: value.to(self.device) for name, value in batch.inputs.items()}
        labels = batch.labels.to(self.device)[:, 1:]
        with self.guide.watching(batch):
            hidden = self.model.model(**inputs, use_cache=False).last_hidden_state
        is_learned = labels != IGNORED
        logits = self.model.lm_head(hidden[:, :-1][is_learned]).float()
        language = F.cross_entropy(logits, labels[is_learned])
        boxes, words = self.guide.losses()
        losses = {"language": language, "box_looks": boxes, "word_looks": words}
        return losses, language + phase.box_weight * boxes + phase.word_weight * words

    def resume(self, earlier: Path | None = None) -> int:
        """Load the newest checkpoint, or an earlier base, and return its number of steps (0 = none)."""
        folder, log = self.folder / "checkpoint", self.folder / "log.jsonl"
        if not (folder / "state.json").is_file():
            for path in (log, self.folder / EARLIER):
                path.unlink(missing_ok=True)
            return self._begin_from(earlier) if earlier else 0
        state = json.loads((folder / "state.json").read_text())
        if state["recipe"] != self.recipe.to_json():
            hint = "choose another folder or remove it"
            raise UserError(f"{self.folder} holds a run of another recipe; {hint}")
        weights = load_file(folder / "modules.safetensors", device=self.device)
        self.modules.load_state_dict(_tied(weights, self.modules))
        options = {"weights_only": True, "map_location": self.device}
        self._optimizer_state = torch.load(folder / "optimizer.pt", **options)
        self.seconds = state["seconds"]
        lines = log.read_text().splitlines()
        log.write_text("".join(f"{x}\n" for x in lines if self._position(json.loads(x)) <= state["steps"]))
        return state["steps"]

    def _begin_from(self, base: Path) -> int:
        """Load the weights of a base with fewer words; returns the steps it was made with."""
        own, entries, base = self.recipe.to_json(), cards.card(str(base)), cards.folder_of(str(base))
        *before, _ = own["phases"]
        if entries.get("recipe") != {**own, "phases": before}:
            raise UserError(f"{base} was not made by the phases before the last of this recipe")
        old = backbones.load(str(base), device="cpu")
        state, words = old.model.state_dict(), old.processor.tokenizer.get_vocab()
        vectors = self.model.get_input_embeddings().weight.detach().clone()
        for word, id_ in self.processor.tokenizer.get_vocab().items():
            if word in words:
                vectors[id_] = old.model.get_input_embeddings().weight.detach()[words[word]]
        architecture.start_phrases(vectors, self.processor.tokenizer)
        for name in (name for name in state if name.endswith(("embed_tokens.weight", "lm_head.weight"))):
            state[name] = vectors
        self.model.load_state_dict(state)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = (base / "log.jsonl").read_text()
        (self.folder / "log.jsonl").write_text(text)
        facts = {"phases": [phase["name"] for phase in before], "n_words": len(words)}
        facts |= {"weights": entries["sha256"]["model.safetensors"]}
        facts |= {"earlier": entries["earlier"]} if "earlier" in entries else {}
        write_json(self.folder / EARLIER, facts)
        self.seconds = json.loads(text.splitlines()[-1])["seconds"]
        return sum(phase["steps"] for phase in before)

    def _position(self, line: Mapping[str, Any]) -> int:
        """Return the total steps at a line of the log."""
        if "phase" not in line:
            return 0
        names = [phase.name for phase in self.recipe.phases]
        return sum(p.steps for p in self.recipe.phases[: names.index(line["phase"])]) + line["step"]

    def _save(self, steps: int, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint under another name and then replace the old one."""
        new, old, final = (self.folder / name for name in ("checkpoint.part", "checkpoint.old", "checkpoint"))
        weights = self.modules.state_dict().items()
        weights = {k: v.contiguous() for k, v in weights if not k.endswith("lm_head.weight")}
        state = {
            "format_version": FORMAT_VERSION, "steps": steps, "seconds": self.seconds,
            "recipe": self.recipe.to_json(),
        }  # fmt: skip
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            save_file(weights, new / "modules.safetensors")
            torch.save(optimizer.state_dict(), new / "optimizer.pt")
            (new / "state.json").write_text(json.dumps(state))
            shutil.rmtree(old, ignore_errors=True)
            if final.exists():
                final.replace(old)
            new.replace(final)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, RuntimeError, SafetensorError) as error:  # all three can mean a full disk
            shutil.rmtree(new, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
            hint = "choose a folder with room that you may write to"
            raise UserError(f"cannot write {new}: {reason}; {hint}") from error

    def _log(self, line: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot write into {self.folder}: {reason}; choose a folder with room"
            ) from error
        self.report(line)


_OFFSET = {phase.name: k * 10**6 for k, phase in enumerate(RECIPE.phases[1:])}  # sight has no rows
"""First row of a phase, so that no two phases share one."""


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _tied(state: dict[str, torch.Tensor], modules: nn.ModuleDict) -> dict[str, torch.Tensor]:
    """Return the state with the output layer, which shares the input vectors and is not stored."""
    for name in modules.state_dict():
        if name not in state and name.endswith("lm_head.weight"):
            state[name] = state["model.model.language_model.embed_tokens.weight"]
    return state
