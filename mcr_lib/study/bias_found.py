"""What notebook 06 has to count: answers to the scored split and to its probes, of every setting and of a predictions file.

Nothing is trained here. A setting that has a model is asked; of one that has none, files that lie there are read:

    predictions/<setting>.<split>.jsonl, <setting>.<split>.<probe>.jsonl

and of a predictions file FILE.jsonl the files FILE.<probe>.jsonl beside it, answers to `data/<split>.<probe>.jsonl` of the run folder. What
is missing, or is of other data than this run's, is told and left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import bias, statistics
from mcr_lib.answer import ParsedAnswer
from mcr_lib.metrics import Judged
from mcr_lib.schema import Example, checksum
from mcr_lib.sources import probes
from mcr_lib.sources.predictions import read_predictions
from mcr_lib.sources.probes import Probe
from mcr_lib.study import prepare, scoring
from mcr_lib.study.config import Config
from mcr_lib.study.settings import Study


@dataclass(frozen=True)
class Answers:
    """The answers of one file to some tweets, in the order of the tweets.

    Args:
        judged: one per tweet; without an answer it has an empty one.
        parsed: one per tweet, `None` without an answer.
    """

    judged: list[Judged]
    parsed: list[ParsedAnswer | None]

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
class Found:
    """What there is to show.

    Args:
        config: of the run.
        examples: the tweets of the scored split.
        answers: setting, or stem of a predictions file -> answers to them.
        probes: variant -> its counterfactual tweets.
        probed: name -> variant -> answers to these.
        missing: a sentence for each thing that should be there and is not.
    """

    config: Config
    examples: list[Example]
    answers: dict[str, Answers]
    probes: dict[str, list[Probe]] = field(default_factory=dict)
    probed: dict[str, dict[str, Answers]] = field(default_factory=dict)
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
    def told(self) -> str:
        """What is there and what is not, to read."""
        there = [f"answers to {len(self.examples):,} tweets of {self.config.eval_split}: {', '.join(self.answers) or 'none'}"]
        made = ", ".join(f"{variant} {len(made)}" for variant, made in self.probes.items())
        there.append(f"probes, with their tweets: {made or 'none; the profile names none, or no tweet has an image that shows something'}")
        return "\n".join([*there, *self.missing, f"single run, seed {self.config.seed}"])

    def weights(self, n: int) -> np.ndarray:
        """Bootstrap resamples of n tweets, the same each time."""
        return statistics.resamples(n, self.config.n_resamples, np.random.default_rng(self.config.seed))


def find(study: Study) -> Found:
    """The answers of every setting of the profile, and of its predictions file, to the scored split and to its probes."""
    config, split = study.config, study.config.eval_split
    found = Found(config, study.examples(split), {})
    found.probes.update(make_probes(study))
    for name in study.settings:
        path = _stored(study, name, f"{name}.{split}")
        if isinstance(path, str):
            found.missing.append(path)
            continue
        found.answers[name] = read(found.examples, path, config)
        files = {v: _stored(study, name, f"{name}.{split}.{v}", [p.example for p in made]) for v, made in found.probes.items()}
        _add_probed(found, name, files)
    path = scoring.configured_file(study.loaded, found.examples)
    if path is not None:
        files = {variant: path.with_name(f"{path.stem}.{variant}.jsonl") for variant in found.probes}
        refused = _refused(path, found.examples)
        if refused is None:
            found.answers[path.stem] = read(found.examples, path, config)
            there = {v: file if file.is_file() else f"{file.name} does not exist beside it: left out" for v, file in files.items()}
            _add_probed(found, path.stem, there)
        else:
            found.missing.append(refused)
    return found


def make_probes(study: Study) -> dict[str, list[Probe]]:
    """Variant -> its counterfactual tweets: images below `data/probes/`, rows in `data/<split>.<variant>.jsonl` of the run folder."""
    config, split = study.config, study.config.eval_split
    wanted = probes.variants(config.probes)
    chosen = probes.choose(study.examples(split), config.n_probe_examples, seed=config.seed) if wanted else []
    if not chosen:
        return {}
    of_names = "train" if "train" in config.splits else split
    names = probes.training_names(prepare.load_examples(study.loaded, [of_names])[of_names]) if "rename" in wanted else {}
    folder, settled = study.run.path / "data" / "probes", {"pool": study.examples(split), "names": names, "seed": config.seed}
    made = {variant: probes.make(variant, chosen, folder, **settled) for variant in wanted}
    made = {variant: some for variant, some in made.items() if some}
    prepare.write_examples(study.run, {f"{split}.{variant}": [p.example for p in some] for variant, some in made.items()})
    return made


def read(examples: Sequence[Example], path: Path, config: Config) -> Answers:
    """The answers of a predictions file to some tweets."""
    found = scoring.join(examples, read_predictions(path)[1], parse=config.parse)
    missing, parsed = set(found.ids["missing"]), iter(found.parsed)
    return Answers(found.judged, [None if example.id in missing else next(parsed) for example in examples])


def _stored(study: Study, name: str, stem: str, examples: Sequence[Example] | None = None) -> Path | str:
    """A setting's file of answers, made if it has a model; else a sentence that says what is missing."""
    given = {"examples": examples, "stem": stem}
    if study.can_answer(name) or study.is_answered(name, **given):
        return study.answer(name, **given)
    path = study.run.predictions(stem)
    if not path.is_file():
        return f"{name}: predictions/{path.name} does not exist and the setting has no model; 03 to 05 make both: left out"
    return _refused(path, study.examples(study.config.eval_split) if examples is None else examples, must_tell=True) or path


def _refused(path: Path, examples: Sequence[Example], *, must_tell: bool = False) -> str | None:
    """Why a file is not about these tweets, as its header tells; `None` where it is, or does not tell and need not."""
    told, here = read_predictions(path)[0].get("data"), f"{examples[0].source}:{checksum(examples)}"
    if told == here or (told is None and not must_tell):
        return None
    return f"{path.name}: its answers are to data {told or 'that it does not name'}, this run has {here}: refused"


def _add_probed(found: Found, name: str, files: Mapping[str, Path | str]) -> None:
    found.probed[name] = {}
    for variant, path in files.items():
        tweets = [probe.example for probe in found.probes[variant]]
        sentence = path if isinstance(path, str) else _refused(path, tweets)
        if sentence is None:
            found.probed[name][variant] = read(tweets, path, found.config)
        else:
            found.missing.append(f"{name}, probe {variant}: {sentence}" if not sentence.startswith(name) else sentence)
