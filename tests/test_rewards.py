"""The paper's rewards: every value worked out by hand from its equations; and what serves both sets."""

import json
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings

from mcr_lib import rewards as r
from mcr_lib import yardsticks
from mcr_lib.answer import ParsedAnswer, parse_answer, write_answer
from mcr_lib.boxes import BOX_FORMATS, resized_size
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.tables import mistakes
from tests.rewarding import ADA, FAR, HALF, LABELS, NOBODY, ROME, TWEET, A, five, pred, worlds

# R_c (Eq. 13–15)
# ----------------------------------------------------------------------------

R_C = """
        q=0   1    2    3    4    5    6    7
    p=0   1   0    0    0    0    0    0    0
    p=1   0   1   .5    0    0    0    0    0
    p=2   0  .6    1   .5    0    0    0    0
    p=3   0  .2   .6    1   .7   .4   .1    0
    p=4   0   0   .2   .8    1   .7   .4   .1
    p=5   0   0    0   .6   .8    1   .8   .6
    p=6   0   0    0   .4   .6   .9    1   .8
    p=7   0   0    0   .2   .4   .8   .9    1
"""
"""Below the diagonal too many, 1 - (p - q) w_o(q): w_o = .4 for q of 1 and 2, .2 for 3 and 4, .1 for 5 and 6.
Above it too few, 1 - (q - p) w_u(p): w_u = .5 for p of 1 and 2, .3 for 3 and 4, .2 for 5 and 6. Never
below 0: p=4, q=1 would be 1 - 3·.4 = -.2, p=1, q=4 would be 1 - 3·.5 = -.5, p=3, q=7 1 - 4·.3 = -.2."""


@pytest.mark.parametrize("p", range(8))
def test_r_c_is_piecewise_as_in_the_paper(p):
    row = [float(cell) for cell in R_C.strip().split("\n")[1 + p].split()[1:]]
    assert [r.reward_count(p, q) for q in range(8)] == pytest.approx(row)


def test_r_c_of_many_names_falls_to_0_and_stays_there():
    # 1 - (15 - 5)·.1 = 0; 1 - (5 + 5 - 5)·.2 = 0
    assert (r.reward_count(15, 5), r.reward_count(5, 10)) == (0, 0)
    assert r.reward_count(14, 5) == pytest.approx(0.1)
    assert r.reward_count(1000, 10) == r.reward_count(10, 1000) == 0


# F_ij and R_s (Eq. 6, 16–18)
# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "gold", "w"),
    [
        ("New York", "New York", 2),
        ("York", "New York", 1),
        ("the New York Times", "New York City", 2),
        ("a b x c d e", "a b c d e", 3),  # c d e, not the five that stand in both
        ("a b a b c", "a b c", 3),  # the later of two runs
        ("b a", "a b", 1),  # both tokens, never next to each other in this order
        ("new york", "New York", 0),  # case counts
        ("NewYork", "New York", 0),
        ("New  York\n", "New York", 2),  # any white space
        ("Rome", "Paris", 0),
        (" ", "Paris", 0),
    ],
)
def test_w_is_the_longest_run_in_common(said, gold, w):
    assert r.common_run(said.split(), gold.split()) == r.common_run(gold.split(), said.split()) == w


def text(*names):
    """A tweet that is nothing but its entities, all persons who are not shown."""
    tokens, entities = [], []
    for name in names:
        start = len(tokens)
        tokens += name.split()
        entities.append(Entity(name, start, len(tokens), "PER", ()))
    return Example("t", "demo", "train", tuple(tokens), tuple(entities), LABELS)


