"""Examples as tables: pandas tables that notebooks group and plot, and rows of the data check."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mcr_lib import boxes, testbed
from mcr_lib.data.files import read_text
from mcr_lib.schema import Example
from mcr_lib.study.check import CheckReport, quirks_by_kind

Rows = list[dict[str, Any]]
_OF_ENTITY = ["split", "id", "text", "type", "coarse", "is_groundable", "n_boxes", "box_share"]
_NAN = float("nan")
AGREES = "agrees"
MOST = 5  # tweets with this many entities or more are counted together
V2_SHARES = yaml.safe_load(read_text(Path(__file__).with_name("v2_shares.yaml")))


def entity_table(examples: Iterable[Example], *, coarse_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per gold entity; `box_share`: its largest box over that of the image, NaN if unknown."""
    rows, coarse_of = [], coarse_of or {}
    for example in examples:
        width, height = example.image_size_px or (_NAN, _NAN)
        for e in example.entities:
            gold_boxes = e.boxes_xyxy_px or ()
            share = boxes.area_px2(boxes.largest(gold_boxes)) / (width * height) if gold_boxes else _NAN
            row = example.split, example.id, e.text, e.type, coarse_of.get(e.type, e.type)
            rows.append((*row, e.is_groundable, len(gold_boxes), share))
    return pd.DataFrame(rows, columns=_OF_ENTITY)


def tweet_table(examples: Iterable[Example]) -> pd.DataFrame:
    """One row per tweet."""
    rows = [
        (e.split, e.id, len(e.entities), sum(bool(x.is_groundable) for x in e.entities)) for e in examples
    ]
    return pd.DataFrame(rows, columns=["split", "id", "n_entities", "n_groundable"])


def shares(examples: Sequence[Example], *, coarse_of: Mapping[str, str] | None = None) -> dict[str, float]:
    """Shares that describe data of any size, by the names of `V2_SHARES`, and of bait if known."""
    entities, tweets = entity_table(examples, coarse_of=coarse_of), tweet_table(examples)
    labels = list(dict.fromkeys((coarse_of or {}).get(t, t) for e in examples[:1] for t in e.labels))
    shown = entities["is_groundable"].astype(bool)
    of_type = shown.groupby(entities["coarse"]).agg(["size", "mean"]).reindex(labels)
    result = {f"entities: {label}": n / max(1, len(entities)) for label, n in of_type["size"].items()}
    result |= {f"groundable: {label}": share for label, share in of_type["mean"].items()}
    result["groundable"] = shown.mean()
    result["groundable with several boxes"] = (entities["n_boxes"][shown] > 1).mean()
    for k in range(MOST + 1):
        name = f"{k}{' or more' * (k == MOST)} {'entity' if k == 1 else 'entities'}"
        result[f"tweets with {name}"] = (tweets["n_entities"].clip(upper=MOST) == k).mean()
    n, n_shown = tweets["n_entities"], tweets["n_groundable"]
    n_kinds = shown.groupby([entities["id"], entities["coarse"]]).nunique().groupby("id").max()
    counts = {
        "show nothing they name": (n_shown == 0).sum(),
        "show some and lack some": ((n_shown > 0) & (n_shown < n)).sum(),
        "do so within one type": (n_kinds > 1).sum(),
        "name something twice": entities["id"][entities.duplicated(["id", "text"])].nunique(),
    }
    result |= {f"tweets that {name}": count / max(1, len(tweets)) for name, count in counts.items()}
    if examples and all(example.image_only is not None for example in examples):
        result["pictures with bait"] = sum(bool(e.image_only) for e in examples) / len(examples)
    return {name: 0.0 if pd.isna(share) else float(share) for name, share in result.items()}


def share_rows(by_split: Mapping[str, Sequence[Example]], coarse_of: Mapping[str, str] | None = None) -> Rows:
    """A row per share of `shares`, in percent: each split, and Twitter-GMNER v2 (empty if unknown)."""
    columns = {split: shares(examples, coarse_of=coarse_of) for split, examples in by_split.items()}
    columns["Twitter-GMNER v2"] = V2_SHARES
    return [
        {"share, %": name, **{c: round(100 * v[name], 1) if name in v else "" for c, v in columns.items()}}
        for name in dict.fromkeys(name for values in columns.values() for name in values)
    ]


def contradiction(example: Example) -> str:
    """What in a tweet of the testbed speaks against the shortcuts (`testbed.contradictions`), in a word."""
    kinds = testbed.contradictions(example)
    return "both" if len(kinds) > 1 else next(iter(kinds), AGREES)


def contradicting(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many training tweets (rows with the `kind` of `contradiction`) speak against a shortcut."""
    n = sum(row["kind"] != AGREES for row in rows)
    share = f"{n:,} of {len(rows):,} training tweets ({100 * n / max(1, len(rows)):.1f} %)"
    lesson = "" if n or not rows else ": pictures show just what is named, so nothing teaches a model to look"
    return f"{share} speak{'s' * (n == 1)} against a shortcut{lesson}"


def statistics_rows(report: CheckReport) -> Rows:
    """One row per statistic of a data check: its name and, per split, its value and the expected one."""
    columns = {}
    for column, statistics in report.found.items():
        expected = {f"{column}, expected": report.expected.get(column, {})} if report.expected else {}
        columns |= {column: statistics, **expected}
    names = dict.fromkeys(name for statistics in report.found.values() for name in statistics)
    return [{"statistic": name} | {c: v.get(name, "") for c, v in columns.items()} for name in names]


def quirk_rows(report: CheckReport) -> Rows:
    """One row per kind of quirk, the most frequent first: how many, and the first place."""
    return [
        {"quirk": kind, "count": len(quirks), "first": f"{quirks[0].where}: {quirks[0].what}"}
        for kind, quirks in quirks_by_kind(report.quirks).items()
    ]
