"""From a predictions file to a report: scores, bias, parsing, yardsticks and a comparison with another."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, metrics, referring, statistics, yardsticks
from mcr_lib.answer import FORMS, Form, Mode, ParsedAnswer
from mcr_lib.boxes import Space
from mcr_lib.data import load_split
from mcr_lib.data import predictions as files
from mcr_lib.data.files import write_json
from mcr_lib.errors import UserError
from mcr_lib.metrics import Judged
from mcr_lib.schema import CONSTRAINTS, FORMAT_VERSION, Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study import catalogue
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config, Loaded
from mcr_lib.study.tables import coordinates, dialects
from mcr_lib.study.tables.defects import DEFECTS

Report = dict[str, Any]
Examples = Sequence[Example]
Answers = Sequence[Judged]


@dataclass(frozen=True)
class ScoredFile:
    """The answers of one file to the tweets of one split, in the order of the split."""

    judged: list[Judged]  # one per tweet; a tweet without an answer counts as an empty answer
    parsed: list[ParsedAnswer | None]  # one per tweet; `None` = no answer
    rows: list[files.Prediction | None]  # one per tweet; `None` = none
    ids: dict[str, list[str]]  # "unknown", "repeated" (the last row counts), "missing", "null", "shortened"
    n_other_size: int  # rows whose image_size_px differs from the annotated one
    answer_form: Form | None = None  # the one that the prompt asked for; `None` = unknown
    prompt: str | None = None  # its kind; `None` = unknown
    format: str = "mcr"  # one of `dialects.FORMATS`

    @cached_property
    def faults(self) -> dict[str, str | None]:
        """Id of a tweet -> the `bias.fault` of its answer."""
        return {j.example.id: bias.fault(j, is_read=j.is_read) for j in self.judged}

    @property
    def has_no_box_key(self) -> bool:
        """Whether entities were read and none of them says anything of a box, not even that it has none."""
        entities = [(p, entity) for p in self.parsed if p is not None for entity in p.entities]
        has_box = any(entity.boxes_xyxy or p.n_without_box < len(p.entities) for p, entity in entities)
        return bool(entities) and not has_box and {*CONSTRAINTS} <= {*self.judged[0].example.constraints}

    @property
    def id_counts(self) -> dict[str, dict[str, Any]]:
        """Per kind of ids how many there are, and the first five."""
        return {kind: {"count": len(ids), "first": ids[:5]} for kind, ids in self.ids.items()}


def join(examples: Examples, rows: Sequence[files.Prediction], header: Mapping, *, parse: Mode) -> ScoredFile:
    """Parse every answer, place it in its tweet and pair it with gold ("lenient" also places leniently)."""
    known = {example.id for example in examples}
    ids = [i if (i := files.plain_id(row.id)) in known and row.id not in known else row.id for row in rows]
    n_rows, row_of = Counter(ids), dict(zip(ids, rows, strict=True))
    judged, parsed, n_other_size = [], [], 0
    for example in examples:
        answer, entities = None, ()
        if (row := row_of.get(example.id)) is not None and not row.is_null:
            answer, entities = files.parse_prediction(row, example, parse)
            n_other_size += len({row.image_size_px, example.image_size_px} - {None}) > 1
        parsed.append(answer)
        one = metrics.judge(example, entities, lenient=parse == "lenient")
        judged.append(replace(one, is_read=answer is not None and answer.reason is None))
    kinds = {
        "unknown": [i for i in n_rows if i not in known],
        "repeated": [i for i, n in n_rows.items() if n > 1],
        "missing": [example.id for example in examples if example.id not in row_of],
        "null": [i for i, row in row_of.items() if row.is_null and i in known],
        "shortened": [row.id for id, row in zip(ids, rows, strict=True) if id != row.id],
    }
    given, asked = [row_of.get(example.id) for example in examples], header.get("answer_form")
    return ScoredFile(judged, parsed, given, kinds, n_other_size, asked, header.get("prompt"))


def read_answers(
    examples: Examples, path: str | Path, parse: Mode, *, format: str = "auto", space: Space | None = None
) -> ScoredFile:
    """`join` of a file of answers, at least one of whose ids must be in the split; see `dialects.read`."""
    header, rows, format = dialects.read(path, [e.id for e in examples], format=format, space=space)
    answers = join(examples, rows, header, parse=parse)
    if len(answers.ids["missing"]) == len(examples):
        ids = f"none of its {len(rows)} ids is in the {examples[0].split} split of {examples[0].source}"
        first = f"first ids: {rows[0].id[:40]!r} and {examples[0].id!r}"
        raise UserError(f"{path}: {ids}; is it another split or data set? ({first})")
    return replace(answers, format=format)


def f1_ratios(judged: Answers, scorer: str) -> dict[str, Ratio]:
    """Task -> F1 as a ratio over tweets; where the names are given, "grec" -> the F1-score of GREC."""
    every = metrics.score(judged, scorer) | {"grec": referring.ratios(judged)}
    return {task: ratios["f1"] for task, ratios in every.items() if ratios}


def report(judged: Answers, *, scorer: str, n_resamples: int, seed: int) -> Report:
    """Scores and bias in percent, with 95 % bootstrap intervals over tweets; one draw serves every number."""
    weights = statistics.resamples(len(judged), n_resamples, np.random.default_rng(seed))
    example, result = judged[0].example, {"n_examples": len(judged), "scorer": scorer}
    for task, ratios in metrics.score(judged, scorer).items():
        values = statistics.summary(ratios, weights)
        intervals = values.pop("ci95")
        result[task] = values | {"ci95": intervals["f1"], "ci95_p": intervals["p"], "ci95_r": intervals["r"]}
    if ratios := referring.ratios(judged):
        values = {key: _percent(ratio) for key, ratio in ratios.items()}
        result["grec"] = values | {"ci95": statistics.summary(ratios, weights)["ci95"]}
    outcomes = {t: [metrics.outcome(j, t, scorer) for j in judged] for t in ("gmner", "mner") if t in result}
    result["by_type"] = {t: metrics.by_type(of_task, example.labels) for t, of_task in outcomes.items()}
    if "box" in example.constraints:
        n_hard = sum(any(bias.is_hard(j.example, e) for e in j.example.entities) for j in judged)
        hard = {"n_tweets": n_hard, **_textual_bias(judged, weights, only_hard=True)}
        pairs = dict(zip(("pairs", "gold_pairs"), bias.box_sharing(judged), strict=True))
        more = {"hard": hard, "box_sharing": pairs, "wrong_boxes": bias.wrong_boxes(judged)}
        result["textual_bias"] = _textual_bias(judged, weights, only_hard=False) | more
    ratios = bias.visual_bias(judged)
    visual = {"n_predictions": sum(len(j.predictions) for j in judged)}
    for key, ratio in ratios.items():
        visual |= {key.replace("rate", "count"): int(ratio.numerator.sum()), key: _percent(ratio)}
    result["visual_bias"] = visual | {"ci95": statistics.summary(ratios, weights)["ci95"]}
    return result


def _textual_bias(judged: Answers, weights: np.ndarray, *, only_hard: bool) -> Report:
    ratios = bias.textual_bias(judged, only_hard=only_hard)
    false, missed = ratios["false_grounding"], ratios["missed_grounding"]
    ends = statistics.interval95_of_sum([(-0.5, false), (-0.5, missed)], weights)
    intervals = statistics.summary(ratios, weights)["ci95"]
    intervals["balanced_accuracy"] = ends and [round(100 + end, 2) for end in ends]
    balanced = bias.balanced_accuracy(false.percent, missed.percent)
    values = {name: _percent(ratio) for name, ratio in ratios.items()}
    return values | {"balanced_accuracy": balanced and round(balanced, 2), "ci95": intervals}


def _percent(ratio: Ratio) -> float | None:
    return None if ratio.percent is None else round(ratio.percent, 2)


def yardstick_scores(examples: Examples, scorer: str) -> dict[str, dict[str, float | None]]:
    """GMNER F1, N-F1, false and missed grounding in percent of every yardstick on these tweets."""
    rows = {}
    for name, rule in yardsticks.YARDSTICKS.items():
        judged = [metrics.judge(example, rule(example)) for example in examples]
        ratios = bias.textual_bias(judged) | {"gmner_f1": f1_ratios(judged, scorer)["gmner"]}
        keys = ("n_f1", "false_grounding", "missed_grounding", "gmner_f1")
        rows[name] = {key: _percent(ratios[key]) for key in keys}
    return rows


def yardstick_table(examples: Examples) -> Report:
    """GMNER F1 of every yardstick under every scorer, its N-F1, and the data they were computed on."""
    by_scorer = {scorer: yardstick_scores(examples, scorer) for scorer in metrics.SCORERS}
    rows = {name: {s: of[name]["gmner_f1"] for s, of in by_scorer.items()} for name in yardsticks.YARDSTICKS}
    for name, row in rows.items():
        row["n_f1"] = by_scorer["definition"][name]["n_f1"]  # the same under every scorer
    first, n = examples[0], len(examples)
    return {
        "format_version": FORMAT_VERSION, "data": f"{first.source}:{checksum(examples)}",
        "split": first.split, "n_examples": n, "scorer_version": metrics.SCORER_VERSION, "rows": rows,
    }  # fmt: skip


def score_file(
    *, source: str, root: str | Path, version: str | None = None, split: str = "test", **options: Any
) -> Report:
    """The report that `mcr score` prints: `score_examples` of a split that is read from a data folder."""
    examples = load_split(source, root, split=split, version=version)
    return score_examples(examples, may_lack_boxes=True, **options)


def score_examples(
    examples: Examples, predictions: str | Path, *, scorer: str = "definition",
    parse: Mode = "strict", n_resamples: int = 1000, seed: int = 0, compare: str | Path | None = None,
    may_lack_boxes: bool = False, format: str = "auto", space: Space | None = None,
) -> Report:  # fmt: skip
    """The report, ready for JSON, of a predictions file for a split; `compare`: paired tests (minus it).

    `may_lack_boxes`: a file without any key of a box is scored on MNER alone. `format`, `space` (of both
    files): see `dialects.read`.
    """
    if not 1 <= n_resamples <= statistics.MAX_RESAMPLES or seed < 0:
        expected = f"1 to {statistics.MAX_RESAMPLES:,} resamples and a seed of 0 or more"
        raise UserError(f"resamples {n_resamples} and seed {seed}: expected {expected}")
    other_parse: Mode = "lenient" if parse == "strict" else "strict"
    answers, other = (
        read_answers(examples, predictions, mode, format=format, space=space) for mode in (parse, other_parse)
    )
    first, others = examples[0], f1_ratios(other.judged, scorer)
    seen = coordinates.check(answers if parse == "lenient" else other)
    if is_mner_alone := may_lack_boxes and answers.has_no_box_key:
        task = tuple(c for c in first.constraints if c not in ("groundable", "box"))
        first = replace(first, constraints=task)
        answers.judged[:] = (replace(j, example=replace(j.example, constraints=task)) for j in answers.judged)
        others = {"mner": others["mner"]}
    other_f1 = {f"{task}_f1": round(ratio.percent or 0.0, 2) for task, ratio in others.items()}
    how = {"scorer": scorer, "parse": parse, "n_resamples": n_resamples, "seed": seed}
    result = {
        "format_version": FORMAT_VERSION, "signature": signature(examples, how),
        "predictions": Path(predictions).name,
        **report(answers.judged, scorer=scorer, n_resamples=n_resamples, seed=seed),
        "parse": _parsing(answers, parse), "placing": _placing(answers.judged), "ids": answers.id_counts,
        "image_size_differs": answers.n_other_size, "other_parse": {"parse": other_parse, **other_f1},
        "coordinates": seen, "format": answers.format,
    }  # fmt: skip
    if is_mner_alone:
        result["note"] = "no entity has a box key (bbox_2d, null = not in the image): scored on MNER alone"
    if {"box", "type"} <= set(first.constraints):
        result["yardsticks"] = yardstick_scores(examples, scorer)
    if compare is not None:
        rival = read_answers(examples, compare, parse, space=space)
        a, b = Path(predictions), Path(compare)
        names = [str(a), str(b)] if a.name == b.name else [a.name, b.name]
        f1, rival_f1 = f1_ratios(answers.judged, scorer), f1_ratios(rival.judged, scorer)
        tests = {task: f1_test(f1[task], rival_f1[task], task, names, n_resamples, seed) for task in f1}
        result["compare"] = {"with": names[1], "ids": rival.id_counts, **tests}
    return result


def unread(result: Report) -> str:
    """What to say of a file of which nothing could be read, in place of a score."""
    why = result["parse"].get("advice", "every row is null, as where all calls failed")
    how, *f1 = result["other_parse"].items()
    if any(value for _, value in f1):
        why += f"; {how[1]}: " + ", ".join(f"{catalogue.label(key)} {value:.2f}" for key, value in f1)
    if question := result["coordinates"].get("question"):
        why += f"; {question}"
    of = f"no entity in its {result['parse']['n_answers']:,} answers could be read"
    return f"{result['predictions']}: {of}, so there is no score; {why}"


def signature(examples: Examples, how: Mapping[str, Any], **extra: str) -> str:
    """`metrics.signature` of scores of these tweets by these `options`."""
    data = {"source": examples[0].source, "checksum": checksum(examples), "split": examples[0].split}
    extra = {"resamples": how["n_resamples"], "seed": how["seed"], **extra}
    scorer = "grec" if referring.is_scored(examples[0].constraints) else how["scorer"]
    return metrics.signature(scorer=scorer, parse=how["parse"], extra=extra, **data)


def f1_test(first: Ratio, second: Ratio, task: str, names: list[str], n_resamples: int, seed: int) -> Report:
    """The paired test of two F1 scores of a task: difference in points, 95 % interval, p and a verdict."""
    test = statistics.paired_test(first, second, n_resamples=n_resamples, rng=np.random.default_rng(seed))
    metric, interval = catalogue.label(f"{task}_f1"), [round(end, 2) for end in test.ci95]
    verdict = statistics.verdict(test, first=names[0], second=names[1], metric=metric)
    values = {"difference": round(test.difference, 2), "ci95": interval, "p_value": round(test.p_value, 4)}
    return values | {"verdict": verdict}


def configured_file(loaded: Loaded, examples: Examples) -> Path | None:
    """The file to score, if any; `stand_in` writes one: gold (no model), each decision right at that rate."""
    c = loaded.config
    if c.predictions is not None or c.stand_in is None:
        return loaded.path("predictions")
    path = RunFolder(loaded.folder).predictions(f"degraded-gold.{c.eval_split}")
    rng, accuracy = np.random.default_rng(c.seed), dict.fromkeys(CONSTRAINTS, c.stand_in)
    rows = (files.finished_row(e, yardsticks.degrade(e, accuracy, rng)) for e in examples)
    files.write_predictions(path, rows, made_from="gold, no model", accuracy=c.stand_in, seed=c.seed)
    return path


def options(config: Config) -> dict[str, Any]:
    """How a configuration says to score: options of `score_examples`."""
    return {key: getattr(config, key) for key in ("scorer", "parse", "n_resamples", "seed")}


def n_mistakes(judged: Judged) -> int:
    """False positives and false negatives of GMNER in one tweet."""
    counts = metrics.outcome(judged, "gmner")
    return counts.fp.total() + counts.fn.total()


def worst(judged: Answers, n: int) -> list[Judged]:
    """Up to n tweets to look at: those with an image and the most mistakes first."""
    return sorted(judged, key=lambda j: (not j.example.images, -n_mistakes(j)))[:n]


def write_scores(folder: RunFolder, reports: Mapping[str, Any]) -> list[str]:
    """Write each report to `scores/<stem>.json`; returns one line per file."""
    for stem, value in reports.items():
        write_json(folder.score(stem), value)
    return [f"scores/{stem}.json" for stem in reports]


def _parsing(answers: ScoredFile, parse: Mode) -> Report:
    parsed, asked = [p for p in answers.parsed if p is not None], answers.answer_form
    failed = Counter(p.reason for p in parsed if p.reason is not None)
    n_lenient = sum(p.reason is None and bool(p.repairs or p.lost) for p in parsed)
    n_ok, counts = len(parsed) - failed.total() - n_lenient, {"failed_by_reason": failed}
    counts["repairs"] = Counter(name for p in parsed for name in p.repairs)
    counts["lost_entities"] = Counter(name for p in parsed for name in p.lost)
    lost_boxes = {defect.name for defect in DEFECTS if defect.lenient == "box lost"}
    counts["lost_boxes"] = Counter({name: n for name, n in counts["repairs"].items() if name in lost_boxes})
    most_common = {key: dict(count.most_common()) for key, count in counts.items()}
    result = {"n_answers": len(parsed), "ok": n_ok, "lenient": n_lenient}
    result["forms"] = {form: sum(p.form == form for p in parsed) for form in FORMS}
    for form, n in result["forms"].items():
        if asked is not None and form != asked and n > 0:
            answers_in = f"{n:,} of {len(parsed):,} answers are in the form {form}"
            result["other_form"] = f"{answers_in}, though {asked} was asked for"
    whole = Counter(p.reason for p in parsed if p.reason is not None and not p.lost)
    if causes := whole + counts["lost_entities"] + counts["lost_boxes"]:
        result["advice"] = _advice(causes, parse)
    n_failed = failed.total() if parsed else len(answers.ids["null"])
    result["nothing_read"] = 2 * n_failed >= max(len(parsed), 1) and not any(p.entities for p in parsed)
    return result | most_common


def _advice(counts: Counter, parse: Mode) -> str:
    """The commonest reason why something was not read, in words, and what to do."""
    ((name, n),) = counts.most_common(1)
    defect = next(defect for defect in DEFECTS if defect.name == name)
    remedy = "docs/scoring.md shows the form of an answer, notebook 05 each departure from it"
    if defect.lenient == "repaired" and parse == "strict":
        remedy = f"--parse lenient mends it ({defect.how})"
    return f"not read, most often {name.replace('_', ' ')} ({n:,} ×): {defect.remedy or remedy}"


def _placing(judged: Answers) -> dict[str, int]:
    placements = [placement for j in judged for placement in j.placements]
    kinds = Counter("lenient" if p.kind == "placed" and p.is_lenient else p.kind for p in placements)
    others = {kind: kinds[kind] for kind in ("lenient", "duplicate", "unplaced")}
    n_several = sum(len(p.boxes_xyxy) > 1 for j in judged for p in j.predictions)
    counts = {"n_predictions": len(placements), "exact": kinds["placed"], **others}
    return counts | {"several_boxes": n_several}
