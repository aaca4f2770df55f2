"""Examples as tables: pandas tables that notebooks group and plot, and rows of the data check."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mcr_lib import boxes
from mcr_lib.data.check import CheckReport, quirks_by_kind
from mcr_lib.data.shares import V2_SHARES, shares
from mcr_lib.schema import Entity, Example

Rows = list[dict[str, Any]]

_NAN = float("nan")


def entity_table(examples: Iterable[Example], *, coarse_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per gold entity: split, id, text, type, coarse, n_tokens, is_groundable, n_boxes, box_share.

    `coarse` is the type under `coarse_of`, or the type itself. `box_share` is the area of the largest gold
    box over the area of the image, in [0, 1]; NaN without a box or a known size.

    Example:
        >>> rome = Entity("Rome", 0, 1, "LOC", ((0, 0, 5, 10),))
        >>> tweet = Example("1", "demo", "dev", ("Rome", "!"), (rome,), ("LOC",), image_size_px=(10, 10))
        >>> entity_table([tweet])[["type", "is_groundable", "box_share"]].values.tolist()
        [['LOC', True, 0.5]]
    """
    rows = []
    for example in examples:
        for e in example.entities:
            coarse = (coarse_of or {}).get(e.type, e.type)
            share = _box_share(e, example.image_size_px)
            head = example.split, example.id, e.text, e.type, coarse, e.end - e.start
            rows.append((*head, e.is_groundable, len(e.boxes_xyxy_px or ()), share))
    columns = ["split", "id", "text", "type", "coarse", "n_tokens", "is_groundable", "n_boxes", "box_share"]
    return pd.DataFrame(rows, columns=columns)


def _box_share(entity: Entity, size_px: tuple[int, int] | None) -> float:
    if not entity.boxes_xyxy_px or not size_px:
        return _NAN
    width, height = size_px
    return boxes.area_px2(boxes.largest(entity.boxes_xyxy_px)) / (width * height)


def tweet_table(examples: Iterable[Example]) -> pd.DataFrame:
    """One row per tweet: split, id, n_tokens, n_entities, n_groundable, is_mixed_within_type, and width and
    height of its image (NaN if unknown).

    `is_mixed_within_type`: the tweet has a groundable and a not-groundable entity of one type (`bias.is_hard`
    is the same of an entity).

    Example:
        >>> tweet = Example("1", "demo", "dev", ("hi",), (), ("PER",))
        >>> tweet_table([tweet])[["n_tokens", "n_entities"]].values.tolist()
        [[1, 0]]
    """
    rows = []
    for example in examples:
        shown = [entity.type for entity in example.entities if entity.is_groundable]
        absent = [entity.type for entity in example.entities if entity.is_groundable is False]
        counts = len(example.tokens), len(example.entities), len(shown), bool({*shown} & {*absent})
        rows.append((example.split, example.id, *counts, *(example.image_size_px or (_NAN, _NAN))))
    columns = ["split", "id", "n_tokens", "n_entities", "n_groundable", "is_mixed_within_type"]
    return pd.DataFrame(rows, columns=[*columns, "width", "height"])


def mixture(tweets: pd.DataFrame) -> dict[str, int]:
    """How many tweets show none, some or all of their entities.

    Args:
        tweets: from `tweet_table`.
    """
    n, shown = tweets["n_entities"], tweets["n_groundable"]
    return {
        "nothing groundable": int((shown == 0).sum()),
        "of these, no entity at all": int((n == 0).sum()),
        "all groundable": int(((shown == n) & (n > 0)).sum()),
        "both": int(((shown > 0) & (shown < n)).sum()),
        "of these, both within one type": int(tweets["is_mixed_within_type"].sum()),
    }


def share_rows(
    examples_by_split: Mapping[str, Sequence[Example]], *, coarse_of: Mapping[str, str] | None = None
) -> Rows:
    """One row per share of `data.shares`, in percent: each split, and Twitter-GMNER v2 (empty if unknown)."""
    columns = {split: shares(examples, coarse_of=coarse_of) for split, examples in examples_by_split.items()}
    columns["Twitter-GMNER v2"] = V2_SHARES
    names = dict.fromkeys(name for values in columns.values() for name in values)
    return [
        {"share, %": name, **{c: round(100 * v[name], 1) if name in v else "" for c, v in columns.items()}}
        for name in names
    ]


def statistics_rows(report: CheckReport) -> Rows:
    """One row per statistic of a data check: its name and, per split, its value and the expected one."""
    rows = []
    for name in dict.fromkeys(name for statistics in report.found.values() for name in statistics):
        row: dict[str, Any] = {"statistic": name}
        for column, statistics in report.found.items():
            row[column] = statistics.get(name, "")
            if report.expected:
                row[f"{column}, expected"] = report.expected.get(column, {}).get(name, "")
        rows.append(row)
    return rows


def quirk_rows(report: CheckReport) -> Rows:
    """One row per kind of quirk, the most frequent first: how many, and the first place."""
    return [
        {"quirk": kind, "count": len(quirks), "first": f"{quirks[0].where}: {quirks[0].what}"}
        for kind, quirks in quirks_by_kind(report.quirks).items()
    ]
