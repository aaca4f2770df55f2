"""Probes: counterfactual examples. An edit changes one modality and the gold, and a model that uses both must
follow (design ours; paper silent).

    blank_mean, blank_noise, blank_blur   the image shows nothing: no entity has a box (the worst is reported)
    swap_hard, swap_easy    image of another tweet, without these entities; hard = it has some of their types
    mute          names of what the image shows are replaced by a pronoun or common noun
    mute_blank    the same with a blank image: whatever is still named comes from the text alone
    erase         the boxes of one entity are painted over: it has none, the others keep theirs
    rename        one entity gets another name of its type: the old box is textual bias, the old name visual
    add_bait      an emblem that the text does not name is pasted into a free place (testbed only)

Probes apply to tweets whose image shows ("is annotated to show", on Twitter-GMNER) something they name; an
edit is `None` where it would leave a trace that hides its effect. An answer is clean if it is right by the
new gold (`bias.fault`). Probes are functions of (seed, id); boxes are in pixels of the original image.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from mcr_lib import bias, boxes
from mcr_lib.boxes import Box
from mcr_lib.data.chance import pick
from mcr_lib.data.files import is_safe_id, written_whole
from mcr_lib.data.images import image_size, open_image
from mcr_lib.data.twitter_gmner import COARSE_OF
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, ImageOnly

PROBES = {  # probe -> its variants, each answered on its own
    "blank": ("blank_mean", "blank_noise", "blank_blur"), "swap": ("swap_hard", "swap_easy"),
    "mute": ("mute", "mute_blank"), "erase": ("erase",), "rename": ("rename",), "add_bait": ("add_bait",),
}  # fmt: skip
VARIANTS = tuple(variant for variants in PROBES.values() for variant in variants)
MUTED = {"PER": ("someone",), "LOC": ("this", "place"), "ORG": ("the", "team"), "OTHER": ("the", "thing")}
COVERED = 0.1  # largest share of another entity's box that erasing may cover
SIGILS = ("@", "#")  # tokens before a handle or hashtag
TRIES = 200  # draws of a name or a place before an edit is given up
_CELL_PX = 8
Names = Mapping[str | None, Sequence[str]]  # type -> names of that type


@dataclass(frozen=True, slots=True)
class Probe:
    """A tweet after an edit, with its new gold, under its original id."""

    example: Example
    changed: tuple[Entity, ...] = ()  # entities of the original that are muted, erased or renamed
    image: Image.Image | None = None  # the new image, until it is written


Bait = Callable[[Example, Image.Image, Random], Probe | None]


def variants(names: Iterable[str]) -> tuple[str, ...]:
    """Return the variants of some probes or variants, in the order of `VARIANTS`.

    Example:
        >>> variants(["erase", "swap_hard", "mute"])
        ('swap_hard', 'mute', 'mute_blank', 'erase')
    """
    wanted = {variant for name in names for variant in PROBES.get(name, (name,))}
    return tuple(variant for variant in VARIANTS if variant in wanted)


def applies(example: Example) -> bool:
    """Return whether a tweet can be probed: it has an image that shows some entity of the text."""
    return bool(example.images) and any(entity.is_groundable for entity in example.entities)


def choose(examples: Iterable[Example], n: int, *, seed: int) -> list[Example]:
    """Return up to n tweets to which probes apply, in the order of a hash of (seed, id)."""
    return sorted(filter(applies, examples), key=lambda e: (_hash(seed, e.id), e.id))[:n]


def training_names(examples: Iterable[Example]) -> dict[str | None, tuple[str, ...]]:
    """Return type -> sorted names for `rename`, without handles and hashtags, which need their sign."""
    names = defaultdict(set)
    for example in examples:
        for e in example.entities:
            if e.text[0] not in "@#" and not (e.start and example.tokens[e.start - 1] in SIGILS):
                names[e.type].add(e.text)
    return {type_: tuple(sorted(known)) for type_, known in names.items()}


def make(
    variant: str, examples: Iterable[Example], folder: str | Path, *, pool: Sequence[Example] = (),
    names: Names | None = None, bait: Bait | None = None, seed: int = 0,
) -> list[Probe]:  # fmt: skip
    """Apply one variant to some tweets; those it does not apply to are left out.

    New images are written to `<folder>/<variant>/<id>.png`. `swap` takes images of `pool`, `rename` `names`
    (`training_names`), `add_bait` the edit `bait` (`testbed.bait.baited`; `None` = it applies to no tweet).
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown probe {variant!r}; known: {', '.join(VARIANTS)}")
    probes = []
    for example in filter(applies, examples):
        if variant in PROBES["swap"]:
            order = sorted(pool, key=lambda donor: (_hash(seed, f"{example.id}|{donor.id}"), donor.id))
            donor = next((d for d in order if may_swap(example, d, is_hard=variant == "swap_hard")), None)
            probe = donor and Probe(swapped(example, donor))
        else:
            probe = _edited(variant, example, Random(f"{seed}|{variant}|{example.id}"), names or {}, bait)
        if probe is None:
            continue
        if (image := probe.image) is not None:
            if not is_safe_id(example.id):
                needs = "probes need ids of letters, digits and _ . @ + -"
                raise UserError(f"tweet id {example.id!r:.60} cannot be the name of an image; {needs}")
            path = Path(folder) / variant / f"{example.id}.png"
            with written_whole(path, "wb") as file:
                image.save(file, format="png", compress_level=1)
            pictured = replace(probe.example, images=(str(path),), image_size_px=image.size)
            probe = Probe(pictured, probe.changed)
        probes.append(probe)
    return probes


