"""The testbed: a controlled world for grounded multimodal NER, in which both shortcuts can be planted,
measured and removed.

An example is a function of (distribution, split, index, world seed) and of nothing else. Named distributions:

    caption       what a base model learns from: mentioned <=> shown. In a share of captions one name is damaged in the text (letters
                  lost, masked, a general word, left out), and the emblem alone tells it; such an entity is
                  `image_only`.
    gmner         shares of types, groundable, multi-entity and entity-free tweets as in Twitter-GMNER v2; some pictures hold bait.
    adversarial   bait in every picture, of the type and colour of what the tweet names but the picture lacks.
    unseen        like gmner, with frames and pairs of entities that no other distribution has.

Splits are disjoint by construction: a text belongs to the split that its hash names. A check of a mechanism
in a controlled world; it says nothing of 7B models on tweets (design ours; paper silent).
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from mcr_lib.data.chance import pick, shuffled
from mcr_lib.data.twitter_gmner import LABELS, SPLITS
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, ImageOnly
from mcr_lib.testbed import tweets
from mcr_lib.testbed.drawing import Scene, compose
from mcr_lib.testbed.knobs import DISTRIBUTIONS, Knobs, altered, find
from mcr_lib.testbed.tweets import Mention, Text
from mcr_lib.testbed.world import BEINGS, BY_TYPE, Being

SOURCE = "testbed-v1"
__all__ = ["DISTRIBUTIONS", "SOURCE", "Knobs", "Made", "altered", "find", "make", "stream"]

_TYPE_SHARES = {"PER": 0.43, "LOC": 0.16, "ORG": 0.26, "OTHER": 0.15}
_TRIES = 1000
_SPLIT_OF_HASH = ("train",) * 8 + ("dev", "test")


@dataclass(frozen=True, slots=True)
class Made:
    """An example of the testbed with what was drawn.

    Args:
        example: without image paths; `image_only` is bait (and, in captions, the entity whose name is
            damaged).
        scene: what the picture shows; `drawing.draw` makes it.
        named: every entity that the author had in mind, in reading order; in captions a model is taught to
            name them all.
    """

    example: Example
    scene: Scene
    named: tuple[Being, ...]


def make(distribution: str, split: str, index: int, *, seed: int = 0, knobs: Knobs | None = None) -> Made:
    """The example of a place in a distribution: the same for the same arguments, on every machine.

    Args:
        index: from 0; there is no last one.
        seed: of the world.
        knobs: instead of those of the named distribution.

    Raises:
        UserError: an unknown distribution or split, or knobs that cannot be met.

    Example:
        >>> make("gmner", "dev", 7).example == make("gmner", "dev", 7).example
        True
    """
    knobs = knobs or find(distribution)
    if split not in SPLITS:
        raise UserError(f"the testbed has no split {split!r}; choose one of {', '.join(SPLITS)}")
    for attempt in range(_TRIES):
        rng = Random(f"{seed}|{distribution}|{split}|{index}|{attempt}")
        mentions, hidden = _mentions(rng, _cast(rng, knobs), knobs)
        text = tweets.write(rng, mentions, held_out=knobs.held_out)
        if _SPLIT_OF_HASH[zlib.crc32(" ".join(text.tokens).encode()) % len(_SPLIT_OF_HASH)] != split:
            continue
        named = tuple(dict.fromkeys(mention.being for mention in mentions))
        bait, scene = _scene(rng, named, knobs)
        if scene is not None:
            example = _example(f"{distribution}_{split}_{index}", split, text, mentions, hidden, bait, scene)
            return Made(example, scene, named)
    raise UserError(
        f"testbed: no example of {distribution} {split} in {_TRIES} tries; with these knobs the emblems do not fit into the pictures "
        f"({knobs.scale_px[0]} pixels and more, in pictures of {knobs.side_px[0]} to {knobs.side_px[1]})"
    )


def stream(
    distribution: str, split: str, *, start: int = 0, seed: int = 0, knobs: Knobs | None = None
) -> Iterator[Made]:
    """Examples from `start` on, without end."""
    while True:
        yield make(distribution, split, start, seed=seed, knobs=knobs)
        start += 1


def _between(rng: Random, bounds: tuple[int, int]) -> int:
    return bounds[0] + int(rng.random() * (bounds[1] - bounds[0] + 1))


def _index(rng: Random, shares: Sequence[float]) -> int:
    at = rng.random()
    for k, share in enumerate(shares):
        at -= share
        if at < 0:
            return k
    return max(k for k, share in enumerate(shares) if share)


def _cast(rng: Random, knobs: Knobs) -> list[Being]:
    """Who the tweet is about; every two of them appear together in this distribution."""
    n = _index(rng, knobs.counts)
    types = list(_TYPE_SHARES)
    while True:
        cast: list[Being] = []
        while len(cast) < n:
            being = pick(rng, BY_TYPE[types[_index(rng, list(_TYPE_SHARES.values()))]])
            if being not in cast:
                cast.append(being)
        held_out = [tweets.is_held_out_pair(a, b) for k, a in enumerate(cast) for b in cast[:k]]
        if len(cast) < 2 or (any(held_out) if knobs.held_out else not any(held_out)):
            break
    return cast * 2 if n == 1 and rng.random() < knobs.repeated else cast


def _mentions(rng: Random, beings: Sequence[Being], knobs: Knobs) -> tuple[list[Mention], int | None]:
    """How each is spoken of, and which one is damaged (`None`: none)."""
    mentions = [Mention(being, tuple(being.name.split())) for being in beings]
    if not beings or rng.random() >= knobs.damaged:
        return mentions, None
    hidden = int(rng.random() * len(beings))
    mentions[hidden] = replace(mentions[hidden], words=_damaged(rng, beings[hidden]))
    return mentions, hidden


_GENERAL = {
    "PER": ("someone", "this one"), "LOC": ("this place", "that spot"), "ORG": ("the team", "this crew"),
    "OTHER": ("the thing", "that one"),
}  # fmt: skip


def _damaged(rng: Random, being: Being) -> tuple[str, ...]:
    """A name of which the text tells little: letters lost, masked, a general word, or nothing."""
    kind = int(rng.random() * 4)
    words = being.name.split()
    if kind == 0:
        return tuple(word[0] + "".join(c for c in word[1:] if c not in "aeiou") + "~" for word in words)
    if kind == 1:
        return tuple("*" * min(len(word), 4) for word in words)
    return tuple(pick(rng, _GENERAL[being.type]).split()) if kind == 2 else ()


def _scene(rng: Random, named: Sequence[Being], knobs: Knobs) -> tuple[list[Being], Scene | None]:
    """Bait, and the picture; `None` where its emblems do not fit."""
    is_shown = dict(knobs.groundable)
    shown = [being for being in named if rng.random() < is_shown[being.type]]
    bait = _bait(rng, named, shown, knobs)
    names = [being.name for being in shown + bait]
    names += [being.name for being in shown if rng.random() < knobs.twins]
    size = (_between(rng, knobs.side_px), _between(rng, knobs.side_px))
    n_clutter = int(rng.random() * (knobs.clutter + 1))
    scene = compose(
        rng,
        shuffled(rng, names),
        size_px=size,
        scale_px=knobs.scale_px,
        occlusion=knobs.occlusion,
        n_clutter=n_clutter,
    )
    return bait, scene


def _bait(rng: Random, beings: Sequence[Being], shown: Sequence[Being], knobs: Knobs) -> list[Being]:
    bait: list[Being] = []
    missing = [being for being in dict.fromkeys(beings) if being not in shown]
    named = " | ".join(being.name for being in beings)
    others = [
        being for being in BEINGS if f" {being.name} " not in f" {named} "
    ]  # neither named nor part of a name
    for _ in range(_index(rng, knobs.bait)):
        pool = [being for being in others if being not in bait]
        if missing and rng.random() < knobs.same_type_bait:
            model = pick(rng, missing)
            alike = [being for being in pool if being.is_look_alike(model)]
            same = [being for being in pool if being.type == model.type]
            pool = alike if alike and rng.random() < knobs.look_alike_bait else same or pool
        bait.append(pick(rng, pool))
    return bait


def _example(
    id_: str,
    split: str,
    text: Text,
    mentions: Sequence[Mention],
    hidden: int | None,
    bait: Sequence[Being],
    scene: Scene,
) -> Example:
    entities = []
    for k, (mention, span) in enumerate(zip(mentions, text.spans, strict=True)):
        if k != hidden:
            being = mention.being
            entities.append(Entity(being.name, *span, being.type, scene.boxes_of(being.name)))
    unnamed = [*bait, *([] if hidden is None else [mentions[hidden].being])]
    unnamed = [being for being in unnamed if being.name not in {e.text for e in entities}]
    image_only = tuple(ImageOnly(being.name, being.type, scene.boxes_of(being.name)) for being in unnamed)
    return Example(
        id_,
        SOURCE,
        split,
        text.tokens,
        tuple(entities),
        LABELS,
        image_size_px=scene.size_px,
        image_only=image_only,
    )
