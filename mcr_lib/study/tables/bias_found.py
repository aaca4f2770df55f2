"""What notebook 06 has to count: answers to the scored split and to its probes, of every setting and of a
predictions file.

Nothing is trained here. A setting that has a model is asked; of one that has none, files that lie there are
read:

    predictions/<setting>.<split>.jsonl, <setting>.<split>.<probe>.jsonl

and of a predictions file FILE.jsonl the files FILE.<probe>.jsonl beside it, answers to
`data/<split>.<probe>.jsonl` of the run folder. What is missing, or is of other data than this run's, is told
and left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, statistics
from mcr_lib.answer import ParsedAnswer
from mcr_lib.data import probes
from mcr_lib.data.predictions import read_predictions
from mcr_lib.data.probes import Probe
from mcr_lib.metrics import Judged
from mcr_lib.schema import Example, checksum
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.config import Config
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import comparison as compared
from mcr_lib.study.tables import scoring
from mcr_lib.testbed.bait import baited


@dataclass(frozen=True)
class Answers:
    """The answers of one file to some tweets, in the order of the tweets.

    Args:
        judged: one per tweet; without an answer it has an empty one.
        parsed: one per tweet, `None` without an answer.
        asked: the kind of prompt, as the file tells; `None` where it does not.
    """

    judged: list[Judged]
    parsed: list[ParsedAnswer | None]
    asked: str | None = None

    @property
    def reasons(self) -> bool:
        """Whether reasoning was asked for, or written unasked."""
        return self.asked not in (None, "direct") or any(
            parsed is not None and parsed.think for parsed in self.parsed
        )

    @cached_property
    def faults(self) -> dict[str, str | None]:
        """Id of a tweet -> the `bias.fault` of its answer."""
        both = zip(self.judged, self.parsed, strict=True)
        return {j.example.id: bias.fault(j, is_read=p is not None and p.reason is None) for j, p in both}

    def of(self, ids: Iterable[str]) -> list[Judged]:
        """The judged answers to some of the tweets, in the order of the ids."""
        by_id = {j.example.id: j for j in self.judged}
        return [by_id[id] for id in ids]


@dataclass(frozen=True)
class BiasResults:
    """What there is to show.

    Args:
        config: of the run.
        examples: the tweets of the scored split.
        answers: setting, or "predictions" for the file that the configuration names -> answers to them.
        probes: variant -> its counterfactual tweets.
        probed: name -> variant -> answers to these.
        beside: other split that the run answers -> name -> answers to it.
        trained_on: the names of the training tweets; `None` = the run has none.
        missing: a sentence for each thing that should be there and is not.
    """

    config: Config
    examples: list[Example]
    answers: dict[str, Answers]
    probes: dict[str, list[Probe]] = field(default_factory=dict)
    probed: dict[str, dict[str, Answers]] = field(default_factory=dict)
    beside: dict[str, dict[str, Answers]] = field(default_factory=dict)
    trained_on: frozenset[str] | None = None
    missing: list[str] = field(default_factory=list)

    @cached_property
    def reports(self) -> dict[str, dict[str, Any]]:
        """Name -> `scoring.report` of its answers, with intervals."""
        c = self.config
        return {
            name: scoring.report(answers.judged, scorer=c.scorer, n_resamples=c.n_resamples, seed=c.seed)
            for name, answers in self.answers.items()
        }

    @property
    def description(self) -> str:
        """What is there and what is not, to read."""
        there = [
            f"answers to {len(self.examples):,} tweets of {self.config.eval_split}: {', '.join(self.answers) or 'none'}"
        ]
        made = ", ".join(f"{variant} {len(made)}" for variant, made in self.probes.items())
        there.append(
            f"probes, with their tweets: {made or 'none; the profile names none, or no tweet has an image that shows something'}"
        )
        there += [f"answers to {split}: {', '.join(of_split)}" for split, of_split in self.beside.items()]
        return "\n".join([*there, *self.missing, f"single run, seed {self.config.seed}"])

    def tweets(self, split: str) -> list[Example]:
        """The tweets of the scored split, or of another one that settings answered."""
        beside = next(iter(self.beside.get(split, {}).values()), None)
        return [judged.example for judged in beside.judged] if beside else self.examples

    def weights(self, n: int) -> np.ndarray:
        """Bootstrap resamples of n tweets, the same each time."""
        return statistics.resamples(n, self.config.n_resamples, np.random.default_rng(self.config.seed))


def collect(study: Study) -> BiasResults:
    """The answers of every setting of the profile, and of its predictions file, to the scored split and to
    its probes, and of settings to the other splits that a run answers.
    """
    config, split = study.config, study.config.eval_split
    found = BiasResults(config, study.examples(split), {}, trained_on=_names(study))
    found.probes.update(make_probes(study))
    for name in study.settings:
        of_setting = {"": found.examples} | {
            f".{variant}": _tweets(made) for variant, made in found.probes.items()
        }
        if study.can_answer(name):
            files = {
                end: study.answer(name, examples=some, stem=f"{name}.{split}{end}")
                for end, some in of_setting.items()
            }
        else:
            files = {end: study.run.predictions(f"{name}.{split}{end}") for end in of_setting}
        _add(found, name, files, must_tell=True)
        _add_beside(found, study, name)
    path = scoring.configured_file(study.loaded, found.examples)
    if path is not None:
        _add(
            found,
            "predictions",
            {"": path} | {f".{v}": path.with_name(f"{path.stem}.{v}.jsonl") for v in found.probes},
            must_tell=False,
        )
    return found


def make_probes(study: Study) -> dict[str, list[Probe]]:
    """Variant -> its counterfactual tweets: images below `data/probes/`, rows in
    `data/<split>.<variant>.jsonl` of the run folder.
    """
    config, split = study.config, study.config.eval_split
    wanted = probes.variants(config.probes)
    chosen = probes.choose(study.examples(split), config.n_probe_examples, seed=config.seed) if wanted else []
    if not chosen:
        return {}
    of_names = "train" if "train" in config.splits else split
    names = (
        probes.training_names(prepare.load_examples(study.loaded, [of_names])[of_names])
        if "rename" in wanted
        else {}
    )
    folder, settled = (
        study.run.path / "data" / "probes",
        {"pool": study.examples(split), "names": names, "bait": baited, "seed": config.seed},
    )
    made = {variant: probes.make(variant, chosen, folder, **settled) for variant in wanted}
    made = {variant: some for variant, some in made.items() if some}
    prepare.write_examples(study.run, {f"{split}.{variant}": _tweets(some) for variant, some in made.items()})
    return made


def read(examples: Sequence[Example], path: Path, config: Config) -> Answers:
    """The answers of a predictions file to some tweets."""
    header, rows = read_predictions(path)
    found = scoring.join(examples, rows, parse=config.parse)
    missing, parsed = set(found.ids["missing"]), iter(found.parsed)
    return Answers(
        found.judged,
        [None if example.id in missing else next(parsed) for example in examples],
        header.get("prompt"),
    )


def _add(found: BiasResults, name: str, files: Mapping[str, Path], *, must_tell: bool) -> None:
    """Read the answers of one name to the scored split (file "") and to the probes (".<variant>"), or tell
    what is missing.
    """
    probed: dict[str, Answers] = {}
    for end, path in files.items():
        tweets = _tweets(found.probes[end[1:]]) if end else found.examples
        if (reason := _refused(path, tweets, must_tell=must_tell)) is not None:
            found.missing.append(f"{name}: {path.parent.name}/{path.name} {reason}")
        elif end:
            probed[end[1:]] = read(tweets, path, found.config)
        else:
            found.answers[name] = read(tweets, path, found.config)
        if not end and name not in found.answers:
            return  # without it nothing can be said of probes
    found.probed[name] = probed


def _add_beside(found: BiasResults, study: Study, name: str) -> None:
    """Read the answers of one setting to the other splits of the run, or tell what is missing."""
    for split in compared.splits(study.config)[:-1] if name in found.answers else ():
        path = (
            study.answer(name, split) if study.can_answer(name) else study.run.predictions(f"{name}.{split}")
        )
        examples = study.examples(split)
        if (reason := _refused(path, examples, must_tell=True)) is not None:
            found.missing.append(f"{name}: {path.parent.name}/{path.name} {reason}")
        else:
            found.beside.setdefault(split, {})[name] = read(examples, path, found.config)


def _names(study: Study) -> frozenset[str] | None:
    if "train" not in study.config.splits:
        return None
    return frozenset(
        entity.text
        for example in prepare.load_examples(study.loaded, ["train"])["train"]
        for entity in example.entities
    )


def _refused(path: Path, examples: Sequence[Example], *, must_tell: bool) -> str | None:
    """Why a file cannot be used: it is not there, or its header or its ids tell that it is not about these
    tweets; `None` where it can.

    Args:
        must_tell: whether its header must name the data; files of others need not.
    """
    if not path.is_file():
        return "does not exist: left out"
    header, rows = read_predictions(path)
    told, here = header.get("data"), f"{examples[0].source}:{checksum(examples)}"
    if told != here and (told is not None or must_tell):
        return f"has answers to data {told or 'that it does not name'}, this run has {here}: refused"
    if not {row.id for row in rows} & {example.id for example in examples}:
        return f"has no answer to any of these {len(examples):,} tweets: left out"
    return None


def _tweets(made: Sequence[Probe]) -> list[Example]:
    return [probe.example for probe in made]
