"""Edits of an example that change what one modality says, and the gold with it: what `probes` are made of.

Pure functions from example (and image) to example (and image); `None` where an edit would leave a trace by
which its effect could not be told. Boxes stay in pixels of the original image. All ours (paper silent).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from mcr_lib import bias, boxes
from mcr_lib.boxes import Box
from mcr_lib.data.chance import pick
from mcr_lib.data.images import image_size
from mcr_lib.data.twitter_fmnerg import COARSE_OF
from mcr_lib.schema import Entity, Example, ImageOnly

MUTED = {"PER": ("someone",), "LOC": ("this", "place"), "ORG": ("the", "team"), "OTHER": ("the", "thing")}
"""Coarse type -> what stands for a muted mention; other types are muted as OTHER."""

COVERED = 0.1
"""An entity is not erased where more than this share of another entity's box would go with it."""

SIGILS = ("@", "#")
"""A handle or a hashtag follows one of these."""

Names = Mapping[str | None, Sequence[str]]
"""Type -> names of that type."""

TRIES = 200
"""Draws of a name or a place before an edit is given up."""

_CELL_PX = 8


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of an example.

    Args:
        example: with the gold that is right now.
        changed: the entities of the original that are muted, erased or renamed; empty where the image as a
            whole is changed.
        image: the new one; `None`: that of the example.
    """

    example: Example
    changed: tuple[Entity, ...] = ()
    image: Image.Image | None = None


def blanked(example: Example) -> Example:
    """The gold of a tweet whose image shows nothing."""
    return replace(
        example, entities=tuple(replace(e, boxes_xyxy_px=()) for e in example.entities), image_only=()
    )


def blank_image(image: Image.Image, kind: str, rng: Random) -> Image.Image:
    """An image of the same size that shows nothing.

    Args:
        kind: "mean" (one colour, the mean), "noise" (cells of 8 pixels, their colours as bright and as varied
            as those of the image) or "blur" (over a fifth of the shorter side, so that patches of colour
            remain and no shape does).
    """
    if kind == "mean":
        return Image.new("RGB", image.size, _mean_colour(np.asarray(image).reshape(-1, 3)))
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(min(image.size) / 5))
    (columns, lines), pixels = (-(-side // _CELL_PX) for side in image.size), np.asarray(image).reshape(-1, 3)
    drawn = np.array([rng.gauss(0, 1) for _ in range(lines * columns * 3)]).reshape(lines, columns, 3)
    cells = Image.fromarray((pixels.mean(axis=0) + pixels.std(axis=0) * drawn).clip(0, 255).astype(np.uint8))
    return cells.resize((columns * _CELL_PX, lines * _CELL_PX), Image.Resampling.NEAREST).crop(
        (0, 0, *image.size)
    )


def swapped(example: Example, donor: Example) -> Example:
    """A tweet with the image of another one, of which it names nothing: no entity has a box."""
    bait = shown(donor) if donor.image_only is not None else None
    size = donor.image_size_px or image_size(donor.images[0])
    return replace(blanked(example), images=donor.images[:1], image_size_px=size, image_only=bait)


def may_swap(example: Example, donor: Example, *, is_hard: bool) -> bool:
    """Whether a tweet's image may stand for another's: as far as is annotated it shows something, and nothing
    of which a word is in the other text; hard = something of the type of a groundable entity, easy = nothing
    of these types.
    """
    things = shown(donor)
    types = {entity.type for entity in example.entities if entity.is_groundable}
    is_same_type = any(thing.type in types for thing in things)
    return (
        bool(donor.images and things)
        and donor.id != example.id
        and is_same_type == is_hard
        and all(bias.wording(thing.text, example.tokens) == "invented" for thing in things)
    )


def muted(example: Example) -> Edit | None:
    """A tweet in which nothing that its image shows is named; the other entities keep their names, at their
    places in the new text.

    `None` where a word of a muted name is left in the text: naming it could not be told from reading it.

    Example:
        >>> ada, rome = Entity("Ada", 0, 1, "PER", ((1, 1, 9, 9),)), Entity("Rome", 2, 3, "LOC", ())
        >>> edit = muted(Example("1", "demo", "test", ("Ada", "in", "Rome"), (ada, rome), ("PER", "LOC")))
        >>> edit.example.text, edit.example.entities == (rome,)
        ('someone in Rome', True)
    """
    gone = {k: e for k, e in enumerate(example.entities) if e.is_groundable}
    words = {k: MUTED.get(COARSE_OF.get(e.type, e.type), MUTED["OTHER"]) for k, e in gone.items()}
    changed = _reworded(example, words, is_named=False)
    if any(bias.wording(e.text, changed.tokens) != "invented" for e in gone.values()):
        return None
    return Edit(_now_image_only(changed, gone.values()), tuple(gone.values()))


def renamed(example: Example, names: Names, rng: Random) -> Edit | None:
    """A tweet in which one entity that the image shows has, at all its mentions, another name of its type,
    which the image does not show.

    `None` where a word of the old name is left in the new text, or each of 200 draws has a word in the old
    text or in what is shown.
    """
    seen = [word for thing in shown(example) for word in thing.text.split()]
    for old in _in_random_order((e.text for e in example.entities if e.is_groundable), rng):
        mentions = {k: e for k, e in enumerate(example.entities) if e.text == old}
        known = names.get(next(iter(mentions.values())).type, ())
        drawn = (pick(rng, known) for _ in range(TRIES if known else 0))
        new = next(
            (name for name in drawn if bias.wording(name, (*example.tokens, *seen)) == "invented"), None
        )
        if new is not None:
            changed = _reworded(example, dict.fromkeys(mentions, tuple(new.split(" "))), is_named=True)
            if bias.wording(old, changed.tokens) == "invented":
                return Edit(_now_image_only(changed, mentions.values()), tuple(mentions.values()))
    return None


def erased(example: Example, image: Image.Image, rng: Random) -> Edit | None:
    """A tweet of whose image one entity's boxes are painted over in the mean colour of the rest; all mentions
    of its name lose them.

    `None` where every choice would take more than a tenth of another entity's box with it.
    """
    for name in _in_random_order((e.text for e in example.entities if e.is_groundable), rng):
        gone = tuple(e for e in example.entities if e.text == name)
        painted = [box for e in gone for box in e.boxes_xyxy_px or ()]
        others = [box for e in example.entities if e.text != name for box in e.boxes_xyxy_px or ()]
        if not any(share_covered(other, box) > COVERED for other in others for box in painted):
            entities = tuple(replace(e, boxes_xyxy_px=()) if e.text == name else e for e in example.entities)
            return Edit(replace(example, entities=entities), gone, _painted_over(image, painted))
    return None


def shown(example: Example) -> tuple[ImageOnly, ...]:
    """What the image is annotated to show, named by the text or not."""
    named = {e.text: ImageOnly(e.text, e.type, e.boxes_xyxy_px) for e in example.entities if e.is_groundable}
    return (*named.values(), *(example.image_only or ()))


def _now_image_only(changed: Example, gone: Iterable[Entity]) -> Example:
    """The example with what its text no longer names among what only the image shows, where that is known."""
    if changed.image_only is None:
        return changed
    old = {e.text: ImageOnly(e.text, e.type, e.boxes_xyxy_px) for e in gone}
    return replace(changed, image_only=(*changed.image_only, *old.values()))


def _reworded(example: Example, words: Mapping[int, Sequence[str]], *, is_named: bool) -> Example:
    """The example with other words for some of its entities (index -> words), the sign of a handle or hashtag
    left out with them.

    Args:
        is_named: whether the new words are an entity (which the image does not show); else the entity is
            gone.
    """
    tokens: list[str] = []
    entities: list[Entity] = []
    at = 0
    for k, entity in enumerate(example.entities):
        before = example.tokens[at : entity.start]
        tokens += before[:-1] if k in words and before[-1:] and before[-1] in SIGILS else before
        start = len(tokens)
        tokens += words.get(k, example.tokens[entity.start : entity.end])
        if k not in words:
            entities.append(replace(entity, start=start, end=len(tokens)))
        elif is_named:
            entities.append(Entity(" ".join(words[k]), start, len(tokens), entity.type, ()))
        at = entity.end
    return replace(example, tokens=(*tokens, *example.tokens[at:]), entities=tuple(entities))


def _painted_over(image: Image.Image, painted: Sequence[Box]) -> Image.Image:
    pixels = np.array(image)
    is_painted = np.zeros(pixels.shape[:2], dtype=bool)
    for x1, y1, x2, y2 in painted:  # boxes count pixels from 1
        is_painted[max(0, int(y1) - 1) : int(np.ceil(y2)), max(0, int(x1) - 1) : int(np.ceil(x2))] = True
    rest = pixels[~is_painted]
    pixels[is_painted] = _mean_colour(rest if len(rest) else pixels.reshape(-1, 3))
    return Image.fromarray(pixels)


def _mean_colour(pixels: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in pixels.mean(axis=0).round())


def share_covered(box: Box, by: Box) -> float:
    """The share of a box that another one covers."""
    both = (max(box[0], by[0]), max(box[1], by[1]), min(box[2], by[2]), min(box[3], by[3]))
    return boxes.area_px2(both) / max(boxes.area_px2(box), 1)


def _in_random_order(names: Iterable[str], rng: Random) -> list[str]:
    return [name for _, name in sorted((rng.random(), name) for name in dict.fromkeys(names))]
