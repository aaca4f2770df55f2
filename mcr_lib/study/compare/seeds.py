"""The comparison over seeds: run folders of one profile merged, every setting measured with every seed, one
pair of settings tested.

    runs ─► seeds_merge ─► Evidence (counts per tweet, what is missing) ─► summary (means, intervals,
    verdicts) ─► tables and figures

Tweets are joined by id, so seeds may share them or not. The evidence holds per tweet the counts that each
number is a ratio of, so that every interval can be computed again without predictions. (Means over seeds with
intervals over seeds and tweets: ours; paper silent.)
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mcr_lib import statistics
from mcr_lib.data import probes
from mcr_lib.data.files import written_whole
from mcr_lib.errors import UserError
from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.statistics import Ratio, Terms

KIND = "seeds"

BETTER = {
    "gmner_f1": 1, "mner_f1": 1, "eeg_f1": 1, "n_f1": 1, "false_grounding": -1, "missed_grounding": -1, "n_rate": -1, "unread": -1,
    "image_caused_n_rate": -1, "image_caused_n_rate_muted": -1, "consistency": 1,
}  # fmt: skip
"""Metric -> the sign of a difference that is an improvement; the last three where a run has probes, on the
scored split.
"""

ISOLATES = {
    "chains instead of answers, as many updates": ("mrsi-long", "sft"),
    "chains instead of answers, half the updates": ("mrsi-all", "sft"),
    "chains instead of answers, D1": ("mrsi", "sft-d1"),
    "rewards after chains": ("mcr", "mrsi"),
    "rewards after answers": ("sft-cvo", "sft-d1"),
    "chains before rewards": ("mcr", "cvo-only"),
    "chains instead of answers before rewards": ("mcr", "sft-cvo"),
    "gold of D2 instead of rewards on it": ("mrsi-all", "mcr"),
    "reasoning when answering": ("mcr", "mcr-direct"),
    "the method": ("mcr", "base"),
    "plain fine-tuning": ("sft", "base"),
}
"""What tells one part of the method from the rest -> settings as `tiny-seeds` names them, the first minus the
second.
"""

ISOLATED = ("gmner_f1", "false_grounding", "missed_grounding", "n_rate")
"""The metrics of these differences, which are described and not tested."""

Key = tuple[int, str, str, str]
"""Seed, setting, split, metric; of `image_caused_n_rate` with the variant of the blank image behind a dot."""


@dataclass(frozen=True)
class Evidence:
    """What summaries are computed from.

    Args:
        head: profile, settings, seeds, splits, eval_split, source, signatures (by split), runs (seed, commit,
            hardware), missing (sentences).
        n_tweets: split -> tweets of all seeds together.
        terms: the counts, aligned on these tweets, zeros where a seed has none.
    """

    head: dict[str, Any]
    n_tweets: dict[str, int]
    terms: dict[Key, Terms]

    def write(self, path: str | Path) -> None:
        """Write it as one gzipped JSON value, the same bytes for the same evidence."""
        rows = [
            [*key, [[sign, ratio.numerator.tolist(), ratio.denominator.tolist()] for sign, ratio in t]]
            for key, t in self.terms.items()
        ]
        value = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "head": self.head,
            "n_tweets": self.n_tweets,
            "terms": rows,
        }
        with written_whole(path, "wb") as file:
            file.write(gzip.compress(json.dumps(value, separators=(",", ":")).encode(), mtime=0))

    @classmethod
    def read(cls, path: str | Path) -> "Evidence":
        """What `write` wrote.

        Raises:
            UserError: the file is missing, or no evidence of this release.
        """
        try:
            value = json.loads(gzip.decompress(Path(path).read_bytes()))
            if (value["format_version"], value["kind"]) != (FORMAT_VERSION, KIND):
                raise ValueError("another version or kind")
            terms = {
                tuple(key): [(sign, Ratio(np.array(n), np.array(d))) for sign, n, d in t]
                for *key, t in value["terms"]
            }
            return cls(value["head"], value["n_tweets"], terms)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(
                f"{path} is no evidence of this release ({error!s:.80}); mcr compare makes it anew"
            ) from error


def summary(
    evidence: Evidence, pair: tuple[str, str] = ("mcr", "sft"), *, n_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Every number with its interval, and the pair's differences with their verdicts, as one JSON-ready dict.

    Args:
        pair: settings; what is tested is the first minus the second. The primary comparison is GMNER F1 on
            the scored split.
        n_resamples: of seeds and tweets.

    Returns:
        The head of the evidence; `rows`: setting, split, metric, per_seed (seed -> value), mean, ci_low,
        ci_high, n_seeds; `comparisons`: the same of differences, with n_agreeing, `better` (the sign of an
        improvement) and verdict; `primary`: one of these or `None`; `isolated`: differences of `ISOLATES`,
        with what they isolate and without a verdict.

    Raises:
        UserError: a setting of the pair is not there.
    """
    head = evidence.head
    if unknown := [name for name in pair if name not in head["settings"]]:
        raise UserError(f"no setting {unknown[0]!r} in these runs; they have {', '.join(head['settings'])}")
    rows, comparisons, isolated = [], [], []
    for split in head["splits"]:
        rng = np.random.default_rng(seed)
        weights = statistics.resamples(evidence.n_tweets[split], n_resamples, rng).astype(float)
        for metric in BETTER:
            found = {name: _by_seed(evidence, name, split, metric) for name in head["settings"]}
            at = {"split": split, "metric": metric}
            rows += [
                {"setting": name, **at, **_estimated(some, weights, seed)}
                for name, some in found.items()
                if some
            ]
            if both := _difference(found, *pair):
                comparisons.append(
                    {
                        "first": pair[0],
                        "second": pair[1],
                        **at,
                        **_estimated(both, weights, seed, better=BETTER[metric]),
                    }
                )
            for what, (a, b) in ISOLATES.items() if metric in ISOLATED else ():
                if both := _difference(found, a, b):
                    isolated.append(
                        {"isolates": what, "first": a, "second": b, **at, **_estimated(both, weights, seed)}
                    )
    primary = next(
        (row for row in comparisons if (row["split"], row["metric"]) == (head["eval_split"], "gmner_f1")),
        None,
    )
    told = {"n_tweets": evidence.n_tweets, "n_resamples": n_resamples, "pair": list(pair), "primary": primary}
    return {
        "format_version": FORMAT_VERSION,
        **head,
        **told,
        "comparisons": comparisons,
        "isolated": isolated,
        "rows": rows,
    }


