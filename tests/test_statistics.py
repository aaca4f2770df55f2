"""Intervals cover, tests keep their level and see what is there, verdicts say what the numbers say."""

import itertools

import numpy as np
import pytest

from mcr_lib.metrics import ratios
from mcr_lib.statistics import (
    PairedTest,
    Ratio,
    interval95,
    interval95_of_sum,
    paired_test,
    resamples,
    summary,
    verdict,
)
from mcr_lib.study.compare.evidence import OverSeeds, over_seeds, verdict_over_seeds


def coin(rng, n, p):
    return Ratio(rng.binomial(1, p, n), np.ones(n, dtype=int))


def test_the_interval_of_a_share_is_close_to_the_binomial_one():
    # standard error of a share of 0.3 over 1,000: sqrt(0.3 * 0.7 / 1000) = 1.449 points; 1.96 of them = 2.84
    ratio = Ratio(np.r_[np.ones(300, dtype=int), np.zeros(700, dtype=int)], np.ones(1000, dtype=int))
    low, high = interval95(ratio, resamples(1000, 4000, np.random.default_rng(0)))
    assert (30 - low, high - 30) == (pytest.approx(2.84, abs=0.25), pytest.approx(2.84, abs=0.25))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = interval95(coin(rng, 200, 0.5), resamples(200, 300, rng))
        hits += low <= 50 <= high
    assert 180 <= hits <= 199  # 95 % of 200 = 190, give or take three standard errors


def test_the_paired_test_rarely_fires_when_nothing_is_there():
    rng = np.random.default_rng(2)
    p_values = [
        paired_test(coin(rng, 150, 0.5), coin(rng, 150, 0.5), n_resamples=200, rng=rng).p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(p_values) < 0.05) < 0.10
    assert 0.35 < np.mean(p_values) < 0.65


def test_the_paired_test_sees_a_small_difference_on_the_same_tweets():
    a = np.ones(400, dtype=int)
    b = a.copy()
    b[:12] = 0  # always in one direction
    result = paired_test(Ratio(a, a), Ratio(b, a), n_resamples=999, rng=np.random.default_rng(0))
    assert result.difference == pytest.approx(3.0)
    assert result.p_value < 0.005
    assert 0 < result.ci95[0] < 3 < result.ci95[1]


def test_exact_p_value_of_a_case_that_can_be_counted():
    # two tweets that both differ by +1: of the four swaps two (none, both) are as extreme, so p = 1/2
    ones, zeros = np.ones(2, dtype=int), np.zeros(2, dtype=int)
    result = paired_test(
        Ratio(ones, ones), Ratio(zeros, ones), n_resamples=4000, rng=np.random.default_rng(0)
    )
    assert result.p_value == pytest.approx(0.5, abs=0.03)


def test_the_interval_of_an_f1_is_that_of_a_plain_loop_over_resampled_tweets():
    rng = np.random.default_rng(3)
    tp, fp, fn = rng.integers(0, 3, (3, 60))
    drawn = []
    for _ in range(4000):
        some = [rng.integers(60) for _ in range(60)]
        drawn.append(100 * 2 * sum(tp[some]) / (2 * sum(tp[some]) + sum(fp[some]) + sum(fn[some])))
    low, high = interval95(
        ratios(np.stack([tp, fp, fn], axis=1))["f1"], resamples(60, 4000, np.random.default_rng(4))
    )
    assert (low, high) == (
        pytest.approx(sorted(drawn)[99], abs=0.7),
        pytest.approx(sorted(drawn)[3899], abs=0.7),
    )


def test_the_interval_of_a_sum_of_rates_draws_the_same_tweets_for_all_of_them():
    # two rates that rise and fall together: their half sum spreads as each of them, their difference not at
    # all
    rng = np.random.default_rng(10)
    rate, weights = coin(rng, 80, 0.3), resamples(80, 500, rng)
    low, high = interval95(rate, weights)
    assert interval95_of_sum([(0.5, rate), (0.5, rate)], weights) == pytest.approx((low, high))
    assert interval95_of_sum([(-1, rate)], weights) == pytest.approx((-high, -low))
    assert interval95_of_sum([(1, rate), (-1, rate)], weights) == (0.0, 0.0)
    nothing = Ratio(np.zeros(80, dtype=int), np.zeros(80, dtype=int))
    assert interval95_of_sum([(1, rate), (1, nothing)], weights) is None