@pytest.mark.parametrize(
    ("said", "gold", "r_s"),
    [
        (["New York"], ["New York"], 1),
        (["York"], ["New York"], 2 / 3),  # w 1, P 1/1, R 1/2: 2·1·.5 / 1.5
        (["the New York Times"], ["New York City"], 4 / 7),  # w 2, P 2/4, R 2/3: 2·(1/3) / (7/6) = 4/7
        (["a b x c d e"], ["a b c d e"], 6 / 11),  # w 3, P 3/6, R 3/5: 2·.3 / 1.1
        (["Rome"], ["Paris"], 0),  # k = 0
        (["York", "Rome"], ["New York", "Rome"], 5 / 6),  # (2/3 + 1) / 2
        (["Rome"], ["New York", "Rome"], 1),  # k = 1: what is missing does not count
        (["Rome", "Eve", "Eve"], ["Rome"], 1),  # k = 1: nor what is too much
        (["Rome", "Rome"], ["Rome"], 1),  # a duplicate has no gold left
        (["Eve", "York"], ["New York", "Rome"], 2 / 3),  # F = 0 of Eve and Rome is no pair
        # F of "a b" is 1 with "a b" and 4/5 with "a b c"; "a" has 2/3 and 1/2: 1 + 1/2
        (["a b", "a"], ["a b", "a b c"], 1.5 / 2),  # is more than 4/5 + 2/3
        (["a b", "b"], ["a b", "b d"], 5 / 6),  # 1 + 2/3
        # "a" first takes "a a" (2/3) or "a" (1): the sum decides, 1 + 1 over 2/3 + 2/3
        (["a", "a a"], ["a a", "a"], 1),
        (["b c", "a b"], ["a b c", "b c"], 0.9),  # 1 + 4/5, not 4/5 + 1/2; over 2
        ([], ["Rome"], 0),
        (["Rome"], [], 0),
        ([], [], 1),
    ],
)
def test_r_s_is_the_mean_f1_of_the_pairs_of_largest_sum(said, gold, r_s):
    assert r.reward_span(r.match([pred(name) for name in said], text(*gold).entities)) == pytest.approx(r_s)


def test_the_sum_of_f1_decides_and_not_the_best_pair():
    # "x a b" with "a b": w 2 of 3 and 2, F 4/5; with "x a": 4/5; "a b" with "a b" 1, with "x a" 2/4 = 1/2.
    # The best pair alone (1) leaves 4/5: 1.8; the other way 4/5 + 1/2 = 1.3
    matched = r.match([pred("x a b"), pred("a b")], text("a b", "x a").entities)
    assert [(pair.predicted.text, pair.gold.text) for pair in matched.pairs] == [
        ("x a b", "x a"),
        ("a b", "a b"),
    ]
    # "a b c" has 1 with "a b c", 4/5 with "b c"; "a b" has 4/5 with "a b c" and 1/2 with "b c".
    # 1 + 1/2 < 4/5 + 4/5: the perfect pair is given up
    matched = r.match([pred("a b c"), pred("a b")], text("a b c", "b c").entities)
    assert [pair.gold.text for pair in matched.pairs] == ["b c", "a b c"]
    assert r.reward_span(matched) == pytest.approx(0.8)


def test_repeated_names_pair_in_reading_order():
    gold = text("Paris", "Rome", "Paris")
    said = [pred("Paris", type="LOC"), pred("Paris"), pred("Paris", type="ORG"), pred("Rome")]
    pairs = r.match(said, gold.entities).pairs
    assert [(said.index(pair.predicted), pair.gold.start) for pair in pairs] == [(0, 0), (1, 2), (3, 1)]


# R_t, R_u, R_e (Eq. 7–9) and R (Eq. 10)
# ----------------------------------------------------------------------------

IOU_OF_45 = (0, 0, 10, 4.5)
"""Its IoU with A is 45/100."""
MISSED = pred("Ada Byron", FAR)


