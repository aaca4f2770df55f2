"""The table of every way in which an answer may depart from its form, each with an example."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from mcr_lib.data.files import read_text

_ABSENT = '{"entity": "Oracle Arena", "type": "LOC", "bbox_2d": null}'
PERFECT = '<answer>[{"entity": "Kevin Durant", "type": "PER", "bbox_2d": [52, 31, 188, 240]}, ' + _ABSENT
PERFECT += "]</answer>"  # examples of `DEFECTS` are damaged copies of this or its twin
PERFECT_PAPER = "<answer>(Kevin Durant, person, (52, 31, 188, 240)) (Oracle Arena, location, None)</answer>"


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which a text departs from the form of an answer."""

    name: str  # the `reason` that strict parsing gives
    lenient: Literal["repaired", "box lost", "entity lost", "answer lost"]  # lost: that one alone, or all
    how: str  # how lenient parsing repairs it, or why it does not
    example: str  # a text with this defect, for the labels PER, LOC, ORG, OTHER
    remedy: str = ""  # what to do about it, where that is more than to read leniently

    def __post_init__(self) -> None:
        object.__setattr__(self, "example", self.example.replace("…", f", {_ABSENT}" * 999))


_ROWS = yaml.safe_load(read_text(Path(__file__).with_suffix(".yaml")))
DEFECTS = tuple(Defect(**row) for row in _ROWS)  # in the order in which a text is parsed
