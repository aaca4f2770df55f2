"""Placing and pairing: the rule by hand, and properties."""

from fractions import Fraction
from itertools import permutations
from math import lcm
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcr_lib.matching import heaviest_matching, largest_matching, pair, place

TOKENS = ("Paris", "or", "Paris", "Texas", "?", "#", "GoDubs", "Paris")


def spans(names, tokens=TOKENS, **kwargs):
    return [p.span for p in place(names, tokens, **kwargs)]


def test_a_name_takes_the_leftmost_free_occurrence():
    assert spans(["Paris"]) == [(0, 1)]


def test_a_name_goes_on_behind_the_one_placed_before_it():
    # "Texas" ends at 4, so the next "Paris" is the one at 7
    assert spans(["Texas", "Paris"]) == [(3, 4), (7, 8)]


def test_a_name_goes_back_where_nothing_is_left_behind():
    # "Paris" at 7 is taken by the second, the third goes back to the leftmost free one
    assert spans(["Texas", "Paris", "Paris"]) == [(3, 4), (7, 8), (0, 1)]


def test_a_longer_name_takes_its_tokens_from_a_shorter_one():
    assert spans(["Paris Texas", "Paris", "Paris", "Texas"]) == [(2, 4), (7, 8), (0, 1), None]


def test_more_repeats_than_occurrences_are_duplicates_of_the_last_placed():
    placed = place(["Texas", "Texas"], TOKENS)
    assert [p.kind for p in placed] == ["placed", "duplicate"]
    assert (placed[1].repeats, placed[1].span) == (0, (3, 4))


def test_a_name_that_is_not_there_is_unplaced():
    assert place(["Rome", "paris", "", "  "], TOKENS)[0].kind == "unplaced"
    assert spans(["Rome", "paris", "", "  "]) == [None] * 4


def test_spaces_inside_a_name_do_not_count_but_tokens_do():
    assert spans(["Paris  Texas"]) == [(2, 4)]
    assert spans(["ParisTexas", "Par"]) == [None, None]


def test_lenient_placing_compares_without_spaces_and_says_so():
    assert spans(["#GoDubs"]) == [None]
    placed = place(["#GoDubs", "# GoDubs"], TOKENS, lenient=True)
    assert (placed[0].span, placed[0].is_lenient) == ((5, 7), True)
    assert placed[1].kind == "duplicate"


tokens = st.lists(st.sampled_from(["a", "b", "ab", "#"]), min_size=1, max_size=12)


@given(tokens, st.data())
def test_perfect_answers_in_reading_order_stand_on_their_own_spans(words, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(words)), min_size=2, max_size=8)) | {0})
    gold = [
        (a, b) for a, b in zip(cuts, cuts[1:], strict=False)
    ]  # spans side by side, all tokens covered: nothing can go astray
    names = [" ".join(words[a:b]) for a, b in gold]
    assert [p.span for p in place(names, words)] == gold


@given(tokens, st.lists(st.sampled_from(["a", "b", "a b", "ab", "# a", "#a"]), max_size=8), st.booleans())
def test_placed_spans_are_disjoint_and_say_their_name(words, names, lenient):
    taken = set()
    for name, placement in zip(names, place(names, words, lenient=lenient), strict=True):
        if placement.kind == "placed":
            tokens_taken = set(range(*placement.span))
            assert not taken & tokens_taken
            taken |= tokens_taken
            said = "".join(words[placement.span[0] : placement.span[1]])
            assert said == name.replace(" ", "")


def test_pairing_prefers_equal_spans_to_touching_ones():
    # the first prediction touches gold 0, but the second equals it
    pairing = pair([(0, 3), (1, 2)], [(1, 2)])
    assert pairing.matches == ((1, 0),)
    assert pairing.touches == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 3)).map(lambda t: (t[0], t[0] + t[1])),
        max_size=5,
        unique=True,
    ),
    st.data(),
)
def test_pairing_is_one_to_one_and_complete(predicted, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, 12), max_size=6)))
    gold = list(zip(cuts, cuts[1:], strict=False))
    pairing = pair(predicted, gold)
    assert {(predicted[i], gold[j]) for i, j in pairing.matches} == {
        (s, s) for s in set(predicted) & set(gold)
    }
    both = pairing.matches + pairing.touches
    assert len({i for i, _ in both}) == len({j for _, j in both}) == len(both)
    free_pred = set(range(len(predicted))) - {i for i, _ in both}
    free_gold = set(range(len(gold))) - {j for _, j in both}
    assert not any(
        predicted[i][0] < gold[j][1] and gold[j][0] < predicted[i][1] for i in free_pred for j in free_gold
    )


