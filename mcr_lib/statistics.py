"""Intervals and tests for numbers that are ratios of sums over tweets, which all our numbers are (P, R, F1 and every rate of bias).

The tweet is the unit that is resampled (paper silent; ours): its entities share a text, an image and an answer. Randomness comes in as a
generator, so that a result can be computed again to the last digit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MAX_RESAMPLES = 10_000
"""More change no reported digit and cost memory: one resample of 7,000 tweets takes 56 kB."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Sum of numerators over sum of denominators.

    Args:
        numerator: shape (n_tweets,).
        denominator: shape (n_tweets,), 0 or more.
    """

    numerator: np.ndarray
    denominator: np.ndarray

    @property
    def percent(self) -> float | None:
        """The ratio in percent; `None` where the denominator is 0.

        Example:
            >>> Ratio(np.array([1, 0]), np.array([1, 3])).percent
            25.0
        """
        total = self.denominator.sum()
        return float(100 * self.numerator.sum() / total) if total else None


def resamples(n: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each tweet is drawn in each bootstrap resample: int array of shape (n_resamples, n), rows sum to n.

    Example:
        >>> resamples(4, 2, np.random.default_rng(0)).sum(axis=1).tolist()
        [4, 4]
    """
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) if n else np.zeros((n_resamples, 0), dtype=np.int64)


def interval95(ratio: Ratio, weights: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of a ratio in percent; `None` where no resample has a denominator.

    Args:
        weights: shape (n_resamples, n_tweets), from `resamples`; one draw serves all ratios of a report.
    """
    values = _percents(weights @ ratio.numerator, weights @ ratio.denominator)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The difference of two answers to the same tweets.

    Args:
        difference: first minus second, in percentage points.
        ci95: bootstrap interval of the difference, tweets resampled in pairs.
        p_value: two-sided, from random swaps of the two answers tweet by tweet; at least 1 / (n_resamples + 1).
        n: number of tweets.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float
    n: int


def paired_test(first: Ratio, second: Ratio, *, n_resamples: int, rng: np.random.Generator) -> PairedTest:
    """Approximate randomization test (Noreen 1989) of first - second, with a paired bootstrap interval.

    Under the null hypothesis it does not matter which of the two gave which answer to a tweet, so the two are swapped at random and the
    observed difference is held against those of the swaps.

    Raises:
        ValueError: the two are not about the same number of tweets, or there are none.

    Example:
        >>> same = Ratio(np.array([1, 0, 1]), np.array([1, 1, 1]))
        >>> test = paired_test(same, same, n_resamples=99, rng=np.random.default_rng(0))
        >>> test.difference, test.p_value
        (0.0, 1.0)
    """
    n = len(first.numerator)
    if n != len(second.numerator) or not n:
        raise ValueError(f"a paired test needs two answers to the same tweets; got {n} and {len(second.numerator)}")
    observed = (first.percent or 0.0) - (second.percent or 0.0)
    swapped = rng.integers(0, 2, size=(n_resamples, n))
    gained_num, gained_den = swapped @ (second.numerator - first.numerator), swapped @ (second.denominator - first.denominator)
    a = _percents(first.numerator.sum() + gained_num, first.denominator.sum() + gained_den)
    b = _percents(second.numerator.sum() - gained_num, second.denominator.sum() - gained_den)
    differences = np.nan_to_num(a) - np.nan_to_num(b)
    n_as_large = int(np.sum(np.abs(differences) >= abs(observed) - 1e-9))
    weights = resamples(n, n_resamples, rng)
    drawn = np.nan_to_num(_percents(weights @ first.numerator, weights @ first.denominator)) - np.nan_to_num(
        _percents(weights @ second.numerator, weights @ second.denominator)
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return PairedTest(observed, (float(low), float(high)), (n_as_large + 1) / (n_resamples + 1), n)


def verdict(test: PairedTest, *, first: str = "first", second: str = "second", metric: str = "F1") -> str:
    """A paired test in one sentence.

    Example:
        >>> verdict(PairedTest(1.234, (0.5, 2.0), 0.004, 1500), first="a", second="b")
        'a is better than b by 1.23 points of F1 (95 % interval 0.50 to 2.00, p = 0.004, n = 1,500).'
        >>> verdict(PairedTest(0.2, (-0.9, 1.3), 0.71, 1500), first="a", second="b")
        'a and b cannot be told apart in F1: difference 0.20 points (95 % interval -0.90 to 1.30, p = 0.710, n = 1,500).'
        >>> verdict(PairedTest(0.0, (0.0, 0.0), 1.0, 1500), first="a", second="b")
        'a and b are equal in F1 (n = 1,500).'
    """
    p = "p < 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    numbers = f"95 % interval {test.ci95[0]:.2f} to {test.ci95[1]:.2f}, {p}, n = {test.n:,}"
    if test.difference == 0 and test.ci95 == (0.0, 0.0):
        return f"{first} and {second} are equal in {metric} (n = {test.n:,})."
    is_clear = test.p_value < 0.05 and (test.ci95[0] > 0 or test.ci95[1] < 0)
    if not is_clear:
        return f"{first} and {second} cannot be told apart in {metric}: difference {test.difference:.2f} points ({numbers})."
    better = "better" if test.difference > 0 else "worse"
    return f"{first} is {better} than {second} by {abs(test.difference):.2f} points of {metric} ({numbers})."


def summary(ratios: Mapping[str, Ratio], weights: np.ndarray | None) -> dict[str, object]:
    """Every ratio in percent (0.0 where undefined) and, with `weights`, their 95 % intervals under `ci95`, rounded to two decimals."""
    values: dict[str, object] = {name: round(ratio.percent or 0.0, 2) for name, ratio in ratios.items()}
    if weights is not None:
        intervals = {name: interval95(ratio, weights) for name, ratio in ratios.items()}
        values["ci95"] = {name: None if ci is None else [round(ci[0], 2), round(ci[1], 2)] for name, ci in intervals.items()}
    return values


def _percents(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * numerators / np.where(denominators == 0, np.nan, denominators)
