"""Hand-made cases: small enough that every score can be worked out by head."""

import os.path
from collections.abc import Sequence
from typing import Any

from mcr_lib import metrics
from mcr_lib.answer import DEFECTS, PERFECT, parse_answer
from mcr_lib.boxes import Box
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.tables import scoring

Answer = Sequence[PredictedEntity]

_DURANT, _ELSEWHERE = (52, 31, 188, 240), (300, 40, 380, 200)

TWEET = Example(
    "case", "hand-made", "test", ("Kevin", "Durant", "enters", "Oracle", "Arena"),
    (Entity("Kevin Durant", 0, 2, "PER", (_DURANT,)), Entity("Oracle Arena", 3, 5, "LOC", ())),
    LABELS, image_size_px=(400, 300),
)  # fmt: skip
"""The person is in the image, the place is not."""


def _predicted(text: str, type: str, *boxes: Box) -> PredictedEntity:
    return PredictedEntity(text, type, boxes)


_KD, _OA = _predicted("Kevin Durant", "PER", _DURANT), _predicted("Oracle Arena", "LOC")

ANSWERS: dict[str, tuple[PredictedEntity, ...]] = {
    "perfect": (_KD, _OA),
    "wrong type": (_KD, _predicted("Oracle Arena", "ORG")),
    "wrong boundary": (_predicted("Durant", "PER", _DURANT), _OA),
    "box misses": (_predicted("Kevin Durant", "PER", _ELSEWHERE), _OA),
    "box not given": (_predicted("Kevin Durant", "PER"), _OA),
    "box not wanted (textual bias)": (_KD, _predicted("Oracle Arena", "LOC", _DURANT)),
    "name not in the text (visual bias)": (_KD, _OA, _predicted("Stephen Curry", "PER", _ELSEWHERE)),
    "entity left out": (_KD,),
    "entity twice": (_KD, _OA, _OA),
    "empty": (),
}
"""Name of a mistake -> an answer to `TWEET` that makes it."""

_BOX, _FAR, _THIRD = (0, 0, 100, 100), (300, 300, 400, 400), (200, 0, 300, 100)


def _tweet(id: str, word: str, *entities: Entity) -> Example:
    return Example(id, "hand-made", "test", (word,), entities, LABELS, image_size_px=(400, 400))


def _ada(id: str, *gold_boxes: Box) -> Example:
    return _tweet(id, "Ada", Entity("Ada", 0, 1, "PER", gold_boxes))


_HIT = (_predicted("Ada", "PER", _BOX),)
_MISS = (_predicted("Ada", "PER", _FAR),)
_HALF = (_predicted("Ada", "PER", (0, 0, 100, 50)),)

SCORER_CASES: dict[str, list[tuple[Example, Answer]]] = {
    "not in the image, but boxed": [(_ada("a"), _MISS)],
    "box misses": [(_ada("a", _BOX), _MISS)],
    "two tweets: one perfect, one empty answer": [(_ada("a", _BOX), _HIT), (_ada("b", _BOX), ())],
    "two tweets: one perfect, one invents a name": [
        (_ada("a", _BOX), _HIT),
        (_tweet("nobody", "rain"), _HIT),
    ],
    "three gold boxes, one hit": [(_ada("a", _BOX, _FAR, _THIRD), _HIT)],
    "IoU of exactly 0.5": [(_ada("a", _BOX), _HALF)],
}
"""Where the scorers disagree: name -> tweets with answers."""


def answer_rows() -> list[dict[str, Any]]:
    """F1 in percent of each task for each of `ANSWERS`, by the definition."""
    rows = []
    for name, answer in ANSWERS.items():
        judged = [metrics.judge(TWEET, answer)]
        rows.append({"answer": name, **{t.upper(): _f1(judged, t, "definition") for t in metrics.TASKS}})
    return rows


def scorer_rows() -> list[dict[str, Any]]:
    """GMNER F1 in percent of each of `SCORER_CASES` under each scorer."""
    rows = []
    for name, tweets in SCORER_CASES.items():
        judged = [metrics.judge(example, answer) for example, answer in tweets]
        rows.append({"case": name, **{scorer: _f1(judged, "gmner", scorer) for scorer in metrics.SCORERS}})
    return rows


def _f1(judged: Sequence[metrics.Judged], task: str, scorer: str) -> float:
    return round(scoring.f1_ratios(judged, scorer)[task].percent or 0.0, 2)


def defect_rows(labels: Sequence[str]) -> list[dict[str, str]]:
    """One row per defect of `answer.DEFECTS`: its name, its example from the defect on, what lenient parsing
    does, and the entities that it gets.
    """
    rows = []
    for defect in DEFECTS:
        strict = parse_answer(defect.example, labels=labels, mode="strict")
        lenient = parse_answer(defect.example, labels=labels, mode="lenient")
        parsed = [f"{e.text} ({e.type}{', box' if e.boxes_xyxy else ''})" for e in lenient.entities]
        more = [f"… {len(parsed):,} in all"] if len(parsed) > 3 else []
        rows.append(
            {
                "strict reason": strict.reason or "read",
                "example": _excerpt(defect.example),
                "lenient": f"{defect.lenient}: {defect.how}",
                "read leniently": ", ".join(parsed[:3] + more) or "–",
            }
        )
    return rows


def _excerpt(text: str, width: int = 64) -> str:
    """The part of a text from a little before its first departure from the perfect answer, in one line."""
    start = max(0, len(os.path.commonprefix([text, PERFECT])) - 16)
    excerpt = text[start : start + width].replace("\n", r"\n")
    return f"{'…' * (start > 0)}{excerpt}{'…' * (start + width < len(text))}"
