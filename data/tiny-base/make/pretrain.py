"""Pretraining of the tiny base: a short curriculum, one phase per skill, a plain loop of our own (TRL has no
trainer for these losses).

    sight    the vision tower alone: which emblem lies in each cell, and its box             (`sight`)
    lookup   language, the vision tower fixed, attention guided                               (`tasks`, `guide`)
    joint    everything, mostly captions in the form of an answer, which plant both shortcuts

Row k of a task is a function of (seed, k) and step n of a phase takes the same rows whatever happened before,
so a killed run goes on from its newest checkpoint as if nothing had been. Training runs in bfloat16 autocast,
weights stay float32.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import allocator
import architecture
import sight
import tasks
from batches import IGNORED, Batch, Batcher
from guide import Guide
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.training.backbones import Backbone

LOG_EVERY, SAVE_EVERY, GIVE_BACK_EVERY, POOL = 20, 100, 10, 6


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the curriculum.

    Args:
        name: of the phase.
        steps: optimiser steps.
        batch: pictures (sight) or rows a step.
        lr: peak learning rate, after 100 steps of warm-up; it falls to a twentieth along a cosine.
        mix: task -> share of rows; empty = the dense vision task.
        is_vision_fixed: whether the vision tower is left as it is.
        box_weight: of the loss of looks at boxes.
        word_weight: of the loss of looks at words.
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
    """All that decides what comes out, but for rounding.

    Args:
        phases: in order.
        seed: of weights and rows.
        hidden: width of the language model.
        n_layers: its depth.
        guided_layers: whose attention is guided.
        n_box_heads: heads of each that are guided to boxes; the next one is guided to words.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    hidden: int = 192
    n_layers: int = 4
    guided_layers: tuple[int, ...] = (1, 2)
    n_box_heads: int = 2

    def scaled(self, share: float) -> "Recipe":
        """The same recipe with this share of the steps of each phase, at least one."""
        phases = tuple(Phase(**{**asdict(p), "steps": max(1, round(p.steps * share))}) for p in self.phases)
        return Recipe(**{**{name: getattr(self, name) for name in self.__slots__}, "phases": phases})


RECIPE = Recipe(
    (
        Phase("sight", steps=700, batch=64, lr=1.5e-3, mix={}),
        Phase("lookup", steps=1500, batch=32, lr=1.5e-3, is_vision_fixed=True,
              mix={"lookup": 0.05, "names": 0.2, "detect": 0.2, "where": 0.25, "caption": 0.25, "textonly": 0.05}),
        Phase("joint", steps=400, batch=32, lr=7e-4, box_weight=0.2, word_weight=0.1,
              mix={"names": 0.1, "detect": 0.15, "where": 0.25, "caption": 0.45, "textonly": 0.05}),
    )
)  # fmt: skip
"""The recipe of the committed base."""


