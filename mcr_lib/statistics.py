"""Intervals and tests for ratios of sums over tweets, which all our numbers are (P, R, F1, every bias rate).

The tweet is the unit of resampling (paper silent; ours): its entities share a text, an image and an answer.
Randomness comes in as a generator, so that every result is reproducible to the last digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MAX_RESAMPLES = 10_000  # more change no reported digit, and one resample of 7,000 tweets takes 56 kB


@dataclass(frozen=True, slots=True)
class Ratio:
    """Sum of numerators over sum of denominators (0 or more), both of shape (n_tweets,)."""

    numerator: np.ndarray
    denominator: np.ndarray

    @property
    def percent(self) -> float | None:
        """The ratio in percent; `None` if the denominator is 0."""
        total = self.denominator.sum()
        return float(100 * self.numerator.sum() / total) if total else None


# A sum of ratios over the same tweets, each with its factor: one ratio for a measurement, a second one with
# factor -1 for a difference (of two settings, or with and without the image).
Terms = Sequence[tuple[float, Ratio]]


def resamples(n: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each tweet is drawn in each bootstrap resample: int array of shape (n_resamples, n)."""
    if not n:
        return np.zeros((n_resamples, 0), dtype=np.int64)
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)


def interval95(ratio: Ratio, weights: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of a ratio in percent; `None` if no resample has a denominator.

    One draw of weights (`resamples`) serves all ratios of a report.
    """
    return interval95_of_sum([(1, ratio)], weights)


def interval95_of_sum(terms: Terms, weights: np.ndarray) -> tuple[float, float] | None:
    """`interval95` of a sum of ratios, each with its factor."""
    return percentiles95(drawn(terms, weights))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The difference of two answers to the same tweets."""

    difference: float  # first minus second, in percentage points
    ci95: tuple[float, float]  # bootstrap interval of the difference, tweets resampled in pairs
    p_value: float  # two-sided, from random swaps of the answers per tweet; at least 1 / (n_resamples + 1)
    n: int  # number of tweets


def paired_test(first: Ratio, second: Ratio, *, n_resamples: int, rng: np.random.Generator) -> PairedTest:
    """Approximate randomization test (Noreen 1989) of first - second, with a paired bootstrap interval.

    Under the null hypothesis it does not matter which of the two gave which answer to a tweet, so the two are
    swapped at random and the observed difference is compared with the differences of the swaps.

    Raises:
        ValueError: different numbers of tweets, or none.
    """
    n = len(first.numerator)
    if n != len(second.numerator) or not n:
        got = f"got {n} and {len(second.numerator)}"
        raise ValueError(f"a paired test needs two answers to the same tweets; {got}")
    observed = (first.percent or 0.0) - (second.percent or 0.0)
    swapped = rng.integers(0, 2, size=(n_resamples, n))
    gained_num = swapped @ (second.numerator - first.numerator)
    gained_den = swapped @ (second.denominator - first.denominator)
    a = _percents(first.numerator.sum() + gained_num, first.denominator.sum() + gained_den)
    b = _percents(second.numerator.sum() - gained_num, second.denominator.sum() - gained_den)
    differences = np.nan_to_num(a) - np.nan_to_num(b)
    n_as_large = int(np.sum(np.abs(differences) >= abs(observed) - 1e-9))
    weights = resamples(n, n_resamples, rng)
    of_both = [np.nan_to_num(drawn([(1, ratio)], weights)) for ratio in (first, second)]
    low, high = np.percentile(of_both[0] - of_both[1], [2.5, 97.5])
    return PairedTest(observed, (float(low), float(high)), (n_as_large + 1) / (n_resamples + 1), n)


def sign(test: PairedTest) -> int:
    """1 if the first is higher, -1 if it is lower (p < 0.05, interval without 0), else 0: not to be told."""
    low, high = test.ci95
    is_told = test.p_value < 0.05 and (low > 0 or high < 0)
    return int(is_told) * (1 if test.difference > 0 else -1)


def verdict(
    test: PairedTest, *, first: str = "first", second: str = "second", metric: str = "F1", better: int = 1
) -> str:
    """A paired test in one sentence; `better`: 1 if more of the metric is better, -1 if less is.

    Example:
        >>> verdict(PairedTest(1.234, (0.5, 2.0), 0.004, 1500), first="a", second="b")
        'a is better than b by 1.23 points of F1 (95 % interval 0.50 to 2.00, p = 0.004, n = 1,500).'
    """
    low, high = test.ci95
    if test.difference == low == high == 0:
        return f"{first} and {second} are equal in {metric} (n = {test.n:,})."
    p = "p < 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    numbers = f"95 % interval {low:.2f} to {high:.2f}, {p}, n = {test.n:,}"
    if side := sign(test):
        word = "better" if side * better > 0 else "worse"
        points = f"{abs(test.difference):.2f} points of {metric}"
        return f"{first} is {word} than {second} by {points} ({numbers})."
    points = f"difference {test.difference:.2f} points"
    return f"{first} and {second} cannot be told apart in {metric}: {points} ({numbers})."


def summary(ratios: Mapping[str, Ratio], weights: np.ndarray | None) -> dict[str, object]:
    """Every ratio in percent (0.0 if undefined) and, with `weights`, their `ci95`; two decimals."""
    values: dict[str, object] = {name: round(ratio.percent or 0.0, 2) for name, ratio in ratios.items()}
    if weights is not None:
        intervals = {name: interval95(ratio, weights) for name, ratio in ratios.items()}
        values["ci95"] = {name: ci and [round(ci[0], 2), round(ci[1], 2)] for name, ci in intervals.items()}
    return values


def drawn(terms: Terms, weights: np.ndarray) -> np.ndarray:
    """A sum of ratios in percent in each resample; NaN if one of them has no denominator."""
    return sum(f * _percents(weights @ ratio.numerator, weights @ ratio.denominator) for f, ratio in terms)


def percentiles95(values: np.ndarray) -> tuple[float, float] | None:
    """The 2.5th and the 97.5th percentile of the defined values; `None` if there is none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _percents(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * numerators / np.where(denominators == 0, np.nan, denominators)
