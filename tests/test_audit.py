"""Tables on rewards, and the audit: what each set pays for."""

import matplotlib as mpl
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from mcr_lib.schema import PredictedEntity
from mcr_lib.study.figures import curves, heat
from mcr_lib.study.tables import audit, mistakes

ADA, ROME = PredictedEntity("Ada Byron", "PER", (mistakes.A,)), PredictedEntity("Rome", "LOC")
BOXED_ROME = PredictedEntity("Rome", "LOC", (mistakes.C,))
EVE = PredictedEntity("Eve", "PER")


def test_rewards_of_hand_made_answers_are_as_worked_out():
    paper, strict = (
        {row["answer"]: [row[c] for c in (*audit.COLUMNS, "R")] for row in audit.reward_rows(kind)}
        for kind in ("paper", "strict")
    )
    assert paper["perfect"] == pytest.approx([1, 1, 1, 1, 1, 1.4])
    assert paper["box not wanted (textual bias)"] == pytest.approx([1, 1, 1, 0.5, 0.5, 1.15])
    assert paper["name not in the text (visual bias)"] == pytest.approx([0.6, 1, 1, 1, 1, 1.28])
    assert paper["malformed"] == paper["empty"] == [0, 0, 0, 0, 0, 0]
    assert strict["perfect"] == [1, 1, 1, 1, 1, 5]
    # R_u: 1 of (1 groundable + 1 stray)
    assert strict["box not wanted (textual bias)"] == [1, 1, 1, 0.5, 0.5, 4]
    assert strict["name not in the text (visual bias)"] == pytest.approx(
        [2 / 3, 4 / 5, 2 / 3, 1 / 2, 2 / 3, 3.3]
    )
    assert strict["malformed"] == strict["empty"] == [0, 0, 0, 0, 0, 0]


def test_r_u_rises_on_a_line_or_jumps_and_is_halved_by_a_stray_box():
    r_u = {(row["line"], row["iou"]): row["R_u"] for row in audit.grounding_rows()}
    assert r_u["paper, σ = 0.3", 0.3] == 0
    assert r_u["paper, σ = 0.3", 0.65] == pytest.approx(0.5)  # .35 / .7
    assert r_u["paper, σ = 0.5", 0.8] == pytest.approx(0.6)  # .3 / .5
    assert r_u["paper, σ = 0.0", 0.8] == pytest.approx(0.8)
    assert r_u["strict, σ = 0.5", 0.5] == 0
    assert r_u["strict, σ = 0.5", 0.51] == pytest.approx(0.51)
    assert r_u["strict, and a stray box", 0.8] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("answer", "paper", "with_zeros"),
    [
        ((ADA, ROME), 1.4, 1.4),
        ((ADA,), 1.25, 1.25),
        ((ADA, BOXED_ROME), 1.15, 1.15),
        ((ADA, EVE), 1.4, 1.1),  # Eve and Rome matched: .3 + .15 + .15 + .3 + .2 (neither has a box)
        ((EVE,), 0.15, 0.45),  # Eve and Ada Byron, who is a person and has a box: .15 + 0 + .3 + 0 + 0
    ],
)
def test_what_the_two_readings_of_matched_earn(answer, paper, with_zeros):
    assert audit.total(answer, "paper") == pytest.approx(paper)
    assert audit.total(answer, audit.WITH_ZEROS) == pytest.approx(with_zeros)


@pytest.fixture(scope="module")
def rows():
    return {(row["mistake"], row["rewards"]): row for row in audit.audit_rows(1)}


def test_every_planting_is_counted_once(rows):
    assert {mistake for mistake, _ in rows} == {*audit.PLANTED.values(), audit.STRAY, audit.SILENCE}
    assert {kind for _, kind in rows} == {*audit.KINDS}
    assert all(row["costs"] + row["free"] + row["pays"] == row["n"] > 0 for row in rows.values())


def test_a_wrong_type_or_box_costs_in_both_sets_and_a_box_on_a_made_up_name_nothing_in_the_papers(rows):
    for mistake in ("wrong boundary", "wrong type", "wrongly boxed or not", "wrong box"):
        for kind in ("paper", "strict"):
            assert rows[mistake, kind]["costs"] == rows[mistake, kind]["n"]
    assert rows[audit.STRAY, "paper"]["free"] == rows[audit.STRAY, "paper"]["n"]


def test_a_made_up_name_pays_in_the_papers_set_alone(rows):
    mistake = "name made up or repeated"
    assert rows[mistake, "paper"]["pays"] > 0 == rows[mistake, "strict"]["pays"]
    best = rows[mistake, "paper"]
    # a perfect half, and behind it nothing or a second name: .15 + 1.1 and .3 + 1.1
    assert (best["R"], best["R with it"]) == (pytest.approx(1.25), pytest.approx(1.4))


def test_leaving_out_pays_where_the_box_would_be_wrong():
    assert (audit.SILENCE, (ADA, BOXED_ROME), (ADA,)) in audit.plantings_of((ADA, BOXED_ROME))
    assert audit.total((ADA,), "paper") - audit.total((ADA, BOXED_ROME), "paper") == pytest.approx(0.1)
    # strict: R_c 1/2, R_s 2/3, R_t 1/2, R_u 1, R_e 1/2 against 1, 1, 1, 1/2 and 1/2
    assert audit.total((ADA,), "strict") == pytest.approx(19 / 6)
    assert audit.total((ADA, BOXED_ROME), "strict") == 4


def test_strict_rewards_have_each_property_but_that_of_order():
    rows = audit.property_rows(1)
    assert not any(row["strict"] for row in rows[:-1])
    assert [row["paper"] for row in rows if row["property"].startswith(("every", "a perfect"))] == [0, 0]
    only_perfect = next(row for row in rows if row["property"].startswith("no other"))
    # a perfect half and the made-up name behind it
    assert (only_perfect["paper"], only_perfect["cases"]) == (2, 66)


def test_figures_of_rewards_draw():
    for figure in (
        heat.rewards(audit.reward_rows()),
        heat.rewards(audit.reward_rows("strict"), title="strict"),
        curves.reward_u(audit.grounding_rows()),
        heat.audit(audit.audit_rows(1)),
    ):
        figure.canvas.draw()
        assert figure.axes
    plt.close("all")
