"""Evidence of a comparison over seeds, the counts per tweet behind each ratio, and its summary (all ours)."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import statistics
from mcr_lib.data import probes
from mcr_lib.data.files import written_whole
from mcr_lib.errors import UserError
from mcr_lib.metrics import SCORER_VERSION
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.statistics import Ratio, Terms
from mcr_lib.study.catalogue import CATALOGUE

KIND = "seeds"
MIN_SEEDS = 3  # fewer show nothing (ours)
METRICS = (
    "gmner_f1", "mner_f1", "eeg_f1", "n_f1", "false_grounding", "missed_grounding", "n_rate", "foreign_rate",
    "unread", "consistency", "image_caused_foreign_rate", "image_caused_foreign_rate_muted",
)  # fmt: skip
ISOLATES = {  # part of the method -> settings of `tiny-seeds`; the first minus the second isolates it
    "chains instead of answers, as many updates": ("mrsi-long", "sft"),
    "chains instead of answers, half the updates": ("mrsi-all", "sft"),
    "chains instead of answers, D1": ("mrsi", "sft-d1"), "rewards after chains": ("mcr", "mrsi"),
    "rewards after answers": ("sft-cvo", "sft-d1"), "chains before rewards": ("mcr", "cvo-only"),
    "chains instead of answers before rewards": ("mcr", "sft-cvo"),
    "gold of D2 instead of rewards on it": ("mrsi-all", "mcr"),
    "reasoning when answering": ("mcr", "mcr-direct"), "the method": ("mcr", "base"),
    "plain fine-tuning": ("sft", "base"),
}  # fmt: skip
ISOLATED = ("gmner_f1", "false_grounding", "missed_grounding", "foreign_rate")  # described by it, not tested
Key = tuple[int, str, str, str]  # seed, setting, split, metric (also image_caused_foreign_rate.<variant>)
BySeed = dict[int, Terms]
Scores = Mapping[str, Any]  # what `summary` returns


@dataclass(frozen=True)
class Evidence:
    """The counts from which summaries are computed."""

    head: dict[str, Any]  # profile, settings, seeds, splits, eval_split, source, signatures, missing, runs
    n_tweets: dict[str, int]  # split -> tweets of all seeds together
    terms: dict[Key, Terms]  # over these tweets, zeros where a seed has no answer

    def write(self, path: str | Path) -> None:
        """Write the evidence as gzipped JSON; equal evidence gives equal bytes."""
        rows = [[*key, [[s, r.numerator, r.denominator] for s, r in of]] for key, of in self.terms.items()]
        value = {"format_version": FORMAT_VERSION, "kind": KIND, "head": self.head}
        value |= {"scorer_version": SCORER_VERSION, "n_tweets": self.n_tweets, "terms": rows}
        text = json.dumps(value, separators=(",", ":"), default=np.ndarray.tolist)
        with written_whole(path, "wb") as file:
            file.write(gzip.compress(text.encode(), mtime=0))

    @classmethod
    def read(cls, path: str | Path) -> "Evidence":
        """Read what `write` wrote; `UserError` if it is missing, of another release or counted otherwise."""
        try:
            value = json.loads(gzip.decompress(Path(path).read_bytes()))
            if (value["format_version"], value["kind"]) != (FORMAT_VERSION, KIND):
                raise ValueError("another version or kind")
            if (version := value.get("scorer_version", 1)) != SCORER_VERSION:
                raise ValueError(f"counted by scorer version {version}, not {SCORER_VERSION}")
            rows = {tuple(key): of for *key, of in value["terms"]}
            terms = {k: [(s, Ratio(np.array(n), np.array(d))) for s, n, d in of] for k, of in rows.items()}
            return cls(value["head"], value["n_tweets"], terms)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            message = f"{path} is no evidence of this release ({error!s:.80}); mcr compare makes it anew"
            raise UserError(message) from error


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A number from several seeds."""

    per_seed: tuple[float, ...]  # in percent or percentage points
    ci95: tuple[float, float] | None  # bootstrap interval of their mean; `None` if undefined

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.per_seed))

    @property
    def n_agreeing(self) -> int:
        """Seeds whose number has the sign of the mean; 0 if the mean is 0."""
        return int(np.sum(np.sign(self.per_seed) == np.sign(self.mean))) if self.mean else 0


def over_seeds(seeds: Sequence[Terms], weights: np.ndarray, rng: np.random.Generator) -> OverSeeds:
    """The mean over seeds, its interval from resampling seeds and tweets (pigeonhole bootstrap, Owen 2007).

    In each resample seeds are drawn with replacement, and tweets once for all seeds: a tweet that several
    seeds answered is equally easy or hard for all of them. Seeds that answered different tweets have zeros at
    the tweets of the others. Settings that are compared share seeds and tweets. The 95 % interval of three
    seeds covers the truth in 99 % of cases if the variance is between tweets, and in 75 % if it is between
    seeds alone, for then it reaches from the smallest of them to the largest (both tested).

    Every ratio is about the same tweets in the same order; `weights` are from `resamples`, `rng` draws seeds.

    Raises:
        ValueError: no seeds, or a ratio whose denominator is 0.
    """
    observed = [[(factor, ratio.percent) for factor, ratio in terms] for terms in seeds]
    if not seeds or any(percent is None for terms in observed for _, percent in terms):
        raise ValueError("numbers over seeds need at least one seed, and ratios that are defined")
    per_seed = tuple(sum(factor * percent for factor, percent in terms) for terms in observed)
    of_seeds = np.stack([statistics.drawn(terms, weights) for terms in seeds], axis=1)
    means = (statistics.resamples(len(seeds), len(weights), rng) * of_seeds).sum(axis=1) / len(seeds)
    return OverSeeds(per_seed, statistics.percentiles95(means))


