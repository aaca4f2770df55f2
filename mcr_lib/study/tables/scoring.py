"""From a predictions file to a report: scores with intervals, bias, how answers were parsed, yardsticks, and
a comparison with a second file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, metrics, statistics, yardsticks
from mcr_lib.answer import Mode, ParsedAnswer
from mcr_lib.data import load_split
from mcr_lib.data.files import write_json
from mcr_lib.data.predictions import (
    Prediction,
    finished_row,
    parse_prediction,
    read_predictions,
    write_predictions,
)
from mcr_lib.errors import UserError
from mcr_lib.metrics import Judged
from mcr_lib.schema import CONSTRAINTS, FORMAT_VERSION, Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config, Loaded
from mcr_lib.study.tables import catalogue


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """The answers of one file to the tweets of one split, in the order of the split.

    Args:
        judged: one per tweet; a tweet without an answer counts as an empty answer.
        parsed: one per tweet that has an answer.
        ids: "unknown", "repeated" and "missing" ids, each in order. Of a repeated id the last row counts.
        n_other_size: rows whose `image_size_px` differs from the annotated one.
    """

    judged: list[Judged]
    parsed: list[ParsedAnswer]
    ids: dict[str, list[str]]
    n_other_size: int


def join(examples: Sequence[Example], predictions: Sequence[Prediction], *, parse: Mode) -> ScoredFile:
    """Parse every answer, place it in its tweet and pair it with gold ("lenient" also places leniently)."""
    n_rows = Counter(prediction.id for prediction in predictions)
    row_of = {prediction.id: prediction for prediction in predictions}
    judged, parsed, n_other_size = [], [], 0
    for example in examples:
        entities = ()
        if (row := row_of.get(example.id)) is not None:
            answer, entities = parse_prediction(row, example, parse)
            parsed.append(answer)
            n_other_size += len({row.image_size_px, example.image_size_px} - {None}) > 1
        judged.append(metrics.judge(example, entities, lenient=parse == "lenient"))
    known = {example.id for example in examples}
    ids = {
        "unknown": [id for id in n_rows if id not in known],
        "repeated": [id for id, n in n_rows.items() if n > 1],
        "missing": [example.id for example in examples if example.id not in row_of],
    }
    return ScoredFile(judged, parsed, ids, n_other_size)


def read_answers(examples: Sequence[Example], path: str | Path, parse: Mode) -> ScoredFile:
    """`join` of a predictions file.

    Raises:
        UserError: the file is missing or broken, or none of its ids is in the split.
    """
    _, rows = read_predictions(path)
    answers = join(examples, rows, parse=parse)
    if len(answers.ids["missing"]) == len(examples):
        ids = f"none of its {len(rows)} ids is in the {examples[0].split} split of {examples[0].source}"
        raise UserError(f"{path}: {ids}; is it another split or data set?")
    return answers


def task_ratios(judged: Sequence[Judged], scorer: str) -> dict[str, dict[str, Ratio]]:
    """Task -> P, R, F1 as ratios over tweets, for every task that the source's constraints allow."""
    tasks = metrics.scored_tasks(judged[0].example.constraints)
    outcomes = {task: [metrics.outcome(j, task, scorer) for j in judged] for task in tasks}
    return {task: metrics.ratios(metrics.totals(of_task)) for task, of_task in outcomes.items()}


def f1_ratios(judged: Sequence[Judged], scorer: str) -> dict[str, Ratio]:
    """Task -> F1 as a ratio over tweets."""
    return {task: ratios["f1"] for task, ratios in task_ratios(judged, scorer).items()}


def report(judged: Sequence[Judged], *, scorer: str, n_resamples: int, seed: int) -> dict[str, Any]:
    """Scores and bias of judged answers in percent, with 95 % bootstrap intervals over tweets.

    Args:
        scorer: one of `metrics.SCORERS`.
        n_resamples: bootstrap resamples; one draw serves every number.
    """
    weights = statistics.resamples(len(judged), n_resamples, np.random.default_rng(seed))
    example = judged[0].example
    result: dict[str, Any] = {"n_examples": len(judged), "scorer": scorer}
    for task, ratios in task_ratios(judged, scorer).items():
        values = statistics.summary(ratios, weights)
        intervals = values.pop("ci95")
        result[task] = values | {"ci95": intervals["f1"], "ci95_p": intervals["p"], "ci95_r": intervals["r"]}
    result["by_type"] = {
        task: metrics.by_type([metrics.outcome(j, task, scorer) for j in judged], example.labels)
        for task in ("gmner", "mner")
        if task in result
    }
    if "box" in example.constraints:
        n_hard = sum(any(bias.is_hard(j.example, e) for e in j.example.entities) for j in judged)
        n_pairs, n_gold_pairs = bias.box_sharing(judged)
        result["textual_bias"] = {
            **_textual_bias(judged, weights),
            "hard": {"n_tweets": n_hard, **_textual_bias(judged, weights, only_hard=True)},
            "box_sharing": {"pairs": n_pairs, "gold_pairs": n_gold_pairs},
            "wrong_boxes": bias.wrong_boxes(judged),
        }
    result["visual_bias"] = _visual_bias(judged, weights)
    return result


