"""The testbed: a controlled world for grounded multimodal NER to plant, measure and remove both shortcuts.

An example is a function of (distribution, split, index, world seed) only. Named distributions:

    caption       for pretraining: mentioned <=> shown. In some captions one name is damaged in the text
                  (letters lost, masked, a general word, left out) and the emblem alone has it (`image_only`).
    gmner         shares of types, groundable, multi-entity and entity-free tweets as in Twitter-GMNER v2;
                  some pictures show bait, an emblem that the tweet does not name.
    adversarial   bait in every picture, of the type and colour of what the tweet names but the picture lacks.
    unseen        like gmner, with frames and pairs of entities that no other distribution has.
    shortcut      for training: a stated share of tweets (`contradicting`) is drawn as in gmner; in the
                  others mentioned <=> shown: both shortcuts fit them. A larger share holds a smaller one.

Splits are disjoint: a hash of the text decides its split. The testbed checks a mechanism; it says nothing of
7B models on tweets (design ours; paper silent).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random

from mcr_lib.data.chance import pick, shuffled
from mcr_lib.data.twitter_gmner import LABELS, SPLITS
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, ImageOnly
from mcr_lib.testbed import tweets
from mcr_lib.testbed.drawing import Scene, compose
from mcr_lib.testbed.knobs import ALWAYS, DISTRIBUTIONS, Knobs, altered, find
from mcr_lib.testbed.tweets import Mention
from mcr_lib.testbed.world import BEINGS, BY_TYPE, Being

SOURCE = "testbed-v1"
__all__ = ["DISTRIBUTIONS", "SOURCE", "Knobs", "Generated", "altered", "contradictions", "find", "make"]

_TYPE_SHARES = {"PER": 0.43, "LOC": 0.16, "ORG": 0.26, "OTHER": 0.15}
_TRIES = 1000
_SPLIT_OF_HASH = ("train",) * 8 + ("dev", "test")
_GENERAL = {"PER": ("someone", "this one"), "LOC": ("this place", "that spot"),
    "ORG": ("the team", "this crew"), "OTHER": ("the thing", "that one")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Generated:
    """An example of the testbed with its scene."""

    example: Example  # without image paths; `image_only` is bait and, in captions, the damaged name's
    scene: Scene  # of the picture; `drawing.draw` draws it
    named: tuple[Being, ...]  # in reading order, including the one with a damaged name


def make(
    distribution: str, split: str, index: int, *, seed: int = 0, knobs: Knobs | None = None
) -> Generated:
    """Make an example, equal for equal arguments on every machine; `knobs` replace the distribution's."""
    knobs = knobs or find(distribution)
    if split not in SPLITS:
        raise UserError(f"the testbed has no split {split!r}; choose one of {', '.join(SPLITS)}")
    if knobs.contradicting < Random(f"{seed}|{distribution}|{split}|{index}|agrees").random():
        knobs = replace(knobs, groundable=ALWAYS, bait=(1.0,))
    for attempt in range(_TRIES):
        rng = Random(f"{seed}|{distribution}|{split}|{index}|{attempt}")
        mentions = [Mention(being, tuple(being.name.split())) for being in _cast(rng, knobs)]
        hidden = None
        if mentions and rng.random() < knobs.damaged:
            hidden = int(rng.random() * len(mentions))
            mentions[hidden] = _damaged(rng, mentions[hidden])
        tokens, spans = tweets.write(rng, mentions, held_out=knobs.held_out)
        if _SPLIT_OF_HASH[zlib.crc32(" ".join(tokens).encode()) % len(_SPLIT_OF_HASH)] != split:
            continue
        named = tuple(dict.fromkeys(mention.being for mention in mentions))
        bait, scene = _scene(rng, named, knobs)
        if scene is None:
            continue
        entities = tuple(
            Entity(m.being.name, *span, m.being.type, scene.boxes_of(m.being.name))
            for k, (m, span) in enumerate(zip(mentions, spans, strict=True))
            if k != hidden
        )
        if hidden is not None and mentions[hidden].being.name not in {entity.text for entity in entities}:
            bait.append(mentions[hidden].being)
        image_only = tuple(ImageOnly(b.name, b.type, scene.boxes_of(b.name)) for b in bait)
        id, picture = f"{distribution}_{split}_{index}", {"image_size_px": scene.size_px}
        example = Example(id, SOURCE, split, tokens, entities, LABELS, image_only=image_only, **picture)
        return Generated(example, scene, named)
    sizes = f"{knobs.scale_px[0]} pixels and more, in pictures of {knobs.side_px[0]} to {knobs.side_px[1]}"
    hint = f"with these knobs the emblems do not fit into the pictures ({sizes})"
    raise UserError(f"testbed: no example of {distribution} {split} in {_TRIES} tries; {hint}")


