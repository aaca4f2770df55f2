"""Merges run folders, each with one seed or some settings of a seed, into evidence, with earlier evidence.
Refused unless, but for the seed, profiles agree in all that affects an answer, tweets of one id have the same
gold, answers come from the models of the profile, and all start from one backbone (as far as recorded).
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, metrics
from mcr_lib.data import probes
from mcr_lib.data.files import read_text
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.statistics import Ratio, Terms
from mcr_lib.study.compare.evidence import FILE, METRICS, NUMBERS, Evidence, number
from mcr_lib.study.runs import artifacts, cache, config, prepare, setting
from mcr_lib.study.runs.settings import RANDOM
from mcr_lib.study.tables import comparison, scoring
from mcr_lib.study.tables.bias import CONTROLS, blank_pairs, first_faults, flaws, share
from mcr_lib.training.options import WITHOUT_EFFECT

MAY_DIFFER = frozenset((  # affect no answer, but settings of one name must be equal, and probes if any
    "seed", "settings", "notebooks", "device", "n_processes", "answer_batch_size", "answer_splits", "probes",
    "n_probe_examples", "attention_examples", "attention_answers", "predictions", "compare", "stand_in",
    "n_resamples", "n_degrade_repeats", "gallery_size", "data_dir", "images_dir",
))  # fmt: skip
Tweets = list[Example]
Measured = Iterator[tuple[str, list[str] | None, Terms]]  # metric, ids (`None`: a number), terms over them


class _Run(artifacts.RunFolder):
    """A run folder with its profile, the backbones of its settings and sentences on answers cut short."""

    def __init__(self, path: Path) -> None:
        if not (path / "profile.yaml").is_file():
            raise UserError(f"{path} is no run folder: profile.yaml is not there; mcr run writes it")
        loaded = config.load(str(path / "profile.yaml"), path.absolute())
        super().__init__(loaded.folder)
        self.config, self.record = loaded.config, artifacts.read_manifest(artifacts.RunFolder(path))
        self.backbones, self.missing = set(), []


def merge(folders: Sequence[str | Path]) -> Evidence:
    """The evidence of these run folders; answers that were cut short are in `head["missing"]`. A folder that
    `mcr compare` wrote, here or on another machine, fills in what the runs and those before it lack.
    """
    folders = [Path(folder) for folder in folders]
    earlier = [one for one in folders if (one / FILE).is_file() and not (one / "profile.yaml").exists()]
    if runs := [_Run(folder) for folder in folders if folder not in earlier]:
        whole, path = _of_runs(runs), runs[0].path
    elif earlier:
        whole, path = Evidence.read(earlier[0] / FILE), earlier.pop(0)
    else:
        raise UserError("nothing to compare: name at least one run folder")
    for folder in earlier:
        whole = _filled(whole, Evidence.read(folder / FILE), f"{folder} differs from {path} in")
    return whole


def _filled(whole: Evidence, other: Evidence, differs: str) -> Evidence:
    """`whole`, and of `other` what it lacks; `UserError`, which begins with `differs`, if they do not fit."""
    a, b = whole.head, other.head
    for key in ("profile", "source", "eval_split", "contradicting"):
        if a[key] != b[key]:
            raise UserError(f"{differs} {key}: {b[key]}, not {a[key]}")
    for split, expected in a["signatures"].items():
        if (found := b["signatures"].get(split, expected)) != expected:
            raise UserError(f"{differs} the tweets of {split} or their scoring: {found}, not {expected}")
    head = a | {key: list(dict.fromkeys([*a[key], *b[key]])) for key in ("settings", "missing")}
    head |= {"seeds": sorted({*a["seeds"], *b["seeds"]}), "signatures": b["signatures"] | a["signatures"]}
    head |= {"splits": list(dict.fromkeys([*b["splits"], *a["splits"]])), "runs": [*a["runs"], *b["runs"]]}
    return Evidence(head, other.n_tweets | whole.n_tweets, other.terms | whole.terms)


def _of_runs(runs: Sequence[_Run]) -> Evidence:
    _check_profiles(runs)
    splits = list(dict.fromkeys(split for run in runs for split in comparison.splits(run.config)))
    settings = list(dict.fromkeys(name for run in runs for name in run.config.settings))
    gold, counted = {split: {} for split in splits}, {}  # split -> id -> checksum; key -> ids, terms
    for run in runs:
        seed, own = run.config.seed, run.config.settings
        for split in (split for split in comparison.splits(run.config) if run.data(split).is_file()):
            for tweet in (tweets := prepare.read_examples(run, split)):
                digest = checksum([tweet])
                if gold[split].setdefault(tweet.id, digest) != digest:
                    where = f"{run.path}: tweet {tweet.id} of {tweet.split}"
                    raise UserError(f"{where} has other gold than in the runs before it; make it anew")
            for name in own:
                for metric, *measured in _measure(run, name, split, tweets):
                    if counted.setdefault((seed, name, split, metric), measured) is not measured:
                        where = f"in two runs, the second is {run.path}; name one of them"
                        raise UserError(f"seed {seed} of {name} is {where}")
        for name, metric, value in _numbers(run):
            counted[seed, name, run.config.eval_split, metric] = None, number(value)
    for run in (known := [run for run in runs if run.backbones]):
        if run.config.backbone != RANDOM and run.backbones != known[0].backbones:
            message = f"{run.path}: its settings start from other weights than those of {known[0].path}"
            raise UserError(f"{message}, though both call them {run.config.backbone}; run mcr run again")
    places = {split: {id: k for k, id in enumerate(sorted(of_split))} for split, of_split in gold.items()}
    terms = {}
    for key, (ids, of) in counted.items():
        terms[key] = of if ids is None else [(k, _aligned(r, ids, places[key[2]])) for k, r in of]
    n_tweets = {split: len(of_split) for split, of_split in places.items()}
    return Evidence(_head(runs, settings, gold), n_tweets, terms)


def _check_profiles(runs: Sequence[_Run]) -> None:
    first, expected = runs[0], runs[0].config.model_dump(mode="json")
    for run in runs:
        for key, value in run.config.model_dump(mode="json").items():
            if key not in MAY_DIFFER and value != expected[key]:
                values = f"{value!s:.60}, not {expected[key]!s:.60}"
                raise UserError(f"{run.path} differs from {first.path} in {key}: {values}")
    probed = [(run.path, ", ".join(probes.variants(run.config.probes))) for run in runs if run.config.probes]
    for path, variants in probed:
        if variants != probed[0][1]:
            raise UserError(f"{path} differs from {probed[0][0]} in probes: {variants}, not {probed[0][1]}")
    known: dict[str, tuple[Path, setting.Setting]] = {}
    for at, name, own in ((run.path, *item) for run in runs for item in run.config.settings.items()):
        path, other = known.setdefault(name, (at, own))
        if other != own:
            raise UserError(f"setting {name} of {at} is not that of {path}; give one of them another name")


def _measure(run: _Run, name: str, split: str, tweets: Tweets) -> Measured:
    if (answers := _answers(run, name, split, tweets)) is None:
        return
    tasks = scoring.f1_ratios(answers.judged, run.config.scorer)
    ratios = {f"{task}_f1": ratio for task, ratio in tasks.items()}
    if "box" in tweets[0].constraints:
        ratios |= bias.textual_bias(answers.judged)
    ratios |= bias.visual_bias(answers.judged)
    ratios["unread"] = share([parsed is None or parsed.reason is not None for parsed in answers.parsed])
    if found := flaws(answers):
        ratios["faithful"] = share([flaw is None for flaw in found])
    ids = [tweet.id for tweet in tweets]
    yield "n_count", None, number(int(ratios["n_rate"].numerator.sum()))
    yield from ((metric, ids, [(1, ratio)]) for metric, ratio in ratios.items() if metric in METRICS)
    if split == run.config.eval_split:
        yield from _measure_probes(run, name, answers)


def _numbers(run: _Run) -> Iterator[tuple[str, str, float]]:
    """Setting, metric and value of what is one number per run: hours of training, and results of 06."""
    for name in run.config.settings:
        line = setting.lineage(run.config.settings, name)
        trained = [start for start in line if run.config.settings[start].stage != "none"]
        seconds = [cache.read_record(run.setting(start)).get("seconds") for start in trained]
        if seconds and None not in seconds:
            yield name, "training_minutes", sum(seconds) / 60
    for row in csv.DictReader(read_text(run.results).splitlines() if run.results.is_file() else ()):
        if row["metric"] in NUMBERS and row["metric"] != "n_count" and row["value"]:  # counted from answers
            yield row["setting"], row["metric"], float(row["value"])


def _measure_probes(run: _Run, name: str, answers: scoring.ScoredFile) -> Measured:
    stems = {variant: f"{run.config.eval_split}.{variant}" for variant in probes.variants(run.config.probes)}
    stems = {variant: stem for variant, stem in stems.items() if run.data(stem).is_file()}
    tweets = {variant: prepare.read_examples(run, stem) for variant, stem in stems.items()}
    probed = {variant: _answers(run, name, stem, tweets[variant]) for variant, stem in stems.items()}
    probed = {variant: some for variant, some in probed.items() if some is not None}
    for text, variant, real, blank in blank_pairs(answers, probed):
        at_real, at_blank = (bias.visual_bias(judged)["foreign_rate"] for judged in (real, blank))
        metric = "image_caused_foreign_rate" + ("_muted" if text == "muted" else f".{variant}")
        yield metric, [j.example.id for j in blank], [(1, at_real), (-1, at_blank)]
    counted = [variant for variant in stems if variant not in CONTROLS]
    if counted and {*counted} <= {*probed}:
        after = first_faults({variant: probed[variant].faults for variant in counted})
        before = [answers.faults[id] for id in after]
        yield "consistency", list(after), [(1, bias.consistency(before, list(after.values())))]


def _answers(run: _Run, name: str, stem: str, tweets: Tweets) -> scoring.ScoredFile | None:
    """The answers of a setting to these tweets; `None` if there are none."""
    if not (path := run.predictions(f"{name}.{stem}")).is_file():
        return None
    header, rows = read_predictions(path)
    expected = {"seed": run.config.seed, "setting": name, "data": f"{tweets[0].source}:{checksum(tweets)}"}
    for key, value in expected.items():
        if header.get(key, value) != value:
            message = f"{path}: answers of {key} {header[key]}, where this run has {value}"
            raise UserError(f"{message}; run mcr run again to make them anew")
    run.backbones.update({_backbone(run, name, header.get("model"), path)} - {None})
    if n_left := len({tweet.id for tweet in tweets} - {row.id for row in rows}):
        left = f"{n_left} of {len(tweets)} answers of {name} to {stem}; they count as empty"
        run.missing.append(f"seed {run.config.seed}: {left}")
    return scoring.join(tweets, rows, header, parse=run.config.parse)


def _backbone(run: _Run, name: str, model: str | None, path: Path) -> str | None:
    """Fingerprint of a setting's backbone, `None` = not recorded; `model`: of the model that answered."""
    c = run.config
    for start in reversed(setting.lineage(c.settings, name)):
        if (own := c.settings[start]).stage == "none":
            continue
        if not (record := cache.read_record(run.setting(start))):
            return None
        options = setting.stage_options(own, getattr(c, own.stage), name=start, of_run={})[0]
        expected = options.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
        recorded = {row["option"]: row["value"] for row in record["options"] if row["origin"] != "run"}
        is_same = all(recorded.get(key, value) == value for key, value in expected.items())
        fields = {key: value for key, value in record["setting"].items() if key not in setting.APART}
        is_same &= fields == own.model_dump(mode="json", exclude_defaults=True, exclude=setting.APART)
        if not is_same or record["status"] != "done" or model not in (None, record["fingerprint"]):
            message = f"{path}: the model of {start} is not the one that these answers and the profile are of"
            raise UserError(f"{message}; run mcr run again")
        model = record.get("start")
    return model


