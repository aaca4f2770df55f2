"""Both shortcuts on two hand-made tweets of the testbed, small enough to work out every number by hand."""

from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from mcr_lib import bias, metrics, yardsticks
from mcr_lib.boxes import Box
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, ImageOnly, PredictedEntity
from mcr_lib.study.tables.catalogue import label
from mcr_lib.testbed.drawing import Scene, Shown, draw

_MIRA, _CLUB = Shown("Mira Solano", 14, 28, 46, 46), Shown("Norvik United", 88, 34, 50, 50)
_SIZE = (156, 112)


@dataclass(frozen=True)
class Case:
    """An answer to a hand-made tweet.

    Args:
        name: "right", or the shortcut that the answer takes.
        example: the tweet.
        picture: its image.
        answer: boxes in pixels of the image.
    """

    name: str
    example: Example
    picture: Image
    answer: tuple[PredictedEntity, ...]


def _predicted(name: str, type: str, box: Box | None = None) -> PredictedEntity:
    return PredictedEntity(name, type, () if box is None else (box,))


def _tweet(id: str, text: str, entities: tuple[Entity, ...], *image_only: ImageOnly) -> Example:
    image = {"image_size_px": _SIZE, "image_only": image_only}
    return Example(id, "hand-made", "test", tuple(text.split()), entities, LABELS, **image)


def _cases() -> list[Case]:
    mira_box, club_box = _MIRA.box_xyxy_px, _CLUB.box_xyxy_px
    mira, tobin = Entity("Mira Solano", 0, 2, "PER", (mira_box,)), Entity("Tobin Hale", 3, 5, "PER", ())
    meets = _tweet("textual", "Mira Solano meets Tobin Hale", (mira, tobin))
    club = ImageOnly("Norvik United", "ORG", (club_box,))
    week = _tweet("visual", "Mira Solano made my week", (mira,), club)
    alone, both = (draw(Scene(_SIZE, shown, "#e8e4da", "0", 4)) for shown in ((_MIRA,), (_MIRA, _CLUB)))
    x1, y1, x2, y2 = mira_box
    around = (x1 - 4, y1 - 4, x2 + 4, y2 + 4)
    right = _predicted("Mira Solano", "PER", mira_box)
    return [
        Case("right", meets, alone, (right, _predicted("Tobin Hale", "PER"))),
        Case("named, so boxed", meets, alone, (right, _predicted("Tobin Hale", "PER", around))),
        Case("right", week, both, (right,)),
        Case("shown, so named", week, both, (right, _predicted("Norvik United", "ORG", club_box))),
    ]


CASES = _cases()
"""Two tweets, each with a right answer and with the answer that a shortcut gives."""


def rows() -> list[dict[str, Any]]:
    """The metrics of each answer, and of the rule "never a box" on the first tweet: percentages without
    decimals ("–" = undefined), and N-Count.
    """
    tweet, picture = CASES[0].example, CASES[0].picture
    blind = Case("rule: never a box", tweet, picture, yardsticks.never_a_box(tweet))
    return [_row(case) for case in [*CASES, blind]]


def _row(case: Case) -> dict[str, Any]:
    judged = [metrics.judge(case.example, case.answer)]
    textual = bias.textual_bias(judged)
    f1 = metrics.ratios(metrics.totals([metrics.outcome(judged[0], "gmner")]))["f1"]
    keys = ("n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding")
    ratios = {"gmner_f1": f1} | {key: textual[key] for key in keys}
    percents = {label(key): ratio.percent for key, ratio in ratios.items()}
    row = {"answer": f"{case.example.id}: {case.name}"}
    row |= {key: "–" if value is None else f"{value:.0f}" for key, value in percents.items()}
    row["wrong box shows"] = ", ".join(kind for kind, n in bias.wrong_boxes(judged).items() if n) or "–"
    row["N-Count"] = int(bias.visual_bias(judged)["n_rate"].numerator.sum())
    return row | {"clean": bias.fault(judged[0]) or "yes"}
