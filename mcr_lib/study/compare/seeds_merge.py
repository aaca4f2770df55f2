"""Run folders merged into evidence: one seed a folder, or several settings of a seed; what does not belong
together is refused.

Folders belong together when their `profile.yaml` are equal in all that bears on an answer, apart from the
seed, when tweets of one id have one gold, when answers are of the models that the profile describes, and when
all of these come from one backbone (as far as folders tell: models need not be copied with them). Of a
setting or split that a folder lacks a sentence is kept, and the rest goes on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, metrics
from mcr_lib.data import probes
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study.compare.seeds import BETTER, Evidence
from mcr_lib.study.runs import artifacts, cache, config, prepare, setting
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.runs.settings import RANDOM
from mcr_lib.study.tables import bias_found, bias_views, scoring
from mcr_lib.study.tables import comparison as compared
from mcr_lib.training.options import WITHOUT_EFFECT

MAY_DIFFER = frozenset(
    (
        "seed", "settings", "notebooks", "device", "n_processes", "answer_batch_size", "answer_splits", "probes", "n_probe_examples",
        "attention_examples", "predictions", "compare", "stand_in", "n_resamples", "n_degrade_repeats", "gallery_size", "data_dir",
        "images_dir",
    )
)  # fmt: skip
"""Keys of a profile in which merged runs may differ: they do not bear on an answer. Of settings only those of
one name must be equal, and probes must be the same where a run has any, for consistency is over all of them.
"""


@dataclass(frozen=True)
class _Run:
    loaded: Loaded
    manifest: Mapping[str, Any]
    backbones: set[str] = field(default_factory=set)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.loaded.folder)

    @property
    def seed(self) -> int:
        return self.loaded.config.seed


def merge(folders: Sequence[str | Path]) -> Evidence:
    """The evidence of some run folders; what is missing in one is told and left out.

    Raises:
        UserError: a folder is no run, two differ in what bears on an answer or hold the same seed of a
            setting, or answers are about other data than the others.
    """
    runs = [_read_run(Path(folder)) for folder in folders]
    if not runs:
        raise UserError("nothing to compare: name at least one run folder")
    _check_alike(runs)
    splits = list(dict.fromkeys(split for run in runs for split in compared.splits(run.loaded.config)))
    settings = list(dict.fromkeys(name for run in runs for name in run.loaded.config.settings))
    gold, missing, counted = {split: {} for split in splits}, [], {}
    for run in runs:
        if absent := [name for name in settings if name not in run.loaded.config.settings]:
            missing.append(f"seed {run.seed}: {run.loaded.folder.name} has no setting {', '.join(absent)}")
        for split in compared.splits(run.loaded.config):
            if not run.folder.data(split).is_file():
                missing.append(f"seed {run.seed}: no tweets of {split}")
                continue
            examples = prepare.read_examples(run.folder, split)
            _check_gold(gold[split], examples, run)
            for name in run.loaded.config.settings:
                for metric, ids, terms in _measured(run, name, split, examples, missing):
                    if (run.seed, name, split, metric) in counted:
                        raise UserError(
                            f"seed {run.seed} of {name} is in two runs, the second is {run.loaded.folder}; name one of them"
                        )
                    counted[run.seed, name, split, metric] = ids, terms
    _check_one_backbone(runs)
    places = {split: {id: k for k, id in enumerate(sorted(of_split))} for split, of_split in gold.items()}
    terms = {
        key: [(sign, _aligned(ratio, ids, places[key[2]])) for sign, ratio in t]
        for key, (ids, t) in counted.items()
    }
    return Evidence(
        _head(runs, settings, splits, gold, missing), {split: len(p) for split, p in places.items()}, terms
    )


def _read_run(path: Path) -> _Run:
    if not (path / "profile.yaml").is_file():
        raise UserError(f"{path} is no run folder: profile.yaml is not there; mcr run writes it")
    return _Run(
        config.load(str(path / "profile.yaml"), path.absolute()), artifacts.read_manifest(RunFolder(path))
    )


def _check_alike(runs: Sequence[_Run]) -> None:
    """Whether all runs share what bears on an answer."""
    first = runs[0]
    for other in runs[1:]:
        a, b = (run.loaded.config.model_dump(mode="json") for run in (first, other))
        for key in a:
            if key not in MAY_DIFFER and a[key] != b[key]:
                raise UserError(
                    f"{other.loaded.folder} differs from {first.loaded.folder} in {key}: {b[key]!s:.60}, not {a[key]!s:.60}"
                )
    probed = [run for run in runs if run.loaded.config.probes]
    for run in probed:
        here, there = (", ".join(probes.variants(one.loaded.config.probes)) for one in (run, probed[0]))
        if here != there:
            raise UserError(
                f"{run.loaded.folder} differs from {probed[0].loaded.folder} in probes: {here}, not {there}"
            )
    known: dict[str, tuple[_Run, Any]] = {}
    for run in runs:
        for name, one in run.loaded.config.settings.items():
            before, same = known.setdefault(name, (run, one))
            if same != one:
                raise UserError(
                    f"setting {name} of {run.loaded.folder} is not that of {before.loaded.folder}; give one of them another name"
                )


def _check_gold(known: dict[str, str], examples: Iterable[Example], run: _Run) -> None:
    """Note the gold of each tweet, and whether it is that of the runs before."""
    for example in examples:
        here = checksum([example])
        if known.setdefault(example.id, here) != here:
            raise UserError(
                f"{run.loaded.folder}: tweet {example.id} of {example.split} has other gold than in the runs before it; make it anew"
            )


def _measured(
    run: _Run, name: str, split: str, examples: Sequence[Example], missing: list[str]
) -> Iterator[tuple[str, list[str], list[tuple[int, Ratio]]]]:
    """Of one setting's answers to a split, and to the probes of it: metric, ids of tweets, terms over them."""
    c = run.loaded.config
    answers = _answers(run, name, split, examples, missing)
    if answers is None:
        return
    ids = [example.id for example in examples]
    ratios = {
        f"{task}_f1": found["f1"] for task, found in scoring.task_ratios(answers.judged, c.scorer).items()
    }
    if "box" in examples[0].constraints:
        ratios |= {key: ratio for key, ratio in bias.textual_bias(answers.judged).items() if key in BETTER}
    ratios["n_rate"] = bias.visual_bias(answers.judged)["n_rate"]
    is_unread = [parsed is None or parsed.reason is not None for parsed in answers.parsed]
    ratios["unread"] = Ratio(np.array(is_unread, dtype=np.int64), np.ones(len(ids), dtype=np.int64))
    yield from ((metric, ids, [(1, ratio)]) for metric, ratio in ratios.items())
    if split == c.eval_split:
        yield from _measured_by_probes(run, name, answers, missing)


