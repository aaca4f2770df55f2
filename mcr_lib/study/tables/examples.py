"""Examples as tables: pandas tables that notebooks group and plot, and rows of the data check."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mcr_lib import boxes
from mcr_lib.schema import Example
from mcr_lib.study.check import CheckReport, quirks_by_kind
from mcr_lib.study.shares import V2_SHARES, shares

Rows = list[dict[str, Any]]
_OF_ENTITY = ["split", "id", "text", "type", "coarse", "n_tokens", "is_groundable", "n_boxes", "box_share"]
_OF_TWEET = ["split", "id", "n_tokens", "n_entities", "n_groundable", "is_mixed_within_type"]
_NAN = float("nan")


def entity_table(examples: Iterable[Example], *, coarse_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per gold entity; `box_share`: its largest box over that of the image, NaN if unknown."""
    rows, coarse_of = [], coarse_of or {}
    for example in examples:
        width, height = example.image_size_px or (_NAN, _NAN)
        for e in example.entities:
            gold_boxes = e.boxes_xyxy_px or ()
            share = boxes.area_px2(boxes.largest(gold_boxes)) / (width * height) if gold_boxes else _NAN
            row = example.split, example.id, e.text, e.type, coarse_of.get(e.type, e.type), e.end - e.start
            rows.append((*row, e.is_groundable, len(gold_boxes), share))
    return pd.DataFrame(rows, columns=_OF_ENTITY)


def tweet_table(examples: Iterable[Example]) -> pd.DataFrame:
    """One row per tweet, "mixed" if it has a groundable and a not-groundable entity of one type."""
    rows = []
    for example in examples:
        shown = [e.type for e in example.entities if e.is_groundable]
        absent = [e.type for e in example.entities if e.is_groundable is False]
        counts = len(example.tokens), len(example.entities), len(shown), bool({*shown} & {*absent})
        rows.append((example.split, example.id, *counts, *(example.image_size_px or (_NAN, _NAN))))
    return pd.DataFrame(rows, columns=[*_OF_TWEET, "width", "height"])


def mixture(tweets: pd.DataFrame) -> dict[str, int]:
    """How many tweets of `tweet_table` show none, some or all of their entities."""
    n, shown = tweets["n_entities"], tweets["n_groundable"]
    masks = {
        "nothing groundable": shown == 0, "of these, no entity at all": n == 0,
        "all groundable": (shown == n) & (n > 0), "both": (shown > 0) & (shown < n),
        "of these, both within one type": tweets["is_mixed_within_type"],
    }  # fmt: skip
    return {name: int(mask.sum()) for name, mask in masks.items()}


def share_rows(by_split: Mapping[str, Sequence[Example]], coarse_of: Mapping[str, str] | None = None) -> Rows:
    """A row per share of `study.shares`, in percent: each split, and Twitter-GMNER v2 (empty if unknown)."""
    columns = {split: shares(examples, coarse_of=coarse_of) for split, examples in by_split.items()}
    columns["Twitter-GMNER v2"] = V2_SHARES
    return [
        {"share, %": name, **{c: round(100 * v[name], 1) if name in v else "" for c, v in columns.items()}}
        for name in dict.fromkeys(name for values in columns.values() for name in values)
    ]


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