@pytest.mark.parametrize(
    ("answer", "expected"),  # R_c, R_s, R_t, R_u, R_e
    [
        ([ADA, ROME], (1, 1, 1, 1, 1)),  # perfect; R_u of Rome: neither has a box
        ([ROME, ADA], (1, 1, 1, 1, 1)),
        ([], (0, 0, 0, 0, 0)),  # p = 0 < q; k = 0
        ([ADA], (0.5, 1, 1, 1, 1)),  # 1 - 1·.5; the means see the one pair
        ([ROME], (0.5, 1, 1, 1, 1)),
        ([ADA, pred("Eve", FAR)], (1, 1, 1, 1, 1)),  # p = q, no pair: a filler hides what is missing
        ([ADA, ROME, pred("Eve", FAR)], (0.6, 1, 1, 1, 1)),  # 1 - 1·.4
        ([ADA, ROME, ROME], (0.6, 1, 1, 1, 1)),
        ([ADA, ADA], (1, 1, 1, 1, 1)),  # a duplicate is a filler
        ([ADA, ROME, ADA, ROME, ROME], (0, 1, 1, 1, 1)),  # 1 - 3·.4 < 0
        ([pred("Eve", A), pred("Bob")], (1, 0, 0, 0, 0)),  # k = 0
        ([pred("Eve", A)], (0.5, 0, 0, 0, 0)),
        ([pred("Ada", A), ROME], (1, 5 / 6, 1, 1, 1)),  # F of Ada is 2/3; type and box count all the same
        ([pred("Ada Byron in", A), ROME], (1, 0.9, 1, 1, 1)),  # w 2, P 2/3, R 1: F = 4/5
        ([replace(ADA, type="ORG"), ROME], (1, 1, 0.5, 1, 1)),
        ([replace(ADA, type="ORG")], (0.5, 1, 0, 1, 1)),
        ([pred("Ada Byron"), ROME], (1, 1, 1, 0.5, 0.5)),  # a box wanted and not given
        ([ADA, pred("Rome", A, type="LOC")], (1, 1, 1, 0.5, 0.5)),  # given and not wanted
        ([pred("Ada Byron"), pred("Rome", A, type="LOC")], (1, 1, 1, 0, 0)),
        ([MISSED, ROME], (1, 1, 1, 0.5, 1)),  # IoU 0: (0 + 1) / 2
        ([MISSED], (0.5, 1, 1, 0, 1)),
        # IoU .6: (.6 - .3) / .7 = 3/7
        ([pred("Ada Byron", HALF), ROME], (1, 1, 1, (3 / 7 + 1) / 2, 1)),
        ([pred("Ada Byron", HALF)], (0.5, 1, 1, 3 / 7, 1)),
        ([pred("Ada Byron", IOU_OF_45)], (0.5, 1, 1, 0.15 / 0.7, 1)),
        ([pred("Ada Byron", (0, 0, 10, 3))], (0.5, 1, 1, 0, 1)),  # IoU = σ
        ([pred("Ada Byron", (0, 0, 10, 2))], (0.5, 1, 1, 0, 1)),  # below σ: not negative
        ([pred("Ada", FAR, type="ORG"), pred("Rome", FAR)], (1, 5 / 6, 0, 0, 0.5)),
        ([ROME, pred("Ada"), pred("Byron", A, type="ORG")], (0.6, 5 / 6, 1, 0.5, 0.5)),  # F 2/3 twice
    ],
)  # fmt: skip
def test_each_reward_is_as_worked_out_by_hand(answer, expected):
    assert five(answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sigma", "r_u"), [(0, 0.6), (0.1, 5 / 9), (0.2, 0.5), (0.4, 1 / 3), (0.5, 0.2), (0.6, 0), (0.9, 0)]
)
def test_r_u_of_an_iou_of_06_by_sigma(sigma, r_u):
    # (.6 - σ) / (1 - σ)
    assert five([pred("Ada Byron", HALF)], sigma=sigma)[3] == pytest.approx(r_u)


def test_the_best_of_several_gold_boxes_counts():
    two = replace(TWEET, entities=(replace(TWEET.entities[0], boxes_xyxy_px=(FAR, A)),))
    assert five([ADA], two)[3] == five([pred("Ada Byron", FAR)], two)[3] == 1
    assert five([pred("Ada Byron", HALF)], two)[3] == pytest.approx(3 / 7)


def test_the_sum_of_the_hand_made_answers():
    # .3 (R_c + R_s + R_t + R_u) + .2 R_e
    def total(*answer):
        return r.rewards(ParsedAnswer(answer), TWEET).total()

    assert total(ADA, ROME) == pytest.approx(1.4)
    assert total(ADA) == pytest.approx(1.25)  # .15 + .3 + .3 + .3 + .2
    assert total(ADA, pred("Rome", FAR, type="LOC")) == pytest.approx(1.15)  # .3 + .3 + .3 + .15 + .1
    assert total(ADA, ROME, pred("Eve")) == pytest.approx(1.28)  # .18 + .3 + .3 + .3 + .2
    assert total(pred("Eve"), pred("Bob")) == pytest.approx(0.3)