def _measured_by_probes(
    run: _Run, name: str, answers: bias_found.Answers, missing: list[str]
) -> Iterator[tuple[str, list[str], list[tuple[int, Ratio]]]]:
    """The part of `_measured` that takes answers to probes of the scored split."""
    c = run.loaded.config
    stems = {variant: f"{c.eval_split}.{variant}" for variant in probes.variants(c.probes)}
    made = {
        variant: stem for variant, stem in stems.items() if run.folder.data(stem).is_file()
    }  # a probe may apply to no tweet
    found = {
        variant: _answers(run, name, stem, prepare.read_examples(run.folder, stem), missing)
        for variant, stem in made.items()
    }
    probed = {variant: some for variant, some in found.items() if some is not None}
    pairs = [(f"image_caused_n_rate.{variant}", answers, variant) for variant in probes.PROBES["blank"]]
    pairs += [("image_caused_n_rate_muted", probed["mute"], "mute_blank")] if "mute" in probed else []
    for metric, seeing, variant in pairs:
        if variant in probed:
            ids = list(probed[variant].faults)
            real, blank = (
                bias.visual_bias(judged)["n_rate"] for judged in (seeing.of(ids), probed[variant].judged)
            )
            yield metric, ids, [(1, real), (-1, blank)]
    chosen = {variant for variant in made if variant not in bias_views.CONTROLS}
    if chosen - set(probed):
        missing.append(f"seed {run.seed}: no consistency of {name}, which takes answers to all probes")
    elif chosen:
        after = bias_views.together(
            {variant: probed[variant].faults for variant in made if variant in chosen}
        )
        yield (
            "consistency",
            list(after),
            [(1, bias.consistency([answers.faults[id] for id in after], list(after.values())))],
        )


