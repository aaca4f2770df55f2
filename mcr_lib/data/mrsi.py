"""MRSI, the data side: D1 and D2, chains that are verified or fall back, their file, and the rows that
training reads.

    examples ─► D1, D2 (disjoint)      D1 ─► chains ─► verify ─► fall back ─► file ─► SFT rows      D2 ─► GRPO rows

Chains are a function of (seed, id, style) and D1 of (seed, id): neither depends on the order of the input nor
on what else it holds. (The split in D1 for MRSI and D2 for CVO: paper; the rule and the file are ours.)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
D1_SHARE = 0.5
"""Share of training tweets in D1 (paper silent; ours)."""

Ask = Callable[[Example, str], str | None]
"""From a tweet (for a model that also sees its image) and a request to a model's text."""


@dataclass(frozen=True, slots=True)
class Built:
    """Chains and how they came about.

    Args:
        chains: per tweet and style, in the order of the input; every one of them passes the verifier.
        n_asked: chains for which a language model was asked.
        n_fallen_back: of these, how many stay templates because no try passed.
        rejects: flaw -> rejected tries.
    """

    chains: list[Chain]
    n_asked: int
    n_fallen_back: int
    rejects: Counter[str]


def split_d1_d2(
    examples: Iterable[Example], *, d1_share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """D1 (schema injection) and D2 (CVO): disjoint, together everything, each in the order of the input.

    A tweet is in D1 when a hash of (seed, id), read as a number in [0, 1), is below the share; so it stays
    there whatever else the data hold.
    """
    halves: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        halves[_number(seed, example.id) / 2**64 >= d1_share].append(example)
    return halves


def some(examples: Sequence[Example], *, share: float, seed: int) -> list[Example]:
    """A share of tweets by a hash of (seed, id) that has nothing to do with D1 and D2; a smaller share is
    part of a larger one.
    """
    return [example for example in examples if _number(seed, example.id, "share") / 2**64 < share]


def build_chains(
    examples: Iterable[Example],
    styles: Sequence[str] = (),
    *,
    seed: int,
    n_wordings: int | None = None,
    ask: Ask | None = None,
    source: chains.Source = "llm",
) -> Built:
    """The chains of some tweets in some styles, each verified.

    Args:
        styles: names of `styles.STYLES`; empty = all.
        n_wordings: how many wordings of each style are used; `None` = all.
        ask: rewrites every chain by a language model where the verifier takes it; `None` = templates.
        source: what rewritten chains are marked with, "llm" or "mllm".

    Raises:
        UserError: an unknown style, or a gold box without an image size.
        ValueError: a template that does not pass: a bug of ours.
    """
    styles = known_styles(styles)
    built: list[Chain] = []
    n_asked, n_fallen_back, rejects = 0, 0, Counter()
    for example in examples:
        if example.image_size_px is None and gold_boxes(example):
            raise UserError(
                f"tweet {example.id} of {example.source} has a gold box and no image size, so no model can be told where it is"
            )
        for style in styles:
            rng = np.random.default_rng(_number(seed, example.id, style))
            chain = chains.build(example, style, rng, n_wordings=n_wordings)
            if (flaw := chains.check(chain, example)) is not None:
                raise ValueError(
                    f"the {style} template of {example.id} does not pass the verifier: {flaw}\n{chain.text}"
                )
            if ask is not None:
                n_asked += 1
                chain, rejected = chains.rewrite(
                    chain, example, lambda request, e=example: ask(e, request), source=source
                )
                rejects.update(rejected)
                n_fallen_back += chain.source == "template"
            built.append(chain)
    return Built(built, n_asked, n_fallen_back, rejects)


def known_styles(styles: Sequence[str]) -> tuple[str, ...]:
    """The styles of these names, all where none is named.

    Raises:
        UserError: one that does not exist; the known ones are told.
    """
    for style in styles:
        if style not in STYLES:
            raise UserError(f"unknown style {style!r}; choose from {', '.join(STYLES)}")
    return tuple(dict.fromkeys(styles)) or tuple(STYLES)


def write_chains(path: str | Path, built: Sequence[Chain], examples: Sequence[Example]) -> str:
    """Write chains, whole or not at all; returns the SHA-256 of the file. The same chains give the same
    bytes.

    Args:
        examples: the tweets that the chains are about, for the fingerprint of their gold in the header.
    """
    rows = (chain.to_row() for chain in built)
    header = {"chains_version": CHAINS_VERSION, "n": len(built), "gold": _gold(examples, built)}
    write_jsonl(path, rows, kind=KIND, **header)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_chains(path: str | Path, examples: Iterable[Example]) -> list[Chain]:
    """The chains of a file, each verified against its tweet.

    Args:
        examples: at least the tweets that the chains are about.

    Raises:
        UserError: the file is of another version or kind, is cut, was made from other gold, or holds a row
            that does not pass; the first such line is named with its flaw, and how many there are.
    """
    header, rows = read_jsonl(path, kind=KIND)
    if header.get("chains_version") != CHAINS_VERSION:
        raise UserError(
            f"{path}: chains of version {header.get('chains_version')!r}, this release has {CHAINS_VERSION}; build them anew"
        )
    if len(rows) != header.get("n"):
        raise UserError(
            f"{path}: {len(rows):,} chains, but its first line promises {header.get('n')}; the file was cut: build it anew"
        )
    by_id = {example.id: example for example in examples}
    found, flawed = [], []
    for line, row in rows:
        try:
            chain = Chain.from_row({key: value for key, value in row.items() if key != "format_version"})
            flaw = chains.check(chain, by_id[chain.id]) if chain.id in by_id else "unknown_tweet"
        except ValueError as error:
            chain, flaw = None, str(error)
        found.append(chain)
        if flaw is not None:
            flawed.append((line, chain.id if chain else row.get("id"), flaw))
    if flawed:
        line, id, flaw = flawed[0]
        raise UserError(
            f"{path}, line {line}: the chain of tweet {id} does not pass ({flaw}); so do {len(flawed) - 1} others. Build them anew"
        )
    return found


def model_size(example: Example, family: str, *, min_pixels: int, max_pixels: int) -> Size | None:
    """The (width, height) to which a family's processor resizes the image of a tweet; `None` where its size
    is unknown.
    """
    if example.image_size_px is None:
        return None
    return resized_size(
        example.image_size_px, unit=box_format(family).unit, min_pixels=min_pixels, max_pixels=max_pixels
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What rows are made for: all that they must know of a backbone.

    Args:
        family: a name of `boxes.BOX_FORMATS`.
        min_pixels: fewest pixels of a resized image.
        max_pixels: most pixels of a resized image.
        wording: of prompts.
    """

    family: str
    min_pixels: int
    max_pixels: int
    wording: prompts.Wording = "full"

    def size(self, example: Example) -> Size | None:
        """See `model_size`."""
        return model_size(example, self.family, min_pixels=self.min_pixels, max_pixels=self.max_pixels)


def sft_rows(
    built: Iterable[Chain],
    examples: Mapping[str, Example],
    target: Target,
    *,
    prompt: prompts.Kind,
    with_reasoning: bool = True,
) -> Iterator[dict[str, Any]]:
    """One row per chain for TRL's SFTTrainer: prompt, images (paths), completion (messages), style, source,
    id.

    Args:
        built: verified chains; without reasoning, one style per tweet is enough.
        examples: id -> tweet.
        prompt: what the model is asked (`prompts.KINDS`).
        with_reasoning: else the answer alone (plain SFT).
    """
    for chain in built:
        example = examples[chain.id]
        completion = chains.render(chain, target.family, target.size(example), with_reasoning=with_reasoning)
        yield {
            "prompt": prompts.messages(example, prompt, wording=target.wording),
            "images": list(example.images),
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": completion}]}],
            "style": chain.style, "source": chain.source, "id": chain.id,
        }  # fmt: skip


def grpo_rows(
    examples: Iterable[Example], target: Target, *, prompt: prompts.Kind
) -> Iterator[dict[str, Any]]:
    """One row per tweet for TRL's GRPOTrainer: prompt, images (paths), gold (one JSON string), image and
    model size, family, id.
    """
    for example in examples:
        size = target.size(example)
        yield {
            "prompt": prompts.messages(example, prompt, wording=target.wording),
            "images": list(example.images),
            "gold": gold_column(example),
            "image_size": example.image_size_px and list(example.image_size_px), "model_size": size and list(size),
            "family": target.family, "id": example.id,
        }  # fmt: skip


def worked_examples(
    examples: Sequence[Example], target: Target, *, n: int = 3, style: str = "text-first", seed: int = 0
) -> list[tuple[Example, str]]:
    """Tweets with what a perfect model writes about them: the shots of the prompt "cot-3shot".

    The first n by a hash of (seed, id) of those that name both something that the image shows and something
    that it does not; where a source annotates no boxes, or too few tweets mix both, any with an entity.

    Raises:
        UserError: fewer than n tweets have an entity.
    """
    mixed = [e for e in examples if {entity.is_groundable for entity in e.entities} >= {True, False}]
    usable = mixed if len(mixed) >= n else [e for e in examples if e.entities]
    if len(usable) < n:
        raise UserError(
            f"{n} worked examples wanted, but only {len(usable)} of {len(examples)} tweets have an entity"
        )
    chosen = sorted(usable, key=lambda e: _number(seed, e.id, "shot"))[:n]
    built = build_chains(chosen, [style], seed=seed).chains
    return [(e, chains.render(c, target.family, target.size(e))) for e, c in zip(chosen, built, strict=True)]


def _number(*parts: Any) -> int:
    """A number in [0, 2^64) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8])


def _gold(examples: Iterable[Example], built: Iterable[Chain]) -> str:
    """Fingerprint of the gold that the chains are about."""
    about = {chain.id for chain in built}
    return checksum(example for example in examples if example.id in about)