def verdict_over_seeds(result: OverSeeds, *, sign: int = 1) -> str:
    """Whether an effect counts as shown: every seed has its sign and the interval excludes 0.

    Without an effect, and with all variance between seeds, three of them agree in a given sign one time in 8,
    five one time in 32. `sign` is that of the hypothesized effect: 1 = the first is larger, -1 = smaller.

    Example:
        >>> [verdict_over_seeds(OverSeeds((1.0, 2.0, 3.0), ci)) for ci in ((0.5, 3.0), (-0.1, 3.0))]
        ['shown', 'not shown']
    """
    if len(result.per_seed) < MIN_SEEDS:
        return "too few seeds"
    is_clear = result.ci95 is not None and (result.ci95[0] > 0 or result.ci95[1] < 0)
    if not is_clear or result.n_agreeing < len(result.per_seed):
        return "not shown"
    return "shown" if np.sign(result.mean) == sign else "the opposite is shown"


def summary(evidence: Evidence, pair: tuple[str, str] = ("mcr", "sft"), *, n_resamples: int = 2000) -> Scores:
    """All numbers with their intervals, and the first setting of `pair` minus the second with verdicts.
    The head of the evidence; `rows`: values; `comparisons`: differences, `better` = sign of an improvement;
    `primary`: that of GMNER F1 on the scored split, or `None`; `isolated`: the differences of `ISOLATES`.
    """
    head = evidence.head
    if unknown := [name for name in pair if name not in head["settings"]]:
        raise UserError(f"no setting {unknown[0]!r} in these runs; they have {', '.join(head['settings'])}")
    rows, comparisons, isolated = [], [], []
    for split, n in ((split, evidence.n_tweets[split]) for split in head["splits"]):
        weights = statistics.resamples(n, n_resamples, np.random.default_rng(0)).astype(float)
        for metric in METRICS:
            at, better = {"split": split, "metric": metric}, CATALOGUE[metric].better
            by_name = {name: _by_seed(evidence, name, split, metric) for name in head["settings"]}
            rows += [{"setting": name, **at, **_estimate(of, weights)} for name, of in by_name.items() if of]
            if terms := _difference(by_name, *pair):
                row = {"first": pair[0], "second": pair[1], **at}
                comparisons.append(row | _estimate(terms, weights, better))
            for part, (first, second) in ISOLATES.items() if metric in ISOLATED else ():
                if terms := _difference(by_name, first, second):
                    row = {"isolates": part, "first": first, "second": second, **at}
                    isolated.append(row | _estimate(terms, weights))
    wanted = head["eval_split"], "gmner_f1"
    primary = next((row for row in comparisons if (row["split"], row["metric"]) == wanted), None)
    return {
        "format_version": FORMAT_VERSION, **head, "n_tweets": evidence.n_tweets, "n_resamples": n_resamples,
        "pair": [*pair], "primary": primary, "comparisons": comparisons, "isolated": isolated, "rows": rows,
    }  # fmt: skip


def _difference(by_setting: Mapping[str, BySeed], first: str, second: str) -> BySeed:
    """The terms of the first setting minus those of the second, for seeds that have both."""
    a, b = by_setting.get(first, {}), by_setting.get(second, {})
    return {s: [*a[s], *((-sign, ratio) for sign, ratio in b[s])] for s in a if s in b}


def _by_seed(evidence: Evidence, name: str, split: str, metric: str) -> BySeed:
    """The terms of a metric where it is defined; of blank images, the one that shows most is taken."""
    candidates = []
    for key in (metric, *(f"{metric}.{variant}" for variant in probes.PROBES["blank"])):
        terms = {s: evidence.terms.get((s, name, split, key)) for s in evidence.head["seeds"]}
        candidates.append({s: of for s, of in terms.items() if of and None not in [r.percent for _, r in of]})

    def size(by_seed: BySeed) -> tuple[int, float]:
        return len(by_seed), np.mean([sum(s * ratio.percent for s, ratio in of) for of in by_seed.values()])

    return max(filter(None, candidates), key=size, default={})


def _estimate(by_seed: BySeed, weights: np.ndarray, better: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng([0, 1])  # independent of the resampled tweets
    over = over_seeds(list(by_seed.values()), weights, rng)
    low, high = (round(end, 2) for end in over.ci95) if over.ci95 else (None, None)
    per_seed = {str(s): round(value, 2) for s, value in zip(by_seed, over.per_seed, strict=True)}
    row = {"per_seed": per_seed, "mean": round(over.mean, 2), "ci_low": low, "ci_high": high}
    row["n_seeds"] = len(by_seed)
    if better is not None:
        verdict = verdict_over_seeds(over, sign=better)
        row |= {"n_agreeing": over.n_agreeing, "better": better, "verdict": verdict}
    return row