def contradictions(example: Example) -> tuple[str, ...]:
    """What in a tweet speaks against the textual and against the visual shortcut."""
    is_so = any(e.is_groundable is False for e in example.entities), bool(example.image_only)
    kinds = zip(("named, not shown", "shown, not named"), is_so, strict=True)
    return tuple(kind for kind, holds in kinds if holds)


def _index(rng: Random, shares: Sequence[float]) -> int:
    at = rng.random()
    for k, share in enumerate(shares):
        at -= share
        if at < 0:
            return k
    return max(k for k, share in enumerate(shares) if share)


def _cast(rng: Random, knobs: Knobs) -> list[Being]:
    """Draw the entities of a tweet, of which every two may appear together in this distribution."""
    n, (types, shares) = _index(rng, knobs.counts), zip(*_TYPE_SHARES.items(), strict=True)
    while True:
        cast: list[Being] = []
        while len(cast) < n:
            being = pick(rng, BY_TYPE[types[_index(rng, shares)]])
            if being not in cast:
                cast.append(being)
        if n < 2 or any(tweets.is_held_out_pair(a, b) for a, b in combinations(cast, 2)) == knobs.held_out:
            return cast * 2 if n == 1 and rng.random() < knobs.repeated else cast


def _damaged(rng: Random, mention: Mention) -> Mention:
    kind, words = int(rng.random() * 4), ()
    if kind == 0:
        words = [word[0] + "".join(c for c in word[1:] if c not in "aeiou") + "~" for word in mention.words]
    elif kind == 1:
        words = ["*" * min(len(word), 4) for word in mention.words]
    elif kind == 2:
        words = pick(rng, _GENERAL[mention.being.type]).split()
    return Mention(mention.being, tuple(words))


def _scene(rng: Random, named: Sequence[Being], knobs: Knobs) -> tuple[list[Being], Scene | None]:
    """Draw bait and the scene; `None` if its emblems do not fit."""
    is_shown, (shortest, longest) = dict(knobs.groundable), knobs.side_px
    shown = [being for being in named if rng.random() < is_shown[being.type]]
    bait = _bait(rng, named, shown, knobs)
    twins = [being for being in shown if rng.random() < knobs.twins]
    width, height = (shortest + int(rng.random() * (longest - shortest + 1)) for _ in range(2))
    n_clutter = int(rng.random() * (knobs.clutter + 1))
    names = shuffled(rng, [being.name for being in (*shown, *bait, *twins)])
    return bait, compose(rng, names, (width, height), n_clutter, knobs)


def _bait(rng: Random, named: Sequence[Being], shown: Sequence[Being], knobs: Knobs) -> list[Being]:
    bait: list[Being] = []
    missing = [being for being in named if being not in shown]
    text = f" {' | '.join(being.name for being in named)} "
    others = [being for being in BEINGS if f" {being.name} " not in text]  # nor a part of a name
    for _ in range(_index(rng, knobs.bait)):
        pool = [being for being in others if being not in bait]
        if missing and rng.random() < knobs.same_type_bait:
            model = pick(rng, missing)
            alike = [being for being in pool if being.is_look_alike(model)]
            same = [being for being in pool if being.type == model.type]
            pool = alike if alike and rng.random() < knobs.look_alike_bait else same or pool
        bait.append(pick(rng, pool))
    return bait
