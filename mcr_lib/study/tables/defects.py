"""The table of every way in which an answer may depart from its form, each with an example."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from mcr_lib.data.files import read_text

_ABSENT = ', {"entity": "Oracle Arena", "type": "LOC", "bbox_2d": null}'
_SHOWN = '{"entity": "Kevin Durant", "type": "PER", "bbox_2d": [52, 31, 188, 240]}'
PERFECT = f"<answer>[{_SHOWN}{_ABSENT}]</answer>"
PERFECT_PAPER = "<answer>(Kevin Durant, person, (52, 31, 188, 240)) (Oracle Arena, location, None)</answer>"


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which a text departs from the form of an answer."""

    name: str  # the `reason` that strict parsing gives
    lenient: Literal["repaired", "box lost", "entity lost", "answer lost"]  # lost: that one alone, or all
    how: str  # how lenient parsing repairs it, or why it does not
    example: str  # a damaged copy of `PERFECT` or its twin
    remedy: str = ""  # what to do about it, where that is more than to read leniently


_ROWS = yaml.safe_load(read_text(Path(__file__).with_suffix(".yaml")))
DEFECTS = tuple(  # in the order in which a text is parsed
    Defect(**row | {"example": row["example"].replace("…", 999 * _ABSENT)}) for row in _ROWS
)
