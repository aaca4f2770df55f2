"""The testbed: a controlled world for grounded multimodal NER, in which both shortcuts can be planted, measured and removed.

An example is a function of (distribution, split, index, world seed) and of nothing else. Named distributions:

    caption       what a base model learns from: mentioned <=> shown. In a share of captions one name is damaged in the text (letters
                  lost, masked, a general word, left out), and the emblem alone tells it; such an entity is `image_only`.
    gmner         shares of types, groundable, multi-entity and entity-free tweets as in Twitter-GMNER v2; some pictures hold bait.
    adversarial   bait in every picture, of the type and colour of what the tweet names but the picture lacks.
    unseen        like gmner, with frames and pairs of entities that no other distribution has.

Splits are disjoint by construction: a text belongs to the split that its hash names. A check of a mechanism in a controlled world; it says
nothing of 7B models on tweets (design ours; paper silent).
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from random import Random

from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, ImageOnly
from mcr_lib.sources.testbed import tweets
from mcr_lib.sources.testbed.drawing import Scene, compose
from mcr_lib.sources.testbed.tweets import Mention, Text
from mcr_lib.sources.testbed.world import BEINGS, BY_TYPE, Being, pick, shuffled
from mcr_lib.sources.twitter_gmner import LABELS, SPLITS

SOURCE = "testbed-v1"
_TYPE_SHARES = {"PER": 0.43, "LOC": 0.16, "ORG": 0.26, "OTHER": 0.15}
_COUNT_SHARES = (0.05, 0.43, 0.35, 0.13, 0.04)
_MAX_MENTIONS = 6
_TRIES = 1000
_SPLIT_OF_HASH = ("train",) * 8 + ("dev", "test")


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a distribution is made of.

    Args:
        counts: share of tweets with 0, 1, 2, ... entities.
        groundable: type -> share of its mentions that the picture shows.
        bait: share of pictures with 0, 1, 2, ... emblems that the tweet does not name.
        same_type_bait: share of bait that has the type of a mention that is not shown, where there is one.
        look_alike_bait: share of that bait which looks like the mention but for the mark.
        repeated: share of one-entity tweets that name it twice.
        twins: share of shown entities that are drawn twice.
        damaged: share of tweets with entities of which one name is damaged in the text, though it is shown.
        held_out: whether frames and pairs come from those kept aside.
        side_px: shortest and longest side of a picture.
        scale_px: shortest and longest side of an emblem.
        occlusion: share of emblems of which a strip is hidden.
        clutter: most lines and blobs in the ground.
    """

    counts: tuple[float, ...] = _COUNT_SHARES
    groundable: tuple[tuple[str, float], ...] = (("PER", 0.65), ("LOC", 0.09), ("ORG", 0.28), ("OTHER", 0.26))
    bait: tuple[float, ...] = (0.4, 0.4, 0.2)
    same_type_bait: float = 0.5
    look_alike_bait: float = 0.3
    repeated: float = 0.02
    twins: float = 0.06
    damaged: float = 0.0
    held_out: bool = False
    side_px: tuple[int, int] = (112, 168)
    scale_px: tuple[int, int] = (28, 60)
    occlusion: float = 0.1
    clutter: int = 10

    def __post_init__(self) -> None:
        shares = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), float)}
        shares |= {f"groundable of {type_}": value for type_, value in self.groundable}
        shares |= {f"{name}[{k}]": value for name in ("counts", "bait") for k, value in enumerate(getattr(self, name))}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"testbed: {name} is {value}; a share lies in [0, 1]")
        for name in ("counts", "bait"):
            if abs(sum(getattr(self, name)) - 1) > 1e-6:
                raise UserError(f"testbed: {name} must sum to 1, found {sum(getattr(self, name)):g}")
        if len(self.counts) > _MAX_MENTIONS + 1:
            raise UserError(f"testbed: at most {_MAX_MENTIONS} entities in a tweet, counts names {len(self.counts) - 1}")
        if not {type_ for type_, _ in self.groundable} == set(LABELS):
            raise UserError(f"testbed: groundable must give a share for each of {', '.join(LABELS)}")
        for name in ("side_px", "scale_px"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise UserError(f"testbed: {name} is ({low}, {high}); expected 1 <= shortest <= longest")
        if self.scale_px[0] > self.side_px[0]:
            raise UserError(f"testbed: emblems of {self.scale_px[0]} pixels do not fit into pictures of {self.side_px[0]}")


_ALWAYS = tuple((label, 1.0) for label in LABELS)
DISTRIBUTIONS = {
    "caption": Knobs(counts=(0.0, 0.4, 0.35, 0.2, 0.05), groundable=_ALWAYS, bait=(1.0,), damaged=0.3),
    "gmner": Knobs(),
    "adversarial": Knobs(bait=(0.0, 0.6, 0.4), same_type_bait=0.9, look_alike_bait=0.4, counts=(0.0, 0.45, 0.37, 0.14, 0.04)),
    "unseen": Knobs(held_out=True),
}


@dataclass(frozen=True, slots=True)
class Made:
    """An example of the testbed with what was drawn.

    Args:
        example: without image paths; `image_only` is bait (and, in captions, the entity whose name is damaged).
        scene: what the picture shows; `drawing.draw` makes it.
        named: every entity that the author had in mind, in reading order; in captions a model is taught to name them all.
    """

    example: Example
    scene: Scene
    named: tuple[Being, ...]


def find(distribution: str) -> Knobs:
    """The knobs of a named distribution.

    Raises:
        UserError: no such distribution; the known ones are named.
    """
    if distribution not in DISTRIBUTIONS:
        raise UserError(f"unknown distribution {distribution!r} of the testbed; choose one of {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[distribution]


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


def stream(distribution: str, split: str, *, start: int = 0, seed: int = 0, knobs: Knobs | None = None) -> Iterator[Made]:
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
    scene = compose(rng, shuffled(rng, names), size_px=size, scale_px=knobs.scale_px, occlusion=knobs.occlusion, n_clutter=n_clutter)
    return bait, scene


def _bait(rng: Random, beings: Sequence[Being], shown: Sequence[Being], knobs: Knobs) -> list[Being]:
    bait: list[Being] = []
    missing = [being for being in dict.fromkeys(beings) if being not in shown]
    for _ in range(_index(rng, knobs.bait)):
        pool = [being for being in BEINGS if being not in beings and being not in bait]
        if missing and rng.random() < knobs.same_type_bait:
            model = pick(rng, missing)
            alike = [being for being in pool if being.is_look_alike(model)]
            same = [being for being in pool if being.type == model.type]
            pool = alike if alike and rng.random() < knobs.look_alike_bait else same or pool
        bait.append(pick(rng, pool))
    return bait


def _example(
    id_: str, split: str, text: Text, mentions: Sequence[Mention], hidden: int | None, bait: Sequence[Being], scene: Scene
) -> Example:
    entities = []
    for k, (mention, span) in enumerate(zip(mentions, text.spans, strict=True)):
        if k != hidden:
            being = mention.being
            entities.append(Entity(being.name, *span, being.type, scene.boxes_of(being.name)))
    unnamed = [*bait, *([] if hidden is None else [mentions[hidden].being])]
    unnamed = [being for being in unnamed if being.name not in {e.text for e in entities}]
    image_only = tuple(ImageOnly(being.name, being.type, scene.boxes_of(being.name)) for being in unnamed)
    return Example(id_, SOURCE, split, text.tokens, tuple(entities), LABELS, image_size_px=scene.size_px, image_only=image_only)
