"""Hand-made cases: small enough that every score can be worked out by head."""

import os.path
from collections.abc import Mapping, Sequence
from typing import Any

from mcr_lib import metrics
from mcr_lib.answer import DEFECTS, PERFECT, parse_answer
from mcr_lib.boxes import Box
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, PredictedEntity

_DURANT, _ELSEWHERE = (52, 31, 188, 240), (300, 40, 380, 200)

TWEET = Example(
    "case", "hand-made", "test", ("Kevin", "Durant", "enters", "Oracle", "Arena"),
    (Entity("Kevin Durant", 0, 2, "PER", (_DURANT,)), Entity("Oracle Arena", 3, 5, "LOC", ())), LABELS, image_size_px=(400, 300),
)  # fmt: skip
"""The person is in the image, the place is not."""


def _said(text: str, type: str, box: Box | None = None) -> PredictedEntity:
    return PredictedEntity(text, type, () if box is None else (box,))


_KD, _OA = _said("Kevin Durant", "PER", _DURANT), _said("Oracle Arena", "LOC")

ANSWERS: dict[str, tuple[PredictedEntity, ...]] = {
    "perfect": (_KD, _OA),
    "wrong type": (_KD, _said("Oracle Arena", "ORG")),
    "wrong boundary": (_said("Durant", "PER", _DURANT), _OA),
    "box misses": (_said("Kevin Durant", "PER", _ELSEWHERE), _OA),
    "box not given": (_said("Kevin Durant", "PER"), _OA),
    "box not wanted (textual bias)": (_KD, _said("Oracle Arena", "LOC", _DURANT)),
    "name not in the text (visual bias)": (_KD, _OA, _said("Stephen Curry", "PER", _ELSEWHERE)),
    "entity left out": (_KD,),
    "entity twice": (_KD, _OA, _OA),
    "empty": (),
}
"""Name of a mistake -> an answer to `TWEET` that makes it."""

_B, _F = (0, 0, 100, 100), (300, 300, 400, 400)


def _one(id: str, *gold_boxes: Box) -> Example:
    return Example(
        id,
        "hand-made",
        "test",
        ("Ada",),
        (Entity("Ada", 0, 1, "PER", gold_boxes),),
        LABELS,
        image_size_px=(400, 400),
    )


_NOBODY = Example("nobody", "hand-made", "test", ("rain",), (), LABELS, image_size_px=(400, 400))

SCORER_CASES: dict[str, list[tuple[Example, tuple[PredictedEntity, ...]]]] = {
    "not in the image, but boxed": [(_one("a"), (_said("Ada", "PER", _F),))],
    "box misses": [(_one("a", _B), (_said("Ada", "PER", _F),))],
    "two tweets: one perfect, one empty answer": [
        (_one("a", _B), (_said("Ada", "PER", _B),)),
        (_one("b", _B), ()),
    ],
    "two tweets: one perfect, one invents a name": [
        (_one("a", _B), (_said("Ada", "PER", _B),)),
        (_NOBODY, (_said("Ada", "PER", _B),)),
    ],
    "three gold boxes, one hit": [(_one("a", _B, _F, (200, 0, 300, 100)), (_said("Ada", "PER", _B),))],
    "IoU of exactly 0.5": [(_one("a", _B), (_said("Ada", "PER", (0, 0, 100, 50)),))],
}
"""Where the scorers disagree: name -> tweets with answers."""


def answer_rows(
    answers: Mapping[str, Sequence[PredictedEntity]] = ANSWERS, tweet: Example = TWEET
) -> list[dict[str, Any]]:
    """F1 in percent of each task for each answer, by the definition."""
    rows = []
    for name, answer in answers.items():
        judged = [metrics.judge(tweet, answer)]
        rows.append(
            {"answer": name, **{task.upper(): _f1(judged, task, "definition") for task in metrics.TASKS}}
        )
    return rows


def scorer_rows(
    cases: Mapping[str, Sequence[tuple[Example, Sequence[PredictedEntity]]]] = SCORER_CASES,
) -> list[dict[str, Any]]:
    """GMNER F1 in percent of each case under each scorer."""
    rows = []
    for name, tweets in cases.items():
        judged = [metrics.judge(example, answer) for example, answer in tweets]
        rows.append({"case": name, **{scorer: _f1(judged, "gmner", scorer) for scorer in metrics.SCORERS}})
    return rows


def defect_rows(labels: Sequence[str]) -> list[dict[str, str]]:
    """One row per defect of `answer.DEFECTS`: its name, the place in its example where it departs from the
    perfect answer, what a lenient reading makes of it, and the entities that this gets.
    """
    rows = []
    for defect in DEFECTS:
        strict, lenient = (
            parse_answer(defect.example, labels=labels, mode=mode) for mode in ("strict", "lenient")
        )
        read = [f"{e.text} ({e.type}{', box' if e.boxes_xyxy else ''})" for e in lenient.entities]
        more = [f"… {len(read):,} in all"] if len(read) > 3 else []
        rows.append(
            {
                "strict reason": strict.reason or "read",
                "example": _excerpt(defect.example),
                "lenient": f"{defect.lenient}: {defect.how}",
                "read leniently": ", ".join(read[:3] + more) or "–",
            }
        )
    return rows


def _excerpt(text: str, width: int = 64) -> str:
    """A text from a little before the place where it departs from the perfect answer, line breaks written
    out.
    """
    start = max(0, len(os.path.commonprefix([text, PERFECT])) - 16)
    shown = text[start : start + width].replace("\n", r"\n")
    return f"{'…' * (start > 0)}{shown}{'…' * (start + width < len(text))}"


def _f1(judged: Sequence[metrics.Judged], task: str, scorer: str) -> float:
    counts = metrics.totals([metrics.outcome(j, task, scorer) for j in judged])
    return round(metrics.ratios(counts)["f1"].percent or 0.0, 2)
