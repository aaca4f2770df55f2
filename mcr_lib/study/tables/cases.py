"""Hand-made cases: small enough that every score can be worked out by head."""

import os.path
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcr_lib.answer import parse_answer
from mcr_lib.boxes import Box
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.tables.defects import DEFECTS, PERFECT, PERFECT_PAPER

Answer = tuple[PredictedEntity, ...]
Rows = list[dict[str, Any]]


def _predicted(text: str, type: str, *boxes: Box) -> PredictedEntity:
    return PredictedEntity(text, type, boxes)


_DURANT, _ELSEWHERE = (52, 31, 188, 240), (300, 40, 380, 200)
_KD, _OA = _predicted("Kevin Durant", "PER", _DURANT), _predicted("Oracle Arena", "LOC")

TWEET = Example(  # the person is in the image, the place is not
    "case", "hand-made", "test", ("Kevin", "Durant", "enters", "Oracle", "Arena"),
    (Entity("Kevin Durant", 0, 2, "PER", (_DURANT,)), Entity("Oracle Arena", 3, 5, "LOC", ())),
    LABELS, image_size_px=(400, 300),
)  # fmt: skip
ANSWERS: dict[str, Answer] = {  # name of a mistake -> an answer to `TWEET` that makes it
    "perfect": (_KD, _OA), "wrong type": (_KD, _predicted("Oracle Arena", "ORG")),
    "wrong boundary": (_predicted("Durant", "PER", _DURANT), _OA),
    "box misses": (_predicted("Kevin Durant", "PER", _ELSEWHERE), _OA),
    "box not given": (_predicted("Kevin Durant", "PER"), _OA),
    "box not wanted (textual bias)": (_KD, _predicted("Oracle Arena", "LOC", _DURANT)),
    "name not in the text (visual bias)": (_KD, _OA, _predicted("Stephen Curry", "PER", _ELSEWHERE)),
    "entity left out": (_KD,), "entity twice": (_KD, _OA, _OA), "empty": (),
}  # fmt: skip

_BOX, _FAR, _THIRD = (0, 0, 100, 100), (300, 300, 400, 400), (200, 0, 300, 100)
_HIT, _MISS, _HALF = ((_predicted("Ada", "PER", box),) for box in (_BOX, _FAR, (0, 0, 100, 50)))


def _ada(id: str, *gold_boxes: Box) -> Example:
    ada = Entity("Ada", 0, 1, "PER", gold_boxes)
    return Example(id, "hand-made", "test", ("Ada",), (ada,), LABELS, image_size_px=(400, 400))


_NOBODY = replace(_ada("nobody"), tokens=("rain",), entities=())
SCORER_CASES: dict[str, list[tuple[Example, Answer]]] = {  # where the scorers disagree
    "not in the image, but boxed": [(_ada("a"), _MISS)], "box misses": [(_ada("a", _BOX), _MISS)],
    "two tweets: one perfect, one empty answer": [(_ada("a", _BOX), _HIT), (_ada("b", _BOX), ())],
    "two tweets: one perfect, one invents a name": [(_ada("a", _BOX), _HIT), (_NOBODY, _HIT)],
    "three gold boxes, one hit": [(_ada("a", _BOX, _FAR, _THIRD), _HIT)],
    "IoU of exactly 0.5": [(_ada("a", _BOX), _HALF)], "the same entity twice": [(_ada("a", _BOX), _HIT * 2)],
    "two boxes, only the second hits": [(_ada("a", _BOX), (_predicted("Ada", "PER", _FAR, _BOX),))],
}  # fmt: skip


def defect_rows(labels: Sequence[str]) -> Rows:
    """One row per defect of `DEFECTS`: name, example from a little before it on, lenient parsing."""
    rows = []
    for defect in DEFECTS:
        text = defect.example
        strict, lenient = (parse_answer(text, labels=labels, mode=mode) for mode in ("strict", "lenient"))
        whole = PERFECT_PAPER if strict.form == "paper" else PERFECT
        start = max(0, len(os.path.commonprefix([text, whole])) - 16)
        excerpt, end = text[start : start + 64].replace("\n", r"\n"), start + 64
        parsed = [f"{e.text} ({e.type}{', box' if e.boxes_xyxy else ''})" for e in lenient.entities]
        more = [f"… {len(parsed):,} in all"] if len(parsed) > 3 else []
        example = f"{'…' * (start > 0)}{excerpt}{'…' * (end < len(text))}"
        row = {"strict reason": strict.reason or "read", "example": example}
        row["lenient"] = f"{defect.lenient}: {defect.how}"
        rows.append(row | {"read leniently": ", ".join(parsed[:3] + more) or "–"})
    return rows
