"""Intervals and tests for numbers that are ratios of sums over tweets, which all our numbers are (P, R, F1
and every rate of bias).

The tweet is the unit that is resampled (paper silent; ours): its entities share a text, an image and an
answer. Randomness comes in as a generator, so that a result can be computed again to the last digit.
"""

from collections.abc import Mapping, Sequence
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
    """How often each tweet is drawn in each bootstrap resample: int array of shape (n_resamples, n), rows sum
    to n.

    Example:
        >>> resamples(4, 2, np.random.default_rng(0)).sum(axis=1).tolist()
        [4, 4]
    """
    return (
        rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
        if n
        else np.zeros((n_resamples, 0), dtype=np.int64)
    )


def interval95(ratio: Ratio, weights: np.ndarray) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of a ratio in percent; `None` where no resample has a
    denominator.

    Args:
        weights: shape (n_resamples, n_tweets), from `resamples`; one draw serves all ratios of a report.
    """
    return interval95_of_sum([(1, ratio)], weights)


def interval95_of_sum(terms: "Terms", weights: np.ndarray) -> tuple[float, float] | None:
    """The same of a sum of ratios, each with its factor.

    Example:
        >>> half = Ratio(np.array([1, 0]), np.array([1, 1]))
        >>> interval95_of_sum([(1, half), (-1, half)], resamples(2, 100, np.random.default_rng(0)))
        (0.0, 0.0)
    """
    values = _drawn(terms, weights)
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
        p_value: two-sided, from random swaps of the two answers tweet by tweet; at least 1 / (n_resamples +
            1).
        n: number of tweets.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float
    n: int


def paired_test(first: Ratio, second: Ratio, *, n_resamples: int, rng: np.random.Generator) -> PairedTest:
    """Approximate randomization test (Noreen 1989) of first - second, with a paired bootstrap interval.

    Under the null hypothesis it does not matter which of the two gave which answer to a tweet, so the two are
    swapped at random and the observed difference is held against those of the swaps.

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
        raise ValueError(
            f"a paired test needs two answers to the same tweets; got {n} and {len(second.numerator)}"
        )
    observed = (first.percent or 0.0) - (second.percent or 0.0)
    swapped = rng.integers(0, 2, size=(n_resamples, n))
    gained_num, gained_den = (
        swapped @ (second.numerator - first.numerator),
        swapped @ (second.denominator - first.denominator),
    )
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


Terms = Sequence[tuple[float, Ratio]]
"""A sum of ratios over the same tweets, each with its factor. What is measured of a setting with one seed:
one ratio; of two settings compared, or of one with and without the image: a second one with -1.
"""


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A number from several seeds.

    Args:
        per_seed: the number with each seed, in percent or percentage points.
        ci95: bootstrap interval of their mean; `None` where it is undefined.
    """

    per_seed: tuple[float, ...]
    ci95: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.per_seed))

    @property
    def n_agreeing(self) -> int:
        """Seeds whose number has the sign of the mean.

        Example:
            >>> OverSeeds((1.0, 2.0, -0.5), (-0.4, 2.1)).n_agreeing
            2
        """
        return int(np.sum(np.sign(self.per_seed) == np.sign(self.mean))) if self.mean else 0


def over_seeds(seeds: Sequence[Terms], weights: np.ndarray, rng: np.random.Generator) -> OverSeeds:
    """The mean over seeds with a 95 % interval from resampling both seeds and tweets (the pigeonhole
    bootstrap, Owen 2007).

    In each resample seeds are drawn with replacement, and tweets once for all seeds: a tweet that several
    seeds answered is as easy or as hard to all of them. Seeds that answered different tweets have zeros where
    the others' stand. What is compared shares seeds and tweets. How often the interval of three seeds covers
    the truth: 99 % where chance lies in the tweets, and 75 % where it lies in the seeds alone, for then it
    goes from the smallest of them to the largest (both tested).

    Args:
        seeds: per seed its terms; every ratio about the same tweets in the same order, defined on the tweets
            as they are.
        weights: shape (n_resamples, n_tweets), from `resamples`.
        rng: draws the seeds.

    Raises:
        ValueError: no seeds, or a ratio whose denominator is 0.

    Example:
        >>> same = Ratio(np.array([1, 0]), np.array([1, 1]))
        >>> weights = resamples(2, 100, np.random.default_rng(0))
        >>> over_seeds([[(1, same), (-1, same)]] * 3, weights, np.random.default_rng(0))
        OverSeeds(per_seed=(0.0, 0.0, 0.0), ci95=(0.0, 0.0))
    """
    observed = [[ratio.percent for _, ratio in terms] for terms in seeds]
    if not seeds or any(value is None for values in observed for value in values):
        raise ValueError("numbers over seeds need at least one seed, and ratios that are defined")
    per_seed = tuple(
        sum(sign * value for (sign, _), value in zip(t, o, strict=True))
        for t, o in zip(seeds, observed, strict=True)
    )
    drawn = np.stack([_drawn(terms, weights) for terms in seeds], axis=1)
    means = (resamples(len(seeds), len(weights), rng) * drawn).sum(axis=1) / len(seeds)
    means = means[np.isfinite(means)]
    return OverSeeds(
        per_seed, tuple(float(end) for end in np.percentile(means, [2.5, 97.5])) if len(means) else None
    )


MIN_SEEDS = 3
"""Fewer seeds show nothing (ours)."""


def verdict_over_seeds(found: OverSeeds, *, sign: int = 1) -> str:
    """Whether an effect counts as shown: every seed has its sign and the interval excludes 0.

    Without an effect, and with all chance in the seeds, three of them agree in a given sign one time in 8,
    five one time in 32.

    Args:
        sign: of the effect that is asked about: 1 = the first is larger, -1 = smaller.

    Returns:
        "shown", "the opposite is shown", "not shown", or "too few seeds".

    Example:
        >>> [verdict_over_seeds(OverSeeds((1.0, 2.0, 3.0), ci)) for ci in ((0.5, 3.0), (-0.1, 3.0))]
        ['shown', 'not shown']
        >>> verdict_over_seeds(OverSeeds((-1.0, -2.0, -3.0), (-3.5, -0.5))), verdict_over_seeds(OverSeeds((2.0,), (1.0, 3.0)))
        ('the opposite is shown', 'too few seeds')
    """
    if len(found.per_seed) < MIN_SEEDS:
        return "too few seeds"
    is_clear = found.ci95 is not None and (found.ci95[0] > 0 or found.ci95[1] < 0)
    if not is_clear or found.n_agreeing < len(found.per_seed):
        return "not shown"
    return "shown" if np.sign(found.mean) == sign else "the opposite is shown"


def summary(ratios: Mapping[str, Ratio], weights: np.ndarray | None) -> dict[str, object]:
    """Every ratio in percent (0.0 where undefined) and, with `weights`, their 95 % intervals under `ci95`,
    rounded to two decimals.
    """
    values: dict[str, object] = {name: round(ratio.percent or 0.0, 2) for name, ratio in ratios.items()}
    if weights is not None:
        intervals = {name: interval95(ratio, weights) for name, ratio in ratios.items()}
        values["ci95"] = {
            name: None if ci is None else [round(ci[0], 2), round(ci[1], 2)] for name, ci in intervals.items()
        }
    return values


def _drawn(terms: Terms, weights: np.ndarray) -> np.ndarray:
    """A sum of ratios in percent in each resample; NaN where one of them has no denominator."""
    return sum(
        factor * _percents(weights @ ratio.numerator, weights @ ratio.denominator) for factor, ratio in terms
    )


def _percents(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * numerators / np.where(denominators == 0, np.nan, denominators)
