"""From a predictions file to numbers: scores with intervals, bias, how the answers were read, yardsticks, and
a comparison of two files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

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
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.tables.show import show_score


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """The answers of one file to the tweets of one split, in the order of the split.

    Args:
        judged: one per tweet; a tweet without an answer has an empty one.
        parsed: one per tweet that has an answer.
        ids: "unknown", "repeated" and "missing" ids, each in order. Of a repeated id the last row counts.
        n_other_size: rows whose `image_size_px` is not the annotated one.
    """

    judged: list[Judged]
    parsed: list[ParsedAnswer]
    ids: dict[str, list[str]]
    n_other_size: int


def join(examples: Sequence[Example], predictions: Sequence[Prediction], *, parse: Mode) -> ScoredFile:
    """Read every answer, place it in its tweet and pair it with gold.

    Args:
        parse: "lenient" also places leniently.
    """
    n_rows = Counter(prediction.id for prediction in predictions)
    known = {example.id for example in examples}
    row_of = {prediction.id: prediction for prediction in predictions}
    judged, parsed, n_other_size = [], [], 0
    for example in examples:
        entities = ()
        if example.id in row_of:
            row = row_of[example.id]
            read, entities = parse_prediction(row, example, parse)
            parsed.append(read)
            n_other_size += (
                None not in (row.image_size_px, example.image_size_px)
                and row.image_size_px != example.image_size_px
            )
        judged.append(metrics.judge(example, entities, lenient=parse == "lenient"))
    ids = {
        "unknown": [id for id in n_rows if id not in known],
        "repeated": [id for id, n in n_rows.items() if n > 1],
        "missing": [example.id for example in examples if example.id not in row_of],
    }
    return ScoredFile(judged, parsed, ids, n_other_size)


def task_ratios(judged: Sequence[Judged], scorer: str) -> dict[str, dict[str, statistics.Ratio]]:
    """Task -> P, R, F1 as ratios over tweets, for every task that the source's constraints allow."""
    tasks = metrics.scored_tasks(judged[0].example.constraints)
    return {
        task: metrics.ratios(metrics.totals([metrics.outcome(j, task, scorer) for j in judged]))
        for task in tasks
    }


def report(judged: Sequence[Judged], *, scorer: str, n_resamples: int, seed: int) -> dict[str, Any]:
    """Scores and bias of judged answers, in percent, with 95 % bootstrap intervals over tweets.

    Args:
        scorer: one of `metrics.SCORERS`.
        n_resamples: bootstrap resamples; one draw serves every number.
    """
    weights = statistics.resamples(len(judged), n_resamples, np.random.default_rng(seed))
    labels = judged[0].example.labels
    result: dict[str, Any] = {"n_examples": len(judged), "scorer": scorer}
    for task, ratios in task_ratios(judged, scorer).items():
        result[task] = _score(ratios, weights)
    result["by_type"] = {
        task: metrics.by_type([metrics.outcome(j, task, scorer) for j in judged], labels)
        for task in ("gmner", "mner")
        if task in result
    }
    if "box" in judged[0].example.constraints:
        result["textual_bias"] = _textual(judged, weights)
        result["textual_bias"]["hard"] = {
            "n_tweets": sum(any(bias.is_hard(j.example, e) for e in j.example.entities) for j in judged),
            **_textual(judged, weights, only_hard=True),
        }
        n_pred, n_gold = bias.box_sharing(judged)
        result["textual_bias"]["box_sharing"] = {"pairs": n_pred, "gold_pairs": n_gold}
        result["textual_bias"]["wrong_boxes"] = bias.wrong_boxes(judged)
    result["visual_bias"] = _visual(judged, weights)
    return result


def yardstick_scores(examples: Sequence[Example], scorer: str) -> dict[str, dict[str, float | None]]:
    """GMNER F1, N-F1, false and missed grounding in percent of every yardstick on these tweets."""
    rows = {}
    for name, rule in yardsticks.YARDSTICKS.items():
        judged = [metrics.judge(example, rule(example)) for example in examples]
        textual = bias.textual_bias(judged)
        ratios = {key: textual[key] for key in ("n_f1", "false_grounding", "missed_grounding")}
        ratios["gmner_f1"] = task_ratios(judged, scorer)["gmner"]["f1"]
        rows[name] = {key: _round(ratio.percent) for key, ratio in ratios.items()}
    return rows


def yardstick_table(examples: Sequence[Example]) -> dict[str, Any]:
    """GMNER F1 of every yardstick under every scorer, and its N-F1, with what they were computed on."""
    by_scorer = {scorer: yardstick_scores(examples, scorer) for scorer in metrics.SCORERS}
    rows = {
        name: {
            **{scorer: scores[name]["gmner_f1"] for scorer, scores in by_scorer.items()},
            "n_f1": by_scorer[metrics.SCORERS[0]][name]["n_f1"],
        }
        for name in yardsticks.YARDSTICKS
    }
    told = {
        "data": f"{examples[0].source}:{checksum(examples)}",
        "split": examples[0].split,
        "n_examples": len(examples),
    }
    return {"format_version": FORMAT_VERSION, **told, "scorer_version": metrics.SCORER_VERSION, "rows": rows}


