"""What a GMNER F1 can mean (ours): perfect answers to real tweets, one decision wrong at a stated rate."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from mcr_lib import metrics, yardsticks
from mcr_lib.schema import CONSTRAINTS, Example

LEVELS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25, 0.0)
ALL = "all four"


def degradation_rows(examples: Sequence[Example], *, n_repeats: int, seed: int) -> list[dict[str, Any]]:
    """GMNER F1 in percent when the accuracy of one decision, or of all four, falls to each of `LEVELS`."""
    rows, tweets = [], [example for example in examples if example.entities]
    names = enumerate((*CONSTRAINTS, ALL))
    for (number, name), level, repeat in product(names, LEVELS, range(n_repeats)):
        accuracy = dict.fromkeys(CONSTRAINTS if name == ALL else (name,), level)
        rng = np.random.default_rng([seed, number, int(1000 * level), repeat])
        judged = [metrics.judge(e, yardsticks.degrade(e, accuracy, rng)) for e in tweets]
        f1 = metrics.ratios(metrics.totals([metrics.outcome(j, "gmner") for j in judged]))["f1"].percent
        rows.append({"accuracy": name, "level": level, "repeat": repeat, "f1": round(f1 or 0.0, 2)})
    return rows


def accuracy_for(rows: Sequence[Mapping[str, Any]], f1: float) -> dict[str, float | None]:
    """The accuracy in percent at which the mean curve of each decision crosses an F1; `None` if it does not.

    >>> accuracy_for([{"accuracy": "box", "level": x, "f1": 100 * x} for x in (1.0, 0.5)], 75.0)
    {'box': 75.0}
    """
    levels, crossings = sorted({row["level"] for row in rows}), {}
    for name in dict.fromkeys(row["accuracy"] for row in rows):
        f1_at = [[r["f1"] for r in rows if (r["accuracy"], r["level"]) == (name, level)] for level in levels]
        means = [np.mean(values) for values in f1_at]
        is_inside = min(means) <= f1 <= max(means)
        crossings[name] = round(100 * float(np.interp(f1, means, levels)), 1) if is_inside else None
    return crossings
