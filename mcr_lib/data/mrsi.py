"""Data of MRSI: the set D_R of pairs (tweet, style), its halves D1 and D2, verified chains, training rows.

    tweets ─► pairs of D_R, K styles per tweet ─► D1 ─► chains ─► verify or fall back ─► file ─► SFT rows
                                               └► D2 ─► GRPO rows

The paper trains on 55,712 pairs of 27,856 samples, two styles each, and splits the pairs: a tweet may stand
in D1 and in D2, never with the same style (Sec. 4.1, App. D.3; two styles: our reading of the numbers; the
share of D1: silent; ours). Which styles a tweet gets is a function of (seed, id), on which side a pair falls
of (seed, id, style), a chain of the same: nothing depends on the order of the input or on other tweets.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mcr_lib import chains, prompts
from mcr_lib.answer import Form, write_answer
from mcr_lib.boxes import Size, box_format, resized_size
from mcr_lib.chains import CHAINS_VERSION, CHANGES, Chain
from mcr_lib.data.files import read_jsonl, write_jsonl
from mcr_lib.errors import UserError
from mcr_lib.rewards import gold_column, written_gold
from mcr_lib.schema import Example, checksum
from mcr_lib.statements import gold_boxes
from mcr_lib.styles import PAPER, STYLES
from mcr_lib.yardsticks import perfect

KIND = "chains"
D1_SHARE = 0.5  # of the pairs (paper silent; ours)
N_STYLES = 2  # per tweet: 55,712 / 27,856 (our reading)
Rows = Iterator[dict[str, Any]]
Pair = tuple[Example, str]  # a tweet and the style of its chain
Halves = tuple[list[Pair], list[Pair]]
SplitBy = Literal["pairs", "tweets"]
Shots = list[tuple[Example, str]]
Ask = Callable[[Example, str], str | None]  # sends a request about a tweet and its image to a language model


@dataclass(frozen=True, slots=True)
class Built:
    """The verified chains of some pairs, and how they were built."""

    chains: list[Chain]
    n_asked: int  # chains that a language model was asked to write anew
    n_fallen_back: int  # of these, chains that stay as they were because no try passed
    rejects: Counter[str]  # flaw -> rejected tries


def pairs(
    examples: Iterable[Example], styles: Sequence[str] = (), *, n_styles: int = N_STYLES, seed: int
) -> list[Pair]:
    """The pairs of D_R: each tweet, in their order, with `n_styles` of these styles (empty = the paper's).

    A tweet's styles are those with the smallest hashes of (seed, id, style); `chains.unsayable` is left out.
    """
    styles, drawn = known_styles(styles), []
    for example in (each for each in examples if not chains.unsayable(each)):
        by_hash = sorted(styles, key=lambda style, id=example.id: _number(seed, id, style, "draw"))
        drawn += [(example, style) for style in styles if style in by_hash[:n_styles]]
    return drawn


def split(drawn: Iterable[Pair], *, d1_share: float, seed: int, by: SplitBy = "pairs") -> Halves:
    """D1 and D2: a pair belongs to D1 if a hash of (seed, id, style), in [0, 1), is below the share.

    By "tweets" (an ablation, ours) the hash is of (seed, id): D2 then holds other tweets than D1.
    """
    halves: Halves = ([], [])
    for example, style in drawn:
        key = (example.id, style) if by == "pairs" else (example.id,)
        halves[_number(seed, *key) / 2**64 >= d1_share].append((example, style))
    return halves


def tweets_of(drawn: Iterable[Pair]) -> list[Example]:
    """The tweets of some pairs, each once."""
    return list({example.id: example for example, _ in drawn}.values())


def some(examples: Sequence[Example], *, share: float, seed: int) -> list[Example]:
    """A share of the tweets by a hash of (seed, id), independent of D1; smaller shares are subsets."""
    return [example for example in examples if _number(seed, example.id, "share") / 2**64 < share]


def draw(examples: Sequence[Example], *, n: int, seed: int) -> list[Example]:
    """Up to n examples, in their order, by another hash than that of `some` (GREC's: paper silent; ours)."""
    ids = {e.id for e in sorted(examples, key=lambda e: _number(seed, e.id, "draw"))[:n]}
    return [example for example in examples if example.id in ids]


def build_chains(
    drawn: Iterable[Pair], *, seed: int, n_wordings: int | None = None, ask: Ask | None = None,
    source: chains.Source = "llm", styles: Collection[str] = STYLES, n_tries: int = 2,
    request: Callable[[Chain, Example], str] = chains.rewrite_request,
    teacher: Callable[[Example], str | None] | None = None,
    start: Mapping[tuple[str, str], Chain] | None = None, each: Callable[..., Iterable[Any]] = map,
) -> Built:  # fmt: skip
    """Build and verify the chains of some pairs, in one of `n_wordings` wordings (`None` = all).

    `ask` writes those of `styles` anew by a language model if the verifier accepts it (mark: `source`);
    `None` = templates. `teacher` writes those of distill styles in its own words (mark: mllm), or leaves them
    (`None`), verified like all. `start`: (id, style) -> a verified chain in place of a template; `each`: a
    `map`, or a parallel one.
    """

    def built(pair: Pair) -> tuple[Chain, list[str] | None]:
        example, style = pair
        if example.image_size_px is None and gold_boxes(example):
            problem = "has a gold box and no image size, so no model can be told where it is"
            raise UserError(f"tweet {example.id} of {example.source} {problem}")
        rng = np.random.default_rng(_number(seed, example.id, style))
        chain = (start or {}).get((example.id, style))
        chain = chain or chains.build(example, style, rng, n_wordings=n_wordings)
        if teacher and STYLES[style].kind == "distill" and (text := teacher(example)) is not None:
            chain = replace(chain, text=text, source="mllm")
        if (flaw := chains.check(chain, example)) is not None:
            problem = f"the {style} chain of {example.id} does not pass the verifier: {flaw}"
            error = UserError if flaw == "too_long" else ValueError  # a bug of ours
            raise error(f"{problem}; leave the tweet out\n{chain.text:.900}")
        if ask is None or style not in styles:
            return chain, None
        how = {"source": source, "n_tries": n_tries, "request": request(chain, example)}
        return chains.rewrite(chain, example, partial(ask, example), **how)

    done = list(each(built, drawn))
    asked = [rejected for _, rejected in done if rejected is not None]
    n_fallen_back = sum(len(rejected) == n_tries for rejected in asked)
    rejects = Counter(flaw for rejected in asked for flaw in rejected)
    return Built([chain for chain, _ in done], len(asked), n_fallen_back, rejects)


def known_styles(styles: Sequence[str]) -> tuple[str, ...]:
    """These styles without repeats; empty = the paper's. A `UserError` names an unknown one."""
    for style in styles:
        if style not in STYLES:
            raise UserError(f"unknown style {style!r}; choose from {', '.join(STYLES)}")
    return tuple(dict.fromkeys(styles)) or PAPER


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
        news = f"since then {CHANGES[CHAINS_VERSION]}"
        mismatch = f"chains of version {version!r}, but this release reads {CHAINS_VERSION}: {news}"
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
    """What training rows must know of a backbone, and the form of answers."""

    family: str  # a key of `boxes.BOX_FORMATS`
    min_pixels: int  # of a resized image
    max_pixels: int
    wording: prompts.Wording = "full"
    form: Form = "json"

    def size(self, example: Example) -> Size | None:
        """The (width, height) of the resized image; `None` if its original size is unknown."""
        size, limits = example.image_size_px, {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        return size and resized_size(size, unit=box_format(self.family).unit, **limits)

    def messages(
        self, example: Example, prompt: prompts.Kind, style: str | None = None
    ) -> list[prompts.Message]:
        """The chat of a row."""
        return prompts.messages(example, prompt, wording=self.wording, style=style, form=self.form)


def sft_rows(
    built: Iterable[Chain], examples: Mapping[str, Example], target: Target, *, prompt: prompts.Kind
) -> Rows:
    """Yield a row per verified chain for TRL's SFTTrainer; each prompt gives the instruction of its style."""
    for chain in built:
        example = examples[chain.id]
        how = {"form": target.form, "labels": example.labels}
        completion = chains.render(chain, target.family, target.size(example), **how)
        head = {"prompt": target.messages(example, prompt, chain.style), "images": [*example.images]}
        yield head | _completion(completion) | {"style": chain.style, "source": chain.source, "id": chain.id}


def answer_rows(examples: Iterable[Example], target: Target, *, prompt: prompts.Kind) -> Rows:
    """Yield a row per tweet with the answer alone (plain supervised fine-tuning)."""
    for example in examples:
        gold = written_gold(example, box_format(target.family).space, model_size=target.size(example))
        how = {"constraints": gold.constraints, "form": target.form, "labels": gold.labels}
        head = {"prompt": target.messages(example, prompt), "images": [*example.images]}
        own = {"style": "", "source": "", "id": gold.id}
        yield head | _completion(write_answer(perfect(gold), **how)) | own


def grpo_rows(drawn: Iterable[Pair], target: Target, *, prompt: prompts.Kind) -> Rows:
    """Yield a row per pair for TRL's GRPOTrainer; each prompt gives the instruction of its style."""
    for example, style in drawn:
        size = target.size(example)
        yield {
            "prompt": target.messages(example, prompt, style), "images": [*example.images],
            "gold": gold_column(example), "image_size": example.image_size_px and [*example.image_size_px],
            "model_size": size and list(size), "family": target.family, "id": example.id, "style": style,
            "form": target.form,
        }  # fmt: skip


def worked_examples(examples: Sequence[Example], target: Target, *, n: int = 3, seed: int = 0) -> Shots:
    """Return n tweets with perfect answers, the shots of "cot-3shot": the first by a hash of (seed, id).

    They have both a groundable entity and one that is not; if fewer than n do (or no boxes), any entity.
    """
    named = [e for e in examples if e.entities and not chains.unsayable(e)]
    mixed = [e for e in named if {entity.is_groundable for entity in e.entities} >= {True, False}]
    usable = mixed if len(mixed) >= n else named
    if len(usable) < n:
        n_usable = f"only {len(usable)} of {len(examples)} tweets have an entity"
        raise UserError(f"{n} worked examples wanted, but {n_usable}")
    chosen = sorted(usable, key=lambda e: _number(seed, e.id, "shot"))[:n]
    built = build_chains([(e, "distill") for e in chosen], seed=seed).chains
    rows = sft_rows(built, {e.id: e for e in chosen}, target, prompt="mcr")
    return [(e, row["completion"][0]["content"][0]["text"]) for e, row in zip(chosen, rows, strict=True)]


def _completion(text: str) -> dict[str, Any]:
    return {"completion": [{"role": "assistant", "content": [{"type": "text", "text": prompts.plain(text)}]}]}


def _number(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8])
