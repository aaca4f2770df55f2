"""What a GMNER F1 can mean (ours): gold made worse at a rate, or until it errs as the paper's models do.

Scores are those of `SCORER`, since they stand beside the paper's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, product
from typing import Any

import numpy as np

from mcr_lib import bias, metrics, yardsticks
from mcr_lib.schema import CONSTRAINTS, FORMAT_VERSION, Example, PredictedEntity, checksum
from mcr_lib.study import check
from mcr_lib.study.tables import facts

LEVELS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25, 0.0)
ALL = "all four"
SCORER = "paper"
PERFECT, PAPER, REPORTED = "simulated, perfect text", "simulated, the paper's text", "the paper"
Rates = tuple[float, float]  # false and missed grounding, shares
Cells = Mapping[str, Mapping[str, Any]]  # model and method -> column -> percent: `facts.table`


def degradation_rows(examples: Sequence[Example], *, n_repeats: int, seed: int) -> list[dict[str, Any]]:
    """GMNER F1 in percent when the accuracy of one decision, or of all four, falls to each of `LEVELS`."""
    rows, tweets = [], [example for example in examples if example.entities]
    names = enumerate((*CONSTRAINTS, ALL))
    for (number, name), level, repeat in product(names, LEVELS, range(n_repeats)):
        accuracy = dict.fromkeys(CONSTRAINTS if name == ALL else (name,), level)
        rng = np.random.default_rng([seed, number, int(1000 * level), repeat])
        judged = [metrics.judge(e, yardsticks.degrade(e, accuracy, rng)) for e in tweets]
        rows.append({"accuracy": name, "level": level, "repeat": repeat, "f1": round(_gmner_f1(judged), 2)})
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


def gain(examples: Sequence[Example], *, n_repeats: int, seed: int) -> dict[str, Any]:
    """What the paper's N-Pre and N-Rec are worth: `recall_rows`, and `none_rows` on these tweets."""
    none, scores, first = facts.table("F3"), facts.table("T1"), examples[0]
    return {
        "format_version": FORMAT_VERSION, "data": f"{first.source}:{checksum(examples)}",
        "split": first.split, "n_examples": len(examples), "n_repeats": n_repeats, "seed": seed,
        "scorer": SCORER, "recall": recall_rows(none, scores, check.EXPECTED["twitter-gmner-v2"]["test"]),
        "simulated": none_rows(examples, none, scores, n_repeats=n_repeats, seed=seed),
    }  # fmt: skip


