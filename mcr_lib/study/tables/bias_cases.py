"""Both shortcuts on two hand-made tweets of the testbed, small enough that every number can be worked out by
head.
"""

from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from mcr_lib import bias, metrics, yardsticks
from mcr_lib.boxes import Box
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, ImageOnly, PredictedEntity
from mcr_lib.testbed.drawing import Scene, Shown, draw

_MIRA, _CLUB = Shown("Mira Solano", 14, 28, 46, 46), Shown("Norvik United", 88, 34, 50, 50)
_SIZE = (156, 112)


@dataclass(frozen=True)
class Case:
    """An answer to a hand-made tweet.

    Args:
        name: what it shows.
        example: the tweet.
        picture: its image.
        answer: boxes in pixels of the image.
    """

    name: str
    example: Example
    picture: Image
    answer: tuple[PredictedEntity, ...]


def _said(name: str, type: str, box: Box | None = None) -> PredictedEntity:
    return PredictedEntity(name, type, () if box is None else (box,))


_MIRA_SAID = _said("Mira Solano", "PER", _MIRA.box_xyxy_px)


def _cases() -> list[Case]:
    mira = Entity("Mira Solano", 0, 2, "PER", (_MIRA.box_xyxy_px,))
    meets = Example(
        "textual", "hand-made", "test", ("Mira", "Solano", "meets", "Tobin", "Hale"), (mira, Entity("Tobin Hale", 3, 5, "PER", ())), LABELS,
        image_size_px=_SIZE, image_only=(),
    )  # fmt: skip
    birthday = Example(
        "visual", "hand-made", "test", ("Mira", "Solano", "made", "my", "week"), (mira,), LABELS,
        image_size_px=_SIZE, image_only=(ImageOnly("Norvik United", "ORG", (_CLUB.box_xyxy_px,)),),
    )  # fmt: skip
    alone, both = (draw(Scene(_SIZE, shown, "#e8e4da", "0", 4)) for shown in ((_MIRA,), (_MIRA, _CLUB)))
    x1, y1, x2, y2 = _MIRA.box_xyxy_px
    around = (x1 - 4, y1 - 4, x2 + 4, y2 + 4)
    tobin, club = ("Tobin Hale", "PER"), ("Norvik United", "ORG")
    return [
        Case("right", meets, alone, (_MIRA_SAID, _said(*tobin))),
        Case("named, so boxed", meets, alone, (_MIRA_SAID, _said(*tobin, around))),
        Case("right", birthday, both, (_MIRA_SAID,)),
        Case("shown, so named", birthday, both, (_MIRA_SAID, _said(*club, _CLUB.box_xyxy_px))),
    ]


CASES = _cases()
"""Two tweets, each with a right answer and with the answer that a shortcut gives."""


def rows(cases: list[Case] = CASES) -> list[dict[str, Any]]:
    """Every metric of each answer, in percent but for counts, and of the rule "never a box" on the first
    tweet.
    """
    blind = Case(
        "rule: never a box", cases[0].example, cases[0].picture, yardsticks.never_a_box(cases[0].example)
    )
    found = []
    for case in [*cases, blind]:
        judged = [metrics.judge(case.example, case.answer)]
        textual, visual = bias.textual_bias(judged), bias.visual_bias(judged)
        f1 = metrics.ratios(metrics.totals([metrics.outcome(judged[0], "gmner")]))["f1"]
        percents = {
            "GMNER F1": f1,
            "N-Pre": textual["n_pre"],
            "N-Rec": textual["n_rec"],
            "N-F1": textual["n_f1"],
        }
        percents |= {
            "false grounding": textual["false_grounding"],
            "missed grounding": textual["missed_grounding"],
        }
        row = {"answer": f"{case.example.id}: {case.name}"} | {
            key: _percent(ratio.percent) for key, ratio in percents.items()
        }
        wrong = [kind for kind, n in bias.wrong_boxes(judged).items() if n]
        n_count = int(visual["n_rate"].numerator.sum())
        found.append(
            row
            | {
                "wrong box shows": ", ".join(wrong) or "–",
                "N-Count": n_count,
                "clean": bias.fault(judged[0]) or "yes",
            }
        )
    return found


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