def score_file(
    *,
    source: str,
    root: str | Path,
    predictions: str | Path,
    version: str | None = None,
    split: str = "test",
    scorer: str = "definition",
    parse: Mode = "strict",
    compare: str | Path | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that `mcr score` tells, as one JSON-ready dict: `score_examples` of a split that is read
    from its own files.

    Args:
        root: the folder of the data set.
        predictions: a predictions file (`sources.predictions`).
        compare: another predictions file for the same tweets; adds paired tests (file minus other).
        seed: of the bootstrap and the test.

    Raises:
        UserError: data or predictions are missing or broken, no id of the file is in the split, or a number
            is out of range.
    """
    if not 1 <= n_resamples <= statistics.MAX_RESAMPLES or seed < 0:
        told = f"resamples {n_resamples} and seed {seed}"
        raise UserError(
            f"{told}: expected 1 to {statistics.MAX_RESAMPLES:,} resamples and a seed of 0 or more"
        )
    examples = load_split(source, root, split=split, version=version)
    return score_examples(
        examples, predictions, scorer=scorer, parse=parse, compare=compare, n_resamples=n_resamples, seed=seed
    )


def score_examples(
    examples: Sequence[Example],
    predictions: str | Path,
    *,
    scorer: str,
    parse: Mode,
    compare: str | Path | None = None,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Everything that there is to tell of a predictions file, as one JSON-ready dict.

    Args:
        examples: all tweets of one split.
        predictions: a predictions file for them.
        compare: another one; adds paired tests (file minus other).
        seed: of the bootstrap and the test.

    Raises:
        UserError: a file is missing or broken, or none of its ids is in the split.
    """
    answers = _answers(examples, predictions, parse)
    result = {
        "format_version": FORMAT_VERSION,
        "signature": metrics.signature(
            scorer=scorer, source=examples[0].source, checksum=checksum(examples), split=examples[0].split, parse=parse,
            extra={"resamples": n_resamples, "seed": seed},
        ),
        "predictions": Path(predictions).name,
        **report(answers.judged, scorer=scorer, n_resamples=n_resamples, seed=seed),
        "parse": parse_summary(answers.parsed),
        "placing": placing_summary(answers.judged),
        "ids": _told_ids(answers),
        "image_size_differs": answers.n_other_size,
    }  # fmt: skip
    other_mode: Mode = "lenient" if parse == "strict" else "strict"
    other = task_ratios(_answers(examples, predictions, other_mode).judged, scorer)
    result["other_parse"] = {
        "parse": other_mode,
        **{f"{task}_f1": _round(ratios["f1"].percent) or 0.0 for task, ratios in other.items()},
    }
    if "box" in examples[0].constraints and "type" in examples[0].constraints:
        result["yardsticks"] = yardstick_scores(examples, scorer)
    if compare is not None:
        rival = _answers(examples, compare, parse)
        names = _names(predictions, compare)
        tests = comparison(answers.judged, rival.judged, scorer, names, n_resamples, seed)
        result["compare"] = {"with": names[1], "ids": _told_ids(rival), **tests}
    return result


def configured_file(loaded: Loaded, examples: Sequence[Example]) -> Path | None:
    """The predictions file that a configuration says to score; `None`: there is none.

    Where it names none but says `stand_in`, gold with each decision right at that rate is written into the
    run folder: no model's answers, but something to score.
    """
    c = loaded.config
    if c.predictions is not None or c.stand_in is None:
        return loaded.path("predictions")
    path = RunFolder(loaded.folder).predictions(f"degraded-gold.{c.eval_split}")
    rng, accuracy = np.random.default_rng(c.seed), dict.fromkeys(CONSTRAINTS, c.stand_in)
    rows = (finished_row(example, yardsticks.degrade(example, accuracy, rng)) for example in examples)
    write_predictions(path, rows, made_from="gold, no model", accuracy=c.stand_in, seed=c.seed)
    return path


def score_configured(loaded: Loaded, examples: Sequence[Example], predictions: Path) -> dict[str, Any]:
    """`score_examples` as a configuration says."""
    c = loaded.config
    return score_examples(
        examples,
        predictions,
        scorer=c.scorer,
        parse=c.parse,
        compare=loaded.path("compare"),
        n_resamples=c.n_resamples,
        seed=c.seed,
    )


def judged_file(examples: Sequence[Example], predictions: Path, parse: Mode) -> list[Judged]:
    """The judged answers of a predictions file."""
    return _answers(examples, predictions, parse).judged


def worst(judged: Sequence[Judged], n: int) -> list[Judged]:
    """Up to n tweets to look at: those with an image and the most mistakes first."""

    def key(j: Judged) -> tuple[bool, int]:
        counts = metrics.outcome(j, "gmner")
        return not j.example.images, -(counts.fp.total() + counts.fn.total())

    return sorted(judged, key=key)[:n]


def print_score(result: Mapping[str, Any]) -> None:
    """Print a result as `mcr score` does."""
    show_score(result, Console(width=120, force_terminal=False, force_jupyter=False))


def write_scores(folder: RunFolder, reports: Mapping[str, Any]) -> list[str]:
    """Write each report to `scores/<stem>.json`; returns one line per file."""
    for stem, value in reports.items():
        write_json(folder.score(stem), value)
    return [f"scores/{stem}.json" for stem in reports]


def comparison(
    first: Sequence[Judged],
    second: Sequence[Judged],
    scorer: str,
    names: tuple[str, str],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Paired test of two files per task, with a verdict in words."""
    a, b = task_ratios(first, scorer), task_ratios(second, scorer)
    rows = {}
    for task in a:
        test = statistics.paired_test(
            a[task]["f1"], b[task]["f1"], n_resamples=n_resamples, rng=np.random.default_rng(seed)
        )
        rows[task] = {
            "difference": round(test.difference, 2),
            "ci95": [round(end, 2) for end in test.ci95],
            "p_value": round(test.p_value, 4),
            "verdict": statistics.verdict(test, first=names[0], second=names[1], metric=f"{task.upper()} F1"),
        }
    return rows


def parse_summary(parsed: Sequence[ParsedAnswer]) -> dict[str, Any]:
    """How many answers were read as they are (`ok`), after repair or with entities dropped (`lenient`), or
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
    """How many predictions were placed in the text exactly, leniently, as duplicates or not, and how many
    came with several boxes.
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


def _answers(examples: Sequence[Example], path: str | Path, parse: Mode) -> ScoredFile:
    _, rows = read_predictions(path)
    answers = join(examples, rows, parse=parse)
    if len(answers.ids["missing"]) == len(examples):
        split, source = examples[0].split, examples[0].source
        raise UserError(
            f"{path}: none of its {len(rows)} ids is in the {split} split of {source}; is it another split or data set?"
        )
    return answers


def _told_ids(answers: ScoredFile) -> dict[str, dict[str, Any]]:
    return {kind: {"count": len(ids), "first": ids[:5]} for kind, ids in answers.ids.items()}


def _score(ratios: Mapping[str, statistics.Ratio], weights: np.ndarray) -> dict[str, Any]:
    values = statistics.summary(ratios, weights)
    intervals = values.pop("ci95")
    return {**values, "ci95": intervals["f1"], "ci95_p": intervals["p"], "ci95_r": intervals["r"]}


def _textual(judged: Sequence[Judged], weights: np.ndarray, *, only_hard: bool = False) -> dict[str, Any]:
    ratios = bias.textual_bias(judged, only_hard=only_hard)
    values = {name: _round(ratio.percent) for name, ratio in ratios.items()}
    balanced = bias.balanced_accuracy(ratios["false_grounding"].percent, ratios["missed_grounding"].percent)
    minus_halves = [(-0.5, ratios[name]) for name in ("false_grounding", "missed_grounding")]
    ends = statistics.interval95_of_sum(minus_halves, weights)
    intervals = _intervals(ratios, weights) | {
        "balanced_accuracy": None if ends is None else [round(100 + end, 2) for end in ends]
    }
    return {**values, "balanced_accuracy": _round(balanced), "ci95": intervals}


def _visual(judged: Sequence[Judged], weights: np.ndarray) -> dict[str, Any]:
    ratios = bias.visual_bias(judged)
    return {
        "n_count": int(ratios["n_rate"].numerator.sum()),
        "n_rate": _round(ratios["n_rate"].percent),
        "altered": int(ratios["altered_rate"].numerator.sum()),
        "altered_rate": _round(ratios["altered_rate"].percent),
        "n_predictions": int(ratios["n_rate"].denominator.sum()),
        "ci95": _intervals(ratios, weights),
    }


def _intervals(ratios: Mapping[str, statistics.Ratio], weights: np.ndarray) -> dict[str, list[float] | None]:
    found = {name: statistics.interval95(ratio, weights) for name, ratio in ratios.items()}
    return {name: None if ci is None else [round(ci[0], 2), round(ci[1], 2)] for name, ci in found.items()}


def _names(first: str | Path, second: str | Path) -> tuple[str, str]:
    """Two files by name, or by path where their names are equal."""
    a, b = Path(first), Path(second)
    return (str(a), str(b)) if a.name == b.name else (a.name, b.name)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
