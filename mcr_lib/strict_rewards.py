"""A stricter set of the five rewards (ours), for audit and ablation: `rewards.rewards(..., kind="strict")`.

    R_c  count        n_touch / max(n_pred, n_gold)
    R_s  span         2 n_match / (n_pred + n_gold)
    R_t  type         matches with the right type / max(n_pred, n_gold)
    R_e  entailment   matches with the right groundability / max(n_pred, n_gold)
    R_u  grounding    Σ over matched groundable gold of (IoU if IoU > σ else 0)
                      / (n groundable gold + n boxes on predictions that touch no groundable gold)

The paper's (`rewards`) are means over matched pairs, so that only R_c sees what is missing or too much. Here
every reward does. A prediction *matches* the gold entity of its span and *touches* one that shares a token
with it, one to one (`matching.pair`); n_touch counts gold entities matched or touched; duplicates and names
that the text lacks are predictions that touch nothing. With a zero denominator R_u is 1 if the tweet has no
entity or something is touched, else 0. Both empty: all 1.

Properties (tested): only a perfect answer reaches the maximum; repairing one mistake (a missing entity added,
a prediction that touches nothing dropped, a boundary, type, groundability or box corrected) lowers none of
the five, as long as the names of the other predictions keep their places in the text. (They may not: "Ada"
and "Byron in" touch two entities; with "Ada" corrected to "Ada Byron", no words are left to place "Byron in"
on, and R_c falls.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mcr_lib import constraints
from mcr_lib.matching import pair, place
from mcr_lib.schema import Example, PredictedEntity

SIGMA = 0.5  # IoU above which a box earns its IoU
WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0)  # λ1..λ5


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer placed and paired with gold (`matching.Pairing`): the input of the five rewards."""

    gold: Example  # boxes in the answer's space
    predictions: tuple[PredictedEntity, ...]
    matches: tuple[tuple[int, int], ...]
    touches: tuple[tuple[int, int], ...]

    @property
    def n_larger(self) -> int:
        """max(n_pred, n_gold)."""
        return max(len(self.predictions), len(self.gold.entities))

    def matched(self, constraint: constraints.Constraint) -> list[float]:
        """How far the constraint holds, per match."""
        return [constraint.holds(self.predictions[i], self.gold.entities[j]) for i, j in self.matches]


def check(predictions: Sequence[PredictedEntity], gold: Example) -> Checked:
    """Place and pair an answer in the space of `gold`; a duplicate takes part in no pair."""
    placements = place([p.text for p in predictions], gold.tokens)
    spans = [p.span if p.kind == "placed" else None for p in placements]
    pairing = pair(spans, [entity.span for entity in gold.entities])
    return Checked(gold, tuple(predictions), pairing.matches, pairing.touches)


def reward_count(checked: Checked) -> float:
    """R_c: n_touch / max(n_pred, n_gold), in [0, 1]; 1 if both are empty."""
    n_touch = len(checked.matches) + len(checked.touches)
    return n_touch / checked.n_larger if checked.n_larger else 1.0


def reward_span(checked: Checked) -> float:
    """R_s: 2 n_match / (n_pred + n_gold), the F1 of spans, in [0, 1]; 1 if both are empty."""
    total = len(checked.predictions) + len(checked.gold.entities)
    return 2 * sum(checked.matched(constraints.SPAN)) / total if total else 1.0


def reward_type(checked: Checked) -> float:
    """R_t: matches with the right type / max(n_pred, n_gold), in [0, 1]; 1 if both are empty."""
    return sum(checked.matched(constraints.TYPE)) / checked.n_larger if checked.n_larger else 1.0


def reward_entailment(checked: Checked) -> float:
    """R_e: matches with the right "shown or not" / max(n_pred, n_gold), in [0, 1]; 1 if both are empty."""
    return sum(checked.matched(constraints.GROUNDABLE)) / checked.n_larger if checked.n_larger else 1.0


def reward_grounding(checked: Checked, *, sigma: float = SIGMA) -> float:
    """R_u: IoU above σ of the matched groundable entities / (groundable entities + stray boxes), in [0, 1].

    Zero denominator: 1 if the tweet has no entity or something is touched, else 0.
    """
    gold, predictions, matches = checked.gold.entities, checked.predictions, checked.matches
    groundable = {j for j, entity in enumerate(gold) if entity.is_groundable}
    owned = {i for i, j in matches + checked.touches if j in groundable}
    n_stray = sum(bool(p.boxes_xyxy) for i, p in enumerate(predictions) if i not in owned)
    if not len(groundable) + n_stray:
        return float(not gold or bool(matches or checked.touches))
    ious = [constraints.BOX.holds(predictions[i], gold[j]) for i, j in matches if j in groundable]
    return sum(iou for iou in ious if iou > sigma) / (len(groundable) + n_stray)