def test_the_p_value_of_an_f1_is_that_of_all_swaps_counted_out():
    # ten tweets: all 1,024 ways to swap the two answers, F1 = 2 tp / (tp + fp + tp + fn) of the pooled counts
    rng = np.random.default_rng(7)
    first, second = rng.integers(0, 4, (2, 10, 3)) + np.array([[[2, 0, 0]], [[0, 0, 0]]])

    def f1(rows):
        tp, fp, fn = np.sum(rows, axis=0)
        return 200 * tp / (2 * tp + fp + fn)

    observed = f1(first) - f1(second)
    n_as_large = 0
    for swaps in itertools.product((False, True), repeat=10):
        pairs = [
            (b, a) if is_swapped else (a, b) for a, b, is_swapped in zip(first, second, swaps, strict=True)
        ]
        n_as_large += abs(f1([a for a, _ in pairs]) - f1([b for _, b in pairs])) >= abs(observed) - 1e-9
    result = paired_test(ratios(first)["f1"], ratios(second)["f1"], n_resamples=8000, rng=rng)
    assert result.difference == pytest.approx(observed)
    assert result.p_value == pytest.approx(n_as_large / 1024, abs=0.015)
    assert 0.005 < result.p_value < 0.2  # a case in which the test has something to weigh


def test_files_of_different_length_cannot_be_compared():
    a, b = (Ratio(np.ones(n, dtype=int), np.ones(n, dtype=int)) for n in (2, 3))
    with pytest.raises(ValueError, match="same tweets; got 2 and 3"):
        paired_test(a, b, n_resamples=10, rng=np.random.default_rng(0))


def test_the_same_seed_gives_the_same_numbers():
    def numbers():
        rng = np.random.default_rng(5)
        return paired_test(coin(rng, 50, 0.4), coin(rng, 50, 0.6), n_resamples=100, rng=rng)

    assert numbers() == numbers()


def test_a_ratio_without_denominator_is_undefined_and_summed_up_as_zero():
    empty = Ratio(np.zeros(3, dtype=int), np.zeros(3, dtype=int))
    weights = resamples(3, 10, np.random.default_rng(0))
    assert empty.percent is None
    assert interval95(empty, weights) is None
    assert summary({"p": empty}, weights) == {"p": 0.0, "ci95": {"p": None}}


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (PairedTest(-2.0, (-3.0, -1.0), 0.01, 10), "a is worse than b by 2.00 points of F1"),
        (PairedTest(2.0, (-0.1, 4.0), 0.01, 10), "cannot be told apart"),  # the interval holds zero
        (PairedTest(2.0, (0.1, 4.0), 0.06, 10), "cannot be told apart"),
        (PairedTest(2.0, (0.1, 4.0), 0.0002, 10), "p < 0.001"),
    ],
)
def test_a_verdict_needs_both_the_interval_and_the_test(test, expected):
    assert expected in verdict(test, first="a", second="b")


def counts(rng, shape):
    denominator = rng.integers(0, 3, shape)
    return rng.binomial(denominator, 0.6), denominator


def test_the_interval_over_seeds_is_that_of_a_plain_loop_over_drawn_seeds_and_tweets():
    # three seeds, the third about other tweets than the first two; a difference of two settings
    rng, n = np.random.default_rng(6), 40
    a, b = (counts(rng, (3, n)) for _ in range(2))
    here = np.arange(n) < 25
    for numerator, denominator in (a, b):
        for seed, kept in enumerate((here, here, ~here)):
            numerator[seed, ~kept] = denominator[seed, ~kept] = 0
    seeds = [[(sign, Ratio(num[s], den[s])) for sign, (num, den) in ((1, a), (-1, b))] for s in range(3)]
    result = over_seeds(seeds, resamples(n, 4000, np.random.default_rng(1)), np.random.default_rng(2))
    drawn = []
    for _ in range(2000):
        tweets, differences = rng.integers(n, size=n), []
        for s in rng.integers(3, size=3):
            share = [num[s][tweets].sum() / den[s][tweets].sum() for num, den in (a, b)]
            differences.append(100 * (share[0] - share[1]))
        drawn.append(sum(differences) / 3)
    assert result.per_seed == pytest.approx(
        [100 * (a[0][s].sum() / a[1][s].sum() - b[0][s].sum() / b[1][s].sum()) for s in range(3)]
    )
    assert result.mean == pytest.approx(sum(result.per_seed) / 3)
    low, high = sorted(drawn)[49], sorted(drawn)[1949]
    assert result.ci95 == pytest.approx((low, high), abs=0.06 * (high - low))