def _edited(variant: str, example: Example, rng: Random, names: Names, bait: Bait | None) -> Probe | None:
    if variant == "rename":
        return renamed(example, names, rng)
    probe = muted(example) if variant in PROBES["mute"] else Probe(example)
    if probe is None or variant == "mute":
        return probe
    image = open_image(example.images[0])
    if variant == "erase":
        return erased(example, image, rng)
    if variant == "add_bait":
        return bait and bait(example, image, rng)
    kind = "mean" if variant == "mute_blank" else variant.removeprefix("blank_")
    return replace(probe, example=blanked(probe.example), image=blank_image(image, kind, rng))


def blanked(example: Example) -> Example:
    """Return the tweet with the gold of an image that shows nothing."""
    entities = tuple(replace(e, boxes_xyxy_px=()) for e in example.entities)
    return replace(example, entities=entities, image_only=())


def blank_image(image: Image.Image, kind: str, rng: Random) -> Image.Image:
    """Return an image of the same size that shows nothing: "mean" (its mean colour), "noise" or "blur".

    Noise = cells of 8 pixels with its mean and standard deviation of colour; blur = radius of a fifth of the
    shorter side: patches of colour remain, no shapes.
    """
    pixels = np.asarray(image).reshape(-1, 3)
    if kind == "mean":
        return Image.new("RGB", image.size, _mean_colour(pixels))
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(min(image.size) / 5))
    columns, lines = (-(-side // _CELL_PX) for side in image.size)
    drawn = np.array([rng.gauss(0, 1) for _ in range(lines * columns * 3)]).reshape(lines, columns, 3)
    cells = Image.fromarray((pixels.mean(axis=0) + pixels.std(axis=0) * drawn).clip(0, 255).astype(np.uint8))
    noise = cells.resize((columns * _CELL_PX, lines * _CELL_PX), Image.Resampling.NEAREST)
    return noise.crop((0, 0, *image.size))


def swapped(example: Example, donor: Example) -> Example:
    """Return a tweet with the image of another one that shows nothing it names: no entity has a box."""
    bait = shown(donor) if donor.image_only is not None else None
    size = donor.image_size_px or image_size(donor.images[0])
    return replace(blanked(example), images=donor.images[:1], image_size_px=size, image_only=bait)


def may_swap(example: Example, donor: Example, *, is_hard: bool) -> bool:
    """Return whether an image may replace another: it shows something, no word of which is in the text."""
    things = shown(donor)
    if not donor.images or not things or donor.id == example.id:
        return False
    types = {entity.type for entity in example.entities if entity.is_groundable}
    is_same_type = any(thing.type in types for thing in things)
    return is_same_type == is_hard and not any(_has_word_of(thing.text, example.tokens) for thing in things)


def muted(example: Example) -> Probe | None:
    """Return a tweet that no longer names what its image shows; the other entities keep their names.

    `None` if a word of a muted name is left in the text, since then the model might read it there.

    Example:
        >>> ada, rome = Entity("Ada", 0, 1, "PER", ((1, 1, 9, 9),)), Entity("Rome", 2, 3, "LOC", ())
        >>> tweet = Example("1", "demo", "test", ("Ada", "in", "Rome"), (ada, rome), ("PER", "LOC"))
        >>> muted(tweet).example.text
        'someone in Rome'
    """
    types = {k: COARSE_OF.get(e.type, e.type) for k, e in enumerate(example.entities) if e.is_groundable}
    words = {k: MUTED.get(type_, MUTED["OTHER"]) for k, type_ in types.items()}
    return _reworded(example, words, is_named=False)


def renamed(example: Example, names: Names, rng: Random) -> Probe | None:
    """Return a tweet in which one groundable entity has another name of its type, which the image lacks.

    `None` if a word of the old name is left, or each of 200 draws has a word in the old text or in the image.
    """
    used = [*example.tokens, *(word for thing in shown(example) for word in thing.text.split())]
    for old in _groundable_names(example, rng):
        mentions = [k for k, e in enumerate(example.entities) if e.text == old]
        known = names.get(example.entities[mentions[0]].type, ())
        drawn = (pick(rng, known) for _ in range(TRIES if known else 0))
        new = next((name for name in drawn if not _has_word_of(name, used)), None)
        if new and (probe := _reworded(example, dict.fromkeys(mentions, new.split(" ")), is_named=True)):
            return probe
    return None


def erased(example: Example, image: Image.Image, rng: Random) -> Probe | None:
    """Return a tweet, a name's boxes painted over (mean colour of the rest); `None` if it covers others."""
    for name in _groundable_names(example, rng):
        gone = tuple(e for e in example.entities if e.text == name)
        painted = [box for e in gone for box in e.boxes_xyxy_px or ()]
        others = [box for e in example.entities if e.text != name for box in e.boxes_xyxy_px or ()]
        if not any(share_covered(other, box) > COVERED for other in others for box in painted):
            entities = tuple(replace(e, boxes_xyxy_px=()) if e in gone else e for e in example.entities)
            return Probe(replace(example, entities=entities), gone, _painted_over(image, painted))
    return None


def shown(example: Example) -> tuple[ImageOnly, ...]:
    """Return what the image is annotated to show, named by the text or not."""
    return (*_as_image_only(e for e in example.entities if e.is_groundable), *(example.image_only or ()))


def share_covered(box: Box, by: Box) -> float:
    """Return the share of a box that another one covers."""
    both = (max(box[0], by[0]), max(box[1], by[1]), min(box[2], by[2]), min(box[3], by[3]))
    return boxes.area_px2(both) / max(boxes.area_px2(box), 1)


def _hash(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=8).digest()


def _has_word_of(name: str, tokens: Sequence[str]) -> bool:
    return bias.wording(name, tokens) != "foreign"


def _as_image_only(entities: Iterable[Entity]) -> Iterable[ImageOnly]:
    return {e.text: ImageOnly(e.text, e.type, e.boxes_xyxy_px) for e in entities}.values()


def _reworded(example: Example, words: Mapping[int, Sequence[str]], *, is_named: bool) -> Probe | None:
    """Replace entities (index -> words) and their signs; `is_named`: by entities the image does not show."""
    tokens, entities, at = [], [], 0
    for k, entity in enumerate(example.entities):
        before = example.tokens[at : entity.start]
        tokens += before[:-1] if k in words and before and before[-1] in SIGILS else before
        start = len(tokens)
        tokens += words.get(k, example.tokens[entity.start : entity.end])
        if k not in words:
            entities.append(replace(entity, start=start, end=len(tokens)))
        elif is_named:
            entities.append(Entity(" ".join(words[k]), start, len(tokens), entity.type, ()))
        at = entity.end
    tokens += example.tokens[at:]
    gone = tuple(example.entities[k] for k in words)
    if any(_has_word_of(entity.text, tokens) for entity in gone):
        return None
    image_only = None if example.image_only is None else (*example.image_only, *_as_image_only(gone))
    new = replace(example, tokens=tuple(tokens), entities=tuple(entities), image_only=image_only)
    return Probe(new, gone)


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


def _groundable_names(example: Example, rng: Random) -> list[str]:
    names = dict.fromkeys(e.text for e in example.entities if e.is_groundable)
    return [name for _, name in sorted((rng.random(), name) for name in names)]