def _answers(
    run: _Run, name: str, stem: str, tweets: Sequence[Example], missing: list[str]
) -> bias_found.Answers | None:
    """The answers of a setting to some tweets; `None`, and a sentence in `missing`, where they are not there."""
    path = run.folder.predictions(f"{name}.{stem}")
    if not path.is_file():
        missing.append(f"seed {run.seed}: no answers of {name} to {stem}")
        return None
    header, rows = read_predictions(path)
    wanted = {"seed": run.seed, "setting": name, "data": f"{tweets[0].source}:{checksum(tweets)}"}
    for key, value in wanted.items():
        if header.get(key, value) != value:
            raise UserError(
                f"{path}: answers of {key} {header[key]}, where this run has {value}; run mcr run again to make them anew"
            )
    if (backbone := _made_from(run, name, header.get("model"), path)) is not None:
        run.backbones.add(backbone)
    if n_left := len({example.id for example in tweets} - {row.id for row in rows}):
        missing.append(
            f"seed {run.seed}: {n_left} of {len(tweets)} answers of {name} to {stem}; they count as empty"
        )
    return bias_found.read(tweets, path, run.loaded.config)


def _made_from(run: _Run, name: str, model: str | None, answers: Path) -> str | None:
    """The fingerprint of the backbone from which a setting's model was made; `None` where header and folder
    do not tell.

    Raises:
        UserError: the answers are of a model that is not the one of the folder, or that one not what the
            profile describes.
    """
    c = run.loaded.config
    for one in reversed(setting.lineage(c.settings, name)):
        found, facts = c.settings[one], cache.read_record(run.folder.setting(one))
        if found.stage == "none":
            continue
        if not facts:
            return None
        wanted = setting.stage_options(found, getattr(c, found.stage), name=one, of_run={})[0].model_dump(
            mode="json"
        )
        was = {row["option"]: row["value"] for row in facts["options"] if row["origin"] != "run"}
        is_same = all(
            was.get(key, value) == value for key, value in wanted.items() if key not in WITHOUT_EFFECT
        )
        is_same &= _without_departures(facts["setting"]) == _without_departures(
            found.model_dump(mode="json", exclude_defaults=True)
        )
        if not is_same or facts["status"] != "done" or model not in (None, facts["fingerprint"]):
            raise UserError(
                f"{answers}: the model of {one} is not the one that these answers and the profile are of; run mcr run again"
            )
        model = facts.get("start")
    return model


def _without_departures(told: Mapping[str, Any]) -> dict[str, Any]:
    """A setting without its options and the name of its start, which are told apart."""
    return {key: value for key, value in told.items() if key not in ("start", "options")}


def _check_one_backbone(runs: Sequence[_Run]) -> None:
    told = [run for run in runs if run.backbones]
    for run in told:
        if run.loaded.config.backbone != RANDOM and run.backbones != told[0].backbones:
            raise UserError(
                f"{run.loaded.folder}: its settings start from other weights than those of {told[0].loaded.folder}, though both call them "
                f"{run.loaded.config.backbone}; run mcr run again"
            )


def _aligned(ratio: Ratio, ids: Sequence[str], places: Mapping[str, int]) -> Ratio:
    """A ratio over some tweets as one over all."""
    at = [places[id] for id in ids]
    both = np.zeros((2, len(places)), dtype=np.int64)
    both[:, at] = ratio.numerator, ratio.denominator
    return Ratio(*both)


def _head(
    runs: Sequence[_Run], settings: list[str], splits: list[str], gold: Mapping[str, Any], missing: list[str]
) -> dict[str, Any]:
    c = runs[0].loaded.config
    told = ("seed", "commit", "n_cpus", "gpu", "python", "packages")
    signatures = {
        split: metrics.signature(
            scorer=c.scorer,
            source=c.source,
            checksum=artifacts.fingerprint(sorted(gold[split].items())),
            split=split,
            parse=c.parse,
        )
        for split in splits
    }
    profile = Path(str(runs[0].manifest.get("profile", runs[0].loaded.folder.name))).stem
    return {
        "profile": profile, "settings": settings, "seeds": sorted({run.seed for run in runs}), "splits": splits, "eval_split": c.eval_split,
        "source": c.source, "signatures": signatures, "missing": missing,
        "runs": [{key: run.manifest.get(key) for key in told} | {"seed": run.seed} for run in runs],
    }  # fmt: skip