def test_lambdas_weigh_the_sum():
    result = r.Rewards(1.0, 0.5, 0.25, 0.2, 0.1)
    assert result.total() == pytest.approx(0.3 + 0.15 + 0.075 + 0.06 + 0.02)
    assert result.total((2, 0, 0, 0, 10)) == pytest.approx(3.0)
    assert r.Rewards(None, None, None, 0.5, 1.0).total() == pytest.approx(0.15 + 0.2)


def test_each_set_has_its_own_sigma_and_weights():
    assert r.DEFAULTS == {
        "paper": (0.3, (0.3, 0.3, 0.3, 0.3, 0.2)),
        "strict": (0.5, (1, 1, 1, 1, 1)),
    }
    near = [pred("Ada Byron", (0, 0, 10, 4)), ROME]  # IoU .4
    assert five(near)[3] == pytest.approx((0.1 / 0.7 + 1) / 2)
    assert five(near, kind="strict")[3] == 0
    assert five(near, kind="strict", sigma=0.3)[3] == 0.4


def test_tweets_without_entities():
    assert five([], NOBODY) == (1, 1, 1, 1, 1)
    assert five([pred("Eve")], NOBODY) == five([pred("Eve", A)], NOBODY) == (0, 0, 0, 0, 0)


def test_malformed_answers_score_zero_and_absent_constraints_none():
    parsed = parse_answer("no answer", labels=LABELS)
    for tweet in (TWEET, NOBODY):
        assert r.rewards(parsed, tweet) == r.Rewards(0.0, 0.0, 0.0, 0.0, 0.0)
    text_only = replace(TWEET, constraints=("span", "type"))
    right = ParsedAnswer((PredictedEntity("Ada Byron", "PER"), PredictedEntity("Rome", "ORG")))
    assert r.rewards(right, text_only) == r.Rewards(1.0, 1.0, 0.5, None, None)
    assert r.rewards(parsed, text_only) == r.Rewards(0.0, 0.0, 0.0, None, None)
    grounding = replace(TWEET, constraints=("groundable", "box"))
    assert r.rewards(right, grounding) == r.Rewards(None, None, None, 0.5, 0.5)


# properties
# ----------------------------------------------------------------------------


@given(worlds())
@settings(max_examples=300)
def test_rewards_stay_in_range_and_perfect_is_the_maximum(world):
    gold, answer = world
    assert all(0 <= value <= 1 for value in five(answer, gold))
    assert five(yardsticks.perfect(gold), gold) == (1, 1, 1, 1, 1)


@given(worlds())
@settings(max_examples=300)
def test_mending_type_or_box_of_a_pair_lowers_no_reward(world):
    gold, answer = world
    before = five(answer, gold)
    for pair in r.match(answer, gold.entities).pairs:
        i = next(k for k, one in enumerate(answer) if one is pair.predicted)
        for mended in (
            replace(answer[i], type=pair.gold.type),
            replace(answer[i], boxes_xyxy=pair.gold.boxes_xyxy_px[:1]),
        ):
            after = five([*answer[:i], mended, *answer[i + 1 :]], gold)
            assert all(b >= a - 1e-12 for a, b in zip(before, after, strict=True)), (answer, mended)


@given(worlds())
@settings(max_examples=100)
def test_the_order_of_different_names_is_of_no_matter_to_the_count_and_the_sum_of_f1(world):
    gold, answer = world
    matched = r.match(answer, gold.entities)
    for turned in list(permutations(answer))[:6]:
        other = r.match(turned, gold.entities)
        assert sum(p.f1 for p in other.pairs) == pytest.approx(sum(p.f1 for p in matched.pairs))
        assert five(turned, gold)[0] == five(answer, gold)[0]


