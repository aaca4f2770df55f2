"""Examples and scores as tidy pandas tables: what notebooks group, print and plot."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mcr_lib import boxes
from mcr_lib.schema import Example


def entity_table(examples: Iterable[Example], *, coarse_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per gold entity: split, id, text, type, coarse, n_tokens, is_groundable, n_boxes and
    `box_share`.

    `coarse` is the type under `coarse_of`, or the type itself.

    `box_share` is the area of the largest gold box over the area of the image, in [0, 1]; NaN where there is
    no box or no known size.

    Example:
        >>> from mcr_lib.schema import Entity
        >>> rome = Entity("Rome", 0, 1, "LOC", ((0, 0, 5, 10),))
        >>> tweet = Example("1", "demo", "dev", ("Rome", "!"), (rome,), ("LOC",), image_size_px=(10, 10))
        >>> entity_table([tweet])[["type", "is_groundable", "box_share"]].values.tolist()
        [['LOC', True, 0.5]]
    """
    rows = []
    for example in examples:
        for entity in example.entities:
            share = float("nan")
            if entity.boxes_xyxy_px and example.image_size_px:
                width, height = example.image_size_px
                share = boxes.area_px2(boxes.largest(entity.boxes_xyxy_px)) / (width * height)
            rows.append(
                {
                    "split": example.split,
                    "id": example.id,
                    "text": entity.text,
                    "type": entity.type,
                    "coarse": (coarse_of or {}).get(entity.type, entity.type),
                    "n_tokens": entity.end - entity.start,
                    "is_groundable": entity.is_groundable,
                    "n_boxes": len(entity.boxes_xyxy_px or ()),
                    "box_share": share,
                }
            )
    columns = ["split", "id", "text", "type", "coarse", "n_tokens", "is_groundable", "n_boxes", "box_share"]
    return pd.DataFrame(rows, columns=columns)


def tweet_table(examples: Iterable[Example]) -> pd.DataFrame:
    """One row per tweet: split, id, n_tokens, n_entities, n_groundable, is_mixed_within_type, width and
    height of its image.

    Width and height are NaN where unknown.
    `is_mixed_within_type`: a groundable and a not-groundable entity of one type in one tweet, the hard case
    of section "bias".

    Example:
        >>> tweet_table([Example("1", "demo", "dev", ("hi",), (), ("PER",))])[["n_tokens", "n_entities"]].values.tolist()
        [[1, 0]]
    """
    rows = []
    for example in examples:
        groundable = {entity.type for entity in example.entities if entity.is_groundable}
        absent = {entity.type for entity in example.entities if entity.is_groundable is False}
        width, height = example.image_size_px or (float("nan"), float("nan"))
        rows.append(
            {
                "split": example.split,
                "id": example.id,
                "n_tokens": len(example.tokens),
                "n_entities": len(example.entities),
                "n_groundable": sum(bool(entity.is_groundable) for entity in example.entities),
                "is_mixed_within_type": bool(groundable & absent),
                "width": width,
                "height": height,
            }
        )
    columns = [
        "split",
        "id",
        "n_tokens",
        "n_entities",
        "n_groundable",
        "is_mixed_within_type",
        "width",
        "height",
    ]
    return pd.DataFrame(rows, columns=columns)


def text_table(rows: Sequence[Mapping[str, Any]], index: str) -> Styler:
    """Rows of text as a table for the reader of a notebook: whole cells, aligned to the left, tags of model
    text shown as written.

    Args:
        rows: one mapping per row, all with the same keys.
        index: key of the row's name.
    """
    left = {"selector": "th, td", "props": "text-align: left; white-space: pre-wrap; vertical-align: top"}
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else [index]).set_index(index)
    return table.style.format(escape="html").set_table_styles([left])


def shown(rows: Sequence[Mapping[str, Any]]) -> Styler | None:
    """`text_table` of rows under the name of their first key, numbers as short as they are; nothing where
    there is no row.
    """
    told = [
        {key: f"{value:g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
    return text_table(told, next(iter(rows[0]))) if rows else None


def score_table(
    reports: Mapping[str, Mapping[str, Any]], tasks: Sequence[str] = ("gmner", "mner", "eeg")
) -> pd.DataFrame:
    """One row per report and task: name, task, p, r, f1, ci_low, ci_high, all in percent; tasks that a source
    lacks are left out.

    Args:
        reports: name -> report as `study.scoring` makes it.

    Example:
        >>> report = {"gmner": {"p": 50.0, "r": 25.0, "f1": 33.33, "ci95": {"f1": [20.0, 45.0]}}}
        >>> score_table({"a": report}, ["gmner"]).values.tolist()
        [['a', 'GMNER', 50.0, 25.0, 33.33, 20.0, 45.0]]
    """
    rows = []
    for name, report in reports.items():
        for task in tasks:
            if report.get(task) is not None:
                score = report[task]
                interval = score.get("ci95")
                low, high = (
                    (interval["f1"] if isinstance(interval, Mapping) else interval)
                    if interval
                    else (score["f1"], score["f1"])
                )
                rows.append([name, task.upper(), score["p"], score["r"], score["f1"], low, high])
    return pd.DataFrame(rows, columns=["name", "task", "p", "r", "f1", "ci_low", "ci_high"])