def _textual_bias(
    judged: Sequence[Judged], weights: np.ndarray, *, only_hard: bool = False
) -> dict[str, Any]:
    ratios = bias.textual_bias(judged, only_hard=only_hard)
    false, missed = ratios["false_grounding"], ratios["missed_grounding"]
    ends = statistics.interval95_of_sum([(-0.5, false), (-0.5, missed)], weights)
    intervals = statistics.summary(ratios, weights)["ci95"]
    intervals["balanced_accuracy"] = None if ends is None else [round(100 + end, 2) for end in ends]
    values = {name: _round(ratio.percent) for name, ratio in ratios.items()}
    balanced = bias.balanced_accuracy(false.percent, missed.percent)
    return {**values, "balanced_accuracy": _round(balanced), "ci95": intervals}


def _visual_bias(judged: Sequence[Judged], weights: np.ndarray) -> dict[str, Any]:
    ratios = bias.visual_bias(judged)
    invented, altered = ratios["n_rate"], ratios["altered_rate"]
    return {
        "n_count": int(invented.numerator.sum()),
        "n_rate": _round(invented.percent),
        "altered": int(altered.numerator.sum()),
        "altered_rate": _round(altered.percent),
        "n_predictions": int(invented.denominator.sum()),
        "ci95": statistics.summary(ratios, weights)["ci95"],
    }


def yardstick_scores(examples: Sequence[Example], scorer: str) -> dict[str, dict[str, float | None]]:
    """GMNER F1, N-F1, false and missed grounding in percent of every yardstick on these tweets."""
    rows = {}
    for name, rule in yardsticks.YARDSTICKS.items():
        judged = [metrics.judge(example, rule(example)) for example in examples]
        textual = bias.textual_bias(judged)
        ratios = {key: textual[key] for key in ("n_f1", "false_grounding", "missed_grounding")}
        ratios["gmner_f1"] = f1_ratios(judged, scorer)["gmner"]
        rows[name] = {key: _round(ratio.percent) for key, ratio in ratios.items()}
    return rows


def yardstick_table(examples: Sequence[Example]) -> dict[str, Any]:
    """GMNER F1 of every yardstick under every scorer, its N-F1, and the data they were computed on."""
    rows: dict[str, dict[str, float | None]] = {name: {} for name in yardsticks.YARDSTICKS}
    for scorer in metrics.SCORERS:
        scores = yardstick_scores(examples, scorer)
        for name, row in rows.items():
            row[scorer] = scores[name]["gmner_f1"]
    for name, row in rows.items():
        row["n_f1"] = scores[name]["n_f1"]  # the same under every scorer
    return {
        "format_version": FORMAT_VERSION,
        "data": f"{examples[0].source}:{checksum(examples)}",
        "split": examples[0].split,
        "n_examples": len(examples),
        "scorer_version": metrics.SCORER_VERSION,
        "rows": rows,
    }


def score_file(
    *, source: str, root: str | Path, version: str | None = None, split: str = "test", **options: Any
) -> dict[str, Any]:
    """The report that `mcr score` prints: `score_examples` of a split that is read from a data folder.

    Args:
        root: the folder of the data set.
        options: of `score_examples`, `predictions` among them.

    Raises:
        UserError: the data is missing or broken, or as `score_examples`.
    """
    return score_examples(load_split(source, root, split=split, version=version), **options)


def score_examples(
    examples: Sequence[Example],
    predictions: str | Path,
    *,
    scorer: str = "definition",
    parse: Mode = "strict",
    n_resamples: int = 1000,
    seed: int = 0,
    compare: str | Path | None = None,
) -> dict[str, Any]:
    """The report of a predictions file, as one JSON-ready dict.

    Args:
        examples: all tweets of one split.
        seed: of the bootstrap and the test.
        compare: another predictions file for the same tweets; adds paired tests (file minus other).

    Raises:
        UserError: a file is missing or broken, none of its ids is in the split, or a number is out of range.
    """
    if not 1 <= n_resamples <= statistics.MAX_RESAMPLES or seed < 0:
        expected = f"1 to {statistics.MAX_RESAMPLES:,} resamples and a seed of 0 or more"
        raise UserError(f"resamples {n_resamples} and seed {seed}: expected {expected}")
    answers, first = read_answers(examples, predictions, parse), examples[0]
    signature = metrics.signature(
        scorer=scorer, source=first.source, checksum=checksum(examples), split=first.split, parse=parse,
        extra={"resamples": n_resamples, "seed": seed},
    )  # fmt: skip
    other_parse: Mode = "lenient" if parse == "strict" else "strict"
    others = f1_ratios(read_answers(examples, predictions, other_parse).judged, scorer)
    other_f1 = {f"{task}_f1": round(ratio.percent or 0.0, 2) for task, ratio in others.items()}
    result = {
        "format_version": FORMAT_VERSION,
        "signature": signature,
        "predictions": Path(predictions).name,
        **report(answers.judged, scorer=scorer, n_resamples=n_resamples, seed=seed),
        "parse": parse_summary(answers.parsed),
        "placing": placing_summary(answers.judged),
        "ids": _id_counts(answers),
        "image_size_differs": answers.n_other_size,
        "other_parse": {"parse": other_parse, **other_f1},
    }
    if {"box", "type"} <= set(first.constraints):
        result["yardsticks"] = yardstick_scores(examples, scorer)
    if compare is not None:
        rival = read_answers(examples, compare, parse)
        a, b = Path(predictions), Path(compare)
        names = (str(a), str(b)) if a.name == b.name else (a.name, b.name)
        f1, rival_f1 = f1_ratios(answers.judged, scorer), f1_ratios(rival.judged, scorer)
        tests = {task: f1_test(f1[task], rival_f1[task], task, names, n_resamples, seed) for task in f1}
        result["compare"] = {"with": names[1], "ids": _id_counts(rival), **tests}
    return result