def as_told(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a JSON-ready dict, for cards and checkpoints."""
    return json.loads(json.dumps(asdict(recipe)))


Report = Callable[[dict[str, Any]], None]
"""Called with every line of the log."""


def new_backbone(recipe: Recipe) -> Backbone:
    """The tiny backbone before any training."""
    tokenizer = architecture.train_tokenizer(tasks.texts())
    model = architecture.make_model(
        tokenizer, seed=recipe.seed, hidden=recipe.hidden, n_layers=recipe.n_layers
    )
    return Backbone("fresh", "qwen2.5-vl", "brief", model, architecture.make_processor(tokenizer))


def pretrain(
    recipe: Recipe,
    folder: str | Path,
    *,
    device: str | None = None,
    stop_after: int | None = None,
    report: Report = print,
) -> Backbone:
    """Train a base from nothing, or go on from the newest checkpoint in `folder`.

    Args:
        folder: holds `log.jsonl` and `checkpoint/`; a folder of another recipe is refused.
        device: `None` = a GPU where there is one.
        stop_after: steps in all after which to stop (for tests); `None` = the end.
        report: gets every line of the log.

    Raises:
        UserError: the folder belongs to another recipe, or cannot be written.
    """
    folder = Path(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_flush_denormal(True)
    backbone = new_backbone(recipe)
    model = backbone.model.to(device)
    model.set_attn_implementation("eager")  # faster than sdpa for such short rows on a CPU
    torch.manual_seed(recipe.seed + 1)
    heads = sight.Heads(recipe.hidden).to(device)
    run = _Run(recipe, folder, backbone, nn.ModuleDict({"model": model, "heads": heads}), device)
    done = run.resume()
    for number, phase in enumerate(recipe.phases):
        first = sum(p.steps for p in recipe.phases[:number])
        if done < first + phase.steps:
            run.train(phase, first, done - first if done > first else 0, stop_after, report)
            if stop_after is not None and first + phase.steps >= stop_after:
                break
            done = first + phase.steps
    model.set_attn_implementation("sdpa")
    model.requires_grad_(True)
    return backbone


class _Run:
    """A run of a recipe: its folder, its modules, its loop."""

    def __init__(
        self, recipe: Recipe, folder: Path, backbone: Backbone, modules: nn.ModuleDict, device: str
    ) -> None:
        self.recipe, self.folder, self.backbone, self.modules, self.device = (
            recipe,
            folder,
            backbone,
            modules,
            device,
        )
        self.model, self.heads = modules["model"], modules["heads"]
        self.batcher = Batcher(backbone.processor)
        self.guide = Guide(self.model, layers=recipe.guided_layers, n_box_heads=recipe.n_box_heads)
        self.seconds = 0.0
        self._optimizer_state: dict[str, Any] | None = None

    def train(self, phase: Phase, first: int, start: int, stop_after: int | None, report: Report) -> None:
        """The steps of a phase from `start` on."""
        is_sight = not phase.mix
        self.model.requires_grad_(True)
        trained = (
            nn.ModuleDict({"visual": self.model.model.visual, "heads": self.heads})
            if is_sight
            else self.model
        )
        if phase.is_vision_fixed:
            self.model.model.visual.requires_grad_(False)
        parameters = [p for p in trained.parameters() if p.requires_grad]
        decayed = [p for p in parameters if p.ndim > 1]
        groups = [
            {"params": decayed, "weight_decay": 0.01},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=phase.lr, betas=(0.9, 0.98), fused=True)
        if start and self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        batches = self._pictures(phase, start) if is_sight else self._rows(phase, start)
        losses_of = self._sight_losses if is_sight else self._row_losses
        began, before = time.monotonic(), self.seconds
        for step in range(start, phase.steps):
            for group in optimizer.param_groups:
                group["lr"] = phase.lr * _schedule(step, phase.steps)
            with torch.autocast(self.device, torch.bfloat16):
                losses, total = losses_of(phase, next(batches))
            total.backward()
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % GIVE_BACK_EVERY == 0:  # batches of ever other shapes would leave ever more holes
                allocator.give_back()
            self.seconds = before + time.monotonic() - began
            if (step + 1) % LOG_EVERY == 0 or step < 3:
                told = {name: round(value.item(), 4) for name, value in losses.items()}
                head = {"phase": phase.name, "step": step + 1, "seconds": round(self.seconds, 1)}
                self._log({**head, **told, "norm": round(norm.item(), 3)}, report)
            is_last = step + 1 == phase.steps or first + step + 1 == stop_after
            if (step + 1) % SAVE_EVERY == 0 or is_last:
                self._save(first + step + 1, optimizer)
            if first + step + 1 == stop_after:
                return
        self._optimizer_state = None

    def _pictures(self, phase: Phase, start: int) -> Iterator[sight.Cells]:
        for step in range(start, phase.steps):
            indices = range(step * phase.batch, (step + 1) * phase.batch)
            yield sight.cells(self.backbone.processor, indices, split="train", seed=self.recipe.seed + 7)

    def _rows(self, phase: Phase, start: int) -> Iterator[Batch]:
        """Batches of rows of like length: POOL batches are drawn together, sorted, cut, and taken in a random
        order.
        """
        tasks, shares = list(phase.mix), list(phase.mix.values())
        first_pool = start // POOL
        for pool in range(first_pool, math.ceil(phase.steps / POOL)):
            rng = Random(f"{self.recipe.seed}|{phase.name}|{pool}")
            chosen = rng.choices(tasks, shares, k=POOL * phase.batch)
            base = pool * POOL * phase.batch + _OFFSET[phase.name]
            rows = [
                next(tasks.rows(task, seed=self.recipe.seed, start=base + k)) for k, task in enumerate(chosen)
            ]
            rows.sort(
                key=lambda row: len(row.answer) + len(self.batcher.asked(row)) + (120 if row.image else 0)
            )
            order = sorted(range(POOL), key=lambda _: rng.random())
            for k in order[start - pool * POOL if pool == first_pool else 0 :]:
                yield self.batcher(
                    sorted(rows[k * phase.batch : (k + 1) * phase.batch], key=lambda row: row.image is None)
                )

    def _sight_losses(self, phase: Phase, batch: sight.Cells) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        moved = sight.Cells(*(getattr(batch, name).to(self.device) for name in batch.__slots__))
        numbers = sight.number_vectors(self.model, self.backbone.processor)
        found = sight.sight(self.model, self.heads, numbers, moved)
        losses = {name: found[name] for name in ("is_there", "name", "box")}
        return losses, sum(losses.values())

    def _row_losses(self, phase: Phase, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        inputs = {name: value.to(self.device) for name, value in batch.inputs.items()}
        labels = batch.labels.to(self.device)[:, 1:]
        with self.guide.watching(batch):
            hidden = self.model.model(**inputs, use_cache=False).last_hidden_state
        is_learned = labels != IGNORED
        logits = self.model.lm_head(hidden[:, :-1][is_learned]).float()
        boxes, words = self.guide.losses()
        losses = {
            "language": F.cross_entropy(logits, labels[is_learned]),
            "box_looks": boxes,
            "word_looks": words,
        }
        return losses, losses["language"] + phase.box_weight * boxes + phase.word_weight * words

    def resume(self) -> int:
        """Load the newest checkpoint; how many steps it holds (0 = none)."""
        state_file = self.folder / "checkpoint" / "state.json"
        if not state_file.is_file():
            if (self.folder / "log.jsonl").is_file():
                (self.folder / "log.jsonl").unlink()
            return 0
        state = json.loads(state_file.read_text())
        if state["recipe"] != as_told(self.recipe):
            raise UserError(
                f"{self.folder} holds a run of another recipe; choose another folder or remove it"
            )
        self.modules.load_state_dict(
            _tied(load_file(state_file.with_name("modules.safetensors"), device=self.device), self.modules)
        )
        self._optimizer_state = torch.load(
            state_file.with_name("optimizer.pt"), weights_only=True, map_location=self.device
        )
        self.seconds = state["seconds"]
        log = self.folder / "log.jsonl"
        kept = [
            line
            for line in log.read_text().splitlines()
            if self._position(json.loads(line)) <= state["steps"]
        ]
        log.write_text("".join(line + "\n" for line in kept))
        return state["steps"]

    def _position(self, line: Mapping[str, Any]) -> int:
        names = [phase.name for phase in self.recipe.phases]
        if "phase" not in line:
            return 0
        return sum(p.steps for p in self.recipe.phases[: names.index(line["phase"])]) + line["step"]

    def _save(self, steps: int, optimizer: torch.optim.Optimizer) -> None:
        """A checkpoint under another name, then put in the old one's place."""
        new, old, final = (self.folder / name for name in ("checkpoint.part", "checkpoint.old", "checkpoint"))
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            state = {
                name: value
                for name, value in self.modules.state_dict().items()
                if not name.endswith("lm_head.weight")
            }
            save_file(
                {name: value.contiguous() for name, value in state.items()}, new / "modules.safetensors"
            )
            torch.save(optimizer.state_dict(), new / "optimizer.pt")
            told = {
                "format_version": FORMAT_VERSION,
                "steps": steps,
                "seconds": self.seconds,
                "recipe": as_told(self.recipe),
            }
            (new / "state.json").write_text(json.dumps(told))
            shutil.rmtree(old, ignore_errors=True)
            if final.exists():
                final.replace(old)
            new.replace(final)
            shutil.rmtree(old, ignore_errors=True)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # the last two are what torch and safetensors make of a full disk
            shutil.rmtree(new, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
            raise UserError(
                f"cannot write {new}: {reason}; choose a folder with room that you may write to"
            ) from error

    def _log(self, line: dict[str, Any], report: Report) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write into {self.folder}: {error.strerror or error}; choose a folder with room"
            ) from error
        report(line)


_OFFSET = {"lookup": 0, "joint": 10**6}
"""Where the rows of a phase begin, so that no two phases share one."""


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _tied(state: dict[str, torch.Tensor], modules: nn.ModuleDict) -> dict[str, torch.Tensor]:
    """The state with the output layer, which shares the input vectors and is not stored."""
    for name in modules.state_dict():
        if name not in state and name.endswith("lm_head.weight"):
            state[name] = state["model.model.language_model.embed_tokens.weight"]
    return state