def recall_rows(none: Cells, scores: Cells, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Where EEG recall comes from, in points: right None, and boxes that hit. Arithmetic, not a simulation.

    A right EEG answer is a gold text with a right None or with a box that hits, and N-Rec counts the former:

        EEG recall = N-Rec · n_none / n_gold + boxes that hit / n_gold        (paper Eq. 21, 23, 28)

    From its Figure 3, its T1, and the counts of the test split (`check.EXPECTED`).

    >>> counts = {"entities": 100, "not groundable": 80}
    >>> recall_rows({"A": {"N-Rec": 50.0}}, {"A": {"EEG R": 50.0}}, counts)
    [{'system': 'A', 'EEG recall': 50.0, 'right None': 40.0, 'boxes that hit': 10.0, '% of gold boxes': 50.0}]
    """
    rows, share = [], counts["not groundable"] / counts["entities"]
    for name in (name for name in none if name in scores):
        recall, right = scores[name]["EEG R"], none[name]["N-Rec"] * share
        row = {"EEG recall": recall, "right None": right, "boxes that hit": recall - right}
        row |= {"% of gold boxes": (recall - right) / (1 - share)}
        rows.append({"system": name, **{key: round(value, 1) for key, value in row.items()}})
    return rows


def text_accuracy(scores: Mapping[str, float]) -> dict[str, float]:
    """How often span and type are right, from a row of the paper's T1, if they are independent of the region.

    Type: GMNER F1 / EEG F1, since GMNER asks for the type as well. Span: MNER F1 / type. (Our reading.)

    >>> text_accuracy({"GMNER F1": 50.0, "MNER F1": 75.0, "EEG F1": 50.0})
    {'span': 0.75, 'type': 1.0}
    """
    type_ = scores["GMNER F1"] / scores["EEG F1"]
    return {"span": scores["MNER F1"] / 100 / type_, "type": type_}


def none_rates(n_pre: float, n_rec: float, span: float, *, n_none: int, n_boxed: int) -> Rates:
    """False and missed grounding that give N-Pre and N-Rec (all shares) if spans are right at a rate.

        right None = span · (1 - false) · n_none = N-Rec · n_none
        all None   = (1 - false) · n_none + missed · n_boxed = right None / N-Pre

    A wrong span is predicted None as often as a right one. Rates outside of [0, 1] become 0 or 1: N-Pre above
    the span accuracy is out of reach.

    >>> none_rates(0.75, 0.6, 1.0, n_none=100, n_boxed=100)  # 60 right, 80 said: 20 of 100 boxes missed
    (0.4, 0.2)
    """
    given = n_rec / span
    missed = (n_rec * n_none / n_pre - given * n_none) / max(1, n_boxed)
    return tuple(round(min(1.0, max(0.0, rate)), 6) for rate in (1 - given, missed))


def with_none_rates(
    tweets: Sequence[Example], accuracy: Mapping[str, float], rates: Rates, rng: np.random.Generator
) -> list[yardsticks.Answer]:
    """Gold with spans and types right at a rate (`yardsticks.degrade`), and false and missed grounding: just
    these shares of the entities, drawn at random, get an invented box or lose their box.
    """
    is_shown = np.array([bool(e.is_groundable) for tweet in tweets for e in tweet.entities])
    flipped = set()
    for kind, rate in zip((False, True), rates, strict=True):
        of_kind = rng.permutation(np.flatnonzero(is_shown == kind))
        flipped |= {*of_kind[: round(rate * len(of_kind))].tolist()}

    def decided(k: int, p: PredictedEntity) -> PredictedEntity:
        return replace(p, boxes_xyxy=() if is_shown[k] else (yardsticks.INVENTED_BOX,)) if k in flipped else p

    numbers, degraded = count(), (yardsticks.degrade(tweet, accuracy, rng) for tweet in tweets)
    return [tuple(decided(next(numbers), p) for p in answer) for answer in degraded]


def none_rows(
    examples: Sequence[Example], none: Cells, scores: Cells, *, n_repeats: int, seed: int
) -> list[dict[str, Any]]:
    """GMNER F1, N-Pre and N-Rec in percent of gold whose decisions on None are as good as a system's.

    Each system of the paper's Figure 3 (`none`) and T1 (`scores`) has three rows. With `PERFECT` text, and
    with `PAPER` text (spans and types as wrong as its `text_accuracy`; mean of `n_repeats` draws), decisions
    between None and a box are flipped at random until N-Pre and N-Rec are the system's (`none_rates`), and
    every other box is gold. The third, `REPORTED`, is its own row.
    """
    tweets = [example for example in examples if example.entities]
    entities = [entity for example in tweets for entity in example.entities]
    n_boxed = sum(bool(e.is_groundable) for e in entities)
    counts = {"n_none": len(entities) - n_boxed, "n_boxed": n_boxed}
    rows, columns = [], ("kind", "f1", "n_pre", "n_rec", "false_grounding", "missed_grounding")
    for number, name in enumerate(name for name in none if name in scores):
        (model, method), values = name.rsplit(" ", 1), []
        n_pre, n_rec = (none[name][key] / 100 for key in ("N-Pre", "N-Rec"))
        for kind, accuracy in ((PERFECT, {}), (PAPER, text_accuracy(scores[name]))):
            rates = none_rates(n_pre, n_rec, accuracy.get("span", 1.0), **counts)
            draws = []
            for repeat in range(n_repeats if accuracy else 1):  # with perfect text every draw has this score
                rng = np.random.default_rng([seed, number, len(accuracy), repeat])
                answers = with_none_rates(tweets, accuracy, rates, rng)
                judged = [metrics.judge(e, answer) for e, answer in zip(tweets, answers, strict=True)]
                ratios = bias.textual_bias(judged)
                reached = (ratios[key].percent or 0.0 for key in ("n_pre", "n_rec"))
                draws.append([_gmner_f1(judged), *reached])
            means = [round(float(mean), 1) for mean in np.mean(draws, axis=0)]
            values.append((kind, *means, *(round(100 * rate, 1) for rate in rates)))
        n_of_none = none[name]["N-Pre"], none[name]["N-Rec"]
        values.append((REPORTED, scores[name]["GMNER F1"], *n_of_none, None, None))
        head = {"model": model, "method": method}
        rows += [head | dict(zip(columns, some, strict=True)) for some in values]
    return rows


def _gmner_f1(judged: Sequence[metrics.Judged]) -> float:
    outcomes = [metrics.outcome(j, "gmner", SCORER) for j in judged]
    return metrics.ratios(metrics.totals(outcomes))["f1"].percent or 0.0
