"""CVO: the constraints, checked. The paper's five rewards of one answer, each in [0, 1], also as reward
functions for TRL's GRPOTrainer.

    R = λ1·R_c + λ2·R_s + λ3·R_t + λ4·R_u + λ5·R_e                                                (Eq. 10)

    F_ij  token F1    2·P·R / (P + R) with P = w/n, R = w/m: w the longest run of tokens that predicted
                      name i (n tokens) and gold name j (m) have in common                        (Eq. 16, 17)
    k     pairs       predictions matched one to one with gold for the largest Σ F_ij, F_ij > 0   (Hungarian)

    R_c  count        1 if p = q, else 1 less a penalty per name too many or too few              (Eq. 13–15)
    R_s  span         1/k Σ F_ij                                                                  (Eq. 6, 18)
    R_t  type         1/k Σ [the types are equal]                                                 (Eq. 7)
    R_u  grounding    1/k Σ max(0, (IoU - σ) / (1 - σ))                                           (Eq. 8)
    R_e  entailment   1/k Σ [both have a box, or neither has]                                     (Eq. 9)

with p predicted and q gold entities. σ = 0.3, λ1 = 0.3, λ5 = 0.2: the best values of paper Table 10. λ2, λ3
and λ4 are silent; ours are 0.3, as λ1 is. What else the paper leaves open, and what we do:

- A pair without a common token (F = 0) is not matched and counts in no mean.
- Tokens are split at white space; case counts.
- Of equal matchings the first in reading order, so that repeated names pair in their order. A duplicate can
  match only another gold entity.
- R_u of a pair: 1 if neither has a box, 0 if one has; with several gold boxes the best one counts.
- No matched pair: R_s, R_t, R_u and R_e are 0; if prediction and gold are both empty all five are 1.
- An unreadable text earns 0 of everything, even for a tweet without entities.
- A constraint that the source does not annotate has the reward `None`, which R leaves out: the largest R is
  Σ λ_k over what is annotated. R_c needs span, so where the names are given (GREC) nothing is counted.

Only R_c sees what is missing or too much, the others are means over what was matched; notebook 02 lists what
that pays for. `strict_rewards` is a set of ours in which every reward sees it.

Boxes are compared in the answer's own space with gold as it would be written there (`written_gold`), so the
gold answer earns exactly 1 of each. No reward reads the reasoning, so a model could drop it or write anything
in it. `Reasoning` sets what reasoning an answer needs to earn anything (ours).

    trainer = GRPOTrainer(model, args=GRPOConfig(reward_weights=list(WEIGHTS), ...),
    reward_funcs=grpo_reward_functions(), train_dataset=rows)

where each row has the columns `prompt`, `images`, `gold` (`gold_column(example)`), `model_size` and `family`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import lcm
from typing import Any, Literal

from mcr_lib import chains, constraints
from mcr_lib import strict_rewards as strict
from mcr_lib.answer import ParsedAnswer, parse_answer
from mcr_lib.boxes import Size, Space, box_format, written_box
from mcr_lib.errors import UserError
from mcr_lib.matching import heaviest_matching, spaced
from mcr_lib.schema import Entity, Example, PredictedEntity

NAMES = ("count", "span", "type", "grounding", "entailment")  # the rewards in the order of λ1..λ5
SIGMA = 0.3  # σ: IoU up to which a box earns nothing
WEIGHTS = (0.3, 0.3, 0.3, 0.3, 0.2)  # λ1..λ5

RewardKind = Literal["paper", "strict"]
DEFAULTS: dict[RewardKind, tuple[float, tuple[float, ...]]] = {  # σ and λ1..λ5 of each set
    "paper": (SIGMA, WEIGHTS), "strict": (strict.SIGMA, strict.WEIGHTS),
}  # fmt: skip
_NEEDS = (  # the constraint that a source must annotate
    ("count", "span"), ("span", "span"), ("type", "type"), ("grounding", "box"), ("entailment", "groundable"),
)  # fmt: skip
# What reasoning an answer needs to earn anything: free = none; present = some; agreeing = reasoning that
# states the answer (`chains.faithfulness`, boxes by IoU above σ).
Reasoning = Literal["free", "present", "agreeing"]


def reward_count(n_pred: int, n_gold: int) -> float:
    """R_c of p predicted and q gold entities, in [0, 1] (paper Eq. 13–15).

    1 if p = q; 1 - (p - q)·w_o(q) if p > q > 0; 1 - (q - p)·w_u(p) if 0 < p < q, neither below 0; else 0.
    w_o(q) = 0.4, 0.2, 0.1 and w_u(p) = 0.5, 0.3, 0.2 for up to 2, up to 4, and 5 or more entities.

    Example:
        >>> reward_count(2, 2), reward_count(3, 2), reward_count(1, 2), reward_count(0, 2)
        (1.0, 0.6, 0.5, 0.0)
    """
    if n_pred == n_gold:
        return 1.0
    if not n_pred or not n_gold:
        return 0.0
    fewer, penalties = min(n_pred, n_gold), (0.4, 0.2, 0.1) if n_pred > n_gold else (0.5, 0.3, 0.2)
    return max(0.0, 1 - abs(n_pred - n_gold) * penalties[(fewer > 2) + (fewer > 4)])


def common_run(pred_tokens: Sequence[str], gold_tokens: Sequence[str]) -> int:
    """w: the length of the longest run of tokens that stands in both (paper App. D.2).

    Example:
        >>> common_run("the New York Times".split(), "New York City".split())
        2
    """
    if pred_tokens == gold_tokens:
        return len(gold_tokens)
    longest, before = 0, [0] * (len(gold_tokens) + 1)  # before[j]: the run that ends with gold token j - 1
    for token in pred_tokens:
        now = [0, *(before[j] + 1 if token == gold else 0 for j, gold in enumerate(gold_tokens))]
        longest, before = max(longest, *now), now
    return longest


@dataclass(frozen=True, slots=True)
class Pair:
    """A predicted and a gold entity that are matched."""

    predicted: PredictedEntity
    gold: Entity  # box in the answer's space
    f1: float  # F_ij of their tokens, in [0, 1]


@dataclass(frozen=True, slots=True)
class Matched:
    """An answer matched with gold: the input of the rewards."""

    n_pred: int
    n_gold: int
    pairs: tuple[Pair, ...]  # k of them, in the order of the predictions

    def mean(self, values: Iterable[float]) -> float:
        """The mean of a value per pair; without a pair 1 if prediction and gold are both empty, else 0."""
        k = len(self.pairs)
        return sum(values) / k if k else float(self.n_pred == self.n_gold == 0)


def match(
    predictions: Sequence[PredictedEntity], gold: Sequence[Entity], *, with_zeros: bool = False
) -> Matched:
    """Match predicted and gold entities one to one for the largest sum of token F1 (paper App. D.2).

    F = 2w / (n + m), which is Eq. 17 with P and R put in. Pairs of F = 0 are left out (ours), or, for the
    audit of that choice, matched as well: then k = min(p, q).

    Example:
        >>> said = [PredictedEntity("York", "LOC"), PredictedEntity("Ada", "PER")]
        >>> [(p.gold.text, round(p.f1, 3)) for p in match(said, [Entity("New York", 0, 2, "LOC")]).pairs]
        [('New York', 0.667)]
    """
    said, meant = [spaced(p.text).split() for p in predictions], [e.text.split() for e in gold]
    runs = [[common_run(a, b) for b in meant] for a in said]
    unit = lcm(*{len(a) + len(b) for a in said for b in meant if a})  # of F in whole numbers, for exact sums
    weights = [
        [w and 2 * w * unit // (len(a) + len(b)) for w, b in zip(row, meant, strict=True)]
        for row, a in zip(runs, said, strict=True)
    ]
    if with_zeros:  # below a whole unit of F for all of them
        weights = [[w * (1 + len(gold)) + 1 for w in row] for row in weights]
    pairs = (
        Pair(predictions[i], gold[j], 2 * runs[i][j] / (len(said[i]) + len(meant[j]) or 1))
        for i, j in heaviest_matching(weights)
    )
    return Matched(len(predictions), len(gold), tuple(pairs))


def reward_span(matched: Matched) -> float:
    """R_s: the mean token F1 of the matched pairs, in [0, 1] (paper Eq. 6, 18)."""
    return matched.mean(pair.f1 for pair in matched.pairs)


def reward_type(matched: Matched) -> float:
    """R_t: the share of matched pairs with equal types, in [0, 1] (paper Eq. 7)."""
    return matched.mean(constraints.TYPE.holds(pair.predicted, pair.gold) for pair in matched.pairs)


def reward_grounding(matched: Matched, *, sigma: float = SIGMA) -> float:
    """R_u: the mean of max(0, (IoU - σ) / (1 - σ)) over the matched pairs, in [0, 1] (paper Eq. 8).

    A pair without a box counts as IoU 1, with one box as 0 (paper silent; ours: `constraints.BOX`).
    """
    ious = (constraints.BOX.holds(pair.predicted, pair.gold) for pair in matched.pairs)
    return matched.mean(max(0.0, (iou - sigma) / (1 - sigma)) for iou in ious)


def reward_entailment(matched: Matched) -> float:
    """R_e: the share of matched pairs with two boxes or none, in [0, 1] (paper Eq. 9)."""
    return matched.mean(constraints.GROUNDABLE.holds(pair.predicted, pair.gold) for pair in matched.pairs)


@dataclass(frozen=True, slots=True)
class Rewards:
    """The five rewards of one answer; `None` if the source does not annotate the constraint."""

    count: float | None
    span: float | None
    type: float | None
    grounding: float | None
    entailment: float | None

    def total(self, weights: Sequence[float] = WEIGHTS) -> float:
        """R = Σ λ_k R_k over the rewards that are not `None` (paper Eq. 10); `weights` are λ1..λ5."""
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
    parsed: ParsedAnswer, gold: Example, *, kind: RewardKind = "paper", sigma: float | None = None,
    reasoning: Reasoning = "free",
) -> Rewards:  # fmt: skip
    """The five rewards of a strictly parsed answer; one that is `worthless` scores 0 in everything.

    Boxes of `gold` are in the answer's space (`written_gold`); sigma in [0, 1), `None` = that of `DEFAULTS`.

    Example:
        >>> rome = Entity("Rome", 0, 1, "LOC", ())
        >>> tweet = Example("1", "demo", "train", ("Rome", "!"), (rome,), ("PER", "LOC"))
        >>> rewards(ParsedAnswer((PredictedEntity("Rome", "PER"),)), tweet)
        Rewards(count=1.0, span=1.0, type=0.0, grounding=1.0, entailment=1.0)
    """
    sigma = DEFAULTS[kind][0] if sigma is None else sigma
    if worthless(parsed, gold, sigma=sigma, reasoning=reasoning) is not None:
        five = (0.0,) * len(NAMES)
    elif kind == "paper":
        m = match(parsed.entities, gold.entities)
        means = reward_span(m), reward_type(m), reward_grounding(m, sigma=sigma), reward_entailment(m)
        five = reward_count(m.n_pred, m.n_gold), *means
    else:
        c = strict.check(parsed.entities, gold)
        first = strict.reward_count(c), strict.reward_span(c), strict.reward_type(c)
        five = *first, strict.reward_grounding(c, sigma=sigma), strict.reward_entailment(c)
    needed = zip(_NEEDS, five, strict=True)
    return Rewards(**{name: value if needs in gold.constraints else None for (name, needs), value in needed})


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


def completion_text(completion: str | Sequence[dict[str, Any]] | None) -> str:
    """The text of a completion: a string, `None`, or chat messages of strings, lists of parts or `None`."""
    if completion is None or isinstance(completion, str):
        return completion or ""
    contents = [message.get("content") or "" for message in completion]
    texts = ([c] if isinstance(c, str) else [part.get("text") or "" for part in c] for c in contents)
    return "".join(text for some in texts for text in some)


def grpo_reward_functions(
    *, kind: RewardKind = "paper", sigma: float | None = None, reasoning: Reasoning = "free"
) -> list[Callable[..., list[float | None]]]:
    """The five rewards as functions for TRL's GRPOTrainer, in the order of λ1..λ5; options as of `rewards`.

    Each completion is parsed once for all five. Columns read: `gold` (`gold_column`), `model_size` ([width,
    height] or `None`) and `family` (a name of `boxes.BOX_FORMATS`). Weights (`DEFAULTS`) go into
    `GRPOConfig(reward_weights=...)`. A `UserError` names a column that is missing or of another kind.
    """
    how = {"kind": kind, "sigma": sigma, "reasoning": reasoning}

    @lru_cache(maxsize=1024)
    def gold_of(gold: str, space: Space, model_size: Size | None) -> Example:
        try:
            return written_gold(Example.from_row(json.loads(gold)), space, model_size=model_size)
        except (TypeError, ValueError) as error:
            raise UserError(f"columns 'gold' and 'model_size': {error!s:.100}") from error

    @lru_cache(maxsize=4096)
    def all_of(text: str, gold: str, space: Space, model_size: Size | None) -> Rewards:
        example = gold_of(gold, space, model_size)
        parsed = parse_answer(text, labels=example.labels, constraints=example.constraints)
        return rewards(parsed, example, **how)

    def function(name: str) -> Callable[..., list[float | None]]:
        def reward(completions, gold=None, model_size=None, family=None, **_: Any) -> list[float | None]:
            n, columns = len(completions), (completions, gold, family, model_size)
            read = (_column(key, values, n) for key, values in zip(_COLUMNS, columns, strict=True))
            return [getattr(all_of(*row), name) for row in zip(*read, strict=True)]

        reward.__name__ = f"reward_{name}"
        return reward

    return [function(name) for name in NAMES]


_COLUMNS: dict[str, tuple[str, Callable[[Any], Any]]] = {  # what a column holds, and how a value is read
    "completions": ("texts or chats", completion_text), "gold": ("texts of gold_column", str.__str__),
    "family": ("names of box formats", lambda name: box_format(name).space),
    "model_size": ("[width, height] or None", lambda size: size and (size[0] + 0, size[1] + 0)),
}  # fmt: skip


def _column(name: str, values: Any, n: int) -> list[Any]:
    expected, read = _COLUMNS[name]
    try:
        if len(values) == n:
            return [read(value) for value in values]
        problem = f"{len(values)} values for {n} completions"
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        problem = "it is missing" if values is None else f"{error!s:.100}"
    raise UserError(f"column {name!r}: {problem}; expected {expected}")
