"""Texts of the testbed: a grammar of openings, frames with slots for entities, and endings, as tokens in the
style of Twitter-GMNER.

A frame says nothing about an entity's type or the picture. Every sixth frame, opening and ending is reserved
for the distribution `unseen` (with every eighth pair of entities), to test a model on unfamiliar wordings.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mcr_lib.data.chance import pick
from mcr_lib.testbed.world import WORDS, Being

Spans = list[tuple[int, int] | None]  # half-open, in tokens; `None` = a mention that is left out
_HELD_OUT_EVERY, _PAIRS_HELD_OUT_EVERY = 6, 8


@dataclass(frozen=True, slots=True)
class Mention:
    """A mention of an entity, with its words in the text; no words = it is left out."""

    being: Being
    words: tuple[str, ...]


def write(rng: Random, mentions: Sequence[Mention], *, held_out: bool) -> tuple[tuple[str, ...], Spans]:
    """Write a tweet with these mentions in this order; return its tokens and the spans of the mentions.

    `held_out` takes frames, openings and endings reserved for `unseen`, else only the others are taken.
    """
    frames = _frames(rng, mentions, held_out)
    code = "".join(pick(rng, "abcdefghkmnpqrstuvwxyz23456789") for _ in range(6))
    opening = pick(rng, _share(WORDS["openings"], held_out))
    ending = pick(rng, _share(WORDS["endings"], held_out)).format(code=code)
    tokens: list[str] = []
    spans: Spans = []
    for word in " ".join((opening, *frames, ending)).split():
        if word != "{}":
            tokens.append(word)
            continue
        mention = mentions[len(spans)]
        if mention.words and mention.being.sigil:
            tokens.append(mention.being.sigil)
        spans.append((len(tokens), len(tokens) + len(mention.words)) if mention.words else None)
        tokens += mention.words
    return tuple(tokens), spans


def is_held_out_pair(a: Being, b: Being) -> bool:
    """Return whether the two appear together in the distribution `unseen` only."""
    return zlib.crc32("|".join(sorted((a.name, b.name))).encode()) % _PAIRS_HELD_OUT_EVERY == 0


def corpus() -> list[str]:
    """Return every opening, frame and ending with empty slots, as text for a tokenizer."""
    frames = WORDS["frames"].values()
    parts = (WORDS["openings"], WORDS["endings"], *frames, WORDS["again"], WORDS["links"])
    return [text.replace("{}", "").format(code="") for part in parts for text in part]


def _frames(rng: Random, mentions: Sequence[Mention], held_out: bool) -> list[str]:
    """Draw frames with a slot per mention: ones, twos and threes with links between, mostly few of them."""
    if not mentions:
        return [pick(rng, _share(WORDS["frames"][0], held_out))]
    if len(mentions) == 2 and mentions[0].being == mentions[1].being:
        return [pick(rng, WORDS["again"])]
    left, sizes = len(mentions), []
    while left:
        sizes.append(min(left, 3) if rng.random() < 0.75 else 1 + int(rng.random() * min(left, 3)))
        left -= sizes[-1]
    first, *others = [pick(rng, _share(WORDS["frames"][size], held_out)) for size in sizes]
    return [first, *(part for frame in others for part in (pick(rng, WORDS["links"]), frame))]


def _share(texts: Sequence[str], held_out: bool) -> list[str]:
    return [text for k, text in enumerate(texts) if (k % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1) == held_out]
