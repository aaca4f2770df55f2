"""Bias analysis (notebook 06): collects answers to the scored split, its probes and the other splits, and
counts both shortcuts in them, as rows of tables, figures and `results.csv`.

Nothing is trained here. A setting whose model exists answers what it has not answered yet; for the others,
predictions/<setting>.<split>.jsonl and <setting>.<split>.<probe>.jsonl are read, and with a configured
predictions file FILE.jsonl also FILE.<probe>.jsonl. Files that are missing or belong to other data are listed
in `BiasResults.missing`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, chains, metrics, statistics, yardsticks
from mcr_lib.answer import ParsedAnswer
from mcr_lib.data import probes
from mcr_lib.data.files import write_json
from mcr_lib.data.predictions import read_predictions
from mcr_lib.data.probes import Probe
from mcr_lib.metrics import Judged
from mcr_lib.schema import FORMAT_VERSION, Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import comparison, scoring
from mcr_lib.testbed.bait import baited

Rows = list[dict[str, Any]]
Faults = Mapping[str, str | None]
"""Id of a tweet -> the `bias.fault` of an answer to it."""

CONTROLS = ("mute_blank",)
"""Probe variants that only serve as a reference for others; they do not count for consistency."""

WRONG = ("own entity, inexact", "another entity", "image only", "background")
"""What a wrong box may show (`bias.wrong_boxes`)."""

FAITHFUL = ("name", "answers", "faithful", "share", "ci_low", "ci_high")
"""The keys of `faithful_rows` that are not flaws."""

PREDICTIONS = "predictions"
"""The name of the answers of the configured predictions file, whose header need not name its data."""

TEXTUAL = ("n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding", "balanced_accuracy")


@dataclass(frozen=True)
class AlignedAnswers:
    """The answers of one predictions file, one per tweet, in the order of the tweets.

    A tweet without an answer is judged on no predictions, and its `parsed` is `None`. `prompt` is the kind of
    prompt from the header of the file; `None` = not recorded.
    """

    judged: list[Judged]
    parsed: list[ParsedAnswer | None]
    prompt: str | None = None

    @property
    def has_reasoning(self) -> bool:
        """Whether the prompt requires reasoning or some answer contains it."""
        return self.prompt not in (None, "direct") or any(p is not None and p.think for p in self.parsed)

    @cached_property
    def faults(self) -> dict[str, str | None]:
        """Id of a tweet -> the `bias.fault` of its answer."""
        pairs = zip(self.judged, self.parsed, strict=True)
        return {j.example.id: bias.fault(j, is_read=p is not None and p.reason is None) for j, p in pairs}

    def of(self, ids: Iterable[str]) -> list[Judged]:
        """The judged answers to the tweets with these ids, in the order of the ids."""
        by_id = {j.example.id: j for j in self.judged}
        return [by_id[id] for id in ids]


@dataclass(frozen=True)
class BiasResults:
    """All answers of a run that the bias analysis needs.

    Args:
        examples: the tweets of the scored split.
        answers: setting, or "predictions" for the configured predictions file -> answers to `examples`.
        probes: variant -> its counterfactual tweets.
        probe_answers: name -> variant -> answers to these tweets.
        other_splits: split -> setting -> answers to its tweets.
        training_names: entity names of the training tweets; `None` = the run has no training split.
        missing: one sentence per file that is missing or was refused.
    """

    config: Config
    examples: list[Example]
    answers: dict[str, AlignedAnswers] = field(default_factory=dict)
    probes: dict[str, list[Probe]] = field(default_factory=dict)
    probe_answers: dict[str, dict[str, AlignedAnswers]] = field(default_factory=dict)
    other_splits: dict[str, dict[str, AlignedAnswers]] = field(default_factory=dict)
    training_names: frozenset[str] | None = None
    missing: list[str] = field(default_factory=list)

    @cached_property
    def reports(self) -> dict[str, dict[str, Any]]:
        """Name -> `scoring.report` of its answers to the scored split."""
        c = self.config
        options = {"scorer": c.scorer, "n_resamples": c.n_resamples, "seed": c.seed}
        return {name: scoring.report(answers.judged, **options) for name, answers in self.answers.items()}

    @cached_property
    def blind_rules(self) -> dict[str, list[Judged]]:
        """Blind rule (`yardsticks.BLIND`) -> its judged answers to the scored split, with perfect text."""
        rules = {name: yardsticks.YARDSTICKS[name] for name in yardsticks.BLIND}
        return {name: [metrics.judge(e, rule(e)) for e in self.examples] for name, rule in rules.items()}

    @property
    def description(self) -> str:
        """What was collected and what is missing, one fact per line."""
        c, names = self.config, ", ".join(self.answers) or "none"
        none = "none; the profile names none, or no tweet has an image that shows something"
        counts = ", ".join(f"{variant} {len(some)}" for variant, some in self.probes.items()) or none
        lines = [f"answers to {len(self.examples):,} tweets of {c.eval_split}: {names}"]
        lines.append(f"probes, with their tweets: {counts}")
        lines += [f"answers to {split}: {', '.join(answers)}" for split, answers in self.other_splits.items()]
        return "\n".join([*lines, *self.missing, f"single run, seed {c.seed}"])

    def tweets(self, split: str) -> list[Example]:
        """The tweets of the scored split, or of another split with answers."""
        answers = next(iter(self.other_splits.get(split, {}).values()), None)
        return [j.example for j in answers.judged] if answers else self.examples

    def estimate(self, ratio: Ratio, key: str) -> dict[str, float | None]:
        """A ratio under `key` and its 95 % interval under ci_low and ci_high, in percent, to two decimals."""
        rng = np.random.default_rng(self.config.seed)
        weights = statistics.resamples(len(ratio.numerator), self.config.n_resamples, rng)
        low, high = statistics.interval95(ratio, weights) or (None, None)
        return rounded({key: ratio.percent, "ci_low": low, "ci_high": high})


def rounded(values: Mapping[str, float | None], digits: int = 2) -> dict[str, float | None]:
    """The same values, rounded; `None` stays `None`."""
    return {key: None if value is None else round(value, digits) for key, value in values.items()}


def share(flags: Sequence[bool]) -> Ratio:
    """The share of true flags, one flag per tweet."""
    return Ratio(np.array(flags, dtype=np.int64), np.ones(len(flags), dtype=np.int64))


def collect(study: Study) -> BiasResults:
    """The answers of every setting and of the configured predictions file to the scored split and its probes,
    and the answers of the settings to the other splits of the run.
    """
    config, split = study.config, study.config.eval_split
    has_train = "train" in config.splits
    names = frozenset(e.text for x in _gold(study, "train") for e in x.entities) if has_train else None
    results = BiasResults(config, study.examples(split), probes=make_probes(study), training_names=names)
    tweets = {"": results.examples} | {f".{v}": _tweets(some) for v, some in results.probes.items()}
    for name in study.settings:
        stems = {end: f"{name}.{split}{end}" for end in tweets}
        if can_answer := study.can_answer(name):
            files = {end: study.answer(name, examples=tweets[end], stem=stem) for end, stem in stems.items()}
        else:
            files = {end: study.run.predictions(stem) for end, stem in stems.items()}
        _add(results, name, files, tweets)
        for other in comparison.splits(config)[:-1] if name in results.answers else ():
            path = study.answer(name, other) if can_answer else study.run.predictions(f"{name}.{other}")
            answers = _read(results, name, path, study.examples(other))
            if answers is not None:
                results.other_splits.setdefault(other, {})[name] = answers
    path = scoring.configured_file(study.loaded, results.examples)
    if path is not None:
        files = {end: path.with_name(f"{path.stem}{end}.jsonl") if end else path for end in tweets}
        _add(results, PREDICTIONS, files, tweets)
    return results


def make_probes(study: Study) -> dict[str, list[Probe]]:
    """Variant -> its counterfactual tweets, without variants that apply to no tweet. Also writes them to the
    run folder: images to `data/probes/`, tweets to `data/<split>.<variant>.jsonl`.
    """
    config, split = study.config, study.config.eval_split
    variants = probes.variants(config.probes)
    tweets = study.examples(split)
    chosen = probes.choose(tweets, config.n_probe_examples, seed=config.seed) if variants else []
    if not chosen:
        return {}
    names_from = "train" if "train" in config.splits else split
    names = probes.training_names(_gold(study, names_from)) if "rename" in variants else {}
    options = {"pool": tweets, "names": names, "bait": baited, "seed": config.seed}
    folder = study.run.path / "data" / "probes"
    probed = {variant: probes.make(variant, chosen, folder, **options) for variant in variants}
    probed = {variant: some for variant, some in probed.items() if some}
    prepare.write_examples(study.run, {f"{split}.{v}": _tweets(some) for v, some in probed.items()})
    return probed


def read_answers(examples: Sequence[Example], path: Path, config: Config) -> AlignedAnswers:
    """The answers of a predictions file to these tweets."""
    header, rows = read_predictions(path)
    file = scoring.join(examples, rows, parse=config.parse)
    missing, parsed = set(file.ids["missing"]), iter(file.parsed)
    aligned = [None if example.id in missing else next(parsed) for example in examples]
    return AlignedAnswers(file.judged, aligned, header.get("prompt"))


def _gold(study: Study, split: str) -> list[Example]:
    return prepare.load_examples(study.loaded, [split])[split]


def _tweets(probed: Sequence[Probe]) -> list[Example]:
    return [probe.example for probe in probed]


def _add(
    results: BiasResults, name: str, files: Mapping[str, Path], tweets: Mapping[str, Sequence[Example]]
) -> None:
    """Add the answers of one name to the scored split (key "") and to its probes (key ".<variant>")."""
    answers = _read(results, name, files[""], tweets[""])
    if answers is None:
        return  # probes mean nothing without the answers to the originals
    probed = {end[1:]: _read(results, name, files[end], tweets[end]) for end in files if end}
    results.answers[name] = answers
    results.probe_answers[name] = {variant: some for variant, some in probed.items() if some is not None}


def _read(results: BiasResults, name: str, path: Path, examples: Sequence[Example]) -> AlignedAnswers | None:
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
        return read_answers(examples, path, results.config)
    results.missing.append(f"{name}: {path.parent.name}/{path.name} {reason}")
    return None


def grounding_rows(results: BiasResults) -> Rows:
    """Metrics of textual bias per setting and blind rule, over all and the hard entities (`bias.is_hard`)."""
    rows, n = [], len(results.examples)
    for name, report in results.reports.items():
        if textual := report.get("textual_bias"):
            hard = textual["hard"]
            rows.append(_grounding_row(name, "setting", "all", n, textual))
            rows.append(_grounding_row(name, "setting", "hard", hard["n_tweets"], hard))
    if "box" not in results.examples[0].constraints:
        return rows
    n_hard = sum(any(bias.is_hard(example, e) for e in example.entities) for example in results.examples)
    for name, judged in results.blind_rules.items():
        for part, k in (("all", n), ("hard", n_hard)):
            ratios = bias.textual_bias(judged, only_hard=part == "hard")
            values = {key: ratio.percent for key, ratio in ratios.items()}
            mistakes = values["false_grounding"], values["missed_grounding"]
            values["balanced_accuracy"] = bias.balanced_accuracy(*mistakes)
            rows.append(_grounding_row(name, "blind rule", part, k, {**values, "ci95": {}}))
    return rows


def _grounding_row(name: str, kind: str, part: str, n: int, values: Mapping[str, Any]) -> dict[str, Any]:
    row = {"name": name, "kind": kind, "entities": part, "tweets": n}
    for key in TEXTUAL:
        interval = values["ci95"].get(key) if values[key] is not None else None
        low, high = interval or (None, None)
        row |= rounded({key: values[key]}) | {f"{key}_low": low, f"{key}_high": high}
    return row


def naming_rows(results: BiasResults) -> Rows:
    """N-Count, predictions, N-Rate with its 95 % interval, and altered names, per setting and blind rule."""
    rows = []
    for name, report in results.reports.items():
        visual = report["visual_bias"]
        low, high = visual["ci95"]["n_rate"] or (None, None)
        row = {"name": name, "kind": "setting"}
        row |= {key: visual[key] for key in ("n_count", "n_predictions", "n_rate")}
        rows.append(row | {"n_rate_low": low, "n_rate_high": high, "altered": visual["altered"]})
    for name, judged in results.blind_rules.items() if rows else ():
        rates = bias.visual_bias(judged)
        rate, altered = rates["n_rate"], int(rates["altered_rate"].numerator.sum())
        row = {"name": name, "kind": "blind rule", **_counts(rate), "n_rate": rate.percent}
        rows.append(row | {"n_rate_low": None, "n_rate_high": None, "altered": altered})
    return rows


def _counts(n_rate: Ratio) -> dict[str, int]:
    return {"n_count": int(n_rate.numerator.sum()), "n_predictions": int(n_rate.denominator.sum())}


def invented_rows(results: BiasResults) -> Rows:
    """N-Count, predictions and origin of the invented names (`bias.invented_names`), per split and name."""
    rows = []
    for split, by_name in {results.config.eval_split: results.answers, **results.other_splits}.items():
        for name, answers in by_name.items():
            kinds = bias.invented_names(answers.judged, results.training_names)
            n = sum(len(j.predictions) for j in answers.judged)
            counts = {"n_count": sum(kinds.values()), "n_predictions": n, **kinds}
            rows.append({"name": name, "split": split, **counts})
    return rows


def sharing_rows(results: BiasResults) -> Rows:
    """What the wrong boxes show, and the pairs of predictions that share a box, per name."""
    rows = []
    for name, report in results.reports.items():
        if textual := report.get("textual_bias"):
            sharing = textual["box_sharing"]
            pairs = {"pairs that share a box": sharing["pairs"], "gold pairs that do": sharing["gold_pairs"]}
            rows.append({"name": name, **textual["wrong_boxes"], **pairs})
    return rows


def consistency_rows(results: BiasResults) -> Rows:
    """Consistency per name and probe variant: tweets, those right on the original, those of them clean on the
    probe, the share with its 95 % interval, and the first fault of the others.

    "all" = clean on every probe of the tweet except controls; "blank" = the worst of the blank images. Both
    only for a name that answered all of these probes, because fewer probes are easier to pass.
    """
    variants = [variant for variant in results.probes if variant not in CONTROLS]
    rows = []
    for name, probed in results.probe_answers.items():
        before = results.answers[name].faults
        after = {variant: answers.faults for variant, answers in probed.items() if variant not in CONTROLS}
        of_name = [_consistency_row(results, name, v, before, faults) for v, faults in after.items()]
        blank_variants = probes.PROBES["blank"]
        blank = [row for row in of_name if row["probe"] in blank_variants and row["consistency"] is not None]
        if blank and len(blank) == sum(variant in variants for variant in blank_variants):
            worst = min(blank, key=lambda row: row["consistency"])
            of_name.insert(len(blank), {**worst, "probe": "blank", "worst": worst["probe"]})
        if after and set(after) == set(variants):
            of_name.append(_consistency_row(results, name, "all", before, first_faults(after)))
        rows += of_name
    return rows


def first_faults(by_probe: Mapping[str, Faults]) -> dict[str, str | None]:
    """Id of a tweet -> the first fault over all its probes; `None` = clean on all of them.

    Example:
        >>> first_faults({"erase": {"1": None, "2": None}, "mute": {"1": "box misses"}})
        {'1': 'box misses', '2': None}
    """
    first: dict[str, str | None] = {}
    for faults in by_probe.values():
        first |= {id: fault for id, fault in faults.items() if first.get(id) is None}
    return first


def _consistency_row(
    results: BiasResults, name: str, variant: str, before: Faults, after: Faults
) -> dict[str, Any]:
    ratio = bias.consistency([before[id] for id in after], list(after.values()))
    kinds = Counter(fault for id, fault in after.items() if fault is not None and before[id] is None)
    row = {"name": name, "probe": variant, "worst": "", "tweets": len(after)}
    row |= {"right": int(ratio.denominator.sum()), "clean": int(ratio.numerator.sum())}
    return row | results.estimate(ratio, "consistency") | {kind: kinds[kind] for kind in bias.FAULTS}


BlankPair = tuple[str, str, list[Judged], list[Judged]]


def blank_pairs(answers: AlignedAnswers, probed: Mapping[str, AlignedAnswers]) -> list[BlankPair]:
    """Answers to the same tweets at the real and at a blank image: (text "as it is" or "muted", variant of
    the blank image, answers at the real image, answers at the blank one).
    """
    pairs = [("as it is", v, answers, probed[v]) for v in probes.PROBES["blank"] if v in probed]
    if "mute" in probed and "mute_blank" in probed:
        pairs.append(("muted", "blank_mean", probed["mute"], probed["mute_blank"]))
    return [(text, v, real.of(list(blank.faults)), blank.judged) for text, v, real, blank in pairs]


def image_caused_rows(results: BiasResults) -> Rows:
    """N-Rate at the real and at a blank image and their difference with 95 % interval and p, per name, for
    the text as it is and muted. Of several blank images, the one with the largest difference.
    """
    rows = []
    for name, probed in results.probe_answers.items():
        pairs = blank_pairs(results.answers[name], probed)
        of_name = [_image_caused_row(results, name, pair) for pair in pairs]
        for text in dict.fromkeys(row["text"] for row in of_name):
            of_text = [row for row in of_name if row["text"] == text]
            rows.append(max(of_text, key=lambda row: row["difference"]))
    return rows


def _image_caused_row(results: BiasResults, name: str, pair: BlankPair) -> dict[str, Any]:
    c, (text, variant, real, blank) = results.config, pair
    rng = np.random.default_rng(c.seed)
    test = bias.image_caused(real, blank, n_resamples=c.n_resamples, rng=rng)
    row: dict[str, Any] = {"name": name, "text": text, "blank": variant, "tweets": test.n}
    for image, judged in (("real", real), ("blank", blank)):
        rate = bias.visual_bias(judged)["n_rate"]
        counts = _counts(rate) | {"n_rate": round(rate.percent or 0, 2)}
        row |= {f"{key} {image}": value for key, value in counts.items()}
    low, high = test.ci95
    row |= rounded({"difference": test.difference, "ci_low": low, "ci_high": high})
    return row | {"p": round(test.p_value, 4)}


def rename_rows(results: BiasResults) -> Rows:
    """Renamed tweets with an "old box" or "old name" (`bias.old_signs`): count and share per name, sign."""
    rows = []
    old = {probe.example.id: probe.changed for probe in results.probes.get("rename", ())}
    for name, probed in results.probe_answers.items():
        judged = probed["rename"].judged if "rename" in probed else []
        signs = [bias.old_signs(j, old[j.example.id]) for j in judged]
        for sign in ("old box", "old name") if signs else ():
            ratio = share([sign in some for some in signs])
            row = {"name": name, "sign": sign, "tweets": len(signs), "count": int(ratio.numerator.sum())}
            rows.append(row | results.estimate(ratio, "share"))
    return rows


def faithful_rows(results: BiasResults) -> Rows:
    """Per name with reasoning: answers, those with faithful reasoning (`chains.faithfulness`), their share
    with its 95 % interval, and the count of each flaw.
    """
    rows = []
    task = {"labels": results.examples[0].labels, "task": results.examples[0].constraints}
    for name, answers in results.answers.items():
        if not answers.has_reasoning:
            continue
        flaws = ["unread" if p is None else chains.faithfulness(p, **task) for p in answers.parsed]
        ratio = share([flaw is None for flaw in flaws])
        counts = Counter(flaw for flaw in flaws if flaw is not None)
        row = {"name": name, "answers": len(flaws), "faithful": int(ratio.numerator.sum())}
        rows.append(row | results.estimate(ratio, "share") | dict(counts.most_common()))
    return rows


def one_tweet(results: BiasResults) -> dict[str, Example]:
    """The tweet with most probes, then entities: "original" or variant -> tweet; empty without probes."""
    every = [(variant, tweet) for variant, some in results.probes.items() for tweet in _tweets(some)]
    n_probes = Counter(tweet.id for _, tweet in every)
    if not every:
        return {}
    originals = [tweet for tweet in results.examples if tweet.id in n_probes]
    best = max(originals, key=lambda tweet: (n_probes[tweet.id], len(tweet.entities), tweet.id))
    return {"original": best} | {variant: tweet for variant, tweet in every if tweet.id == best.id}


def drawn_rows(tweets: Mapping[str, Example]) -> Rows:
    """The tweets of `one_tweet` as values of their figure."""
    rows = [{"probe": name, "id": tweet.id, "text": tweet.text} for name, tweet in tweets.items()]
    gold = [[(e.text, e.type, e.boxes_xyxy_px) for e in tweet.entities] for tweet in tweets.values()]
    return [{**row, "gold": entities} for row, entities in zip(rows, gold, strict=True)]


def result_rows(results: BiasResults, tables: Mapping[str, Rows]) -> Rows:
    """Rows of `results.csv` for the metrics that notebook 05 does not measure.

    `tables` has the rows of "grounding", "invented", "sharing", "consistency", "image caused", "rename" and
    "faithful".
    """
    rows = []
    for row in tables["grounding"]:
        if row["kind"] == "setting" and row["entities"] == "hard":
            for key in TEXTUAL:
                interval = {"ci_low": row[f"{key}_low"], "ci_high": row[f"{key}_high"]}
                rows.append(_result(results, row | interval, f"{key}_hard", key))
    for row in tables["sharing"]:
        for key in (key for key in row if key != "name"):
            rows.append(_result(results, row, "wrong_box_" * (key in WRONG) + _slug(key), key))
    for row in tables["invented"]:
        for kind in (kind for kind in bias.INVENTED if kind in row):
            rows.append(_result(results, row, f"n_count_{_slug(kind)}", kind))
    for row in tables["consistency"]:
        metric = "consistency" if row["probe"] == "all" else f"consistency_{row['probe']}"
        probe = row["worst"] or row["probe"]
        rows.append(_result(results, row, metric, "consistency", n="right", probe=probe))
    for row in tables["image caused"]:
        metric = "image_caused_n_rate" + "_muted" * (row["text"] == "muted")
        rows.append(_result(results, row, metric, "difference", n="tweets", probe=row["blank"]))
    for row in tables["rename"]:
        metric = f"renamed_{_slug(row['sign'])}"
        rows.append(_result(results, row, metric, "share", n="tweets", probe="rename"))
    return rows + [_result(results, row, "faithful", "share", n="answers") for row in tables["faithful"]]


def _result(
    results: BiasResults, row: Mapping[str, Any], metric: str, key: str, *, n: str = "", probe: str = ""
) -> dict[str, Any]:
    """A row of `results.csv` with the value under `key`; `n`: key of the number of tweets, "" = all."""
    c, split = results.config, row.get("split", results.config.eval_split)
    examples, extra = results.tweets(split), {"resamples": c.n_resamples, "seed": c.seed}
    if probe:
        probed = [some for variant, some in results.probes.items() if probe in (variant, "all")]
        tweets = [tweet for some in probed for tweet in _tweets(some)]
        extra["probe"] = f"{probe}:{checksum(tweets or examples)}"
    data = {"source": examples[0].source, "checksum": checksum(examples), "split": split}
    signature = metrics.signature(scorer=c.scorer, **data, parse=c.parse, extra=extra)
    value = {"setting": row["name"], "split": split, "seed": c.seed, "metric": metric, "value": row[key]}
    value |= {"ci_low": row.get("ci_low"), "ci_high": row.get("ci_high")}
    return value | {"n": row[n] if n else len(examples), "signature": signature}


def _slug(text: str) -> str:
    return text.replace(",", "").replace(" ", "_")


def write(
    results: BiasResults, folder: RunFolder, tables: Mapping[str, Rows], rows: Rows, note: str
) -> list[str]:
    """Write all tables to `scores/bias.json` and add the rows to `results.csv`; returns a line per file."""
    value = {"format_version": FORMAT_VERSION, **tables, "missing": results.missing, "note": note}
    write_json(folder.score("bias"), value)
    return ["scores/bias.json", *(comparison.add_results(folder, rows) if rows else [])]
