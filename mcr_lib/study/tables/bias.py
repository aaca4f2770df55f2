"""Bias analysis (notebook 06): both shortcuts counted, as rows of tables, figures and `results.csv`.
Read: predictions/<setting>.<split>[.<probe>].jsonl, and FILE.<probe>.jsonl beside a configured FILE.jsonl.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, chains, metrics, yardsticks
from mcr_lib.data import files, probes
from mcr_lib.data.predictions import read_predictions
from mcr_lib.data.probes import Probe
from mcr_lib.schema import FORMAT_VERSION, Example, checksum
from mcr_lib.statistics import Ratio, interval95, resamples
from mcr_lib.study.catalogue import OF_HARD, TEXTUAL_BIAS
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import comparison, scoring
from mcr_lib.study.tables.scoring import ScoredFile
from mcr_lib.testbed.bait import baited

Row = dict[str, Any]
Rows = list[Row]
Tables = Mapping[str, Rows]
Faults = dict[str, str | None]  # id of a tweet -> the `bias.fault` of an answer to it
CONTROLS = ("mute_blank",)  # only a reference for other probes: does not count for consistency
PREDICTIONS = "predictions"  # name of the configured file, whose header need not name its data


Answers = dict[str, ScoredFile]
BlankPair = tuple[str, str, list[metrics.Judged], list[metrics.Judged]]


@dataclass(frozen=True)
class BiasResults:
    """All answers of a run that the bias analysis needs."""

    config: Config
    examples: list[Example]  # of the scored split
    answers: Answers = field(default_factory=dict)  # setting or `PREDICTIONS` -> answers to `examples`
    probes: dict[str, list[Probe]] = field(default_factory=dict)  # variant -> its tweets
    probe_answers: dict[str, Answers] = field(default_factory=dict)  # name -> variant -> answers
    other_splits: dict[str, Answers] = field(default_factory=dict)  # split -> setting -> answers
    training_names: frozenset[str] | None = None  # of entities; `None` = the run has no training split
    missing: list[str] = field(default_factory=list)  # a sentence per file that is missing or was refused

    @cached_property
    def reports(self) -> dict[str, Row]:
        """Name -> `scoring.report` of its answers to the scored split."""
        options = {key: getattr(self.config, key) for key in ("scorer", "n_resamples", "seed")}
        return {name: scoring.report(answers.judged, **options) for name, answers in self.answers.items()}

    @cached_property
    def reports_by_kind(self) -> list[tuple[dict[str, str], Row]]:
        """`reports`, then those of blind rules with perfect text (`yardsticks.BLIND`), without intervals."""
        result = [({"name": name, "kind": "setting"}, report) for name, report in self.reports.items()]
        for name in yardsticks.BLIND:
            judged = [metrics.judge(e, yardsticks.YARDSTICKS[name](e)) for e in self.examples]
            report = scoring.report(judged, scorer=self.config.scorer, n_resamples=0, seed=0)
            result.append(({"name": name, "kind": "blind rule"}, report))
        return result

    @property
    def description(self) -> str:
        """What was collected and what is missing, one fact per line."""
        c, names = self.config, ", ".join(self.answers) or "none"
        counts = ", ".join(f"{variant} {len(some)}" for variant, some in self.probes.items())
        none = "none; the profile names none, or no tweet has an image that shows something"
        lines = [f"answers to {len(self.examples):,} tweets of {c.eval_split}: {names}"]
        lines.append(f"probes, with their tweets: {counts or none}")
        lines += [f"answers to {split}: {', '.join(answers)}" for split, answers in self.other_splits.items()]
        return "\n".join([*lines, *self.missing, f"single run, seed {c.seed}"])


def _with_ci95(values: Row, *keys: str) -> Row:
    """These values of a report, each followed by the ends of its interval under <key>_low and <key>_high."""
    row = {}
    for key in keys:
        row[key], (row[f"{key}_low"], row[f"{key}_high"]) = values[key], values["ci95"][key] or (None, None)
    return row


def estimate(ratio: Ratio, c: Config, key: str, *, ends: str = "ci", scale: int = 1, digits: int = 2) -> Row:
    """A ratio in percent / `scale` under `key`, its 95 % interval over tweets under <ends>_low and _high."""
    weights = resamples(len(ratio.numerator), c.n_resamples, np.random.default_rng(c.seed))
    values = ratio.percent, *(interval95(ratio, weights) or (None, None))
    named = zip((key, f"{ends}_low", f"{ends}_high"), values, strict=True)
    return {name: None if value is None else round(value / scale, digits) for name, value in named}


def share(flags: Sequence[bool]) -> Ratio:
    """The share of true flags, one flag per tweet."""
    return Ratio(np.array(flags, dtype=np.int64), np.ones(len(flags), dtype=np.int64))


def collect(study: Study) -> BiasResults:
    """Answers of settings and of the configured file to the scored split, its probes and the other splits."""
    config, split, names = study.config, study.config.eval_split, None
    if "train" in config.splits:
        trained_on = prepare.load_examples(study.loaded, ["train"])["train"]
        names = frozenset(entity.text for example in trained_on for entity in example.entities)
    results = BiasResults(config, study.examples(split), probes=make_probes(study), training_names=names)
    tweets = {"": results.examples}
    tweets |= {f".{variant}": [probe.example for probe in some] for variant, some in results.probes.items()}
    for name in study.settings:
        stems = {end: f"{name}.{split}{end}" for end in tweets}
        paths = {end: study.run.predictions(stem) for end, stem in stems.items()}
        if can_answer := study.can_answer(name):
            paths = {end: study.answer(name, examples=tweets[end], stem=stem) for end, stem in stems.items()}
        _add(results, name, paths, tweets)
        for other in comparison.splits(config)[:-1] if name in results.answers else ():
            path = study.answer(name, other) if can_answer else study.run.predictions(f"{name}.{other}")
            if (answers := read(results, name, path, study.examples(other))) is not None:
                results.other_splits.setdefault(other, {})[name] = answers
    if (path := scoring.configured_file(study.loaded, results.examples)) is not None:
        paths = {end: path.with_name(f"{path.stem}{end}.jsonl") if end else path for end in tweets}
        _add(results, PREDICTIONS, paths, tweets)
    return results


def make_probes(study: Study) -> dict[str, list[Probe]]:
    """Variant -> its counterfactual tweets, if it applies to any; writes them and their images to `data/`."""
    c, variants, names = study.config, probes.variants(study.config.probes), {}
    tweets = study.examples(c.eval_split)
    if "rename" in variants:
        names_from = "train" if "train" in c.splits else c.eval_split
        names = probes.training_names(prepare.load_examples(study.loaded, [names_from])[names_from])
    given = probes.choose(tweets, c.n_probe_examples, seed=c.seed), study.run.path / "data" / "probes"
    options = {"pool": tweets, "names": names, "bait": baited, "seed": c.seed}
    made = {variant: some for variant in variants if (some := probes.make(variant, *given, **options))}
    stems = {f"{c.eval_split}.{variant}": [probe.example for probe in some] for variant, some in made.items()}
    prepare.write_examples(study.run, stems)
    return made


def _add(results: BiasResults, name: str, paths: dict[str, Path], tweets: dict[str, list[Example]]) -> None:
    """Add the answers to the scored split (key "") and to its probes (key ".<variant>")."""
    if (answers := read(results, name, paths[""], tweets[""])) is not None:  # else probes mean nothing
        results.answers[name] = answers
        probed = {end[1:]: read(results, name, paths[end], tweets[end]) for end in paths if end}
        results.probe_answers[name] = {variant: some for variant, some in probed.items() if some is not None}


def read(results: BiasResults, name: str, path: Path, examples: list[Example]) -> ScoredFile | None:
    """The answers of a file; `None`, with a sentence in `missing`, where it cannot be used."""
    header, rows = read_predictions(path) if path.is_file() else ({}, [])
    data, expected = header.get("data"), f"{examples[0].source}:{checksum(examples)}"
    if not path.is_file():
        reason = "does not exist: left out"
    elif data != expected and (data is not None or name != PREDICTIONS):
        reason = f"has answers to data {data or 'that it does not name'}, this run has {expected}: refused"
    elif not {row.id for row in rows} & {example.id for example in examples}:
        reason = f"has no answer to any of these {len(examples):,} tweets: left out"
    else:
        return scoring.join(examples, rows, header, parse=results.config.parse)
    results.missing.append(f"{name}: {path.parent.name}/{path.name} {reason}")
    return None


def grounding_rows(results: BiasResults) -> Rows:
    """Metrics of textual bias per setting and blind rule; ours also over hard entities (`bias.is_hard`)."""
    rows = []
    for head, report in results.reports_by_kind:
        if textual := report.get("textual_bias"):
            for part, values, keys in (("all", textual, TEXTUAL_BIAS), ("hard", textual["hard"], OF_HARD)):
                row = {**head, "entities": part, "tweets": values.get("n_tweets", report["n_examples"])}
                rows.append(row | _with_ci95(values, *keys))
    return rows


def foreign_rows(results: BiasResults) -> Rows:
    """Foreign names, predictions and origins of the former (`bias.foreign_names`), per split and name."""
    rows = []
    for split, by_name in {results.config.eval_split: results.answers, **results.other_splits}.items():
        for name, answers in by_name.items():
            kinds = bias.foreign_names(answers.judged, results.training_names)
            row = {"name": name, "split": split, "foreign": sum(kinds.values())}
            rows.append({**row, "n_predictions": sum(len(j.predictions) for j in answers.judged), **kinds})
    return rows


def type_error_rows(results: BiasResults) -> Rows:
    """`bias.type_errors` per name, in tweets that the text decides and in all."""
    rows = []
    for name, answers in results.answers.items():
        for only_text_decided in (True, False):
            ratio = bias.type_errors(answers.judged, only_text_decided=only_text_decided)
            row = {"name": name, "tweets": "text-decided" if only_text_decided else "all"}
            row |= {"names": int(ratio.denominator.sum()), "wrong types": int(ratio.numerator.sum())}
            rows.append(row | estimate(ratio, results.config, "rate"))
    return rows


def sharing_rows(results: BiasResults) -> Rows:
    """What the wrong boxes show, and the pairs of predictions that share a box, per name."""
    rows, columns = [], {"pairs that share a box": "pairs", "gold pairs that do": "gold_pairs"}
    for name, report in results.reports.items():
        if textual := report.get("textual_bias"):
            pairs = {column: textual["box_sharing"][key] for column, key in columns.items()}
            rows.append({"name": name, **textual["wrong_boxes"], **pairs})
    return rows


def consistency_rows(results: BiasResults) -> Rows:
    """Per name and probe: tweets, those right on the original, of them those clean on the probe, faults."""
    rows, counted = [], results.probes.keys() - CONTROLS
    for name, probed in results.probe_answers.items():
        before, of_name = results.answers[name].faults, []
        by_probe = {variant: answers.faults for variant, answers in probed.items() if variant in counted}
        if by_probe and by_probe.keys() == counted:  # else no "all": fewer probes are easier to pass
            by_probe["all"] = first_faults(by_probe)
        by_probe |= {variant: probed[variant].faults for variant in CONTROLS if variant in probed}
        for probe, after in by_probe.items():
            ratio = bias.consistency([before[id] for id in after], list(after.values()))
            kinds = Counter(fault for id, fault in after.items() if before[id] is None)
            row = {"name": name, "probe": probe, "worst": "", "tweets": len(after)}
            row |= {"right": int(ratio.denominator.sum()), "clean": int(ratio.numerator.sum())}
            row |= estimate(ratio, results.config, "consistency") | {k: kinds[k] for k in bias.FAULTS}
            of_name.append(row)
        variants = counted & {*probes.PROBES["blank"]}
        blank = [row for row in of_name if row["probe"] in variants and row["consistency"] is not None]
        if blank and len(blank) == len(variants):  # "blank" = the worst of the blank images
            worst = min(blank, key=lambda row: row["consistency"])
            of_name.insert(len(blank), {**worst, "probe": "blank", "worst": worst["probe"]})
        rows += of_name
    return rows


def first_faults(by_probe: Mapping[str, Faults]) -> Faults:
    """Id of a tweet -> the first fault over all its probes; `None` = clean on all of them."""
    ids = dict.fromkeys(id for faults in by_probe.values() for id in faults)
    return {id: next(filter(None, (faults.get(id) for faults in by_probe.values())), None) for id in ids}


def blank_pairs(answers: ScoredFile, probed: Answers) -> Iterator[BlankPair]:
    """Text, variant of the blank image, and answers to the same tweets at the real and the blank image."""
    pairs = [("as it is", v, answers, probed[v]) for v in probes.PROBES["blank"] if v in probed]
    if {"mute", "mute_blank"} <= probed.keys():
        pairs.append(("muted", "blank_mean", probed["mute"], probed["mute_blank"]))
    for text, variant, real, blank in pairs:
        by_id = {j.example.id: j for j in real.judged}
        yield text, variant, [by_id[j.example.id] for j in blank.judged], blank.judged


def image_caused_rows(results: BiasResults) -> Rows:
    """Foreign names at the real and the worst blank image, their difference, per name, as it is and muted."""
    rows, c = [], results.config
    for name, probed in results.probe_answers.items():
        of_name = []
        for text, variant, *pair in blank_pairs(results.answers[name], probed):
            rng = np.random.default_rng(c.seed)
            test = bias.image_caused(*pair, n_resamples=c.n_resamples, rng=rng)
            row: Row = {"name": name, "text": text, "blank": variant, "tweets": test.n}
            for image, judged in zip(("real", "blank"), pair, strict=True):
                rate = bias.visual_bias(judged)["foreign_rate"]
                row[f"foreign {image}"] = int(rate.numerator.sum())
                row[f"n_predictions {image}"] = int(rate.denominator.sum())
                row[f"rate {image}"] = round(rate.percent or 0, 2)
            row |= {"difference": round(test.difference, 2), "ci_low": round(test.ci95[0], 2)}
            of_name.append(row | {"ci_high": round(test.ci95[1], 2), "p": round(test.p_value, 4)})
        by_text = groupby(of_name, key=lambda row: row["text"])
        rows += [max(of_text, key=lambda row: row["difference"]) for _, of_text in by_text]
    return rows


def rename_rows(results: BiasResults) -> Rows:
    """Renamed tweets with an "old box" or "old name" (`bias.old_signs`): count and share per name, sign."""
    rows, old = [], {probe.example.id: probe.changed for probe in results.probes.get("rename", ())}
    for name, probed in results.probe_answers.items():
        judged = probed["rename"].judged if "rename" in probed else ()
        signs = [bias.old_signs(j, old[j.example.id]) for j in judged]
        for sign in ("old box", "old name") if signs else ():
            flags = [sign in some for some in signs]
            row = {"name": name, "sign": sign, "tweets": len(flags), "count": sum(flags)}
            rows.append(row | estimate(share(flags), results.config, "share"))
    return rows


def flaws(answers: ScoredFile) -> list[str | None]:
    """Per tweet why the reasoning does not state the answer (`chains.faithfulness`), `None` = it does; empty
    for a setting without reasoning.
    """
    n_reasoned = sum(p is not None and bool(p.think) for p in answers.parsed)
    if answers.prompt in (None, "direct") and 2 * n_reasoned < len(answers.parsed):
        return []  # a stray one is none
    task = {"labels": answers.judged[0].example.labels, "task": answers.judged[0].example.constraints}
    return ["unread" if p is None else chains.faithfulness(p, **task) for p in answers.parsed]


def faithful_rows(results: BiasResults) -> Rows:
    """Per split and name with reasoning: answers, faithful ones (`flaws`) and their share, flaws."""
    rows = []
    for split, by_name in {results.config.eval_split: results.answers, **results.other_splits}.items():
        for name, answers in by_name.items():
            if found := flaws(answers):
                row = {"name": name, "split": split, "answers": len(found), "faithful": found.count(None)}
                row |= estimate(share([flaw is None for flaw in found]), results.config, "share")
                rows.append(row | dict(Counter(filter(None, found)).most_common()))
    return rows


def one_tweet(results: BiasResults) -> dict[str, Example]:
    """The tweet with most probes, then entities: "original" or variant -> tweet; empty without probes."""
    probed = [(variant, probe.example) for variant, some in results.probes.items() for probe in some]
    n_probes = Counter(tweet.id for _, tweet in probed)
    if not (originals := [tweet for tweet in results.examples if tweet.id in n_probes]):
        return {}
    best = max(originals, key=lambda tweet: (n_probes[tweet.id], len(tweet.entities), tweet.id))
    return {"original": best} | {variant: tweet for variant, tweet in probed if tweet.id == best.id}


def drawn_rows(tweets: Mapping[str, Example]) -> Rows:
    """The tweets of `one_tweet` as values of their figure."""
    gold = {name: [(e.text, e.type, e.boxes_xyxy_px) for e in t.entities] for name, t in tweets.items()}
    return [{"probe": name, "id": t.id, "text": t.text, "gold": gold[name]} for name, t in tweets.items()]


def result_rows(results: BiasResults, tables: Tables) -> Rows:
    """Rows of `results.csv` for metrics that notebook 05 does not measure, from tables by title."""
    rows, c = [], results.config

    def add(row: Mapping[str, Any], metric: str, key: str, n: str = "", probe: str = "") -> None:
        split = row.get("split", c.eval_split)
        other = next(iter(results.other_splits.get(split, {}).values()), None)
        examples = [j.example for j in other.judged] if other else results.examples
        extra = {}
        if probe:
            of_probe = [some for variant, some in results.probes.items() if probe in (variant, "all")]
            extra["probe"] = f"{probe}:{checksum([p.example for some in of_probe for p in some] or examples)}"
        value = {"setting": row["name"], "split": split, "seed": c.seed, "metric": metric.replace(" ", "_")}
        value |= {"value": row[key], "ci_low": row.get("ci_low"), "ci_high": row.get("ci_high")}
        signature = scoring.signature(examples, scoring.options(c), **extra)
        rows.append(value | {"n": row[n] if n else len(examples), "signature": signature})

    for row in tables["grounding"]:
        for key in OF_HARD if (row["kind"], row["entities"]) == ("setting", "hard") else ():
            add(row | {f"ci_{end}": row[f"{key}_{end}"] for end in ("low", "high")}, f"{key}_hard", key)
    for row in tables["sharing"]:
        for key in (key for key in row if key != "name"):
            add(row, "wrong_box_" * (key in bias.WRONG_BOXES) + key.replace(",", ""), key)
    for row in tables["foreign"]:
        for origin in (origin for origin in bias.ORIGINS if origin in row):
            add(row, f"foreign_count_{origin}", origin)
    for row in tables["type errors"]:
        add(row, "type_errors" + "_text_decided" * (row["tweets"] != "all"), "rate", n="names")
    for row in (row for row in tables["consistency"] if row["probe"] not in CONTROLS):
        metric = "consistency" if row["probe"] == "all" else f"consistency_{row['probe']}"
        add(row, metric, "consistency", n="right", probe=row["worst"] or row["probe"])
    for row in tables["image caused"]:
        metric = "image_caused_foreign_rate" + "_muted" * (row["text"] == "muted")
        add(row, metric, "difference", n="tweets", probe=row["blank"])
    for row in tables["rename"]:
        add(row, f"renamed_{row['sign']}", "share", n="tweets", probe="rename")
    for row in tables["faithful"]:
        add(row, "faithful", "share", n="answers")
    return rows


def write(results: BiasResults, folder: RunFolder, tables: Tables, rows: Rows, note: str) -> list[str]:
    """Write all tables to `scores/bias.json` and add the rows to `results.csv`; returns a line per file."""
    value = {"format_version": FORMAT_VERSION, **tables, "missing": results.missing, "note": note}
    files.write_json(folder.score("bias"), value)
    return ["scores/bias.json", *(comparison.add_results(folder, rows) if rows else [])]