def f1_test(
    first: Ratio, second: Ratio, task: str, names: tuple[str, str], n_resamples: int, seed: int
) -> dict[str, Any]:
    """The paired test of two F1 scores of a task: difference in points, 95 % interval, p and a verdict."""
    test = statistics.paired_test(first, second, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    metric = catalogue.label(f"{task}_f1")
    return {
        "difference": round(test.difference, 2),
        "ci95": [round(end, 2) for end in test.ci95],
        "p_value": round(test.p_value, 4),
        "verdict": statistics.verdict(test, first=names[0], second=names[1], metric=metric),
    }


def configured_file(loaded: Loaded, examples: Sequence[Example]) -> Path | None:
    """The predictions file that a configuration says to score; `None` if it names none.

    With `stand_in` and no file, gold with each decision right at that rate is written into the run folder: no
    model's answers, but something to score.
    """
    c = loaded.config
    if c.predictions is not None or c.stand_in is None:
        return loaded.path("predictions")
    path = RunFolder(loaded.folder).predictions(f"degraded-gold.{c.eval_split}")
    rng, accuracy = np.random.default_rng(c.seed), dict.fromkeys(CONSTRAINTS, c.stand_in)
    rows = (finished_row(example, yardsticks.degrade(example, accuracy, rng)) for example in examples)
    write_predictions(path, rows, made_from="gold, no model", accuracy=c.stand_in, seed=c.seed)
    return path


def options(config: Config) -> dict[str, Any]:
    """How a configuration says to score: options of `score_examples`."""
    return {key: getattr(config, key) for key in ("scorer", "parse", "n_resamples", "seed")}


def n_mistakes(judged: Judged) -> int:
    """False positives and false negatives of GMNER in one tweet."""
    counts = metrics.outcome(judged, "gmner")
    return counts.fp.total() + counts.fn.total()


def worst(judged: Sequence[Judged], n: int) -> list[Judged]:
    """Up to n tweets to look at: those with an image and the most mistakes first."""
    return sorted(judged, key=lambda j: (not j.example.images, -n_mistakes(j)))[:n]


def write_scores(folder: RunFolder, reports: Mapping[str, Any]) -> list[str]:
    """Write each report to `scores/<stem>.json`; returns one line per file."""
    for stem, value in reports.items():
        write_json(folder.score(stem), value)
    return [f"scores/{stem}.json" for stem in reports]


def parse_summary(parsed: Sequence[ParsedAnswer]) -> dict[str, Any]:
    """How many answers were parsed as they are (`ok`), after repair or with entities dropped (`lenient`), or
    not at all, by reason.
    """
    failed = Counter(p.reason for p in parsed if p.reason is not None)
    n_lenient = sum(p.reason is None and bool(p.repairs or p.lost) for p in parsed)
    return {
        "n_answers": len(parsed),
        "ok": len(parsed) - failed.total() - n_lenient,
        "lenient": n_lenient,
        "failed_by_reason": dict(failed.most_common()),
        "repairs": dict(Counter(name for p in parsed for name in p.repairs).most_common()),
        "lost_entities": dict(Counter(name for p in parsed for name in p.lost).most_common()),
    }


def placing_summary(judged: Sequence[Judged]) -> dict[str, int]:
    """How many predictions were placed in the text exactly, leniently, as duplicates or not at all, and how
    many have several boxes.
    """
    placements = [placement for j in judged for placement in j.placements]
    kinds = Counter(placement.kind for placement in placements)
    n_lenient = sum(p.kind == "placed" and p.is_lenient for p in placements)
    return {
        "n_predictions": len(placements),
        "exact": kinds["placed"] - n_lenient,
        "lenient": n_lenient,
        "duplicate": kinds["duplicate"],
        "unplaced": kinds["unplaced"],
        "several_boxes": sum(len(p.boxes_xyxy) > 1 for j in judged for p in j.predictions),
    }


def _id_counts(answers: ScoredFile) -> dict[str, dict[str, Any]]:
    return {kind: {"count": len(ids), "first": ids[:5]} for kind, ids in answers.ids.items()}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
