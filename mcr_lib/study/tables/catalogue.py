"""The one catalogue of metrics: label, unit, better direction and needs of each number of `results.csv`.

Tables, figures, report and the comparison over seeds take labels and directions from here and nowhere else.
N-Pre, N-Rec, N-F1, N-Count and N-Rate are the paper's (App. E.3); false and missed grounding, consistency and
the image-caused N-Rate are ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["%", "count", "points", "× a token's share", "nats per box"]
Needs = Literal["answers", "box", "probes", "reasoning", "attention"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        key: its name in `results.csv` and in reports.
        label: its name in tables and figures.
        unit: of its value.
        better: sign of an improvement; 0 = neither way.
        needs: what it is measured on: answers, answers with boxes, answers to probes, answers with reasoning,
            or the attention of the model.
    """

    key: str
    label: str
    unit: Unit = "%"
    better: Literal[-1, 0, 1] = 1
    needs: Needs = "answers"

    @property
    def axis(self) -> str:
        """The label of an axis, with the unit and an arrow to the better side."""
        text = f"{self.label}, {self.unit}" if self.unit != "count" else self.label
        return {1: f"{text} →", 0: text, -1: f"← {text}"}[self.better]


CATALOGUE = {
    metric.key: metric
    for metric in (
        Metric("gmner_f1", "GMNER F1", needs="box"),
        Metric("mner_f1", "MNER F1"),
        Metric("eeg_f1", "EEG F1", needs="box"),
        Metric("n_pre", "N-Pre", needs="box"),
        Metric("n_rec", "N-Rec", needs="box"),
        Metric("n_f1", "N-F1", needs="box"),
        Metric("false_grounding", "false grounding", better=-1, needs="box"),
        Metric("missed_grounding", "missed grounding", better=-1, needs="box"),
        Metric("balanced_accuracy", "balanced accuracy", needs="box"),
        Metric("n_count", "N-Count", "count", -1),
        Metric("n_rate", "N-Rate", better=-1),
        Metric("altered_rate", "altered names", better=-1),
        Metric("unread", "not read", better=-1),
        Metric("image_caused_n_rate", "image-caused N-Rate", better=-1, needs="probes"),
        Metric("image_caused_n_rate_muted", "image-caused N-Rate, names muted", better=-1, needs="probes"),
        Metric("consistency", "consistency", needs="probes"),
        Metric("faithful", "faithful reasoning", needs="reasoning"),
    )
}
"""Key -> metric, in the order of tables."""

TEXTUAL_BIAS = ("n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding", "balanced_accuracy")
"""Keys of the metrics of textual bias."""


def label(key: str) -> str:
    """The label of a metric; the key in words if it is not in the catalogue.

    Example:
        >>> label("n_f1"), label("cut_image_answer")
        ('N-F1', 'cut image answer')
    """
    return CATALOGUE[key].label if key in CATALOGUE else key.replace("_", " ")


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Key -> label of the given metrics.

    Example:
        >>> labels(["n_pre", "n_rec"])
        {'n_pre': 'N-Pre', 'n_rec': 'N-Rec'}
    """
    return {key: label(key) for key in keys}
