"""Tables on rewards, of notebooks 02 and 04: hand-made answers, and an audit of what each set pays for.

The audit lists every answer of up to two predictions to a tweet of two entities (`mistakes.WORLD`), each also
with a made-up name behind it, plants one mistake more, and asks whether R falls (ours; the paper is silent).
Answers whose names the two sets pair differently ("Ada" beside "Ada Byron") are left out of it: there it is a
matter of taste which name is the mistake.
"""

from collections.abc import Iterator
from dataclasses import astuple, replace
from functools import cache
from itertools import permutations, product
from typing import Any

from mcr_lib import constraints, rewards, strict_rewards
from mcr_lib.answer import ParsedAnswer, parse_answer, write_answer
from mcr_lib.rewards import DEFAULTS, NAMES, RewardKind, Rewards
from mcr_lib.schema import PredictedEntity
from mcr_lib.study.tables import cases, mistakes
from mcr_lib.study.tables.mistakes import WORLD
from mcr_lib.yardsticks import perfect

Rows = list[dict[str, Any]]
Answer = tuple[PredictedEntity, ...]
WITH_ZEROS = "paper, F = 0 matched"  # the other reading of "matched": k = min(p, q)
KINDS = ("paper", WITH_ZEROS, "strict")
COLUMNS = ("R_c", "R_s", "R_t", "R_u", "R_e")
PLANTED = {  # repair that takes it back -> mistake
    "missing entity added": "entity left out", "untouching one dropped": "name made up or repeated",
    "boundary": "wrong boundary", "type": "wrong type", "groundability": "wrongly boxed or not",
    "box": "wrong box",
}  # fmt: skip
STRAY, SILENCE = "box on a made-up name", "wrongly boxed name left out"
_BOXES = {(): "–", (mistakes.A,): "box", (mistakes.B,): "near"}
_CLOSE = 1e-9


def by_column(earned: Rewards) -> dict[str, float | None]:
    """The five rewards by the names of their columns (`COLUMNS`)."""
    return {column: getattr(earned, name) for column, name in zip(COLUMNS, NAMES, strict=True)}


def case_rewards(name: str, kind: RewardKind = "paper") -> Rewards:
    """The rewards of one of `cases.ANSWERS`, or of a text that is no answer ("malformed")."""
    text = "Kevin Durant, left" if name == "malformed" else write_answer(cases.ANSWERS[name])
    return rewards.rewards(parse_answer(text, labels=cases.TWEET.labels), cases.TWEET, kind=kind)


def reward_rows(kind: RewardKind = "paper") -> Rows:
    """The five rewards and their sum R for each hand-made answer, the malformed one last."""
    earned, weights = {n: case_rewards(n, kind) for n in (*cases.ANSWERS, "malformed")}, DEFAULTS[kind][1]
    return [{"answer": n, **by_column(five), "R": five.total(weights)} for n, five in earned.items()]


def grounding_rows() -> Rows:
    """R_u of one groundable entity against the IoU of its box: paper by σ; strict, without and with a stray
    box beside it.
    """
    stray, rows = PredictedEntity("Rome", "LOC", (mistakes.C,)), []
    for percent in range(101):
        ada = PredictedEntity("Ada Byron", "PER", ((0, 0, 10, percent / 10),))  # covers this share of A
        matched = rewards.match([ada], WORLD.entities)
        r_u = {f"paper, σ = {s}": rewards.reward_grounding(matched, sigma=s) for s in (0.0, 0.3, 0.5)}
        for name, answer in (("strict, σ = 0.5", [ada]), ("strict, and a stray box", [ada, stray])):
            r_u[name] = strict_rewards.reward_grounding(strict_rewards.check(answer, WORLD))
        rows += [{"line": line, "iou": percent / 100, "R_u": value} for line, value in r_u.items()]
    return rows


@cache
def earned(answer: Answer, kind: str) -> Rewards:
    """The rewards of an answer to `mistakes.WORLD` by one of `KINDS`."""
    if kind == WITH_ZEROS:
        matched = rewards.match(answer, WORLD.entities, with_zeros=True)
        means = rewards.reward_span, rewards.reward_type, rewards.reward_grounding, rewards.reward_entailment
        return Rewards(rewards.reward_count(matched.n_pred, matched.n_gold), *(of(matched) for of in means))
    return rewards.rewards(ParsedAnswer(answer), WORLD, kind=kind)


def total(answer: Answer, kind: str) -> float:
    """R of an answer to `mistakes.WORLD`, with σ and λ of the set."""
    return earned(answer, kind).total(DEFAULTS["strict" if kind == "strict" else "paper"][1])


def all_answers(n_most: int = 2) -> list[Answer]:
    """`mistakes.small_answers`, each without and with a made-up name behind it."""
    filler = PredictedEntity("Nobody", "PER", (mistakes.C,))
    return [answer + more for answer in mistakes.small_answers(n_most) for more in ((), (filler,))]


@cache
def plantings(n_most: int = 2) -> tuple[tuple[str, Answer, Answer], ...]:
    """Every (mistake, answer without it, answer with it) of which one is in `all_answers`."""
    some = (one for answer in all_answers(n_most) for one in plantings_of(answer))
    return tuple(one for one in some if _is_clear(one[1]) and _is_clear(one[2]))


@cache
def _is_clear(answer: Answer) -> bool:
    """Whether both sets pair the names of an answer with the same gold entities."""
    checked, gold = strict_rewards.check(answer, WORLD), WORLD.entities
    strict = ((answer[i], gold[j]) for i, j in checked.matches + checked.touches)
    paper = ((pair.predicted, pair.gold) for pair in rewards.match(answer, gold).pairs)
    return sorted(map(repr, strict)) == sorted(map(repr, paper))


