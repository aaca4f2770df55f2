"""Data of MRSI: the split into D1 and D2, verified chains and their file, rows for training.

    examples ─► D1, D2 (disjoint)   D1 ─► chains ─► verify or fall back ─► file ─► SFT rows   D2 ─► GRPO rows

A chain is a function of (seed, id, style), D1 of (seed, id): neither depends on the order of the input nor on
its other tweets. (D1 for MRSI and D2 for CVO: paper; the rule of the split and the file are ours.)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import chains, prompts
from mcr_lib.boxes import Size, box_format, resized_size
from mcr_lib.chains import CHAINS_VERSION, Chain
from mcr_lib.data.files import read_jsonl, write_jsonl
from mcr_lib.errors import UserError
from mcr_lib.rewards import gold_column
from mcr_lib.schema import Example, checksum
from mcr_lib.statements import gold_boxes
from mcr_lib.styles import STYLES

KIND = "chains"
D1_SHARE = 0.5  # of training tweets (paper silent; ours)
Rows = Iterator[dict[str, Any]]
Halves = tuple[list[Example], list[Example]]
Shots = list[tuple[Example, str]]
Ask = Callable[[Example, str], str | None]  # sends a request about a tweet and its image to a language model


@dataclass(frozen=True, slots=True)
class Built:
    """Verified chains per tweet and style, and how they were built."""

    chains: list[Chain]
    n_asked: int  # chains that a language model was asked to rewrite
    n_fallen_back: int  # of these, chains that stay templates because no try passed
    rejects: Counter[str]  # flaw -> rejected tries


def split_d1_d2(examples: Iterable[Example], *, d1_share: float, seed: int) -> Halves:
    """Split tweets, in their order, into D1 (a hash of (seed, id), in [0, 1), is below the share) and D2."""
    halves: Halves = ([], [])
    for example in examples:
        halves[_number(seed, example.id) / 2**64 >= d1_share].append(example)
    return halves


def some(examples: Sequence[Example], *, share: float, seed: int) -> list[Example]:
    """Return a share of the tweets by a hash of (seed, id), independent of D1; smaller shares are subsets."""
    return [example for example in examples if _number(seed, example.id, "share") / 2**64 < share]


def build_chains(
    examples: Iterable[Example], styles: Sequence[str] = (), *, seed: int, n_wordings: int | None = None,
    ask: Ask | None = None, source: chains.Source = "llm",
) -> Built:  # fmt: skip
    """Build and verify the chains of some tweets in these styles (empty = all), in n wordings (`None` = all).

    `ask` rewrites each by a language model if the verifier accepts it (mark: `source`); `None` = templates.
    """
    styles, built, rejects = known_styles(styles), [], Counter()
    for example in examples:
        if example.image_size_px is None and gold_boxes(example):
            problem = "has a gold box and no image size, so no model can be told where it is"
            raise UserError(f"tweet {example.id} of {example.source} {problem}")
        for style in styles:
            rng = np.random.default_rng(_number(seed, example.id, style))
            chain = chains.build(example, style, rng, n_wordings=n_wordings)
            if (flaw := chains.check(chain, example)) is not None:  # a bug of ours
                problem = f"does not pass the verifier: {flaw}\n{chain.text}"
                raise ValueError(f"the {style} template of {example.id} {problem}")
            if ask:
                chain, rejected = chains.rewrite(chain, example, partial(ask, example), source=source)
                rejects.update(rejected)
            built.append(chain)
    asked = built if ask else []
    return Built(built, len(asked), sum(chain.source == "template" for chain in asked), rejects)


def known_styles(styles: Sequence[str]) -> tuple[str, ...]:
    """Return these styles without repeats; empty = all. A `UserError` names an unknown one."""
    for style in styles:
        if style not in STYLES:
            raise UserError(f"unknown style {style!r}; choose from {', '.join(STYLES)}")
    return tuple(dict.fromkeys(styles)) or tuple(STYLES)


def write_chains(path: str | Path, built: Sequence[Chain], examples: Sequence[Example]) -> str:
    """Write chains under a checksum of the gold of their tweets, and return the SHA-256 of the file."""
    ids = {chain.id for chain in built}
    gold = checksum(example for example in examples if example.id in ids)
    header = {"chains_version": CHAINS_VERSION, "n": len(built), "gold": gold}
    write_jsonl(path, (chain.to_row() for chain in built), kind=KIND, **header)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_chains(path: str | Path, examples: Iterable[Example]) -> list[Chain]:
    """Read the chains of a file and verify each against its tweet, which is one of the examples."""
    header, rows = read_jsonl(path, kind=KIND)
    version, n = header.get("chains_version"), header.get("n")
    if version != CHAINS_VERSION:
        mismatch = f"chains of version {version!r}, this release has {CHAINS_VERSION}"
        raise UserError(f"{path}: {mismatch}; build them anew")
    if len(rows) != n:
        mismatch = f"{len(rows):,} chains, but its first line promises {n}"
        raise UserError(f"{path}: {mismatch}; the file was cut: build it anew")
    by_id = {example.id: example for example in examples}
    result, flawed = [], []
    for line, row in rows:
        try:
            chain = Chain.from_row(row)
            flaw = chains.check(chain, by_id[chain.id]) if chain.id in by_id else "unknown_tweet"
            result.append(chain)
        except ValueError as error:
            flaw = str(error)
        if flaw is not None:
            flawed.append((line, row.get("id"), flaw))
    if flawed:
        line, id, flaw = flawed[0]
        others = f"so do {len(flawed) - 1} others. Build them anew"
        raise UserError(f"{path}, line {line}: the chain of tweet {id} does not pass ({flaw}); {others}")
    return result


@dataclass(frozen=True, slots=True)
class Target:
    """What training rows must know of a backbone: family, pixels of a resized image, wording of prompts."""

    family: str  # a key of `boxes.BOX_FORMATS`
    min_pixels: int
    max_pixels: int
    wording: prompts.Wording = "full"

    def size(self, example: Example) -> Size | None:
        """Return the (width, height) of the resized image; `None` if its original size is unknown."""
        size, limits = example.image_size_px, {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        return size and resized_size(size, unit=box_format(self.family).unit, **limits)


def sft_rows(
    built: Iterable[Chain], examples: Mapping[str, Example], target: Target, *, prompt: prompts.Kind,
    with_reasoning: bool = True,
) -> Rows:  # fmt: skip
    """Yield a row per verified chain for TRL's SFTTrainer; without reasoning (plain SFT), answers alone."""
    for chain in built:
        example = examples[chain.id]
        completion = chains.render(chain, target.family, target.size(example), with_reasoning=with_reasoning)
        yield {
            "prompt": prompts.messages(example, prompt, wording=target.wording), "images": [*example.images],
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": completion}]}],
            "style": chain.style, "source": chain.source, "id": chain.id,
        }  # fmt: skip