def test_a_filler_at_the_right_count_reaches_the_maximum():
    perfect = five(yardsticks.perfect(mistakes.WORLD), mistakes.WORLD)
    assert five([yardsticks.perfect(mistakes.WORLD)[0], pred("Eve")], mistakes.WORLD) == perfect


# what serves both sets
# ----------------------------------------------------------------------------

PERFECT, OTHER = [ADA, ROME], [pred("Ada Byron"), ROME]
STATED = '"Ada Byron" : PER , shown at [0, 0, 10, 9] ; "Rome" : LOC , not shown ;'
"""The box has IoU 0.9 with that of the answer."""


@pytest.mark.parametrize("kind", ["paper", "strict"])
@pytest.mark.parametrize(
    ("think", "answer", "earns_when"),  # of free, present, agreeing
    [
        (STATED, PERFECT, (True, True, True)),
        (STATED.replace("9]", "3]"), PERFECT, (True, True, False)),  # IoU 0.3 is not above σ
        (STATED, OTHER, (True, True, False)),  # says shown, answers without a box
        ("Seen .", PERFECT, (True, True, False)),
        (None, PERFECT, (True, False, False)),
        ("", PERFECT, (True, False, False)),
    ],
)
def test_an_answer_earns_nothing_without_the_reasoning_that_is_asked_of_it(think, answer, earns_when, kind):
    parsed = parse_answer(write_answer(answer, think=think), labels=LABELS)
    for reasoning, earns in zip(("free", "present", "agreeing"), earns_when, strict=True):
        result = r.rewards(parsed, TWEET, kind=kind, reasoning=reasoning)
        assert result == (
            r.rewards(ParsedAnswer(tuple(answer)), TWEET, kind=kind)
            if earns
            else r.Rewards(0.0, 0.0, 0.0, 0.0, 0.0)
        )
        assert (r.worthless(parsed, TWEET, reasoning=reasoning) is None) == earns


def test_sigma_of_the_set_says_which_box_the_reasoning_may_state():
    parsed = parse_answer(write_answer(PERFECT, think=STATED.replace("9]", "4]")), labels=LABELS)  # IoU 0.4
    paper, strict = (
        r.rewards(parsed, TWEET, kind=kind, reasoning="agreeing").count for kind in ("paper", "strict")
    )
    assert (paper, strict) == (1, 0)


def test_what_reasoning_is_asked_reaches_the_functions_that_reward():
    texts = [
        write_answer(PERFECT),
        write_answer(PERFECT, think="Seen ."),
        write_answer(PERFECT, think=STATED),
        "no answer",
    ]
    columns = {
        "gold": [r.gold_column(TWEET)] * 4,
        "model_size": [[100, 100]] * 4,
        "family": ["qwen2.5-vl"] * 4,
    }
    earned = {}
    for reasoning in ("free", "present", "agreeing"):
        values = [
            function(completions=texts, **columns)
            for function in r.grpo_reward_functions(reasoning=reasoning)
        ]
        assert all(value == values[0] for value in values)
        earned[reasoning] = values[0]
    assert earned == {"free": [1, 1, 1, 0], "present": [0, 1, 1, 0], "agreeing": [0, 0, 1, 0]}


BUDGETS = [(family, 28 * 28 * n) for n in (64, 256, 1280) for family in ("qwen2.5-vl", "qwen3-vl")]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_gold_answer_of_every_real_tweet_earns_all_of_both_sets_in_every_space(real, split):
    for k, example in enumerate(real(split)):
        for name, max_pixels in (BUDGETS[k % len(BUDGETS)], BUDGETS[(k + 3) % len(BUDGETS)]):
            family = BOX_FORMATS[name]
            size = example.image_size_px and resized_size(
                example.image_size_px, unit=family.unit, min_pixels=4 * 28 * 28, max_pixels=max_pixels
            )
            gold = r.written_gold(example, family.space, model_size=size)
            parsed = parse_answer(write_answer(yardsticks.perfect(gold)), labels=LABELS)
            for kind in ("paper", "strict"):
                assert r.rewards(parsed, gold, kind=kind) == r.Rewards(1.0, 1.0, 1.0, 1.0, 1.0), example.id


