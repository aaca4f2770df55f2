"""Answers: perfect ones, in both forms, broken in one to four places; read, rewarded, verified and scored.

Checked of each: no traceback; no reward, by either set and any demand on the reasoning, above the unbroken
answer's; every reward in [0, 1]; its chain gets a verdict. Of all together: no score of `mcr score` above the
unbroken answers', by any scorer, strict or lenient. Of some, made longer and longer: time grows linearly.
"""

import json
import math
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import get_args

from benchmarks.siege.common import REPOSITORY, Section, seconds_of, watched
from mcr_lib import chains, rewards, testbed, verify
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.boxes import box_format
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.predictions import write_predictions
from mcr_lib.metrics import SCORERS
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.tables.scoring import score_examples
from mcr_lib.styles import STYLES
from mcr_lib.yardsticks import perfect

FAMILIES = ("qwen2.5-vl", "qwen3-vl")
FORMS = ("json", "paper")
PIECES = (
    "<answer>", "</answer>", "<think>", "</think>", "<process>", "</process>", "```json", "```", "[", "]",
    "{", "}", "(", ")", "[" * 40, "((((", '"', "“", "”", "'", "`", "\\", "\\u", "\\ud83d", "\ud83d", "\x00",
    "\u202e", "\r\n", "\t", ",", ",,", ":", "null", "None", "n/a", "NaN", "Infinity", "-1", "1e999", "0" * 40,
    "9" * 5000, "true", '"entity"', '"bbox_2d": [1, 2, 3]', "PER", "person", "<|im_end|>", "[[box 1]]",
    "(1, 2, 3, 4)", "not shown", "é", "e\u0301", "# ", "@", "\ufeff",
)  # fmt: skip
Mutation = Callable[[str, Random], str]


