"""Intervals cover, tests keep their level and see what is there, verdicts say what the numbers say."""

import itertools

import numpy as np
import pytest

from mcr_lib.metrics import ratios
from mcr_lib.statistics import PairedTest, Ratio, interval95, paired_test, resamples, summary, verdict


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
    p_values = [paired_test(coin(rng, 150, 0.5), coin(rng, 150, 0.5), n_resamples=200, rng=rng).p_value for _ in range(200)]
    assert np.mean(np.array(p_values) < 0.05) < 0.10
    assert 0.35 < np.mean(p_values) < 0.65


def test_the_paired_test_sees_a_small_difference_on_the_same_tweets():
    a = np.ones(400, dtype=int)
    b = a.copy()
    b[:12] = 0  # always in one direction
    found = paired_test(Ratio(a, a), Ratio(b, a), n_resamples=999, rng=np.random.default_rng(0))
    assert found.difference == pytest.approx(3.0)
    assert found.p_value < 0.005
    assert 0 < found.ci95[0] < 3 < found.ci95[1]


def test_exact_p_value_of_a_case_that_can_be_counted():
    # two tweets that both differ by +1: of the four swaps two (none, both) are as extreme, so p = 1/2
    ones, zeros = np.ones(2, dtype=int), np.zeros(2, dtype=int)
    found = paired_test(Ratio(ones, ones), Ratio(zeros, ones), n_resamples=4000, rng=np.random.default_rng(0))
    assert found.p_value == pytest.approx(0.5, abs=0.03)


def test_the_interval_of_an_f1_is_that_of_a_plain_loop_over_resampled_tweets():
    rng = np.random.default_rng(3)
    tp, fp, fn = rng.integers(0, 3, (3, 60))
    drawn = []
    for _ in range(4000):
        some = [rng.integers(60) for _ in range(60)]
        drawn.append(100 * 2 * sum(tp[some]) / (2 * sum(tp[some]) + sum(fp[some]) + sum(fn[some])))
    low, high = interval95(ratios(np.stack([tp, fp, fn], axis=1))["f1"], resamples(60, 4000, np.random.default_rng(4)))
    assert (low, high) == (pytest.approx(sorted(drawn)[99], abs=0.7), pytest.approx(sorted(drawn)[3899], abs=0.7))


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
        pairs = [(b, a) if is_swapped else (a, b) for a, b, is_swapped in zip(first, second, swaps, strict=True)]
        n_as_large += abs(f1([a for a, _ in pairs]) - f1([b for _, b in pairs])) >= abs(observed) - 1e-9
    found = paired_test(ratios(first)["f1"], ratios(second)["f1"], n_resamples=8000, rng=rng)
    assert found.difference == pytest.approx(observed)
    assert found.p_value == pytest.approx(n_as_large / 1024, abs=0.015)
    assert 0.005 < found.p_value < 0.2  # a case in which the test has something to weigh


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
    ("test", "said"),
    [
        (PairedTest(-2.0, (-3.0, -1.0), 0.01, 10), "a is worse than b by 2.00 points of F1"),
        (PairedTest(2.0, (-0.1, 4.0), 0.01, 10), "cannot be told apart"),  # the interval holds zero
        (PairedTest(2.0, (0.1, 4.0), 0.06, 10), "cannot be told apart"),
        (PairedTest(2.0, (0.1, 4.0), 0.0002, 10), "p < 0.001"),
    ],
)
def test_a_verdict_needs_both_the_interval_and_the_test(test, said):
    assert said in verdict(test, first="a", second="b")
