"""Degraded answers: perfect at full accuracy, wrong in the one lowered decision and in nothing else."""

import numpy as np
import pytest

from mcr_lib import data, yardsticks
from mcr_lib.boxes import is_hit
from mcr_lib.metrics import judge, outcome, ratios, totals
from mcr_lib.schema import Entity, Example


@pytest.fixture(scope="module")
def examples(sample_dir):
    return [e for split in data.SPLITS for e in data.load_split("twitter-gmner", sample_dir, split=split)]


def degraded(examples, **accuracy):
    rng = np.random.default_rng(0)
    return [judge(e, yardsticks.degrade(e, accuracy, rng)) for e in examples]


def test_full_accuracy_is_the_perfect_answer(examples):
    rng = np.random.default_rng(0)
    assert all(yardsticks.degrade(e, {}, rng) == yardsticks.perfect(e) for e in examples)


def test_no_span_is_right_at_zero_span_accuracy(examples):
    assert not any(j.pairing.matches for j in degraded(examples, span=0))


@pytest.mark.parametrize(
    ("name", "is_right"),
    [
        ("type", lambda p, g: p.type == g.type),
        ("groundable", lambda p, g: bool(p.boxes_xyxy) == g.is_groundable),
        ("box", lambda p, g: not g.boxes_xyxy_px or is_hit(p.box_xyxy, g.boxes_xyxy_px)),
    ],
)
def test_one_decision_is_wrong_everywhere_and_the_others_nowhere(examples, name, is_right):
    matched = [pair for j in degraded(examples, **{name: 0}) for pair in j.matched]
    assert len(matched) == sum(len(e.entities) for e in examples)
    if name == "box":
        assert not any(is_right(p, g) for p, g in matched if g.boxes_xyxy_px)
    else:
        assert not any(is_right(p, g) for p, g in matched)
    assert name == "type" or all(p.type == g.type for p, g in matched)
    assert name == "groundable" or all(bool(p.boxes_xyxy) == g.is_groundable for p, g in matched)


def test_a_wrong_box_misses_the_neighbour_of_the_same_name_too():
    neighbours = ((10, 10, 30, 40), (30, 10, 50, 40))  # the first, moved by its width, is the second
    twins = Example(
        "1",
        "d",
        "test",
        ("Twins",),
        (Entity("Twins", 0, 1, "PER", neighbours),),
        ("PER",),
        image_size_px=(99, 99),
    )
    assert [is_hit(p.box_xyxy, neighbours) for p, _ in degraded([twins], box=0)[0].matched] == [False]


def test_on_real_annotation_no_right_box_is_worth_as_much_as_no_box(real):
    counts = totals([outcome(j, "gmner") for j in degraded(real("test"), box=0)])
    assert round(ratios(counts)["f1"].percent, 2) == 58.87


def test_half_accuracy_is_right_half_of_the_time(examples):
    matched = [pair for j in degraded(examples * 100, type=0.5) for pair in j.matched]
    assert np.mean([p.type == g.type for p, g in matched]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("accuracy", [{"span": 1.5}, {"colour": 0.5}, {"box": -0.1}])
def test_accuracies_out_of_range_are_refused(examples, accuracy):
    with pytest.raises(ValueError, match="expected one of"):
        yardsticks.degrade(examples[0], accuracy, np.random.default_rng(0))
