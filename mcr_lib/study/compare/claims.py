"""The claims of `data/claims.yaml` as contrasts of settings over seeds: their rows and verdicts (ours)."""

from collections.abc import Mapping
from functools import partial
from itertools import product
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from mcr_lib.data.files import read_text
from mcr_lib.data.validation import first_error
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.statistics import resamples
from mcr_lib.study.catalogue import CATALOGUE, label
from mcr_lib.study.compare import evidence as of_seeds
from mcr_lib.study.compare.evidence import METRICS, MIN_SEEDS, NUMBERS, BySeed, Evidence, OverSeeds
from mcr_lib.study.runs.config import Split, repository
from mcr_lib.study.runs.setting import Name

Names = Annotated[tuple[Name, ...], BeforeValidator(lambda one: (one,) if isinstance(one, str) else one)]
Rows = list[dict[str, Any]]
NEEDS = {"difference": ("first", "second", "expect"), "equal": ("first", "second"), "level": ("first",),
    "little": ("second", "knob", "values", "default"), "description": ("first",)}  # fmt: skip


class Contrast(BaseModel, extra="forbid", frozen=True):
    """What is measured, and when it counts as shown; each setting, measure and split is a row."""

    kind: Literal[tuple(NEEDS)]
    first: Names = ()
    second: Name | None = None  # rows are first - second; None = the values of first
    measures: tuple[Literal[(*METRICS, *NUMBERS)], ...] = Field(min_length=1)
    splits: tuple[Split, ...] = Field(min_length=1)
    expect: Literal["higher", "lower"] | None = None
    margin: float = Field(2.0, gt=0)  # points within which a difference is none (ours); of a level its bound
    knob: str = ""  # what a sweep varies
    values: dict[Name, float] = {}  # setting of a sweep -> value of the knob
    default: float | None = None  # its value in `second`

    @model_validator(mode="after")
    def _is_whole(self) -> "Contrast":
        if lacking := [key for key in NEEDS[self.kind] if getattr(self, key) in (None, (), "", {})]:
            raise ValueError(f"a contrast of the kind {self.kind} needs {lacking[0]}")
        return self

    def verdict(self, over: OverSeeds, wanted: int) -> str:
        """Shown, not shown, the opposite is shown, too few seeds (fewer than `wanted`), or described."""
        if self.kind == "description":
            return "described"
        if len(over.per_seed) < wanted:
            return "too few seeds"
        if self.kind == "difference":
            return of_seeds.verdict_over_seeds(over, sign=1 if self.expect == "higher" else -1)
        low, high = over.ci95 or (-inf, inf)
        floor = -inf if self.kind == "level" else -self.margin  # a level is bounded above alone
        if floor < low and high < self.margin:
            return "shown"
        return "the opposite is shown" if low > self.margin or high < floor else "not shown"


class Claim(BaseModel, extra="forbid", frozen=True):
    """A claim in our words, where the paper makes it, the seeds that it takes, and its contrasts."""

    number: str
    claim: str
    paper: str
    seeds: int = Field(ge=MIN_SEEDS)
    contrasts: tuple[Contrast, ...]
    note: str = ""


