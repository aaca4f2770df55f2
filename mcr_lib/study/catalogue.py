"""The one catalogue of metrics. N-Pre, N-Rec, N-F1, N-Count and N-Rate are the paper's (App. E.3), type
errors on text-decided tweets our reading of its Table 12, those of GREC of `referring`; the others are ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """Label, sign of an improvement, unit, and what a metric needs: an annotation, names, or more answers."""

    label: str
    better: Literal[-1, 1] = 1
    unit: Literal["%", "count"] = "%"
    needs: Literal["span", "type", "groundable", "box", "probes", "reasoning", "names"] = "span"

    @property
    def axis(self) -> str:
        """The label of an axis, with the unit and an arrow to the better side."""
        text = f"{self.label}, {self.unit}" if self.unit != "count" else self.label
        return f"{text} →" if self.better == 1 else f"← {text}"


CATALOGUE = {  # key in `results.csv` and in reports -> metric, in the order of tables
    "gmner_f1": Metric("GMNER F1", needs="box"), "mner_f1": Metric("MNER F1", needs="type"),
    "eeg_f1": Metric("EEG F1", needs="box"),
    "grec_n_acc": Metric("N-acc", needs="names"), "grec_precision": Metric("Precision", needs="names"),
    "grec_t_acc": Metric("T-acc", needs="names"), "grec_f1": Metric("F1-score (IoU)", needs="names"),
    "grec_f1_giou": Metric("F1-score (GIoU)", needs="names"),
    "n_pre": Metric("N-Pre", needs="groundable"), "n_rec": Metric("N-Rec", needs="groundable"),
    "n_f1": Metric("N-F1", needs="groundable"),
    "false_grounding": Metric("false grounding", -1, needs="groundable"),
    "missed_grounding": Metric("missed grounding", -1, needs="groundable"),
    "balanced_accuracy": Metric("balanced accuracy", needs="groundable"),
    "n_count": Metric("N-Count", -1, "count"), "n_rate": Metric("N-Rate", -1),
    "foreign_count": Metric("foreign names", -1, "count"), "foreign_rate": Metric("foreign names", -1),
    "altered_count": Metric("altered names", -1, "count"), "altered_rate": Metric("altered names", -1),
    "rearranged_count": Metric("rearranged names", -1, "count"),
    "rearranged_rate": Metric("rearranged names", -1),
    "type_errors_text_decided": Metric("type errors, text-decided tweets", -1, needs="type"),
    "type_errors": Metric("type errors, all tweets", -1, needs="type"), "unread": Metric("not read", -1),
    "image_caused_foreign_rate": Metric("image-caused foreign names", -1, needs="probes"),
    "image_caused_foreign_rate_muted": Metric("image-caused foreign names, muted", -1, needs="probes"),
    "consistency": Metric("consistency", needs="probes"),
    "faithful": Metric("faithful reasoning", needs="reasoning"),
}  # fmt: skip
TEXTUAL_BIAS = tuple(key for key, metric in CATALOGUE.items() if metric.needs == "groundable")
OF_HARD = ("false_grounding", "missed_grounding", "balanced_accuracy")  # also on the hard subset


def label(key: str) -> str:
    """The label of a metric; the key in words if it is not in the catalogue."""
    return CATALOGUE[key].label if key in CATALOGUE else key.replace("_", " ")


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Key -> label of the given metrics."""
    return {key: label(key) for key in keys}
