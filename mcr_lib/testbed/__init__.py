"""The testbed: a controlled world for grounded multimodal NER to plant, measure and remove both shortcuts.

An example is a function of (distribution, split, index, world seed) only. Named distributions:

    caption       for pretraining: mentioned <=> shown. In some captions one name is damaged in the text
                  (letters lost, masked, a general word, left out) and the emblem alone has it (`image_only`).
    gmner         shares of types, groundable, multi-entity and entity-free tweets as in Twitter-GMNER v2;
                  some pictures show bait, an emblem that the tweet does not name.
    adversarial   bait in every picture, of the type and colour of what the tweet names but the picture lacks.
    unseen        like gmner, with frames and pairs of entities that no other distribution has.

Splits are disjoint: a hash of the text decides its split. The testbed checks a mechanism; it says nothing of
7B models on tweets (design ours; paper silent).
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
from mcr_lib.testbed.tweets import Mention
from mcr_lib.testbed.world import BEINGS, BY_TYPE, Being

SOURCE = "testbed-v1"
__all__ = ["DISTRIBUTIONS", "SOURCE", "Knobs", "Generated", "altered", "find", "make", "stream"]

_TYPE_SHARES = {"PER": 0.43, "LOC": 0.16, "ORG": 0.26, "OTHER": 0.15}
_TRIES = 1000
_SPLIT_OF_HASH = ("train",) * 8 + ("dev", "test")


@dataclass(frozen=True, slots=True)
class Generated:
    """An example of the testbed with its scene.

    Args:
        example: without image paths; `image_only` is bait and, in captions, the entity with a damaged name.
        scene: of the picture; `drawing.draw` draws it.
        named: every entity of the tweet in reading order, including one with a damaged name.
    """

    example: Example
    scene: Scene
    named: tuple[Being, ...]


def make(
    distribution: str, split: str, index: int, *, seed: int = 0, knobs: Knobs | None = None
) -> Generated:
    """Make one example: equal for equal arguments, on every machine.

    Args:
        index: 0 or more, without limit.
        seed: of the world.
        knobs: instead of those of the distribution.

    Raises:
        UserError: an unknown distribution or split, or knobs that cannot be met.
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
        if scene is None:
            continue
        entities = tuple(
            Entity(m.being.name, *span, m.being.type, scene.boxes_of(m.being.name))
            for k, (m, span) in enumerate(zip(mentions, text.spans, strict=True))
            if k != hidden
        )
        unnamed = [*bait, *([] if hidden is None else [mentions[hidden].being])]
        unnamed = [being for being in unnamed if being.name not in {e.text for e in entities}]
        image_only = tuple(ImageOnly(b.name, b.type, scene.boxes_of(b.name)) for b in unnamed)
        id = f"{distribution}_{split}_{index}"
        picture = {"image_size_px": scene.size_px, "image_only": image_only}
        return Generated(Example(id, SOURCE, split, text.tokens, entities, LABELS, **picture), scene, named)
    sizes = f"{knobs.scale_px[0]} pixels and more, in pictures of {knobs.side_px[0]} to {knobs.side_px[1]}"
    raise UserError(
        f"testbed: no example of {distribution} {split} in {_TRIES} tries; "
        f"with these knobs the emblems do not fit into the pictures ({sizes})"
    )


def stream(
    distribution: str, split: str, *, start: int = 0, seed: int = 0, knobs: Knobs | None = None
) -> Iterator[Generated]:
    """Yield examples from index `start` on, without end."""
    while True:
        yield make(distribution, split, start, seed=seed, knobs=knobs)
        start += 1


def _index(rng: Random, shares: Sequence[float]) -> int:
    """Draw an index with these probabilities."""
    at = rng.random()
    for k, share in enumerate(shares):
        at -= share
        if at < 0:
            return k
    return max(k for k, share in enumerate(shares) if share)


def _cast(rng: Random, knobs: Knobs) -> list[Being]:
    """Draw the entities of a tweet, of which every two may appear together in this distribution."""
    n = _index(rng, knobs.counts)
    types, shares = list(_TYPE_SHARES), list(_TYPE_SHARES.values())
    while True:
        cast: list[Being] = []
        while len(cast) < n:
            being = pick(rng, BY_TYPE[types[_index(rng, shares)]])
            if being not in cast:
                cast.append(being)
        held_out = [tweets.is_held_out_pair(a, b) for k, a in enumerate(cast) for b in cast[:k]]
        if len(cast) < 2 or (any(held_out) if knobs.held_out else not any(held_out)):
            break
    return cast * 2 if n == 1 and rng.random() < knobs.repeated else cast


def _mentions(rng: Random, beings: Sequence[Being], knobs: Knobs) -> tuple[list[Mention], int | None]:
    """Return a mention of each, and the index of the damaged one (`None`: none)."""
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
    """Return a name with letters lost or masked, a general word, or nothing."""
    kind = int(rng.random() * 4)
    words = being.name.split()
    if kind == 0:
        return tuple(word[0] + "".join(c for c in word[1:] if c not in "aeiou") + "~" for word in words)
    if kind == 1:
        return tuple("*" * min(len(word), 4) for word in words)
    return tuple(pick(rng, _GENERAL[being.type]).split()) if kind == 2 else ()


def _scene(rng: Random, named: Sequence[Being], knobs: Knobs) -> tuple[list[Being], Scene | None]:
    """Draw bait and the scene; `None` if its emblems do not fit."""
    is_shown = dict(knobs.groundable)
    shown = [being for being in named if rng.random() < is_shown[being.type]]
    bait = _bait(rng, named, shown, knobs)
    names = [being.name for being in shown + bait]
    names += [being.name for being in shown if rng.random() < knobs.twins]
    shortest, longest = knobs.side_px
    width, height = (shortest + int(rng.random() * (longest - shortest + 1)) for _ in range(2))
    n_clutter = int(rng.random() * (knobs.clutter + 1))
    options = {"scale_px": knobs.scale_px, "occlusion": knobs.occlusion, "n_clutter": n_clutter}
    return bait, compose(rng, shuffled(rng, names), size_px=(width, height), **options)


def _bait(rng: Random, beings: Sequence[Being], shown: Sequence[Being], knobs: Knobs) -> list[Being]:
    bait: list[Being] = []
    missing = [being for being in dict.fromkeys(beings) if being not in shown]
    named = f" {' | '.join(being.name for being in beings)} "
    others = [being for being in BEINGS if f" {being.name} " not in named]  # nor a part of a name
    for _ in range(_index(rng, knobs.bait)):
        pool = [being for being in others if being not in bait]
        if missing and rng.random() < knobs.same_type_bait:
            model = pick(rng, missing)
            alike = [being for being in pool if being.is_look_alike(model)]
            same = [being for being in pool if being.type == model.type]
            pool = alike if alike and rng.random() < knobs.look_alike_bait else same or pool
        bait.append(pick(rng, pool))
    return bait
