"""What a GMNER F1 can mean: perfect answers in which one decision is wrong at a stated rate, scored on real
annotation (ours).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcr_lib import metrics, yardsticks
from mcr_lib.schema import CONSTRAINTS, Example

LEVELS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25, 0.0)
ALL = "all four"


def degradation_rows(
    examples: Sequence[Example],
    *,
    levels: Sequence[float] = LEVELS,
    n_repeats: int,
    seed: int,
    scorer: str = "definition",
) -> list[dict[str, Any]]:
    """GMNER F1 when the accuracy of one decision, or of all four alike, is lowered to each level.

    Args:
        levels: accuracies in [0, 1].
        n_repeats: draws per level.
        seed: of the first draw.

    Returns:
        Rows with `accuracy` (a constraint or "all four"), `level`, `repeat` and `f1` in percent.
    """
    rows = []
    for number, name in enumerate((*CONSTRAINTS, ALL)):
        for level in levels:
            for repeat in range(n_repeats):
                rng = np.random.default_rng([seed, number, int(1000 * level), repeat])
                accuracy = dict.fromkeys(CONSTRAINTS if name == ALL else (name,), level)
                outcomes = [
                    metrics.outcome(metrics.judge(e, yardsticks.degrade(e, accuracy, rng)), "gmner", scorer)
                    for e in examples
                    if e.entities
                ]
                f1 = metrics.ratios(metrics.totals(outcomes))["f1"].percent
                rows.append({"accuracy": name, "level": level, "repeat": repeat, "f1": round(f1 or 0.0, 2)})
    return rows


def accuracy_for(rows: Sequence[Mapping[str, Any]], f1: float) -> dict[str, float | None]:
    """The accuracy in percent at which the mean curve of each decision crosses an F1, by linear
    interpolation; `None` where it does not.

    Example:
        >>> accuracy_for([{"accuracy": "box", "level": 1.0, "f1": 100.0}, {"accuracy": "box", "level": 0.5, "f1": 50.0}], 75.0)
        {'box': 75.0}
    """
    crossings = {}
    for name in dict.fromkeys(row["accuracy"] for row in rows):
        levels = sorted({row["level"] for row in rows if row["accuracy"] == name})
        means = [
            np.mean([row["f1"] for row in rows if row["accuracy"] == name and row["level"] == level])
            for level in levels
        ]
        is_inside = min(means) <= f1 <= max(means)
        crossings[name] = round(100 * float(np.interp(f1, means, levels)), 1) if is_inside else None
    return crossings
