"""Settings beside each other: answers, scores, errors by kind, paired tests, and `results.csv`, one tidy
table of every number.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mcr_lib import bias, metrics, statistics, yardsticks
from mcr_lib.data.files import read_text, write_json, written_whole
from mcr_lib.metrics import Judged
from mcr_lib.schema import FORMAT_VERSION, Example
from mcr_lib.study.runs import model_card
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import scoring

Rows = list[dict[str, Any]]
Reports = Mapping[str, Mapping[str, Any]]

RESULT_COLUMNS = ("setting", "split", "seed", "metric", "value", "ci_low", "ci_high", "n", "signature")

GOLD_KINDS = (
    "right",
    "wrong type",
    "boxed, not in the image",
    "box left out",
    "box misses",
    "wrong boundary",
    "left out",
)
EXTRA_KINDS = ("no entity", "name not in the text")


def splits(config: Config) -> list[str]:
    """The splits whose answers are compared: dev, on which choices are made, or those that a profile names;
    last the one that is scored.
    """
    others = [split for split in config.answer_splits or ("dev",) if split != config.eval_split]
    return [split for split in dict.fromkeys([*others, config.eval_split]) if split in config.splits]


def judged(study: Study, names: Iterable[str], split: str) -> dict[str, list[Judged]]:
    """Setting -> its judged answers to the tweets of a split, made unless they are there."""
    examples = study.examples(split) if (names := list(names)) else []
    return {
        name: scoring.judged_file(examples, study.answer(name, split), study.config.parse) for name in names
    }


def reports(study: Study, names: Iterable[str], split: str) -> dict[str, dict[str, Any]]:
    """Setting -> everything that `scoring` tells of its answers to a split."""
    c, examples = study.config, study.examples(split) if (names := list(names)) else []
    return {
        name: scoring.score_examples(
            examples,
            study.answer(name, split),
            scorer=c.scorer,
            parse=c.parse,
            n_resamples=c.n_resamples,
            seed=c.seed,
        )
        for name in names
    }


def score_rows(by_split: Mapping[str, Reports]) -> Rows:
    """Per setting of the last split GMNER F1 on every split, then MNER and EEG F1 on the last one, each with
    its 95 % interval, and the share of answers that could not be read.
    """
    *_, last = by_split
    rows = []
    for name, report in by_split[last].items():
        gmner = {f"GMNER, {split}": some.get(name, {}).get("gmner") for split, some in by_split.items()}
        row = {"setting": name} | {column: _with_interval(score, "f1") for column, score in gmner.items()}
        row |= {f"{task.upper()}, {last}": _with_interval(report.get(task), "f1") for task in ("mner", "eeg")}
        rows.append(row | {"not read": f"{_unread(report):.1f}"})
    return rows


def bias_rows(of_split: Reports) -> Rows:
    """Per setting the metrics of both shortcuts, each with its 95 % interval, and the N-F1 that rules reach
    which look at nothing.

    N-Pre, N-Rec, N-F1, N-Count and N-Rate are the paper's names, false and missed grounding ours.
    """
    keys = {
        "N-Pre": "n_pre",
        "N-Rec": "n_rec",
        "N-F1": "n_f1",
        "false grounding": "false_grounding",
        "missed grounding": "missed_grounding",
    }
    rows = []
    for name, report in of_split.items():
        row = {"setting": name} | {
            label: _with_interval(report.get("textual_bias"), key) for label, key in keys.items()
        }
        visual = report["visual_bias"]
        rows.append(row | {"N-Count": visual["n_count"], "N-Rate": _with_interval(visual, "n_rate")})
    blind = next(iter(of_split.values()), {}).get("yardsticks", {})
    rows += [
        {"setting": f"({name})", "N-F1": f"{blind[name]['n_f1']:.1f}"}
        for name in yardsticks.BLIND
        if name in blind
    ]
    return [{column: row.get(column, "") for column in rows[0]} for row in rows] if rows else []


def _with_interval(scores: Mapping[str, Any] | None, key: str) -> str:
    if scores is None or scores[key] is None:
        return "–"
    interval = scores["ci95"].get(key) if isinstance(scores["ci95"], Mapping) else scores["ci95"]
    return f"{scores[key]:.1f}" + (
        f"\n({interval[0]:.1f}\u00a0to\u00a0{interval[1]:.1f})" if interval else ""
    )


def type_rows(of_split: Reports, task: str = "gmner") -> Rows:
    """F1 by entity type, a row per setting."""
    return [
        {"setting": name}
        | {label: row["f1"] if row["n_gold"] else None for label, row in report["by_type"][task].items()}
        for name, report in of_split.items()
        if task in report["by_type"]
    ]


def grounding_rows(of_split: Reports) -> Rows:
    """False and missed grounding of each setting in percent, each with its 95 % interval."""
    rows = []
    for name, report in of_split.items():
        row, textual = {"setting": name}, report["textual_bias"]
        for key in ("false_grounding", "missed_grounding"):
            low, high = textual["ci95"][key] or (None, None)
            row |= {key: textual[key], f"{key}_low": low, f"{key}_high": high}
        rows.append(row)
    return rows


def blind_rows(of_split: Reports) -> Rows:
    """The same of rules that look at nothing, with perfect text, where the reports tell them."""
    blind = next(iter(of_split.values()), {}).get("yardsticks", {})
    keys = ("false_grounding", "missed_grounding")
    return [
        {"rule": name, **{key: blind[name][key] for key in keys}}
        for name in yardsticks.BLIND
        if name in blind
    ]


def error_kinds(answers: Iterable[Judged]) -> Counter[str]:
    """Each gold entity under one of `GOLD_KINDS`, each prediction that no gold entity explains under one of
    `EXTRA_KINDS`.

    A matched entity whose region is wrong counts under its region whatever its type; "wrong boundary" shares
    a word with the entity and is not its span. The right ones are the true positives of GMNER under the
    definition. Repeated predictions replace those that they repeat.

    Example:
        >>> from mcr_lib.study.tables import cases
        >>> answer = cases.ANSWERS["name not in the text (visual bias)"]
        >>> {kind: n for kind, n in error_kinds([metrics.judge(cases.TWEET, answer)]).items() if n}
        {'right': 2, 'name not in the text': 1}
    """
    counts = Counter(dict.fromkeys((*GOLD_KINDS, *EXTRA_KINDS), 0))
    for j in answers:
        counts.update(_kind(pred, gold, j.example) for pred, gold in j.matched)
        counts["wrong boundary"] += len(j.pairing.touches)
        counts["left out"] += len(j.example.entities) - len(j.matched) - len(j.pairing.touches)
        explained = {i for i, _ in j.pairing.matches + j.pairing.touches}
        extras = (pred for i, (_, pred) in enumerate(j.effective) if i not in explained)
        counts.update(EXTRA_KINDS[bias.wording(pred.text, j.example.tokens) == "invented"] for pred in extras)
    return counts


def _kind(pred: Any, gold: Any, example: Example) -> str:
    if "box" in example.constraints and not metrics.is_region_right(
        pred.boxes_xyxy[:1], gold.boxes_xyxy_px, inclusive=False
    ):
        return (
            "box left out"
            if not pred.boxes_xyxy
            else "box misses"
            if gold.boxes_xyxy_px
            else "boxed, not in the image"
        )
    return "wrong type" if "type" in example.constraints and pred.type != gold.type else "right"


def error_rows(by_setting: Mapping[str, Sequence[Judged]]) -> Rows:
    """`error_kinds` of each setting, a row each."""
    return [{"setting": name, **error_kinds(answers)} for name, answers in by_setting.items()]


def is_consistent(of_split: Reports, rows: Sequence[Mapping[str, Any]], n: int) -> bool:
    """Whether errors by kind and scores tell the same story: as many tweets, and under the definition the
    recall of GMNER.
    """
    for row in rows:
        report, n_gold = of_split[row["setting"]], sum(row[kind] for kind in GOLD_KINDS)
        recall = report["gmner"]["r"]
        is_same = (
            report["scorer"] != "definition"
            or recall is None
            or abs(recall - 100 * row["right"] / max(n_gold, 1)) < 0.01
        )
        if report["n_examples"] != n or not is_same:
            return False
    return True


def pair_rows(by_setting: Mapping[str, Sequence[Judged]], config: Config, task: str = "gmner") -> Rows:
    """A paired test of F1 for every two settings, the later one of the profile minus the earlier."""
    f1 = {
        name: scoring.task_ratios(answers, config.scorer)[task]["f1"] for name, answers in by_setting.items()
    }
    rows = []
    for a, b in combinations(f1, 2):
        test = statistics.paired_test(
            f1[b], f1[a], n_resamples=config.n_resamples, rng=np.random.default_rng(config.seed)
        )
        low, high = test.ci95
        verdict = statistics.verdict(test, first=b, second=a, metric=f"{task.upper()} F1")
        rows.append({"pair": f"{b} − {a}", "difference": round(test.difference, 2), "ci_low": round(low, 2), "ci_high": round(high, 2),
                     "p": round(test.p_value, 4), "verdict": verdict})  # fmt: skip
    return rows


def most_different(by_setting: Mapping[str, Sequence[Judged]], n: int) -> dict[str, list[Judged]]:
    """The answers to up to n tweets on which the settings differ most in mistakes, those with an image first."""
    columns = list(by_setting.values())
    if not columns:
        return {}

    def key(k: int) -> tuple[bool, int]:
        outcomes = [metrics.outcome(column[k], "gmner") for column in columns]
        mistakes = [o.fp.total() + o.fn.total() for o in outcomes]
        return not columns[0][k].example.images, min(mistakes) - max(mistakes)

    chosen = sorted(range(len(columns[0])), key=key)[:n]
    return {name: [column[k] for k in chosen] for name, column in by_setting.items()}


def drawn_rows(by_setting: Mapping[str, Sequence[Judged]]) -> Rows:
    """What a picture of answers shows, as values: setting, tweet, text, what was predicted."""
    return [
        {
            "setting": name,
            "id": j.example.id,
            "text": j.example.text,
            "predicted": [(p.text, p.type, p.box_xyxy) for p in j.predictions],
        }
        for name, answers in by_setting.items()
        for j in answers
    ]


def first_id(by_setting: Mapping[str, Sequence[Judged]]) -> str:
    """The id of the first tweet of a picture."""
    return next(iter(by_setting.values()))[0].example.id


def result_rows(by_split: Mapping[str, Reports], seed: int) -> Rows:
    """`results.csv`: one row per setting, split and metric. Percent, but for the counts n_count and altered."""
    rows = []
    for split, of_split in by_split.items():
        for name, report in of_split.items():
            head = {"setting": name, "split": split, "seed": seed}
            tail = {"n": report["n_examples"], "signature": report["signature"]}
            for metric, value, interval in _values(report):
                low, high = interval or (None, None)
                rows.append(
                    {**head, "metric": metric, "value": value, "ci_low": low, "ci_high": high, **tail}
                )
    return rows


def _values(report: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    for task in metrics.TASKS:
        if task in report:
            score = report[task]
            yield from (
                (f"{task}_{k}", score[k], score[c])
                for k, c in (("f1", "ci95"), ("p", "ci95_p"), ("r", "ci95_r"))
            )
    for group in ("textual_bias", "visual_bias"):
        found = report.get(group, {})
        plain = (
            (key, value)
            for key, value in found.items()
            if key not in ("ci95", "n_predictions") and not isinstance(value, Mapping)
        )
        yield from ((key, value, found["ci95"].get(key)) for key, value in plain)
    yield "unread", _unread(report), None


def _unread(report: Mapping[str, Any]) -> float:
    """The share in percent of answers that could not be read."""
    n, failed = report["parse"]["n_answers"], sum(report["parse"]["failed_by_reason"].values())
    return round(100 * failed / n, 2) if n else 0.0


def write(
    folder: RunFolder, by_split: Mapping[str, Reports], told: Mapping[str, Any], seed: int
) -> list[str]:
    """Write `scores/<setting>.<split>.json`, `scores/settings.json` and `results.csv`; a line per file.

    Args:
        told: what compares the settings: rows of `score_rows`, `bias_rows`, `pair_rows`, `error_rows`.
    """
    lines = scoring.write_scores(
        folder, {f"{name}.{split}": r for split, of_split in by_split.items() for name, r in of_split.items()}
    )
    write_json(folder.score("settings"), {"format_version": FORMAT_VERSION, **told})
    _write_results(folder, result_rows(by_split, seed))
    return [*lines, "scores/settings.json", "results.csv"]


def add_results(folder: RunFolder, rows: Rows) -> list[str]:
    """Add rows to `results.csv`, in place of those there of the same metrics, whoever they are of; a line per
    file.
    """
    metrics_told = {row["metric"] for row in rows}
    there = csv.DictReader(read_text(folder.results).splitlines()) if folder.results.is_file() else ()
    _write_results(folder, [*(row for row in there if row["metric"] not in metrics_told), *rows])
    return ["results.csv"]


def _write_results(folder: RunFolder, rows: Rows) -> None:
    with written_whole(folder.results) as file:
        writer = csv.DictWriter(file, RESULT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    model_card.add_scores(folder)
