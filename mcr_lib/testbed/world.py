"""Who lives in the testbed: invented entities of the four types of Twitter-GMNER, each with one emblem.

Names have one to three words, some share a word (Mira Solano, Mira Falk, Solano Bay), some are handles or
hashtags, which stand in a tweet behind a token of their own, `@` or `#`. Twice a name is the beginning of
another of another type (Osprey and Osprey X, Harrow and Harrow Prize). An emblem is an outline (which tells
the type), a colour and a mark. Of the 48, 44 have one or two look-alikes: the same outline and colour,
another mark. Arbo Valley, Harrow, Harrow Prize and Song of Imber have none; bait that should look like one of
these is of its type.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

from mcr_lib.data.chance import pick
from mcr_lib.data.twitter_gmner import LABELS

Outline = Literal["disc", "house", "shield", "star"]
Mark = Literal["dot", "bar", "plain"]

COLOURS = {
    "red": "#d7263d",
    "amber": "#f5a300",
    "green": "#1f9d55",
    "blue": "#1c6dd0",
    "violet": "#8b3fc7",
    "teal": "#0fb5ae",
}
MARKS: tuple[Mark, ...] = ("dot", "bar", "plain")
OUTLINES: dict[str, Outline] = {"PER": "disc", "LOC": "house", "ORG": "shield", "OTHER": "star"}

_NAMES = {
    "PER": (
        "Mira Solano", "Mira Falk", "Tobin Hale", "Lio Hale", "Ines Karr", "Odo Brandt", "Juno Vale", "Sera Quint", "Anka Veyra",
        "Bo Tamsin Ray", "Kesh", "Nils Arbo", "Pell van Ostrow", "Zuri Okan", "@ miradraws", "@ odolive",
    ),
    "LOC": (
        "Quill Tower", "Port Aldis", "Mount Veyra", "Solano Bay", "Arbo Valley", "Harrow", "Lake Imber", "Old Mill Square",
        "Kestrel Point", "# VisitImber",
    ),
    "ORG": (
        "Norvik United", "Norvik Museum", "Halden Labs", "Finch Radio", "Aldis Rovers", "Imber Air", "Quint Motors", "Osprey",
        "Blue Kettle Cafe", "Marrow Bank", "# GoNorvik", "@ finchradio",
    ),
    "OTHER": (
        "Comet Cup", "Lumen 7", "Paper Moons", "Kettle Fest", "Harrow Prize", "Song of Imber", "Falk Trophy", "Vela", "Osprey X",
        "# NightOwls",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Being:
    """An invented entity.

    Args:
        name: as it stands in a tweet, words joined by one space.
        type: one of `LABELS`.
        sigil: "@" or "#" where the name is a handle or hashtag, else "".
        outline: form of its emblem, one per type.
        colour: key of `COLOURS`.
        mark: what the emblem bears.
    """

    name: str
    type: str
    sigil: str
    outline: Outline
    colour: str
    mark: Mark

    def is_look_alike(self, other: "Being") -> bool:
        """Whether the other's emblem differs from this one in the mark alone."""
        return self.name != other.name and (self.outline, self.colour) == (other.outline, other.colour)


def _beings() -> tuple[Being, ...]:
    made = []
    for type_ in LABELS:
        for k, name in enumerate(_NAMES[type_]):
            sigil, _, rest = name.partition(" ") if name[0] in "@#" else ("", "", name)
            colour = list(COLOURS)[k % len(COLOURS)]
            made.append(Being(rest, type_, sigil, OUTLINES[type_], colour, MARKS[k // len(COLOURS)]))
    return tuple(made)


BEINGS = _beings()
"""All of them, in the order of their types."""

BY_NAME = {being.name: being for being in BEINGS}
BY_TYPE = {type_: tuple(being for being in BEINGS if being.type == type_) for type_ in LABELS}

_ONSETS = (
    "b",
    "d",
    "f",
    "g",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "br",
    "dr",
    "kl",
    "st",
    "tr",
)
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
_ENDS = ("", "", "n", "r", "l", "s", "x")


def chance_name(rng: Random) -> str:
    """A name of one or two words made of syllables: text tasks draw these, so that names cannot be learned by
    heart.

    Example:
        >>> chance_name(Random("a")).istitle()
        True
    """

    def word() -> str:
        n = 1 + int(rng.random() * 2)
        return (
            "".join(pick(rng, _ONSETS) + pick(rng, _VOWELS) for _ in range(n)) + pick(rng, _ENDS)
        ).capitalize()

    return word() if rng.random() < 0.4 else f"{word()} {word()}"
