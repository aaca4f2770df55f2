"""Whole figures of the notebooks: each takes data and returns the figure and the rows that it shows, ready
for `plots.save`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL.Image import Image

from mcr_lib.data.images import open_image
from mcr_lib.metrics import SCORERS, Judged
from mcr_lib.study.figures import plots
from mcr_lib.study.tables import comparison

Rows = list[dict[str, Any]]
_MANY = 6
"""Entities with this many boxes or more share a bar; the CSV tells each."""


def types(entities: pd.DataFrame, labels: Sequence[str]) -> tuple[Figure, Rows]:
    """Entities by coarse type, split by whether the image shows them.

    Args:
        entities: from `examples.entity_table`.
        labels: coarse types in the order of the bars.
    """
    rows: Rows = []
    for label in labels:
        is_groundable = entities.loc[entities["coarse"] == label, "is_groundable"].astype(bool)
        n, n_groundable = len(is_groundable), int(is_groundable.sum())
        share = round(100 * n_groundable / n, 1) if n else None
        rows.append(
            {
                "type": label,
                "groundable": n_groundable,
                "not groundable": n - n_groundable,
                "entities": n,
                "% in the image": share,
            }
        )
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    parts = {"in the image": "groundable", "not in the image": "not groundable"}
    bars = [
        {**row, "name": f"{row['type']}\n{row['% in the image']} %" if row["entities"] else row["type"]}
        for row in rows
    ]
    plots.stacked_bars(ax, bars, x="name", parts=parts, colours=plots.GROUNDABLE_COLOURS)
    ax.set(
        xlabel="type, and how much of it the image shows",
        ylabel="entities",
        title=f"Entities by type (n = {len(entities):,})",
    )
    return figure, rows


def entities_per_tweet(tweets: pd.DataFrame) -> tuple[Figure, Rows]:
    """How many tweets have how many entities; `tweets` is from `examples.tweet_table`."""
    counts = tweets["n_entities"].value_counts().sort_index()
    figure, ax = plt.subplots(figsize=(5.6, 3.2))
    plots.count_bars(ax, counts.to_dict(), xlabel="entities in a tweet", ylabel="tweets")
    ax.set_title(f"Entities per tweet (n = {len(tweets):,})")
    return figure, [{"entities": int(n), "tweets": int(count)} for n, count in counts.items()]


def boxes(entities: pd.DataFrame, labels: Sequence[str]) -> tuple[Figure, Rows]:
    """Boxes per groundable entity, and the largest box as a share of the image."""
    boxed = entities[entities["n_boxes"] > 0]
    shares = {label: boxed.loc[boxed["coarse"] == label, "box_share"].dropna() for label in labels}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    counts = boxed["n_boxes"].clip(upper=_MANY).value_counts().sort_index()
    named = {f"{n} or more" if n == _MANY else str(n): int(count) for n, count in counts.items()}
    plots.count_bars(left, named, xlabel="boxes of an entity", ylabel="groundable entities")
    left.set_title(f"Boxes per groundable entity (n = {len(boxed):,})")
    plots.shares_histogram(right, shares, xlabel="area of the largest box / area of the image")
    right.set_title(f"Size of boxes (n = {len(boxed):,})")
    return figure, boxed[["split", "coarse", "n_boxes", "box_share"]].round(4).to_dict("records")


def image_sizes(tweets: pd.DataFrame) -> tuple[Figure, Rows]:
    """Width against height of the annotated images."""
    sizes = tweets.dropna(subset=["width"])
    figure, ax = plt.subplots(figsize=(4.2, 4))
    plots.image_sizes(ax, list(sizes[["width", "height"]].itertuples(index=False, name=None)))
    ax.set_title(f"Annotated images (n = {len(sizes):,})")
    return figure, sizes[["split", "id", "width", "height"]].to_dict("records")


def answers(rows: Rows) -> Figure:
    """F1 of each task for each hand-made answer (`cases.answer_rows`)."""
    figure, ax = plt.subplots(figsize=(6, 4.2))
    plots.reward_heatmap(ax, rows, case="answer", columns=("GMNER", "MNER", "EEG"))
    ax.set_title("F1 of one tweet with two entities, % (n = 1)")
    return figure


def scorers(rows: Rows) -> Figure:
    """GMNER F1 of each hand-made case under each scorer (`cases.scorer_rows`)."""
    figure, ax = plt.subplots(figsize=(6.4, 3))
    plots.reward_heatmap(ax, rows, case="case", columns=SCORERS)
    ax.set_title("GMNER F1 of hand-made cases, % (n = 1 or 2 tweets)")
    return figure


def yardsticks(
    f1_by_name: Mapping[str, float], scores: Mapping[str, float], *, n: int
) -> tuple[Figure, Rows]:
    """GMNER F1 of the yardsticks and, coloured, of what is to be read against them."""
    figure, ax = plt.subplots(figsize=(7.4, 2.0 + 0.26 * max(4, len(f1_by_name) + len(scores) - 1)))
    plots.yardstick_bars(ax, f1_by_name, highlight=scores, n=n)
    return figure, [{"name": name, "gmner_f1": value} for name, value in {**f1_by_name, **scores}.items()]


def degradation(rows: Rows, reference: tuple[str, float], *, n: int) -> Figure:
    """GMNER F1 when one decision alone, or all four alike, gets worse (`simulate.degradation_rows`)."""
    figure, ax = plt.subplots(figsize=(6.8, 4.4))
    plots.degradation(ax, rows, reference=reference)
    repeats = len({row["repeat"] for row in rows})
    ax.set_title(
        f"One decision, or all four alike, made worse (n = {n:,}, {f'{repeats} draws, band = range' if repeats > 1 else 'single draw'})"
    )
    return figure


def scores(reports: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, Rows]:
    """F1 of answers by name with its intervals."""
    table = comparison.task_rows(reports)
    figure, ax = plt.subplots(figsize=(max(5.2, 2.0 + 1.5 * len(reports)), 3.4))
    plots.score_bars(ax, table, n=next(iter(reports.values()))["n_examples"])
    return figure, table


def answered(judged: Sequence[Judged]) -> Figure:
    """Tweets with gold boxes solid and predicted boxes dashed; a tweet whose image is not there has an empty
    frame.
    """
    images: list[Image | None] = [
        open_image(j.example.images[0]) if j.example.images else None for j in judged
    ]
    return plots.gallery([j.example for j in judged], images, [j.predictions for j in judged])