def _difference(found: Mapping[str, dict[int, Terms]], first: str, second: str) -> dict[int, Terms]:
    """Seed -> terms of the first setting minus those of the second, of seeds that have both."""
    a, b = found.get(first, {}), found.get(second, {})
    return {s: [*a[s], *((-sign, ratio) for sign, ratio in b[s])] for s in a if s in b}


def _by_seed(evidence: Evidence, name: str, split: str, metric: str) -> dict[int, Terms]:
    """Seed -> terms of a metric, where it is defined. Of blank images the variant that makes the image-caused
    N-Rate largest.
    """
    wanted = [metric, *(f"{metric}.{variant}" for variant in probes.PROBES["blank"])]
    found: dict[str, dict[int, Terms]] = {}
    for key, seed in product(wanted, evidence.head["seeds"]):
        terms = evidence.terms.get((seed, name, split, key))
        if terms and all(ratio.percent is not None for _, ratio in terms):
            found.setdefault(key, {})[seed] = terms
    return max(
        found.values(),
        key=lambda some: (len(some), np.mean([_value(terms) for terms in some.values()])),
        default={},
    )


def _value(terms: Terms) -> float:
    return sum(sign * ratio.percent for sign, ratio in terms)


def _estimated(
    by_seed: Mapping[int, Terms], weights: np.ndarray, seed: int, *, better: int | None = None
) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 1])  # another stream than that of the tweets
    found = statistics.over_seeds(list(by_seed.values()), weights, rng)
    low, high = found.ci95 or (None, None)
    told = {
        "per_seed": {str(s): round(value, 2) for s, value in zip(by_seed, found.per_seed, strict=True)}, "mean": round(found.mean, 2),
        "ci_low": None if low is None else round(low, 2), "ci_high": None if high is None else round(high, 2), "n_seeds": len(by_seed),
    }  # fmt: skip
    if better is None:
        return told
    return told | {
        "n_agreeing": found.n_agreeing,
        "better": better,
        "verdict": statistics.verdict_over_seeds(found, sign=better),
    }
