"""Settings beside each other: scores, errors by kind, paired tests, and `results.csv` with every number."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from mcr_lib import bias, metrics, referring, statistics, yardsticks
from mcr_lib.data.files import read_text, write_json, written_whole
from mcr_lib.metrics import Judged
from mcr_lib.schema import FORMAT_VERSION, Entity, Example, PredictedEntity
from mcr_lib.statistics import Ratio
from mcr_lib.study import catalogue
from mcr_lib.study.runs import model_card
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import scoring

Rows = list[dict[str, Any]]
Reports = Mapping[str, Mapping[str, Any]]  # setting -> its report (`scoring.score_examples`)
Answers = Mapping[str, Sequence[Judged]]  # setting -> its judged answers
Number = tuple[Any, Any, Any]  # value and the ends of its 95 % interval, `None` without one
GROUNDING = ("false_grounding", "missed_grounding")
RESULT_COLUMNS = ("setting", "split", "seed", "metric", "value", "ci_low", "ci_high", "n", "signature")
_OF_BOX = ("boxed, not in the image", "box left out", "box misses")
GOLD_KINDS = ("right", "wrong type", *_OF_BOX, "wrong boundary", "left out")
EXTRA_KINDS = ("no entity", "name not in the text")


def splits(config: Config) -> list[str]:
    """The splits whose answers are compared: those that the profile names, or dev; last the scored one."""
    others = [split for split in config.answer_splits or ("dev",) if split != config.eval_split]
    return [split for split in dict.fromkeys([*others, config.eval_split]) if split in config.splits]


def judged(study: Study, names: Iterable[str], split: str) -> dict[str, list[Judged]]:
    """Setting -> its judged answers to a split, generated unless they are there."""
    parse, files = study.config.parse, ((name, study.answer(name, split)) for name in names)
    return {name: scoring.read_answers(study.examples(split), file, parse).judged for name, file in files}


def reports(study: Study, names: Iterable[str], split: str) -> dict[str, dict[str, Any]]:
    """Setting -> the report of its answers to a split, generated unless they are there."""
    options, files = scoring.options(study.config), ((name, study.answer(name, split)) for name in names)
    return {name: scoring.score_examples(study.examples(split), file, **options) for name, file in files}


def numbers(report: Mapping[str, Any]) -> dict[str, Number]:
    """The metrics of `results.csv` from a report: percent, but counts for <kind>_count."""
    values: dict[str, tuple[Any, Any]] = {}
    for task in metrics.TASKS:
        if score := report.get(task):
            for key, interval in (("f1", "ci95"), ("p", "ci95_p"), ("r", "ci95_r")):
                values[f"{task}_{key}"] = score[key], score[interval]
    for key in referring.METRICS if "grec" in report else ():
        values[f"grec_{key}"] = report["grec"][key], report["grec"]["ci95"][key]
    for group in (report.get("textual_bias", {}), report["visual_bias"]):
        for key, value in group.items():
            if key != "n_predictions" and not isinstance(value, Mapping):
                values[key] = value, group["ci95"].get(key)
    n, n_unread = report["parse"]["n_answers"], sum(report["parse"]["failed_by_reason"].values())
    values["unread"] = (round(100 * n_unread / n, 2) if n else 0.0), None
    return {key: (value, *(interval or (None, None))) for key, (value, interval) in values.items()}


def _cell(number: Number | None) -> str:
    value, low, high = number or (None, None, None)
    if value is None:
        return "–"
    return f"{value:.1f}" if low is None else f"{value:.1f}\n({low:.1f}\u00a0to\u00a0{high:.1f})"


def score_rows(by_split: Mapping[str, Reports]) -> Rows:
    """Per setting of the last split GMNER F1 on every split, MNER and EEG F1, and the share not parsed."""
    rows, (*_, last) = [], by_split
    for name, report in by_split[last].items():
        of_last = numbers(report)
        of_split = {split: numbers(some[name]) if name in some else {} for split, some in by_split.items()}
        row = {f"GMNER, {split}": _cell(values.get("gmner_f1")) for split, values in of_split.items()}
        row |= {f"{task.upper()}, {last}": _cell(of_last.get(f"{task}_f1")) for task in ("mner", "eeg")}
        rows.append({"setting": name, **row, catalogue.label("unread"): _cell(of_last["unread"])})
    return rows


def joint_rows(by_split: Mapping[str, Reports]) -> Rows:
    """Per split of a joint source and setting the number of examples and the scores of its task, %."""
    keys = ("mner_p", "mner_r", "mner_f1", *(f"grec_{key}" for key in referring.METRICS), "unread")
    rows = []
    for split, (name, report) in ((s, pair) for s, some in by_split.items() for pair in some.items()):
        values, row = numbers(report), {"split": split, "setting": name, "n": report["n_examples"]}
        rows.append(row | {catalogue.label(key): _cell(values.get(key)) for key in keys})
    return rows


def task_rows(reports: Reports) -> Rows:
    """Per report and scored task: name, task, p, r, f1, and ci_low and ci_high of f1, in percent."""
    rows = []
    for name, task in product(reports, metrics.TASKS):
        if score := reports[name].get(task):
            low, high = score["ci95"] or (score["f1"], score["f1"])
            values = {key: score[key] for key in ("p", "r", "f1")} | {"ci_low": low, "ci_high": high}
            rows.append({"name": name, "task": task.upper(), **values})
    return rows


def bias_rows(of_split: Reports) -> Rows:
    """Per setting the metrics of both shortcuts, each with its 95 % interval, and the N-F1 of blind rules."""
    columns = catalogue.labels(("n_pre", "n_rec", "n_f1", *GROUNDING, "n_count", "n_rate"))
    rows = []
    for name, report in of_split.items():
        values = numbers(report)
        row = {label: _cell(values.get(key)) for key, label in columns.items()}
        rows.append({"setting": name, **row, columns["n_count"]: values["n_count"][0]})
    empty = dict.fromkeys(rows[0], "") if rows else {}
    of_rules = next(iter(of_split.values()), {}).get("yardsticks", {})
    for rule in (rule for rule in yardsticks.BLIND if rule in of_rules):
        rows.append(empty | {"setting": f"({rule})", columns["n_f1"]: f"{of_rules[rule]['n_f1']:.1f}"})
    return rows


def kinds(j: Judged) -> tuple[list[str], dict[int, str]]:
    """Of each gold entity one of `GOLD_KINDS`, and of each effective prediction that fits none, by its index,
    one of `EXTRA_KINDS`: "right" as in GMNER by the definition, a wrong region before a wrong type, "wrong
    boundary" if a word is shared.
    """
    of_gold, gold, example = ["left out"] * len(j.example.entities), j.example.entities, j.example
    for i, k in j.pairing.matches:
        of_gold[k] = _kind(j.effective[i][1], gold[k], example)
    for _, k in j.pairing.touches:
        of_gold[k] = "wrong boundary"
    explained = {i for i, _ in j.pairing.matches + j.pairing.touches}
    extras = {i: pred for i, (_, pred) in enumerate(j.effective) if i not in explained}
    is_foreign = {i: bias.wording(pred.text, example.tokens) == "foreign" for i, pred in extras.items()}
    return of_gold, {i: EXTRA_KINDS[foreign] for i, foreign in is_foreign.items()}


def error_kinds(answers: Iterable[Judged]) -> Counter[str]:
    """How many gold entities and predictions there are of each of the `kinds`."""
    counts = Counter(dict.fromkeys((*GOLD_KINDS, *EXTRA_KINDS), 0))
    for of_gold, extras in map(kinds, answers):
        counts.update([*of_gold, *extras.values()])
    return counts


def _kind(pred: PredictedEntity, gold: Entity, example: Example) -> str:
    first_box, gold_boxes, known = pred.boxes_xyxy[:1], gold.boxes_xyxy_px, example.constraints
    if "box" in known and not metrics.is_region_right(first_box, gold_boxes, inclusive=False):
        if not first_box:
            return "box left out"
        return "box misses" if gold_boxes else "boxed, not in the image"
    return "wrong type" if "type" in known and pred.type != gold.type else "right"


def pair_rows(by_setting: Answers, config: Config) -> Rows:
    """A paired test of GMNER F1 for every two settings, the later one of the profile minus the earlier."""
    f1 = {name: scoring.f1_ratios(answers, config.scorer)["gmner"] for name, answers in by_setting.items()}
    rows = []
    for a, b in combinations(f1, 2):
        test = scoring.f1_test(f1[b], f1[a], "gmner", [b, a], config.n_resamples, config.seed)
        low, high = test["ci95"]
        row = {"pair": f"{b} − {a}", "difference": test["difference"], "ci_low": low, "ci_high": high}
        rows.append(row | {"p": test["p_value"], "verdict": test["verdict"]})
    return rows


def verdict(ratios: Mapping[str, Ratio], key: str, config: Config, *, better: int = 0) -> str:
    """The values of a metric in percent, and whether the last setting of CVO, or else the last name, beats
    plain fine-tuning, or else the first; `better`: as in `statistics.verdict`, for a metric of no catalogue.
    """
    if not ratios:
        return ""
    kinds, names = {n: (s.stage, s.rows) for n, s in config.settings.items() if n in ratios}, list(ratios)
    first = next((n for n in reversed(names) if kinds.get(n, "")[:1] == ("cvo",)), names[-1])
    second = next((n for n in names if kinds.get(n) == ("sft", "answers")), names[0])
    label, rng = catalogue.label(key), np.random.default_rng(config.seed)
    percents = {name: ratio.percent for name, ratio in ratios.items()}
    values = ", ".join(f"{name} {'–' if p is None else f'{round(p, 2):.1f}'}" for name, p in percents.items())
    if first == second:
        weights = statistics.resamples(len(ratios[first].numerator), config.n_resamples, rng)
        low, high = statistics.interval95(ratios[first], weights) or (float("nan"), float("nan"))
        return f"{label}, %: {values} (95 % interval {low:.1f} to {high:.1f})."
    test = statistics.paired_test(ratios[first], ratios[second], n_resamples=config.n_resamples, rng=rng)
    better = better or (catalogue.CATALOGUE[key].better if key in catalogue.CATALOGUE else 1)
    how = {"first": first, "second": second, "metric": label, "better": better}
    return f"{label}, %: {values}. {statistics.verdict(test, **how)}"


def most_different(by_setting: Answers, n: int) -> dict[str, list[Judged]]:
    """The answers to up to n tweets that tell settings apart, those with an image first: for every two of
    them, the latest first, by turns a tweet that the one and that the other answers with fewer mistakes.
    """
    tweets = list(zip(*by_setting.values(), strict=True))
    mistakes = [[scoring.n_mistakes(j) for j in answers] for answers in tweets]
    sides = [side for a, b in combinations(range(len(by_setting))[::-1], 2) for side in ((a, b), (b, a))]
    ranked = []
    for side, (a, b) in enumerate(sides):
        gains = [(not tweets[k][0].example.images, of[a] - of[b], k) for k, of in enumerate(mistakes)]
        won = sorted(gain for gain in gains if gain[1] < 0)
        ranked += [(rank, side, k) for rank, (*_, k) in enumerate(won[:n])]
    chosen = [tweets[k] for k in list(dict.fromkeys(k for *_, k in sorted(ranked)))[:n]]
    return {name: [answers[k] for answers in chosen] for k, name in enumerate(by_setting)}


def drawn_rows(by_setting: Answers) -> Rows:
    """The values of a picture of answers: setting, tweet, text, predictions."""
    return [
        {"setting": name, "id": j.example.id, "text": j.example.text,
         "predicted": [(p.text, p.type, p.box_xyxy) for p in j.predictions]}
        for name, answers in by_setting.items()
        for j in answers
    ]  # fmt: skip


def write(folder: RunFolder, by_split: Mapping[str, Reports], tables: dict[str, Any], seed: int) -> list[str]:
    """Write the scores of each setting and split, the tables and `results.csv`; returns a line per file."""
    stems, rows = {(name, split): r for split, some in by_split.items() for name, r in some.items()}, []
    for (name, split), report in stems.items():
        tail = {"n": report["n_examples"], "signature": report["signature"]}
        for metric, (value, low, high) in numbers(report).items():
            row = {"setting": name, "split": split, "seed": seed, "metric": metric, "value": value}
            rows.append({**row, "ci_low": low, "ci_high": high, **tail})
    lines = scoring.write_scores(folder, {".".join(key): report for key, report in stems.items()})
    write_json(folder.score("settings"), {"format_version": FORMAT_VERSION, **tables})
    return [*lines, "scores/settings.json", *_write_results(folder, rows)]


def add_results(folder: RunFolder, rows: Rows) -> list[str]:
    """Add rows to `results.csv`, in place of the rows of the same metrics; returns a line per file."""
    metrics_added = {row["metric"] for row in rows}
    old = csv.DictReader(read_text(folder.results).splitlines()) if folder.results.is_file() else ()
    return _write_results(folder, [*(row for row in old if row["metric"] not in metrics_added), *rows])


def _write_results(folder: RunFolder, rows: Rows) -> list[str]:
    with written_whole(folder.results) as file:
        writer = csv.DictWriter(file, RESULT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    model_card.add_scores(folder)
    return ["results.csv"]
