"""Gold made worse: at a rate, and until its decisions on None are as good as those of a system."""

import numpy as np
import pytest

from mcr_lib.schema import Entity, Example
from mcr_lib.study.figures import bars, palette
from mcr_lib.study.tables import facts, simulate

BOX = ((10, 10, 90, 90),)
WORDS = ("Ada", "met", "Bo", "in", "Rome", "today")
# two entities that the image shows, four that it does not, in two tweets of the same six words
SHOWN = Entity("Ada", 0, 1, "PER", BOX)
ABSENT = Entity("Bo", 2, 3, "PER", ()), Entity("Rome", 4, 5, "LOC", ())
TWEETS = [
    Example(str(k), "demo", "test", WORDS, (SHOWN, *ABSENT), ("PER", "LOC"), image_size_px=(100, 100))
    for k in range(2)
]


def n_without_box(answers):
    return sum(not p.boxes_xyxy for answer in answers for p in answer)


def test_exactly_the_stated_share_of_entities_gets_or_loses_a_box():
    # of 4 absent entities half get a box, of 2 shown ones half lose theirs: 4 - 2 + 1 = 3 without a box
    for seed in range(5):
        rng = np.random.default_rng(seed)
        answers = simulate.with_none_rates(TWEETS, {}, (0.5, 0.5), rng)
        assert n_without_box(answers) == 3
        assert [[p.text for p in answer] for answer in answers] == [["Ada", "Bo", "Rome"]] * 2


def test_rates_give_the_precision_and_recall_they_were_solved_for():
    # N-Rec 3/4: 3 of 4 absent ones stay None; N-Pre 3/4: one shown entity is None as well
    counts = {"n_none": 4, "n_boxed": 2}
    assert simulate.none_rates(0.75, 0.75, 1.0, **counts) == (0.25, 0.5)
    # GMNER of perfect text: 1 box too many and 1 too few of 6, so 4 right: F1 = 4/6
    bias, scores = {"A SFT": {"N-Pre": 75.0, "N-Rec": 75.0}}, {"A SFT": dict.fromkeys(TASKS, 50.0)}
    perfect, _, reported = simulate.none_rows(TWEETS, bias, scores, n_repeats=2, seed=0)
    assert (perfect["f1"], perfect["n_pre"], perfect["n_rec"]) == (66.7, 75.0, 75.0)
    assert (perfect["false_grounding"], perfect["missed_grounding"]) == (25.0, 50.0)
    assert (reported["kind"], reported["f1"], reported["false_grounding"]) == ("the paper", 50.0, None)


TASKS = ("GMNER F1", "MNER F1", "EEG F1")


def test_a_precision_above_the_share_of_right_names_is_out_of_reach():
    # names right in 80 %: of 100 predicted None at most 80 can be right, so none is missed: N-Pre 0.8
    false, missed = simulate.none_rates(0.9, 0.64, 0.8, n_none=100, n_boxed=100)
    assert (false, missed) == (pytest.approx(0.2), 0.0)


def test_wrong_names_count_against_the_precision_of_none():
    # N-Rec 0.4 of 100 absent entities with half of the names right: 80 are None, 40 of them rightly; to have
    # N-Pre 0.4 there must be 100 predicted None, 20 of the 50 shown ones
    assert simulate.none_rates(0.4, 0.4, 0.5, n_none=100, n_boxed=50) == (pytest.approx(0.2), 0.4)


def test_span_and_type_accuracy_follow_from_the_three_scores():
    # type 60 / 75 = 0.8; span 0.72 / 0.8 = 0.9
    found = simulate.text_accuracy({"GMNER F1": 60.0, "MNER F1": 72.0, "EEG F1": 75.0})
    assert found == {"span": pytest.approx(0.9), "type": pytest.approx(0.8)}


def test_a_system_without_scores_in_both_tables_has_no_row():
    counts = {"entities": 10, "not groundable": 6}
    bias, scores = {"A": {"N-Rec": 50.0}, "B": {"N-Rec": 50.0}}, {"B": {"EEG R": 40.0}, "C": {"EEG R": 1.0}}
    # B: 50 % of 60 % = 30 points of None; 10 points of boxes, of 40 that could be: 25 %
    row = {"EEG recall": 40.0, "right None": 30.0, "boxes that hit": 10.0, "% of gold boxes": 25.0}
    assert simulate.recall_rows(bias, scores, counts) == [{"system": "B", **row}]


def test_the_paper_s_gain_on_the_real_test_split(real):
    """SFT: .651 · 1,497 = 975 right None, 975 / .794 = 1,227 said, so 523 + 253 of 2,543 are wrong: 69.5."""
    bias, scores = facts.table("F3"), facts.table("T1")
    some = {name: bias[name] for name in ("Qwen2.5-VL-7B SFT", "Qwen2.5-VL-7B MCR")}
    rows = simulate.none_rows(real("test"), some, scores, n_repeats=1, seed=0)
    assert [row["f1"] for row in rows if row["kind"] == simulate.PERFECT] == [69.5, 84.3]


def test_a_panel_per_model_shows_every_score_and_the_lines_beside_them():
    figure = bars.reported(facts.f1_rows(), palette.TASKS, title="T1", lines={"never a box": 58.87})
    assert [(ax.get_title() or ax.get_title(loc="left")) for ax in figure.axes] == list(facts.MODELS)
    for ax, model in zip(figure.axes, facts.MODELS, strict=True):
        gmner = [bar.get_height() for bar in ax.containers[0]]
        assert gmner == [facts.table("T1")[f"{model} {method}"]["GMNER F1"] for method in facts.METHODS]
        assert "never a box: 58.9" in [text.get_text() for text in ax.texts]