def plantings_of(answer: Answer) -> Iterator[tuple[str, Answer, Answer]]:
    """As `plantings`, of which one is this answer, whether clear or not."""
    for repair in mistakes.repairs(answer, WORLD):
        if not repair.moves_others:
            yield PLANTED[repair.kind], repair.answer, answer
    checked, spans = strict_rewards.check(answer, WORLD), mistakes.spans(answer, WORLD)
    gold_of, touching = dict(checked.matches), {i for i, _ in checked.matches + checked.touches}
    for i, prediction in enumerate(answer):
        others, rest = (*answer[:i], *answer[i + 1 :]), spans[:i] + spans[i + 1 :]
        if i not in touching and not prediction.boxes_xyxy:
            boxed = replace(prediction, boxes_xyxy=(mistakes.C,))
            yield STRAY, answer, (*answer[:i], boxed, *answer[i + 1 :])
        is_missed = i in gold_of and constraints.BOX.holds(prediction, WORLD.entities[gold_of[i]]) < 0.5
        if is_missed and mistakes.spans(others, WORLD) == rest:
            yield SILENCE, answer, others


def audit_rows(n_most: int = 2) -> Rows:
    """Per mistake and set of rewards, how often planting it lowers R ("costs"), leaves it ("free") or raises
    it ("pays"); where it does not always cost, the best of the shortest answers for which it pays or is free.
    """
    steps = {mistake: [] for mistake in (*PLANTED.values(), STRAY, SILENCE)}
    for mistake, before, after in plantings(n_most):
        steps[mistake].append((before, after))
    rows = []
    for (mistake, pairs), kind in product(steps.items(), KINDS):
        # R with the mistake, R without it, and the two answers
        tried = [(round(total(b, kind), 9), round(total(a, kind), 9), a, b) for a, b in pairs]
        free, paying = [one for one in tried if one[0] == one[1]], [one for one in tried if one[0] > one[1]]
        row = {"mistake": mistake, "rewards": kind, "n": len(pairs)}
        row |= {"costs": len(pairs) - len(free) - len(paying), "free": len(free), "pays": len(paying)}
        if best := min(paying or free, key=lambda one: (len(one[2]) > 2, -one[0], -one[1]), default=None):
            row |= {"without it": in_words(best[2]), "R": best[1], "with it": in_words(best[3])}
            row["R with it"] = best[0]
        rows.append(row)
    return rows


def in_words(answer: Answer) -> str:
    """An answer to `mistakes.WORLD` to read: no box (–), the box of "Ada Byron", one near it, or a miss.

    Example:
        >>> in_words((PredictedEntity("Rome", "LOC"), PredictedEntity("Eve", "PER", (mistakes.C,))))
        'Rome LOC –, Eve PER miss'
    """
    parts = (f"{p.text} {p.type} {_BOXES.get(p.boxes_xyxy, 'miss')}" for p in answer)
    return ", ".join(parts) or "nothing"


def property_rows(n_most: int = 2) -> Rows:
    """Properties checked on every answer of `all_answers` and on every mistake planted in one: cases, how
    many of them fail in each set, and the shortest that fails in the paper's.
    """
    answers, gold = all_answers(n_most), sorted(map(repr, perfect(WORLD)))
    right = [(a,) for a in answers if sorted(map(repr, a)) == gold]
    wrong = [(a,) for a in answers if (a,) not in right]
    mended = [(m, with_it, without) for m, without, with_it in plantings(n_most) if m in PLANTED.values()]
    of_pair = [(a, b) for m, a, b in mended if m in ("wrong type", "wrongly boxed or not", "wrong box")]
    every = [(a, b) for _, a, b in mended]
    moved = [(a, b) for a in answers if len({p.text for p in a}) == len(a) for b in permutations(a)]
    checks = (
        ("every reward lies in [0, 1]", right + wrong, lambda k, a: all(0 <= r <= 1 for r in _five(a, k))),
        ("a perfect answer earns 1 of each", right, lambda k, a: set(_five(a, k)) == {1}),
        ("no other answer does", wrong, lambda k, a: set(_five(a, k)) != {1}),
        ("mending type, groundability or box of a match lowers no reward", of_pair, _lowers_none),
        ("mending any one mistake lowers no reward", every, _lowers_none),
        ("mending any one mistake does not lower R", every, lambda *of: _change(*of) > -_CLOSE),
        ("the order of different names does not matter", moved, lambda *of: abs(_change(*of)) < _CLOSE),
    )
    rows = []
    for name, some, holds in checks:
        failing = {kind: [case for case in some if not holds(kind, *case)] for kind in KINDS}
        row = {"property": name, "cases": len(some), **{k: len(of) for k, of in failing.items()}}
        first = min(failing["paper"], key=lambda case: len(case[0]), default=())
        rows.append(row | {"fails, paper": " → ".join(map(in_words, first))})
    return rows


def _five(answer: Answer, kind: str) -> tuple[float, ...]:
    return astuple(earned(answer, kind))


def _change(kind: str, before: Answer, after: Answer) -> float:
    return total(after, kind) - total(before, kind)


def _lowers_none(kind: str, before: Answer, after: Answer) -> bool:
    return all(b > a - _CLOSE for a, b in zip(_five(before, kind), _five(after, kind), strict=True))
