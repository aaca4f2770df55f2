"""Bias: hand-made cases with the arithmetic beside them, and the blind rules on real annotation."""

from dataclasses import replace

import pytest

from mcr_lib import bias, yardsticks
from mcr_lib.metrics import judge
from mcr_lib.schema import Entity, Example, ImageOnly, PredictedEntity

LABELS = ("PER", "LOC", "ORG", "OTHER")
A, B, C = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 99, 99)
# two persons (one shown), a place not shown
TWEET = Example(
    "1", "demo", "test", ("Ada", "meets", "Bob", "in", "Rome"),
    (Entity("Ada", 0, 1, "PER", (A,)), Entity("Bob", 2, 3, "PER", ()), Entity("Rome", 4, 5, "LOC", ())),
    LABELS, image_size_px=(100, 100), image_only=(ImageOnly("Eve", "PER", (C,)),),
)  # fmt: skip


def said(text, *boxes, type="PER"):
    return PredictedEntity(text, type, boxes)


def percents(ratios):
    return {name: ratio.percent for name, ratio in ratios.items()}


def test_textual_bias_of_one_wrong_box():
    # "not in the image" is said of Rome only (right); Bob is boxed. N-Pre 1/1, N-Rec 1/2, N-F1 2/3; false grounding 1/2, missed 0/1
    found = percents(bias.textual_bias([judge(TWEET, [said("Ada", A), said("Bob", A), said("Rome", type="LOC")])]))
    assert found == {
        "n_pre": 100.0, "n_rec": 50.0, "n_f1": pytest.approx(66.67, abs=0.01), "false_grounding": 50.0, "missed_grounding": 0.0,
    }  # fmt: skip


def test_an_entity_that_is_not_found_counts_in_recall_alone():
    # nothing is said of Bob and Rome: N-Rec 0/2; the other rates are over found spans and undefined
    found = percents(bias.textual_bias([judge(TWEET, [said("Ada", A)])]))
    assert (found["n_pre"], found["n_rec"], found["false_grounding"], found["missed_grounding"]) == (None, 0.0, None, 0.0)


def test_a_wrong_type_does_not_change_what_is_said_of_the_image():
    right, wrong = (percents(bias.textual_bias([judge(TWEET, [said("Rome", type=t)])])) for t in ("LOC", "ORG"))
    assert right == wrong


def test_the_hard_subset_is_the_two_persons():
    assert [bias.is_hard(TWEET, e) for e in TWEET.entities] == [True, True, False]
    found = bias.textual_bias([judge(TWEET, [said("Ada"), said("Bob"), said("Rome")])], only_hard=True)
    assert (found["n_pre"].percent, int(found["n_rec"].denominator.sum())) == (50.0, 1)


def test_blind_rules_have_a_balanced_accuracy_of_one_half():
    for answer in ([said("Ada"), said("Bob"), said("Rome")], [said("Ada", C), said("Bob", C), said("Rome", C)]):
        found = percents(bias.textual_bias([judge(TWEET, answer)]))
        assert bias.balanced_accuracy(found["false_grounding"], found["missed_grounding"]) == 50.0


def test_names_of_which_no_word_is_in_the_text_are_counted():
    names = ["Eve", "Ada Lovelace", "#ada", "rome.", "Bob Ada", "!!!"]  # invented, altered, in, in, in (not one span), invented
    ratios = bias.visual_bias([judge(TWEET, [said(name) for name in names])])
    assert [int(r.numerator.sum()) for r in ratios.values()] == [2, 1]
    assert ratios["n_rate"].percent == pytest.approx(100 * 2 / 6)


def test_shared_boxes_are_pairs_of_different_names():
    judged = judge(TWEET, [said("Ada", A), said("Bob", A), said("Rome", B)])
    assert bias.box_sharing([judged]) == (1, 0)
    twice = Example("2", "d", "test", ("Ada", "Ada"), (Entity("Ada", 0, 1, "PER", (A,)), Entity("Ada", 1, 2, "PER", (A,))), LABELS)
    assert bias.box_sharing([judge(twice, yardsticks.perfect(twice))]) == (0, 0)


def test_wrong_boxes_are_attributed_to_what_they_show():
    # own box off by half, another entity's box, bait, nothing; and a right box, which is not wrong
    answers = [[said("Ada", (5, 0, 15, 10))], [said("Bob", A)], [said("Bob", C)], [said("Rome", B)], [said("Ada", A)]]
    found = bias.wrong_boxes([judge(TWEET, answer) for answer in answers])
    assert found == {"own entity, inexact": 1, "another entity": 1, "image only": 1, "background": 1}


def test_where_no_bait_is_known_none_is_claimed():
    assert bias.wrong_boxes([judge(replace(TWEET, image_only=None), [said("Bob", C)])]) == {
        "own entity, inexact": 0, "another entity": 0, "background": 1,
    }  # fmt: skip


def test_n_f1_can_be_won_blind_on_the_real_test_split(real):
    n_f1 = {
        name: round(bias.textual_bias([judge(e, yardsticks.YARDSTICKS[name](e)) for e in real("test")])["n_f1"].percent, 2)
        for name in yardsticks.BLIND
    }
    assert n_f1 == {"never a box": 74.11, "whole image iff PER": 75.20, "whole image iff first PER": 76.83}


def test_known_counts_of_the_real_test_split(real):
    groundable = [[e.is_groundable for e in x.entities] for x in real("test")]
    assert sum(not any(g) for g in groundable) == 645
    assert sum(len(set(g)) == 2 for g in groundable) == 449
    assert sum(any(bias.is_hard(x, e) for e in x.entities) for x in real("test")) == 160
