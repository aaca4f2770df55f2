"""Both shortcuts on two hand-made tweets of the testbed, small enough to work out every number by hand."""

from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image

from mcr_lib import bias, metrics, yardsticks
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, ImageOnly, PredictedEntity
from mcr_lib.study.catalogue import labels
from mcr_lib.testbed.drawing import Scene, Shown, draw


@dataclass(frozen=True)
class Case:
    """An answer to a hand-made tweet: "right", or named after the shortcut that it takes."""

    name: str
    example: Example
    picture: Image
    answer: tuple[PredictedEntity, ...]  # boxes in pixels of the image


def _cases() -> list[Case]:
    size, shown = (156, 112), (Shown("Mira Solano", 14, 28, 46, 46), Shown("Norvik United", 88, 34, 50, 50))
    alone, both = (draw(Scene(size, some, "#e8e4da", "0", 4)) for some in (shown[:1], shown))
    mira_box, club_box = (one.box_xyxy_px for one in shown)

    def tweet(id: str, text: str, *entities: Entity, image_only: tuple[ImageOnly, ...] = ()) -> Example:
        image = {"image_size_px": size, "image_only": image_only}
        return Example(id, "hand-made", "test", tuple(text.split()), entities, LABELS, **image)

    mira, tobin = Entity("Mira Solano", 0, 2, "PER", (mira_box,)), Entity("Tobin Hale", 3, 5, "PER", ())
    club = ImageOnly("Norvik United", "ORG", (club_box,))
    meets = tweet("textual", "Mira Solano meets Tobin Hale", mira, tobin)
    week = tweet("visual", "Mira Solano made my week", mira, image_only=(club,))
    x1, y1, x2, y2 = mira_box
    right, unboxed = PredictedEntity("Mira Solano", "PER", (mira_box,)), PredictedEntity("Tobin Hale", "PER")
    boxed = PredictedEntity("Tobin Hale", "PER", ((x1 - 4, y1 - 4, x2 + 4, y2 + 4),))
    return [
        Case("right", meets, alone, (right, unboxed)),
        Case("named, so boxed", meets, alone, (right, boxed)),
        Case("right", week, both, (right,)),
        Case("shown, so named", week, both, (right, PredictedEntity("Norvik United", "ORG", (club_box,)))),
    ]


CASES = _cases()  # two tweets, each with a right answer and with the one that a shortcut gives


def rows() -> list[dict[str, Any]]:
    """Percentages ("–" = undefined) and N-Count of each answer, and of "never a box" on the first tweet."""
    blind = replace(CASES[0], name="rule: never a box", answer=yardsticks.never_a_box(CASES[0].example))
    columns = labels(("gmner_f1", "n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding"))
    result = []
    for case in [*CASES, blind]:
        judged = [metrics.judge(case.example, case.answer)]
        f1 = metrics.ratios(metrics.totals([metrics.outcome(judged[0], "gmner")]))["f1"]
        ratios = {"gmner_f1": f1, **bias.textual_bias(judged)}
        percents = {label: ratios[key].percent for key, label in columns.items()}
        row = {"answer": f"{case.example.id}: {case.name}"}
        row |= {label: "–" if value is None else f"{value:.0f}" for label, value in percents.items()}
        row["wrong box shows"] = ", ".join(k for k, n in bias.wrong_boxes(judged).items() if n) or "–"
        row["N-Count"] = int(bias.visual_bias(judged)["n_rate"].numerator.sum())
        result.append(row | {"clean": bias.fault(judged[0]) or "yes"})
    return result