def run(section: Section, scratch: Path, n: int) -> None:
    """Break and check n answers."""
    rng, tweets, demands = Random(section.seed), _tweets(), _demands()
    rows, broken, whole, examples, slowest = [], [], [], [], (0.0, "")
    for k in range(n):
        seed = f"{section.seed}|{k}"
        example, style = rng.choice(tweets), rng.choice(sorted(STYLES))
        family, form = rng.choice(FAMILIES), rng.choice(FORMS)
        target = mrsi.Target(family, 56 * 56, 28 * 28 * 400, form=form)
        one = mrsi.build_chains([(example, style)], seed=k).chains[0]
        text = chains.render(one, family, target.size(example), form=form, labels=example.labels)
        row = next(mrsi.grpo_rows([(example, style)], target, prompt="mcr"))
        answer = _broken(text, example, target, Random(seed))
        problems: list[str] = []
        seconds = seconds_of(lambda a=answer, r=row: _check(a, text, r, example, problems, demands), 1)  # noqa: B023
        slowest = max(slowest, (seconds, f"try {k + 1}, {len(answer):,} characters"))
        with watched(problems, "verify"):
            flaw = chains.check(replace(one, text=_mutated(one.text, Random(seed), 2)), example)
            if flaw is not None and flaw not in verify.FLAWS:
                flaw_names = {"other_answer", "other_gold", "unknown_style"}
                problems += [] if flaw in flaw_names else [f"unknown flaw {flaw!r}"]
        section.record(f"answer {answer[:400]!r}", "; ".join(problems) or None)
        space = box_format(family).space
        examples.append(replace(example, id=f"t{k}", split="test", source="siege", images=()))
        size = {"model_size": row["model_size"]} if space == "model_px" else {}
        how = {"id": f"t{k}", "coordinate_space": space, "image_size_px": row["image_size"], **size}
        rows.append({**how, "answer": answer})
        whole.append({**how, "answer": text})
        broken.append(answer)
        if (k + 1) % 2000 == 0:
            section.say(f"{k + 1:,} answers, slowest {slowest[0]:.3f} s ({slowest[1]})")
    section.notes.append(f"slowest answer, all checks: {slowest[0]:.3f} s of CPU ({slowest[1]})")
    _scores(section, scratch, examples, rows, whole)
    _growth(section, broken[: n // 10], tweets[0])


def _tweets() -> list[Example]:
    sample = REPOSITORY / "data" / "sample"
    own = [e for split in ("train", "dev", "test") for e in load_split("twitter-gmner", sample, split=split)]
    made = [testbed.make("gmner", "train", k).example for k in range(100)]
    return [e for e in (*own, *made) if e.image_size_px]


def _check(answer: str, whole: str, row: dict, example: Example, problems: list[str], demands: list) -> None:
    """Read and reward one answer beside the unbroken one."""
    labels, constraints = example.labels, example.constraints
    for mode in ("strict", "lenient"):
        with watched(problems, f"parse_answer, {mode}"):
            parsed = parse_answer(answer, labels=labels, constraints=constraints, mode=mode)
            chains.faithfulness(parsed, labels=labels, task=constraints)
    columns = {
        "gold": [row["gold"]] * 2,
        "model_size": [row["model_size"]] * 2,
        "family": [row["family"]] * 2,
    }
    for (kind, reasoning), functions in (demands[0], demands[1 + len(answer) % (len(demands) - 1)]):
        with watched(problems, f"rewards, {kind}, reasoning {reasoning}"):
            pairs = [function(completions=[answer, whole], **columns) for function in functions]
            if not all(0 <= value <= 1 for pair in pairs for value in pair):
                problems.append(f"a reward of {kind} outside [0, 1]: {pairs}")
            weights = rewards.DEFAULTS[kind][1]
            of_broken, of_whole = (
                math.fsum(w * pair[k] for w, pair in zip(weights, pairs, strict=True)) for k in (0, 1)
            )
            if of_broken > of_whole + 1e-9:
                problems.append(f"R of {kind}, {reasoning}: {of_broken} broken, {of_whole} whole")
            if abs(of_whole - sum(weights)) > 1e-9:
                problems.append(f"R of the unbroken answer is {of_whole} by {kind}, {reasoning}")


def _demands() -> list[tuple[tuple[str, str], list[Callable]]]:
    """Both sets of rewards by every demand on the reasoning."""
    pairs = product(get_args(rewards.RewardKind), get_args(rewards.Reasoning))
    return [((k, r), rewards.grpo_reward_functions(kind=k, reasoning=r)) for k, r in pairs]


def _scores(section: Section, scratch: Path, examples: list[Example], rows: list, whole: list) -> None:
    """`mcr score` of all broken answers beside all unbroken ones."""
    tasks, last = ("gmner", "mner", "eeg"), {}
    others = [(scorer, "strict", 2000) for scorer in SCORERS if scorer != "paper"]
    for scorer, parse, n in (*others, ("paper", "strict", len(rows)), ("paper", "lenient", len(rows))):
        for name, some in (("broken", rows), ("whole", whole)):
            write_predictions(scratch / f"{name}.jsonl", some[:n])
        problems: list[str] = []
        with watched(problems, "score_examples"):
            for name in ("broken", "whole"):
                how = {"scorer": scorer, "parse": parse, "n_resamples": 20}
                report = score_examples(examples[:n], scratch / f"{name}.jsonl", **how)
                last[name] = {task: report[task]["f1"] for task in tasks}
            if not all(0 <= last["broken"][task] <= last["whole"][task] <= 100 for task in tasks):
                problems.append(f"F1 {last}")
        section.record(f"score {scorer}, {parse}, of {len(examples[:n]):,}", "; ".join(problems) or None)
    section.notes.append(f"F1, %, scorer paper, lenient: {last}")


def _growth(section: Section, answers: Sequence[str], example: Example) -> None:
    """Pieces, and up to 40 answers, repeated to 10,000 and to 40,000 characters."""
    rng, worst = Random(section.seed), (0.0, "")
    shapes = ["<answer>{}</answer>", "<think>{}</think>\n<answer>[]</answer>", "{}"]
    for k, unit in enumerate([*PIECES, *rng.sample(answers, 40)] if len(answers) >= 40 else PIECES[::8]):
        shape, unit = shapes[k % len(shapes)], unit[:2000]
        texts = [shape.format((unit * (length // len(unit) + 1))[:length]) for length in (10_000, 40_000)]
        problems: list[str] = []
        with watched(problems, "growth"):
            for mode in ("strict", "lenient"):
                short, long = (seconds_of(lambda t=text: _read(t, mode, example)) for text in texts)  # noqa: B023
                ratio = long / max(short, 2e-3)
                worst = max(worst, (long, f"{unit[:30]!r}, {mode}"))
                if ratio > 12:
                    problems.append(f"4 times the text, {ratio:.1f} times the time ({long:.2f} s), {mode}")
        section.record(f"growth of {unit[:100]!r} in {shape!r}", "; ".join(problems) or None)
    section.notes.append(f"slowest 40,000 characters: {worst[0]:.2f} s of CPU ({worst[1]})")


def _read(text: str, mode: str, example: Example) -> None:
    parsed = parse_answer(text, labels=example.labels, constraints=example.constraints, mode=mode)
    chains.faithfulness(parsed, labels=example.labels, task=example.constraints)


def _broken(text: str, example: Example, target: mrsi.Target, rng: Random) -> str:
    """A perfect answer with one to four mutations, of its entities or of its text."""
    n = rng.randint(1, 4)
    if rng.random() < 0.4:
        gold = rewards.written_gold(example, box_format(target.family).space, model_size=target.size(example))
        entities = list(perfect(gold))
        for _ in range(n):
            entities = _entity_mutation(entities, example, rng)
        think, tag, rest = text.rpartition("<answer>")
        how = {"constraints": example.constraints, "form": target.form, "labels": example.labels}
        return think + write_answer(entities, **how) if tag else write_answer(entities, **how)
    return _mutated(text, rng, n)


def _mutated(text: str, rng: Random, n: int) -> str:
    for _ in range(n):
        text = rng.choice(MUTATIONS)(text, rng)
    return text


def _entity_mutation(entities: list[PredictedEntity], example: Example, rng: Random) -> list[PredictedEntity]:
    """Drop, double, move, retype, rename, unbox, box or add an entity."""
    k = rng.randrange(len(entities)) if entities else 0
    words = " ".join(rng.sample(example.tokens, min(len(example.tokens), rng.randint(1, 3))))
    corner = [rng.randint(-5, 900) for _ in range(4)]
    new = PredictedEntity(words, rng.choice(example.labels), (tuple(corner),) if rng.random() < 0.5 else ())
    if not entities or rng.random() < 0.2:
        return [*entities[:k], new, *entities[k:]]
    one, others = entities[k], entities[:k] + entities[k + 1 :]
    changed = rng.choice((
        None, one, replace(one, type=rng.choice(example.labels)), replace(one, text=words),
        replace(one, boxes_xyxy=()), replace(one, boxes_xyxy=new.boxes_xyxy),
        replace(one, text=one.text.lower()), replace(one, text=one.text[:-1] or "x"),
    ))  # fmt: skip
    if changed is None:
        return others
    if changed is one:
        return [*entities, one] if rng.random() < 0.5 else rng.sample(entities, len(entities))
    return [*entities[:k], changed, *entities[k + 1 :]]


def _span(text: str, rng: Random, longest: int = 40) -> tuple[int, int]:
    start = rng.randint(0, max(0, len(text) - 1))
    return start, min(len(text), start + rng.randint(1, longest))


def _delete(text: str, rng: Random) -> str:
    start, end = _span(text, rng)
    return text[:start] + text[end:]


def _double(text: str, rng: Random) -> str:
    start, end = _span(text, rng, 200)
    return text[:end] + text[start:end] * rng.choice((1, 1, 2, 50)) + text[end:]


def _insert(text: str, rng: Random) -> str:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(PIECES) + text[at:]


def _replace(text: str, rng: Random) -> str:
    start, end = _span(text, rng, 3)
    return text[:start] + "".join(rng.choices(string.printable, k=end - start)) + text[end:]


def _cut(text: str, rng: Random) -> str:
    at = rng.randint(0, len(text))
    return text[:at] if rng.random() < 0.7 else text[at:]


def _token(text: str, rng: Random) -> str:
    """One structural piece becomes another one, or goes."""
    there = [piece for piece in PIECES if piece in text]
    if not there:
        return _insert(text, rng)
    piece = rng.choice(there)
    at = rng.choice([k for k in range(len(text)) if text.startswith(piece, k)])
    return text[:at] + rng.choice(("", *PIECES)) + text[at + len(piece) :]


def _digit(text: str, rng: Random) -> str:
    at = [k for k, character in enumerate(text) if character.isdigit()]
    k = rng.choice(at) if at else 0
    return text[:k] + rng.choice(("0", "9", "-", ".", "e9", "")) + text[k + 1 :]


def _around(text: str, rng: Random) -> str:
    return rng.choice((
        f"```json\n{text}\n```", f"Sure! {text}", f"{text} I hope this helps.", text * 2, f"  {text}",
        json.dumps({"answer": text}), text.replace('"', "'"), text.replace("\n", ""), text.upper(),
    ))  # fmt: skip


MUTATIONS: tuple[Mutation, ...] = (_delete, _double, _insert, _replace, _cut, _token, _token, _digit, _around)