def grpo_rows(examples: Iterable[Example], target: Target, *, prompt: prompts.Kind) -> Rows:
    """Yield a row per tweet for TRL's GRPOTrainer."""
    for example in examples:
        size = target.size(example)
        yield {
            "prompt": prompts.messages(example, prompt, wording=target.wording), "images": [*example.images],
            "gold": gold_column(example), "image_size": example.image_size_px and [*example.image_size_px],
            "model_size": size and list(size), "family": target.family, "id": example.id,
        }  # fmt: skip


def worked_examples(examples: Sequence[Example], target: Target, *, n: int = 3, seed: int = 0) -> Shots:
    """Return n tweets with perfect answers, the shots of "cot-3shot": the first by a hash of (seed, id).

    They have both a groundable entity and one that is not; if fewer than n do (or no boxes), any entity.
    """
    mixed = [e for e in examples if {entity.is_groundable for entity in e.entities} >= {True, False}]
    usable = mixed if len(mixed) >= n else [e for e in examples if e.entities]
    if len(usable) < n:
        n_usable = f"only {len(usable)} of {len(examples)} tweets have an entity"
        raise UserError(f"{n} worked examples wanted, but {n_usable}")
    chosen = sorted(usable, key=lambda e: _number(seed, e.id, "shot"))[:n]
    built = build_chains(chosen, ["text-first"], seed=seed).chains
    return [(e, chains.render(c, target.family, target.size(e))) for e, c in zip(chosen, built, strict=True)]


def _number(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8])
