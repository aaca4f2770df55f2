"""Constraints: what each says of an entity, and how far a prediction satisfies it."""

import pytest

from mcr_lib import constraints
from mcr_lib.schema import CONSTRAINTS, Entity, PredictedEntity

ADA = Entity("Ada Byron", 0, 2, "PER", ((0, 0, 2, 2), (0, 0, 10, 10)))
ROME = Entity("Rome", 3, 4, "LOC", ())


def test_claims_say_span_type_groundability_and_the_largest_box():
    assert constraints.claims(ADA) == {
        "span": "Ada Byron",
        "type": "PER",
        "groundable": True,
        "box": (0, 0, 10, 10),
    }
    assert constraints.claims(ROME) == {"span": "Rome", "type": "LOC", "groundable": False, "box": None}
    assert constraints.claims(ROME, ("type", "span")) == {"span": "Rome", "type": "LOC"}


def test_the_order_is_the_papers_whatever_order_a_task_names():
    assert [c.name for c in constraints.of_task(CONSTRAINTS[::-1])] == ["span", "type", "groundable", "box"]
    assert [c.symbol for c in constraints.of_task(CONSTRAINTS)] == ["C_s", "C_t", "C_e", "C_u"]


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),  # span, type, groundable, box
    [
        (PredictedEntity("Ada  Byron", "PER", ((0, 0, 10, 10),)), ADA, (1, 1, 1, 1)),
        (PredictedEntity("Ada", "ORG", ((0, 0, 10, 5),)), ADA, (0, 0, 1, 0.5)),  # 50 of 100 px
        (PredictedEntity("Ada Byron", "PER", ((0, 0, 2, 2),)), ADA, (1, 1, 1, 1)),  # any gold box may be hit
        (PredictedEntity("Ada Byron", "PER"), ADA, (1, 1, 0, 0)),
        (PredictedEntity("Rome", "LOC"), ROME, (1, 1, 1, 1)),
        (PredictedEntity("Rome", "LOC", ((0, 0, 1, 1),)), ROME, (1, 1, 0, 0)),
    ],
)
def test_holds_is_worked_out_by_hand(predicted, gold, expected):
    assert tuple(c.holds(predicted, gold) for c in constraints.ALL.values()) == expected