class Plan(BaseModel, extra="forbid", frozen=True):
    """All claims, and the profile whose runs they are about."""

    format_version: Literal[FORMAT_VERSION]
    profile: str
    claims: tuple[Claim, ...]

    @classmethod
    def read(cls, path: Path | None = None) -> "Plan":
        """The plan of a file, `None` = data/claims.yaml; `UserError` names its first mistake."""
        path = path or repository() / "data" / "claims.yaml"
        try:
            return cls.model_validate(yaml.safe_load(read_text(path)))
        except yaml.YAMLError as error:
            raise UserError(f"{path.name} is no YAML: {str(error).splitlines()[0]}") from error
        except ValidationError as error:
            place, value, reason = first_error(error)
            where = ".".join(map(str, place)) or "the whole"
            raise UserError(f"{path.name}: {where} is {value!s:.60}: {reason}") from error

    @classmethod
    def of_pair(cls, evidence: Evidence, first: str, second: str) -> "Plan":
        """That the first setting is better than the second in whatever was measured of both."""
        head, measured = evidence.head, {(*at, key.partition(".")[0]) for _, *at, key in evidence.terms}
        if unknown := [name for name in (first, second) if name not in head["settings"]]:
            raise UserError(f"no setting {unknown[0]!r} in these runs; known: {', '.join(head['settings'])}")
        contrasts = [
            {"kind": "difference", "first": first, "second": second, "measures": [metric], "splits": [split],
             "expect": "higher" if CATALOGUE[metric].better == 1 else "lower"}
            for metric, split in product(METRICS, head["splits"][::-1])  # the scored one is the last
            if {(first, split, metric), (second, split, metric)} <= measured
        ]  # fmt: skip
        about = {"number": "", "claim": f"{first} is better than {second}", "paper": "ours"}
        claim = {**about, "seeds": MIN_SEEDS, "contrasts": contrasts}
        return cls(format_version=FORMAT_VERSION, profile=head["profile"], claims=[claim])

    def evaluate(self, evidence: Evidence, *, n_resamples: int = 10_000) -> Rows:
        """A row per claim, setting, measure and split: values, verdict, and what is missing for it."""
        rows, drawn = [], lambda n: resamples(n, n_resamples, np.random.default_rng(0)).astype(float)
        weights = {split: drawn(n) for split, n in evidence.n_tweets.items()}
        for claim in self.claims:
            about = claim.model_dump(include={"number", "claim", "paper", "note"})
            for one in claim.contrasts:
                about |= one.model_dump(include={"kind", "expect", "margin", "second"})
                for first, metric, split in product(one.first or one.values, one.measures, one.splits):
                    row = about | {"first": first, "metric": metric, "split": split}
                    names = [first, *filter(None, [one.second])]
                    of = {name: of_seeds.by_seed(evidence, name, split, metric) for name in names}
                    terms = of_seeds.difference(of, *names) if one.second else of[first]
                    row |= {"n_wanted": claim.seeds, "n_seeds": 0, "verdict": "no run", "missing": ""}
                    if terms:
                        of_row = np.ones((n_resamples, 1)) if metric in NUMBERS else weights[split]
                        row |= of_seeds.estimate(terms, of_row, partial(one.verdict, wanted=claim.seeds))
                    if len(terms) < claim.seeds:
                        row["missing"] = _missing(evidence, of, label(metric), split)
                    rows.append(row)
        return rows

    def sweeps(self, evidence: Evidence, *, n_resamples: int = 10_000) -> Rows:
        """The points of each sweep, all over the seeds that its settings with a run share."""
        rows = []
        for one in (one for claim in self.claims for one in claim.contrasts if one.kind == "little"):
            at, knob = (one.splits[0], one.measures[0]), {**one.values, one.second: one.default}
            of = {name: terms for name in knob if (terms := of_seeds.by_seed(evidence, name, *at))}
            seeds = sorted(set.intersection(*map(set, of.values()))) if len(of) > 1 else []
            panel = f"{one.knob}, seeds {', '.join(map(str, seeds))}"
            weights = resamples(evidence.n_tweets[at[0]], n_resamples, np.random.default_rng(0)).astype(float)
            for name, terms in of.items() if seeds else ():
                point = {"panel": panel, "x": knob[name], "line": label(at[1]), "setting": name}
                point |= of_seeds.estimate({seed: terms[seed] for seed in seeds}, weights)
                rows.append(point | {"default": name == one.second})
        return rows


def _missing(evidence: Evidence, of: Mapping[str, BySeed], metric: str, split: str) -> str:
    """Which setting, split or seeds a row lacks."""
    for name, some in of.items():
        if name not in evidence.head["settings"]:
            return f"no setting {name} in these runs"
        if not some:
            return f"no {metric} of {name} on {split}"
        if absent := [str(seed) for seed in evidence.head["seeds"] if seed not in some]:
            return f"{name} lacks seed {', '.join(absent)}"
    return f"only seed {', '.join(map(str, evidence.head['seeds']))}"
