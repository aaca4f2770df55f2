"""CVO: the constraints, checked. Five rewards in [0, 1] for one answer, also as reward functions for TRL's
GRPOTrainer.

    R = λ1·R_c + λ2·R_s + λ3·R_t + λ4·R_u + λ5·R_e    (paper; names and sum are public, the formulas are ours)

    R_c  count        n_touch / max(n_pred, n_gold)                                    reward_count
    R_s  span         2 n_match / (n_pred + n_gold)                                    reward_span
    R_t  type         matches with the right type / max(n_pred, n_gold)                reward_type
    R_e  entailment   matches with the right groundability / max(n_pred, n_gold)       reward_entailment
    R_u  grounding    Σ over matched groundable gold of (IoU if IoU > σ else 0)        reward_grounding
                      / (n groundable gold + n boxes on predictions that touch no groundable gold)

A prediction *matches* the gold entity of its span and *touches* one that shares a token with it, one to one
(`matching.pair`); n_touch counts gold entities matched or touched; duplicates and names that the text lacks
are predictions that touch nothing. With a zero denominator R_u is 1 if the tweet has no entity or something
is touched, else 0. Both empty: all 1. Unparseable: all 0. A constraint that the source does not annotate has
the reward `None`. Properties (tested): only a perfect answer reaches the maximum; repairing one mistake (a
missing entity added, a prediction that touches nothing dropped, a boundary, type, groundability or box
corrected) lowers none of the five, as long as the names of the other predictions keep their places in the
text. (They may not: "Ada" and "Byron in" touch two entities; with "Ada" corrected to "Ada Byron", no words
are left to place "Byron in" on, and R_c falls.)

Boxes are compared in the answer's own space with gold as it would be written there (`written_gold`), so the
gold answer scores exactly the maximum.

The five rewards ignore the reasoning, so a model could drop it or write anything in it. `Reasoning` sets what
reasoning an answer needs to earn anything (paper silent; ours).

    trainer = GRPOTrainer(model, args=GRPOConfig(reward_weights=[1.0] * 5, ...),
    reward_funcs=grpo_reward_functions(), train_dataset=rows)

where each row has the columns `prompt`, `images`, `gold` (`gold_column(example)`), `model_size` and `family`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

from mcr_lib import chains, constraints
from mcr_lib.answer import ParsedAnswer, parse_answer
from mcr_lib.boxes import Size, Space, box_format, written_box
from mcr_lib.matching import pair, place
from mcr_lib.schema import Example, PredictedEntity

SIGMA = 0.5  # IoU above which a box earns its IoU (paper's σ; its value is not public, Table 10 varies it)
NAMES = ("count", "span", "type", "grounding", "entailment")  # the rewards in the order of λ1..λ5

CountRule = Literal["touch", "ratio"]
# What reasoning an answer needs to earn anything: free = none; present = some; agreeing = reasoning that
# states the answer (`chains.faithfulness`, boxes by IoU above σ).
Reasoning = Literal["free", "present", "agreeing"]


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
    """Place and pair an answer in the space of `gold` (`written_gold`); a duplicate takes part in no pair."""
    placements = place([p.text for p in predictions], gold.tokens)
    spans = [p.span if p.kind == "placed" else None for p in placements]
    pairing = pair(spans, [entity.span for entity in gold.entities])
    return Checked(gold, tuple(predictions), pairing.matches, pairing.touches)


def reward_count(checked: Checked, *, rule: CountRule = "touch") -> float:
    """R_c: n_touch / max(n_pred, n_gold), in [0, 1]; 1 if both are empty.

    "ratio", an ablation, is 1 - |n_pred - n_gold| / max(n_pred, n_gold), which pays for invented fillers.
    """
    if not checked.n_larger:
        return 1.0
    if rule == "ratio":
        return 1 - abs(len(checked.predictions) - len(checked.gold.entities)) / checked.n_larger
    return (len(checked.matches) + len(checked.touches)) / checked.n_larger


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


@dataclass(frozen=True, slots=True)
class Rewards:
    """The five rewards of one answer; `None` if the source does not annotate the constraint."""

    count: float | None
    span: float | None
    type: float | None
    grounding: float | None
    entailment: float | None

    def total(self, weights: Sequence[float] = (1, 1, 1, 1, 1)) -> float:
        """R = Σ λ_k R_k over the rewards that are not `None`; `weights` are λ1..λ5."""
        values = zip(weights, (getattr(self, name) for name in NAMES), strict=True)
        return sum(weight * value for weight, value in values if value is not None)


def worthless(
    parsed: ParsedAnswer, gold: Example, *, sigma: float = SIGMA, reasoning: Reasoning = "free"
) -> str | None:
    """Why an answer earns nothing whatever it names: its parsing defect or the flaw of its reasoning."""
    if parsed.reason is not None or reasoning == "free":
        return parsed.reason
    if reasoning == "present":
        return None if parsed.think else "no_reasoning"
    return chains.faithfulness(parsed, labels=gold.labels, task=gold.constraints, min_iou=sigma)


def rewards(
    parsed: ParsedAnswer,
    gold: Example,
    *,
    sigma: float = SIGMA,
    count_rule: CountRule = "touch",
    reasoning: Reasoning = "free",
) -> Rewards:
    """The five rewards of a strictly parsed answer; one that is `worthless` scores 0 in everything.

    The boxes of `gold` are in the answer's space (`written_gold`); sigma in [0, 1).

    Example:
        >>> from mcr_lib.schema import Entity
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "train", ("Rome", "!"), (rome,), ("PER", "LOC"))
        >>> rewards(ParsedAnswer((PredictedEntity("Rome", "PER"),)), tweet)
        Rewards(count=1.0, span=1.0, type=0.0, grounding=1.0, entailment=1.0)
    """
    is_worthless = worthless(parsed, gold, sigma=sigma, reasoning=reasoning) is not None
    checked = None if is_worthless else check(parsed.entities, gold)

    def value(needs: str, reward: Callable[[Checked], float]) -> float | None:
        if needs not in gold.constraints:
            return None
        return 0.0 if checked is None else reward(checked)

    return Rewards(
        count=value("span", lambda c: reward_count(c, rule=count_rule)),
        span=value("span", reward_span),
        type=value("type", reward_type),
        grounding=value("box", lambda c: reward_grounding(c, sigma=sigma)),
        entailment=value("groundable", reward_entailment),
    )


def written_gold(example: Example, space: Space, *, model_size: Size | None = None) -> Example:
    """The tweet with gold boxes as an answer in `space` writes them; `ValueError`: boxes, no image size."""
    size = example.image_size_px
    if size is None:
        if any(entity.boxes_xyxy_px for entity in example.entities):
            problem = f"gold boxes without an image size cannot be written in {space}"
            raise ValueError(f"example {example.id}: {problem}")
        return example

    written = partial(written_box, space=space, image_size=size, model_size=model_size)
    boxes = [e.boxes_xyxy_px and tuple(map(written, e.boxes_xyxy_px)) for e in example.entities]
    pairs = zip(example.entities, boxes, strict=True)
    return replace(example, entities=tuple(replace(e, boxes_xyxy_px=some) for e, some in pairs))


def gold_column(example: Example) -> str:
    """The gold of a tweet as one JSON string, for a column of GRPO rows."""
    return json.dumps({**example.to_row(), "images": []})


def completion_text(completion: str | Sequence[dict[str, Any]]) -> str:
    """The text of a completion: a string, or chat messages whose content is a string or a list of parts."""
    if isinstance(completion, str):
        return completion
    contents = [message.get("content") or "" for message in completion]
    return "".join(c if isinstance(c, str) else "".join(part.get("text", "") for part in c) for c in contents)


def grpo_reward_functions(
    *, sigma: float = SIGMA, count_rule: CountRule = "touch", reasoning: Reasoning = "free"
) -> list[Callable[..., list[float | None]]]:
    """The five rewards as functions for TRL's GRPOTrainer, in the order of λ1..λ5.

    Each completion is parsed once for all five. Columns read: `gold` (`gold_column`), `model_size` ([width,
    height] or `None`) and `family` (a name of `boxes.BOX_FORMATS`). Weights go into
    `GRPOConfig(reward_weights=...)`.
    """

    @lru_cache(maxsize=1024)
    def gold_of(gold: str, space: Space, model_size: Size | None) -> Example:
        return written_gold(Example.from_row(json.loads(gold)), space, model_size=model_size)

    @lru_cache(maxsize=4096)
    def all_of(text: str, gold: str, space: Space, model_size: Size | None) -> Rewards:
        example = gold_of(gold, space, model_size)
        parsed = parse_answer(text, labels=example.labels, constraints=example.constraints)
        return rewards(parsed, example, sigma=sigma, count_rule=count_rule, reasoning=reasoning)

    def function(name: str) -> Callable[..., list[float | None]]:
        def reward(completions, gold, model_size, family, **_: Any) -> list[float | None]:
            sizes = [size and (size[0], size[1]) for size in model_size]
            spaces = [box_format(f).space for f in family]
            rows = zip(map(completion_text, completions), gold, spaces, sizes, strict=True)
            return [getattr(all_of(*row), name) for row in rows]

        reward.__name__ = f"reward_{name}"
        return reward

    return [function(name) for name in NAMES]