def coverage(between_seeds, noise, rng, n=300, n_simulations=200):
    """How often the interval of three seeds holds an effect of 3 points; per tweet a chance that all seeds
    share.
    """
    weights, hits = resamples(n, 250, rng).astype(float), 0
    for _ in range(n_simulations):
        ones, chance = np.ones(n), 0.9 * rng.beta(8, 2, n) if noise else 0.5
        effects = rng.normal(3, between_seeds, 3) / 100
        pairs = [
            (rng.random(n) < chance + effect, rng.random(n) < chance) if noise else (ones * effect, 0 * ones)
            for effect in effects
        ]
        low, high = over_seeds(
            [[(1, Ratio(a, ones)), (-1, Ratio(b, ones))] for a, b in pairs], weights, rng
        ).ci95
        hits += low <= 3 <= high
    return hits / n_simulations


def test_intervals_over_three_seeds_cover_a_known_effect_as_told():
    rng = np.random.default_rng(8)
    assert coverage(0.0, True, rng) >= 0.95
    # chance in the seeds alone: of the 27 draws one is thrice the smallest, more than 2.5 %, so the interval
    # goes from the smallest to the
    # largest, and misses when all three lie on one side: 2 / 8; 75 % give or take three standard errors of
    # 200 simulations
    assert 0.66 <= coverage(4.0, False, rng) <= 0.84


def test_one_seed_has_the_interval_over_its_tweets_and_shows_nothing():
    rng = np.random.default_rng(9)
    ratio, weights = coin(rng, 300, 0.7), resamples(300, 500, rng)
    result = over_seeds([[(1, ratio)]], weights, rng)
    assert result.ci95 == pytest.approx(interval95(ratio, weights))
    assert verdict_over_seeds(result) == "too few seeds"


@pytest.mark.parametrize(
    ("per_seed", "ci95", "sign", "expected"),
    [
        ((1.0, 2.0, 3.0), (0.2, 3.5), 1, "shown"),
        ((1.0, 2.0, 3.0), (0.2, 3.5), -1, "the opposite is shown"),
        ((-1.0, -2.0, -3.0), (-3.5, -0.2), -1, "shown"),
        ((-0.1, 2.0, 5.0), (0.2, 5.5), 1, "not shown"),  # one seed has the other sign
        ((0.0, 2.0, 5.0), (0.2, 5.5), 1, "not shown"),  # or none
        ((1.0, 2.0, 3.0), (0.0, 3.5), 1, "not shown"),  # the interval holds 0
        ((1.0, 2.0, 3.0), None, 1, "not shown"),
        ((0.0, 0.0, 0.0), (0.0, 0.0), 1, "not shown"),
        ((1.0, 2.0), (0.2, 3.5), 1, "too few seeds"),
    ],
)
def test_an_effect_counts_as_shown_when_every_seed_has_its_sign_and_the_interval_excludes_zero(
    per_seed, ci95, sign, expected
):
    assert verdict_over_seeds(OverSeeds(per_seed, ci95), sign=sign) == expected


def test_numbers_over_seeds_that_are_undefined_are_refused():
    empty = Ratio(np.zeros(3, dtype=int), np.zeros(3, dtype=int))
    weights = resamples(3, 10, np.random.default_rng(0))
    for seeds in ([], [[(1, empty)]]):
        with pytest.raises(ValueError, match="at least one seed, and ratios that are defined"):
            over_seeds(seeds, weights, np.random.default_rng(0))
