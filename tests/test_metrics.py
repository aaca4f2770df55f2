"""Scorers: every known vector and yardstick to the last digit, and properties that need no vector."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr_lib import metrics, yardsticks
from mcr_lib.metrics import SCORERS, TASKS, judge, outcome, ratios, score, totals
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.study.tables import cases

LABELS = ("PER", "LOC", "ORG", "OTHER")
B, F = (0, 0, 100, 100), (300, 300, 400, 400)


def tweet(*gold_boxes, tokens=("Ada",), is_empty=False):
    gold = () if is_empty else (Entity("Ada", 0, 1, "PER", gold_boxes),)
    return Example("1", "demo", "test", tokens, gold, LABELS, image_size_px=(400, 400))


def ada(*boxes, type="PER", text="Ada"):
    return PredictedEntity(text, type, boxes)


def prf(pairs, scorer, task="gmner"):
    counts = totals([outcome(judge(example, answer), task, scorer) for example, answer in pairs])
    return tuple(round(ratio.percent or 0.0, 2) for ratio in ratios(counts).values())


NONE, ALL = (0, 0, 0), (100, 100, 100)
HALF = (0, 0, 100, 50)  # IoU with B: 5,000 / 10,000
VECTORS = {  # case -> tweets with answers, P/R/F1 of paper, definition, e2e, unco-legacy; worked out by hand
    "gold none, pred F": ([(tweet(), [ada(F)])], NONE, NONE, NONE, (50, 100, 66.67)),
    "gold B, pred F": ([(tweet(B), [ada(F)])], NONE, NONE, NONE, NONE),
    "one perfect, one empty": ([(tweet(B), [ada(B)]), (tweet(B), [])], *[(100, 50, 66.67)] * 3, ALL),
    "one perfect, one invents": (
        [(tweet(B), [ada(B)]), (tweet(is_empty=True), [ada(B)])],
        *[(50, 100, 66.67)] * 3,
        ALL,
    ),
    "three gold boxes, one hit": (
        [(tweet(B, F, (200, 0, 300, 90)), [ada(B)])],
        *[ALL] * 3,
        (100, 33.33, 50),
    ),
    "IoU exactly one half": ([(tweet(B), [ada(HALF)])], ALL, NONE, ALL, ALL),
    # the second is wrong (1 of 2), replaces the first, is wrong, is the same item
    "the same entity twice": ([(tweet(B), [ada(B)] * 2)], (50, 100, 66.67), ALL, (50, 100, 66.67), ALL),
    "two boxes, only the second hits": ([(tweet(B), [ada(F, B)])], NONE, NONE, ALL, NONE),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_come_out_exactly(name):
    pairs, *expected = VECTORS[name]
    assert [prf(pairs, scorer) for scorer in SCORERS] == expected


def test_the_notebooks_cases_are_these_vectors():
    judged = [[judge(*pair) for pair in pairs] for pairs in cases.SCORER_CASES.values()]
    f1 = [[round(score(of, s)["gmner"]["f1"].percent or 0, 2) for s in SCORERS] for of in judged]
    assert f1 == [[values[2] for values in expected] for _, *expected in VECTORS.values()]


TWINS = Example(  # one name twice, shown the first time and not the second
    "2", "demo", "test", ("Ada", "and", "Ada"),
    (Entity("Ada", 0, 1, "PER", (B,)), Entity("Ada", 2, 3, "ORG", ())), LABELS, image_size_px=(400, 400),
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "gmner", "mner", "eeg"),
    [
        ([ada(B), ada(type="ORG")], 2, 2, 2),
        ([ada(type="ORG"), ada(B)], 2, 2, 2),  # the order does not matter: as many right as possible
        ([ada(B), ada(B)], 1, 1, 1),  # the second is right in nothing that is left: type and location differ
        ([ada(B, type="ORG"), ada()], 0, 2, 2),  # each is right twice, never in the same triple
        ([ada(B), ada(type="ORG"), ada()], 2, 2, 2),
        ([ada(text="ada"), ada(B, text="Ada and")], 0, 0, 0),  # case and boundary count
        ([ada(B, text="  Ada ")], 1, 1, 1),  # white space does not
    ],
)
def test_triples_of_the_paper_are_matched_by_words_one_to_one(answer, gmner, mner, eeg):
    right = [outcome(judge(TWINS, answer), task, "paper").tp.total() for task in ("gmner", "mner", "eeg")]
    assert right == [gmner, mner, eeg]
    counts = outcome(judge(TWINS, answer), "gmner", "paper")
    assert (counts.fp.total(), counts.fn.total()) == (len(answer) - gmner, 2 - gmner)


def test_a_location_of_the_paper_is_right_from_an_iou_of_one_half_on():
    just_below = (0, 0, 100, 49)  # 4,900 / 10,000
    assert prf([(tweet(B), [ada(just_below)])], "paper") == NONE
    assert prf([(tweet(B), [ada(HALF)])], "paper", "eeg") == ALL
    assert prf([(tweet(F, B), [ada(HALF)])], "paper") == ALL  # any gold box
    assert prf([(tweet(), [ada()])], "paper") == ALL  # both none
    assert prf([(tweet(B), [ada()])], "paper") == NONE


def test_e2e_counts_a_box_at_one_half_and_any_predicted_box_and_duplicates_as_wrong():
    assert prf([(tweet(B), [ada((0, 0, 100, 50))])], "e2e") == (100, 100, 100)
    assert prf([(tweet(B), [ada(F, B)])], "e2e") == (100, 100, 100)
    assert prf([(tweet(B), [ada(F, B)])], "definition") == (0, 0, 0)
    assert prf([(tweet(B), [ada(B), ada(B)])], "e2e") == (50, 100, 66.67)


def test_a_repeated_prediction_replaces_the_one_it_repeats_by_definition():
    assert prf([(tweet(B), [ada(F, type="ORG"), ada(B)])], "definition") == (100, 100, 100)
    assert prf([(tweet(B), [ada(B), ada(F)])], "definition") == (0, 0, 0)


def test_each_task_looks_at_its_own_fields():
    answer = [ada(F, type="ORG")]  # right span, wrong type, wrong box
    assert prf([(tweet(B), answer)], "definition", "mner") == (0, 0, 0)
    assert prf([(tweet(B), [ada(F)])], "definition", "mner") == (100, 100, 100)
    assert prf([(tweet(B), [ada(B, type="ORG")])], "definition", "eeg") == (100, 100, 100)
    assert prf([(tweet(B), [ada(B, type="ORG")])], "definition", "gmner") == (0, 0, 0)


def test_an_unplaced_prediction_is_a_false_positive():
    assert prf([(tweet(B), [ada(B), ada(B, text="Bob")])], "definition") == (50, 100, 66.67)


def test_types_split_the_counts():
    two = Example(
        "1",
        "d",
        "test",
        ("Ada", "Rome"),
        (Entity("Ada", 0, 1, "PER", ()), Entity("Rome", 1, 2, "LOC", ())),
        LABELS,
    )
    rows = metrics.by_type([outcome(judge(two, [ada(), ada(text="Rome", type="ORG")]), "mner")], LABELS)
    assert (rows["PER"]["f1"], rows["LOC"]["r"], rows["ORG"]["p"], rows["LOC"]["n_gold"]) == (100, 0, 0, 1)


def test_what_a_source_does_not_annotate_is_not_scored():
    assert metrics.scored_tasks(("span", "type", "groundable", "box")) == TASKS
    assert metrics.scored_tasks(("groundable", "box", "span")) == ("eeg",)


def test_unknown_tasks_and_scorers_are_refused():
    for task, scorer in (("ner", "definition"), ("gmner", "official")):
        with pytest.raises(ValueError, match="unknown"):
            outcome(judge(tweet(), []), task, scorer)


@st.composite
def judged(draw):
    tokens = tuple(draw(st.lists(st.sampled_from(["Ada", "Bob", "in"]), min_size=1, max_size=6)))
    cuts = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=4)))
    some = st.sampled_from([(), (B,), (F,), (B, F)])
    spans = list(zip(cuts, cuts[1:], strict=False))
    gold = tuple(
        Entity(" ".join(tokens[a:b]), a, b, draw(st.sampled_from(LABELS)), draw(some)) for a, b in spans
    )
    names = st.sampled_from(["Ada", "Bob", "in", "Ada Bob", "Eve", *[e.text for e in gold]])
    answer = draw(st.lists(st.builds(PredictedEntity, names, st.sampled_from(LABELS), some), max_size=5))
    return judge(Example("1", "d", "test", tokens, gold, LABELS, image_size_px=(400, 400)), answer)


@given(judged(), st.sampled_from(TASKS), st.sampled_from(["paper", "definition", "e2e"]))
def test_every_prediction_and_every_gold_entity_is_counted_once(j, task, scorer):
    o = outcome(j, task, scorer)
    n_pred = len(j.effective) if scorer == "definition" else len(j.predictions)
    assert o.tp.total() + o.fp.total() == n_pred
    assert o.tp.total() + o.fn.total() == len(j.example.entities)


@given(judged(), st.sampled_from(SCORERS))
def test_gmner_is_never_above_mner_nor_eeg(j, scorer):
    right = {task: outcome(j, task, scorer).tp.total() for task in TASKS}
    if scorer != "unco-legacy":
        assert right["gmner"] <= min(right["mner"], right["eeg"])
    assert right["gmner"] <= right["eeg"]


@given(judged())
def test_e2e_is_at_least_as_kind_as_any_greedy_matching(j):
    left = list(range(len(j.example.entities)))
    n = 0
    for p in j.predictions:
        for k in left:
            gold = j.example.entities[k]
            if (
                p.text == gold.text
                and p.type == gold.type
                and metrics.is_region_right(p.boxes_xyxy, gold.boxes_xyxy_px, inclusive=True)
            ):
                left.remove(k)
                n += 1
                break
    assert outcome(j, "gmner", "e2e").tp.total() >= n


@given(judged(), st.sampled_from(TASKS))
def test_the_paper_is_e2e_but_for_several_predicted_boxes(j, task):
    single = [PredictedEntity(p.text, p.type, p.boxes_xyxy[:1]) for p in j.predictions]
    assert outcome(j, task, "paper") == outcome(judge(j.example, single), task, "e2e")


def f1(examples, rule, scorer="definition", task="gmner"):
    return prf([(e, rule(e)) for e in examples], scorer, task)


def test_yardsticks_on_the_real_test_split_come_out_exactly(real):
    v1, v2 = real("test", version="v1"), real("test")
    for task in ("gmner", "eeg"):
        assert f1(v2, yardsticks.never_a_box, task=task) == (58.87, 58.87, 58.87)
    assert f1(v1, yardsticks.never_a_box) == (59.26, 59.26, 59.26)
    assert f1(v2, yardsticks.invented_boxes) == (41.13, 41.13, 41.13)
    assert f1(v2, yardsticks.invented_boxes, "unco-legacy") == (62.95, 92.44, 74.89)
    assert f1(v2, yardsticks.gold_groundability) == (71.02, 71.02, 71.02)
    assert f1(v2, yardsticks.gold_groundability, "paper") == (71.02, 71.02, 71.02)
    assert f1(v1, yardsticks.gold_groundability) == (71.33, 71.33, 71.33)
    assert f1(v2, yardsticks.box_iff_per) == (53.13, 53.13, 53.13)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_perfect_answers_score_a_hundred_on_every_real_split(real, version, split):
    examples = real(split, version=version)
    judged = [judge(e, yardsticks.perfect(e)) for e in examples]
    n_entities = sum(len(e.entities) for e in examples)
    for scorer in ("paper", "definition", "e2e"):
        assert totals([outcome(j, "gmner", scorer) for j in judged]).sum(axis=0).tolist() == [
            n_entities,
            0,
            0,
        ]
