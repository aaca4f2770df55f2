"""Entities of the testbed: invented names of the four types of Twitter-GMNER, each with one emblem.

Names have one to three words. Some share a word (Mira Solano, Mira Falk, Solano Bay); some are handles or
hashtags, preceded in a tweet by a separate token `@` or `#`; two are the beginning of another one of another
type (Osprey and Osprey X, Harrow and Harrow Prize). An emblem is an outline (one per type), a colour and a
mark. 44 of the 48 have one or two look-alikes: same outline and colour, another mark.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from mcr_lib.data.files import read_text
from mcr_lib.data.twitter_gmner import LABELS

COLOURS = {"red": "#d7263d", "amber": "#f5a300", "green": "#1f9d55", "blue": "#1c6dd0", "violet": "#8b3fc7",
    "teal": "#0fb5ae"}  # fmt: skip
_MARKS = ("dot", "bar", "plain")
_OUTLINES = {"PER": "disc", "LOC": "house", "ORG": "shield", "OTHER": "star"}
WORDS = yaml.safe_load(read_text(Path(__file__).with_name("words.yaml")))  # names, and parts of tweets


@dataclass(frozen=True, slots=True)
class Being:
    """An invented entity and the form of its emblem."""

    name: str  # as in a tweet, words joined by one space
    type: str
    sigil: str  # "@" for a handle, "#" for a hashtag, else ""
    outline: str
    colour: str
    mark: str

    def is_look_alike(self, other: "Being") -> bool:
        """Return whether the two emblems differ in the mark alone."""
        return self.name != other.name and (self.outline, self.colour) == (other.outline, other.colour)


def _being(type_: str, k: int, name: str) -> Being:
    sigil, _, rest = name.partition(" ") if name[0] in "@#" else ("", "", name)
    colour, mark = [*COLOURS][k % len(COLOURS)], _MARKS[k // len(COLOURS)]
    return Being(rest, type_, sigil, _OUTLINES[type_], colour, mark)


BEINGS = tuple(_being(type_, k, name) for type_ in LABELS for k, name in enumerate(WORDS["names"][type_]))
BY_NAME = {being.name: being for being in BEINGS}
BY_TYPE = {type_: tuple(being for being in BEINGS if being.type == type_) for type_ in LABELS}