@given(st.integers(1, 4), st.integers(1, 4), st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_the_largest_matching_is_as_large_as_any(n_left, n_right, edges):
    result = largest_matching(n_left, n_right, lambda i, j: (i, j) in edges)
    assert len({i for i, _ in result}) == len({j for _, j in result}) == len(result)
    assert set(result) <= edges
    small, large = sorted((n_left, n_right))
    best = max(
        sum(((k, p[k]) if n_left <= n_right else (p[k], k)) in edges for k in range(small))
        for p in permutations(range(large), small)
    )
    assert len(result) == best


# the heaviest matching
# ----------------------------------------------------------------------------


def by_trying_all(weights):
    """Of all one-to-one choices of pairs of positive weight the heaviest, and the first in reading order."""
    n, m = len(weights), len(weights[0]) if weights else 0
    best, best_key = [], None
    for columns in {tuple(c if c < m else m for c in some) for some in permutations(range(m + n), n)}:
        pairs = [(i, j) for i, j in enumerate(columns) if j < m]
        if all(weights[i][j] > 0 for i, j in pairs):
            key = (-sum(weights[i][j] for i, j in pairs), columns)  # an unmatched row counts as column m
            if best_key is None or key < best_key:
                best, best_key = pairs, key
    return best


@st.composite
def matrices(draw, most=4, largest=4):
    n, m = draw(st.integers(0, most)), draw(st.integers(0, most))
    cell = st.sampled_from([0, 0, *range(1, largest + 1)])
    return [[draw(cell) for _ in range(m)] for _ in range(n)]


@given(matrices())
@settings(max_examples=200, deadline=None)
def test_the_heaviest_matching_is_that_found_by_trying_all(weights):
    assert heaviest_matching(weights) == by_trying_all(weights)


@given(matrices(most=9, largest=50))
@settings(max_examples=200)
def test_the_heaviest_matching_weighs_what_scipys_does(weights):
    optimize = pytest.importorskip(
        "scipy.optimize", reason="scipy is no dependency; it is asked if it is there"
    )
    weighed = sum(weights[i][j] for i, j in heaviest_matching(weights))
    if weights and weights[0]:
        i, j = optimize.linear_sum_assignment(weights, maximize=True)
        assert weighed == sum(weights[a][b] for a, b in zip(i, j, strict=True))
    else:
        assert weighed == 0


def test_of_equal_matchings_the_first_in_reading_order_is_taken():
    assert heaviest_matching([[1, 1], [1, 1]]) == [(0, 0), (1, 1)]
    assert heaviest_matching([[1], [1], [1]]) == [(0, 0)]
    assert heaviest_matching([[0, 2, 2]]) == [(0, 1)]
    # row 0 could have column 0 at the price of 1: 1 + 2 < 2 + 2
    assert heaviest_matching([[1, 2], [2, 1]]) == [(0, 1), (1, 0)]
    # 3 + 3 in three ways: row 0 takes what it can
    assert heaviest_matching([[3, 0, 3], [3, 0, 0], [3, 0, 3]]) == [(0, 0), (2, 2)]


def test_what_weighs_nothing_is_not_matched():
    assert heaviest_matching([]) == heaviest_matching([[], []]) == heaviest_matching([[0, 0], [0, 0]]) == []
    assert heaviest_matching([[0, 0], [0, 5]]) == [(1, 1)]


def test_sums_that_differ_by_less_than_a_float_holds_are_told_apart():
    # 1/3 + 2/5 against 11/15 - 1/10^20, in units of 1/(15·10^20)
    unit = lcm(15, 10**20)
    near = int((Fraction(11, 15) - Fraction(1, 10**20)) * unit)
    assert heaviest_matching([[near, unit // 3], [2 * unit // 5, 0]]) == [(0, 1), (1, 0)]


def test_a_thousand_predictions_of_one_name_are_matched_in_a_second():
    began = process_time()
    assert heaviest_matching([[1] * 10] * 1000) == [(k, k) for k in range(10)]
    assert process_time() - began < 1