def test_gold_with_a_box_and_no_image_size_is_refused():
    with pytest.raises(ValueError, match="without an image size"):
        r.written_gold(
            Example("1", "d", "train", ("Ada",), (Entity("Ada", 0, 1, "PER", (A,)),), LABELS), "norm1000"
        )


def test_trl_gets_five_named_functions_over_columns():
    size = [112, 84]
    gold = r.written_gold(TWEET, "model_px", model_size=tuple(size))
    good = [{"role": "assistant", "content": write_answer(yardsticks.perfect(gold))}]
    functions = r.grpo_reward_functions()
    assert [f.__name__ for f in functions] == [
        "reward_count",
        "reward_span",
        "reward_type",
        "reward_grounding",
        "reward_entailment",
    ]
    text_only = Example(
        "3", "d", "train", ("Rome",), (Entity("Rome", 0, 1, "LOC"),), LABELS, constraints=("span", "type")
    )
    columns = {
        "gold": [r.gold_column(TWEET)] * 3 + [r.gold_column(text_only)],
        "model_size": [size, size, size, None],
        "family": ["qwen2.5-vl"] * 4,
        "prompts": ["", "", "", ""],
        "trainer_state": None,
    }
    left_out = write_answer(yardsticks.perfect(gold)[:1])
    completions = [good, left_out, "broken", '<answer>[{"entity": "Rome", "type": "LOC"}]</answer>']
    by_kind = {
        kind: [f(completions=completions, **columns) for f in r.grpo_reward_functions(kind=kind)]
        for kind in ("paper", "strict")
    }
    assert by_kind["paper"] == [
        [1, 0.5, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, None], [1, 1, 0, None]
    ]  # fmt: skip
    # one of two: touch 1/2, F1 2·1/3, type 1/2, the one box, groundability 1/2
    assert by_kind["strict"] == [
        [1, 0.5, 0, 1], [1, pytest.approx(2 / 3), 0, 1], [1, 0.5, 0, 1], [1, 1, 0, None], [1, 0.5, 0, None]
    ]  # fmt: skip
    assert json.loads(columns["gold"][0])["images"] == []


GOLD = r.gold_column(TWEET)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"gold": None}, "column 'gold': it is missing; expected texts of gold_column"),
        ({"gold": [json.loads(GOLD)]}, "column 'gold': .*; expected texts"),
        ({"gold": ["{}"]}, "'gold' and 'model_size': not a row of an example"),
        ({"gold": ["no json"]}, "'gold' and 'model_size': Expecting value"),
        ({"gold": [GOLD, GOLD]}, "column 'gold': 2 values for 1 completions"),
        ({"model_size": [[112]]}, "column 'model_size': .*; expected \\[width, height\\] or None"),
        ({"model_size": ["112 x 84"]}, "column 'model_size'"),
        ({"model_size": [None]}, "'gold' and 'model_size': "),
        ({"family": [["qwen2.5-vl"]]}, "column 'family'"),
        ({"family": ["qwen9"]}, "unknown model family 'qwen9'"),
        ({"completions": [7]}, "column 'completions'"),
        ({"completions": [[7]]}, "column 'completions'"),
    ],
)
def test_a_column_of_another_kind_is_named(columns, message):
    good = {"completions": ["x"], "gold": [GOLD], "model_size": [[112, 84]], "family": ["qwen2.5-vl"]}
    for function in r.grpo_reward_functions():
        assert function(**good) == [0]
        with pytest.raises(UserError, match=message):
            function(**{**good, **columns})


@pytest.mark.parametrize("nothing", [None, [], [{"role": "assistant", "content": None}],
    [{"role": "assistant", "content": [{"type": "text", "text": None}]}]])  # fmt: skip
def test_a_completion_that_says_nothing_earns_nothing(nothing):
    columns = {"gold": [GOLD], "model_size": [[112, 84]], "family": ["qwen2.5-vl"]}
    assert [f(completions=[nothing], **columns) for f in r.grpo_reward_functions()] == [[0]] * 5
