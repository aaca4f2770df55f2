"""Probes: counterfactual examples. What one modality says is changed, the gold with it, and a model that
looks at both must follow.

    blank_mean, blank_noise, blank_blur   the image shows nothing: no entity has a box (the worst of the three is reported)
    swap_hard, swap_easy                  another tweet's image that shows none of the entities; hard = but something of their type
    mute                                  what the image shows is no longer named, a pronoun or common noun stands there
    mute_blank                            the same with a blank image: what is named now, the text alone has caused
    erase                                 the boxes of one entity are painted over: it has none, the others keep theirs
    rename                                one entity gets another name of its type: the old box is textual bias, the old name visual bias
    add_bait                              an emblem that nobody mentions is pasted into a free place (testbed only)

Each applies to tweets with an image that shows something of what they name; some to fewer, as their functions
say. An answer is clean where it is right by the gold that the probe leaves (`bias.fault`). Everything is a
function of (seed, id) and not of the order of the tweets. On Twitter-GMNER "shows" means "is annotated to
show". Idea of each probe: design ours (paper silent).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from PIL import Image

from mcr_lib.data.counterfactuals import (
    SIGILS,
    Edit,
    Names,
    blank_image,
    blanked,
    erased,
    may_swap,
    muted,
    renamed,
    swapped,
)
from mcr_lib.data.files import is_safe_id, written_whole
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example

PROBES = {
    "blank": ("blank_mean", "blank_noise", "blank_blur"),
    "swap": ("swap_hard", "swap_easy"),
    "mute": ("mute", "mute_blank"),
    "erase": ("erase",),
    "rename": ("rename",),
    "add_bait": ("add_bait",),
}
"""Probe -> its variants, each answered on its own."""

Bait = Callable[[Example, Image.Image, Random], Edit | None]

VARIANTS = tuple(variant for variants in PROBES.values() for variant in variants)


@dataclass(frozen=True, slots=True)
class Probe:
    """An example after a probe.

    Args:
        variant: one of `VARIANTS`.
        example: what is asked, under the id of the original; its gold is what is right after the probe, boxes
            in pixels of its own image.
        changed: the entities of the original that are muted, erased or renamed; empty where the image as a
            whole is changed.
    """

    variant: str
    example: Example
    changed: tuple[Entity, ...] = ()


def variants(names: Iterable[str]) -> tuple[str, ...]:
    """The variants of some probes, each of which may be named as a whole or by variant, in the order of
    `VARIANTS`.

    Example:
        >>> variants(["erase", "swap_hard", "mute"])
        ('swap_hard', 'mute', 'mute_blank', 'erase')
    """
    wanted = {variant for name in names for variant in PROBES.get(name, (name,))}
    return tuple(variant for variant in VARIANTS if variant in wanted)


def applies(example: Example) -> bool:
    """Whether a tweet can be probed: it has an image, and that is annotated to show some entity of the text."""
    return bool(example.images) and any(entity.is_groundable for entity in example.entities)


def choose(examples: Iterable[Example], n: int, *, seed: int) -> list[Example]:
    """Up to n tweets to which probes apply, in the order of a hash of (seed, id)."""
    return sorted(filter(applies, examples), key=lambda e: (_hash(seed, e.id), e.id))[:n]


def training_names(examples: Iterable[Example]) -> dict[str | None, tuple[str, ...]]:
    """Type -> the names of that type, sorted, for `rename`; handles and hashtags, which need their sign, are
    left out.
    """
    found: dict[str | None, set[str]] = {}
    for example in examples:
        for entity in example.entities:
            if not (entity.text[0] in "@#" or (entity.start and example.tokens[entity.start - 1] in SIGILS)):
                found.setdefault(entity.type, set()).add(entity.text)
    return {type_: tuple(sorted(names)) for type_, names in found.items()}


def make(
    variant: str,
    examples: Iterable[Example],
    folder: str | Path,
    *,
    pool: Sequence[Example] = (),
    names: Names | None = None,
    bait: Bait | None = None,
    seed: int = 0,
) -> list[Probe]:
    """One variant of some tweets, those left out to which it does not apply; new images are written to
    `<folder>/<variant>/<id>.png`.

    Args:
        pool: tweets whose images `swap` may take.
        names: type -> names that `rename` may give (`training_names`).
        bait: how `add_bait` edits a tweet (`testbed.bait.baited`); `None` = it applies to none.

    Raises:
        UserError: an image cannot be read, an id cannot be a file name, or the folder cannot be written.
        ValueError: an unknown variant.
    """
    probes = []
    for example in filter(applies, examples):
        edit = _edited(
            variant, example, Random(f"{seed}|{variant}|{example.id}"), pool, names or {}, bait, seed
        )
        if edit is not None:
            changed, image = edit.example, edit.image
            if image is not None:
                changed = replace(
                    changed, images=(_written(image, folder, variant, example.id),), image_size_px=image.size
                )
            probes.append(Probe(variant, changed, edit.changed))
    return probes


def _edited(
    variant: str,
    example: Example,
    rng: Random,
    pool: Sequence[Example],
    names: Names,
    bait: Bait | None,
    seed: int,
) -> Edit | None:
    match variant:
        case "blank_mean" | "blank_noise" | "blank_blur":
            image = blank_image(open_image(example.images[0]), variant.removeprefix("blank_"), rng)
            return Edit(blanked(example), image=image)
        case "swap_hard" | "swap_easy":
            donor = _donor(example, pool, is_hard=variant == "swap_hard", seed=seed)
            return None if donor is None else Edit(swapped(example, donor))
        case "mute":
            return muted(example)
        case "mute_blank":
            edit = muted(example)
            return edit and replace(
                edit,
                example=blanked(edit.example),
                image=blank_image(open_image(example.images[0]), "mean", rng),
            )
        case "erase":
            return erased(example, open_image(example.images[0]), rng)
        case "rename":
            return renamed(example, names, rng)
        case "add_bait":
            return bait and bait(example, open_image(example.images[0]), rng)
    raise ValueError(f"unknown probe {variant!r}; known: {', '.join(VARIANTS)}")


def _donor(example: Example, pool: Sequence[Example], *, is_hard: bool, seed: int) -> Example | None:
    """The tweet whose image is taken: the first that may be, in an order of its own for each example."""
    ordered = sorted(pool, key=lambda donor: (_hash(seed, f"{example.id}|{donor.id}"), donor.id))
    return next((donor for donor in ordered if may_swap(example, donor, is_hard=is_hard)), None)


def _written(image: Image.Image, folder: str | Path, variant: str, id: str) -> str:
    if not is_safe_id(id):
        raise UserError(
            f"tweet id {id!r:.60} cannot be the name of an image; probes need ids of letters, digits and _ . @ + -"
        )
    path = Path(folder) / variant / f"{id}.png"
    with written_whole(path, "wb") as file:
        image.save(file, format="png", compress_level=1)
    return str(path)


def _hash(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=8).digest()