def _aligned(ratio: Ratio, ids: Sequence[str], places: Mapping[str, int]) -> Ratio:
    """A ratio over the tweets `ids` as one over all tweets, with zeros for the others."""
    counts = np.zeros((2, len(places)), dtype=np.int64)
    counts[:, [places[id] for id in ids]] = ratio.numerator, ratio.denominator
    return Ratio(*counts)


def _head(runs: Sequence[_Run], settings: list[str], gold: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    c, first, signatures = runs[0].config, runs[0], {}
    for split, of_split in gold.items():
        data = {"source": c.source, "checksum": artifacts.fingerprint(sorted(of_split.items()))}
        signatures[split] = metrics.signature(scorer=c.scorer, **data, split=split, parse=c.parse)
    keys = ("seed", "commit", "n_cpus", "gpu", "python", "packages")
    return {
        "profile": Path(str(first.record.get("profile", first.path.name))).stem, "settings": settings,
        "seeds": sorted({run.config.seed for run in runs}), "splits": list(gold),
        "eval_split": c.eval_split, "source": c.source, "signatures": signatures,
        "contradicting": c.testbed_contradicting,
        "missing": [sentence for run in runs for sentence in run.missing],
        "runs": [{key: run.record.get(key) for key in keys} | {"seed": run.config.seed} for run in runs],
    }  # fmt: skip
