"""Both shortcuts on the hand-made tweet of `cases`, small enough to work out every number by hand."""

from dataclasses import replace
from typing import Any

from mcr_lib import bias, metrics, yardsticks
from mcr_lib.schema import ImageOnly
from mcr_lib.study.catalogue import labels
from mcr_lib.study.tables import cases

SHORTCUTS = ("perfect", "box not wanted (textual bias)", "name not in the text (visual bias)")


def judged() -> dict[str, list[metrics.Judged]]:
    """The right answer, both shortcuts and a rule that looks at nothing; the image shows a name as bait."""
    answers = {name: cases.ANSWERS[name] for name in SHORTCUTS}
    bait = answers[SHORTCUTS[-1]][-1]
    tweet = replace(cases.TWEET, image_only=(ImageOnly(bait.text, bait.type, bait.boxes_xyxy),))
    answers["rule: never a box"] = yardsticks.never_a_box(tweet)
    return {name: [metrics.judge(tweet, answer)] for name, answer in answers.items()}


def rows() -> list[dict[str, Any]]:
    """Percentages ("–" = undefined) and N-Count of each answer."""
    columns = labels(("gmner_f1", "n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding"))
    result = []
    for name, one in judged().items():
        f1 = metrics.ratios(metrics.totals([metrics.outcome(one[0], "gmner")]))["f1"]
        ratios = {"gmner_f1": f1, **bias.textual_bias(one)}
        percents = {label: ratios[key].percent for key, label in columns.items()}
        row = {"answer": name} | {k: "–" if v is None else f"{v:.0f}" for k, v in percents.items()}
        row["wrong box shows"] = ", ".join(k for k, n in bias.wrong_boxes(one).items() if n) or "–"
        row["N-Count"] = int(bias.visual_bias(one)["n_rate"].numerator.sum())
        result.append(row | {"clean": bias.fault(one[0]) or "yes"})
    return result
