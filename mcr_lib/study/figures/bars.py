"""Bars and histograms: counts, scores with intervals, and counts stacked by kind."""

from collections.abc import Container, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows

_MANY = 6
"""Entities with this many boxes or more share a bar."""
_NOT_FLAWS = ("name", "answers", "faithful", "share", "ci_low", "ci_high")

# Stacked bars
# ------------------------------------------------------------------------------------------------------------


def stack(ax: Axes, rows: Rows, colours: Mapping[str, str], *, whole: str = "", inside: bool = True) -> Axes:
    """Draw a horizontal bar per row, stacked from counts, with their sum written at its end.

    Args:
        rows: each with a `name` and counts by kind; a kind that a row lacks counts 0.
        colours: kind -> colour.
        whole: key of the count that is 100 %; empty = bars are drawn as counts.
        inside: whether the larger parts show their counts.
    """
    counts = np.array([[row.get(kind) or 0 for kind in colours] for row in rows], dtype=float)
    scale = np.array([100 / max(1, row[whole]) if whole else 1.0 for row in rows])
    widths = counts * scale[:, None]
    starts = np.cumsum(widths, axis=1) - widths
    longest = max(1.0, widths.sum(axis=1).max(initial=0))
    for k, (kind, colour) in enumerate(colours.items()):
        ax.barh(range(len(rows)), widths[:, k], left=starts[:, k], color=colour, height=0.62, label=kind)
        for y in np.flatnonzero(widths[:, k] > 0.04 * longest) if inside else ():
            middle = starts[y, k] + widths[y, k] / 2
            place = {"ha": "center", "va": "center", "fontsize": 7.5, "color": palette.ink(colour)}
            ax.text(middle, y, f"{counts[y, k]:,.0f}", **place)
    for y, (end, total) in enumerate(zip(widths.sum(axis=1), counts.sum(axis=1), strict=True)):
        ax.text(end + 0.015 * longest, y, f"{total:,.0f}", va="center", fontsize=8)
    palette.name_lines(ax, [row["name"] for row in rows])
    ax.set_xlim(0, 1.12 * longest)
    return ax


def _stacked(rows: Rows, colours: Mapping[str, str], *, title: str, xlabel: str, whole: str = "") -> Figure:
    figure, ax = plt.subplots(figsize=(9.2, 1.5 + 0.42 * len(rows)))
    stack(ax, rows, colours, whole=whole).set(xlabel=xlabel)
    palette.legend(figure, colours)
    palette.title(figure, title)
    return figure


def types(rows: Rows) -> Figure:
    """Entities by coarse type, split by whether the image shows them (`type_rows`)."""
    named = [{**row, "name": f"{row['type']}: {row['% in the image']} %"} for row in rows]
    title = f"Entities by type, and how many the image shows (n = {sum(row['entities'] for row in rows):,})"
    return _stacked(named, palette.GROUNDABLE, title=title, xlabel="entities")


def wrong_boxes(rows: Rows, *, n: int) -> Figure:
    """What wrong boxes of right spans show, per setting (`bias_views.sharing_rows`)."""
    title = f"Wrong boxes of right spans (n = {n:,} tweets, single run)"
    return _stacked(rows, palette.WRONG_BOXES, title=title, xlabel="boxes")


def faithful(rows: Rows) -> Figure:
    """Answers whose reasoning states what they answer, the others by their first flaw, in percent
    (`bias_views.faithful_rows`).
    """
    flaws = dict.fromkeys(key for row in rows for key in row if key not in _NOT_FLAWS)
    colours = {flaw.replace("_", " "): palette.FLAWS[k % len(palette.FLAWS)] for k, flaw in enumerate(flaws)}
    named = [
        {key.replace("_", " "): value for key, value in row.items()}
        | {"name": f"{row['name']}: {row['share']:.1f} %\n({row['ci_low']:.1f} to {row['ci_high']:.1f})"}
        for row in rows
    ]
    title = "Answers whose own reasoning states just what they answer (95 % intervals)"
    labels = {"title": title, "xlabel": "% of answers (single run)"}
    return _stacked(named, {"faithful": palette.GREEN, **colours}, whole="answers", **labels)


def errors(rows: Rows, *, n: int) -> Figure:
    """What became of the gold entities, and what was predicted beside them, by setting
    (`compared.error_rows`).
    """
    named = [{**row, "name": row["setting"]} for row in rows]
    size = (11, 0.5 * len(rows) + 1.5)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(3, 1.4), sharey=True)
    stack(left, named, palette.GOLD_ERRORS).set(title=f"gold entities (n = {n:,} tweets)", xlabel="entities")
    stack(right, named, palette.EXTRA_ERRORS).set(title="beside them", xlabel="entities")
    palette.legend(figure, palette.GOLD_ERRORS | palette.EXTRA_ERRORS)
    return figure


def invented(rows: Rows) -> Figure:
    """N-Rate of each setting by where the names come from, a panel per split (`bias_views.invented_rows`)."""
    by_split = {split: [row for row in rows if row["split"] == split] for split in _values(rows, "split")}
    colours = {kind: c for kind, c in palette.INVENTED.items() if any(kind in row for row in rows)}
    size = (2.2 + 2.6 * len(by_split), 1.6 + 0.36 * len(_values(rows, "name")))
    figure, axes = plt.subplots(1, len(by_split), figsize=size, sharey=True, squeeze=False)
    for ax, (split, part) in zip(axes.flat, by_split.items(), strict=True):
        stack(ax, part, colours, whole="n_predictions", inside=False)
        ax.set(title=split, xlabel="N-Rate, %  (N-Count at the end)")
    right = max(ax.get_xlim()[1] for ax in axes.flat)
    plt.setp(axes, xlim=(0, right))
    palette.legend(figure, colours)
    palette.title(figure, "Where names come from of which the text has no word (single run)")
    return figure


def faults(rows: Rows, *, n_columns: int = 2) -> Figure:
    """What became of the tweets that were right on the original, per setting and probe, in percent
    (`bias_views.consistency_rows`).
    """
    chosen = [row for row in rows if row["probe"] not in ("blank", "all")]
    names, probes = _values(chosen, "name"), _values(chosen, "probe")
    cells = {(row["name"], row["probe"]): row for row in chosen}
    n_lines = -(-len(names) // n_columns)
    size = (1.8 + 4.4 * n_columns, 0.7 + (0.9 + 0.24 * len(probes)) * n_lines)
    figure, axes = plt.subplots(n_lines, n_columns, figsize=size, squeeze=False, sharey=True)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, names, strict=False):
        of_name = [cells.get((name, probe), {"right": 0}) for probe in probes]
        labels = [palette.PROBES[probe].replace("\n", " ") for probe in probes]
        bars = [{**row, "name": label} for row, label in zip(of_name, labels, strict=True)]
        stack(ax, bars, palette.FAULTS, whole="right", inside=False)
        ax.set(xlim=(0, 112), xticks=range(0, 101, 25), xlabel="% of tweets right on the original")
        ax.set_title(name, color=palette.setting(name, names), fontweight="bold")
    palette.legend(figure, palette.FAULTS)
    palette.title(
        figure, "What becomes of right answers under a probe (single run; right of each bar: tweets)"
    )
    return figure


# Bars with intervals
# ------------------------------------------------------------------------------------------------------------


def group(ax: Axes, rows: Rows, colours: Mapping[str, str]) -> Axes:
    """Draw a group of bars per `name`, one per `kind`, each a `value` with its interval `low` to `high`.

    Args:
        rows: a value of `None` has no bar, an end of `None` no interval.
        colours: kind -> colour.
    """
    points = pd.DataFrame([{**row, "value": row[key]} for row in rows for key in ("value", "low", "high")])
    options = {"hue_order": colours, "palette": colours, "saturation": 1, "err_kws": {"linewidth": 1.2}}
    sns.barplot(
        points,
        x="name",
        y="value",
        hue="kind",
        estimator=_first,
        errorbar=_ends,
        legend=False,
        ax=ax,
        **options,
    )
    ax.set(xlabel="", ylabel="")
    return ax


def _first(values: pd.Series) -> float:
    return values.iloc[0]


def _ends(values: pd.Series) -> tuple[float, float]:
    return values.min(), values.max()


def scores(rows: Rows, *, n: int) -> Figure:
    """F1 of each task by name with its 95 % interval (`tables.score_table`).

    Args:
        n: number of tweets.
    """
    tasks = {task: colour for task, colour in palette.TASKS.items() if task in _values(rows, "task")}
    bars = [
        {
            "name": row["name"],
            "kind": row["task"],
            "value": row["f1"],
            "low": row["ci_low"],
            "high": row["ci_high"],
        }
        for row in rows
    ]
    figure, ax = plt.subplots(figsize=(max(5.2, 2.0 + 1.5 * len(_values(rows, "name"))), 3.4))
    group(ax, bars, tasks)
    for drawn, colour in zip(ax.containers, tasks.values(), strict=True):
        ax.bar_label(drawn, fmt="%.1f", label_type="center", fontsize=7.5, color=palette.ink(colour))
    ax.set(ylabel="F1, %", ylim=(0, 116), yticks=range(0, 101, 20))
    ax.set_title(f"F1 with 95 % bootstrap interval over tweets (n = {n:,}, single run)")
    handles = [Patch(color=colour, label=task) for task, colour in tasks.items()]
    ax.legend(handles=handles, ncols=3, loc="upper right")
    return figure


def attention(rows: Rows) -> Figure:
    """Attention per token at the digits of a box, by setting, a panel per part (`attention_views.rows`); 1 =
    a token's share.
    """
    kinds = {"gold": "its region", "rest": "rest of the image", "words": "its words in the tweet"}
    figure = _by_part(rows, kinds, reference=1)
    figure.axes[0].set_ylabel("attention per token, × a token's share")
    palette.title(
        figure, "Where it looks when it writes the box of an entity (dotted: no preference; single run)"
    )
    return figure


def cuts(rows: Rows) -> Figure:
    """Change of the log-probability of a box's digits if attention is cut, by setting, a panel per part
    (`attention_views.rows`).
    """
    kinds = {"cut_image": "whole image", "cut_gold": "its region", "cut_elsewhere": "as much elsewhere"}
    figure = _by_part(rows, kinds, reference=0)
    figure.axes[0].set_ylabel("change of log-probability, nats per box")
    palette.title(figure, "What a box loses when the answer cannot look at … (single run)")
    return figure


def _by_part(rows: Rows, kinds: Mapping[str, str], *, reference: float) -> Figure:
    """Groups of bars: a panel per part of the answer, a group per setting, a bar per kind (key -> label)."""
    parts = [part for part in ("answer", "reasoning") if part in _values(rows, "part")]
    of_part = [[row for row in rows if row["part"] == part] for part in parts]
    widths = [max(2, len(some)) for some in of_part]
    size = (2.2 + 1.15 * sum(widths), 3.6)
    options = {"width_ratios": widths, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(parts), figsize=size, **options)
    colours = {label: palette.REGIONS[label] for label in kinds.values()}
    for ax, part, some in zip(axes.flat, parts, of_part, strict=True):
        bars = [
            {"name": f"{row['setting']}\n{row['boxes']} boxes", "kind": label, "value": row[key],
             "low": row[f"{key}_low"], "high": row[f"{key}_high"]}
            for row in some
            for key, label in kinds.items()
        ]  # fmt: skip
        group(ax, bars, colours).axhline(reference, color=palette.DARK, linestyle=":", linewidth=1)
        ax.set(title=f"in the {part}", xlim=(-0.6, len(some) - 0.4))
    palette.legend(figure, colours)
    return figure


def yardsticks(rows: Rows, *, scored: Container[str], n: int) -> Figure:
    """GMNER F1 of yardsticks, grey, and of the names in `scored`, coloured.

    Args:
        rows: each with `name` and `gmner_f1` in percent.
        scored: names of scores that are to be compared with the yardsticks.
        n: number of tweets.
    """
    colours = {"made from gold, no model": palette.GREY, "score": palette.TASKS["GMNER"]}
    frame = pd.DataFrame(rows).sort_values("gmner_f1", ascending=False)
    frame["kind"] = ["score" if name in scored else "made from gold, no model" for name in frame["name"]]
    figure, ax = plt.subplots(figsize=(7.4, 1.8 + 0.26 * len(frame)))
    options = {"hue": "kind", "palette": colours, "saturation": 1, "width": 0.65}
    sns.barplot(frame, x="gmner_f1", y="name", ax=ax, **options)
    for drawn in ax.containers:
        ax.bar_label(drawn, fmt="%.2f", padding=3, fontsize=8)
    palette.name_lines(ax, list(frame["name"]))
    ax.set(xlim=(0, 110), xlabel="GMNER F1, %", ylabel="")
    ax.set_title(f"Yardsticks: perfect text, no model (n = {n:,})")
    ax.legend(loc="lower right")
    return figure


# Counts and histograms
# ------------------------------------------------------------------------------------------------------------


def count_bars(ax: Axes, counts: Mapping[str, int], *, xlabel: str, ylabel: str) -> Axes:
    """Draw bars of counts by category, in the mapping's order, each with its count."""
    sns.barplot(x=list(counts), y=list(counts.values()), color=palette.MEDIUM, saturation=1, width=0.7, ax=ax)
    ax.bar_label(ax.containers[0], [f"{count:,}" for count in counts.values()], fontsize=7.5)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, max(counts.values(), default=1) * 1.12))
    return ax


def type_rows(entities: pd.DataFrame, labels: Sequence[str]) -> list[dict[str, object]]:
    """Per coarse type the entities of `tables.entity_table`, and how many of them the image shows."""
    rows = []
    for label in labels:
        is_groundable = entities.loc[entities["coarse"] == label, "is_groundable"].astype(bool)
        n, shown = len(is_groundable), int(is_groundable.sum())
        share = round(100 * shown / n, 1) if n else None
        row = {"type": label, "groundable": shown, "not groundable": n - shown}
        rows.append(row | {"entities": n, "% in the image": share})
    return rows


def tweet_counts(tweets: pd.DataFrame) -> list[dict[str, int]]:
    """How many tweets of `tables.tweet_table` have how many entities."""
    counts = tweets["n_entities"].value_counts().sort_index()
    return [{"entities": int(n), "tweets": int(count)} for n, count in counts.items()]


def box_rows(entities: pd.DataFrame) -> list[dict[str, object]]:
    """The boxed entities of `tables.entity_table`: number of boxes, area of the largest as a share of the image."""
    boxed = entities[entities["n_boxes"] > 0]
    return boxed[["split", "coarse", "n_boxes", "box_share"]].round(4).to_dict("records")


def size_rows(tweets: pd.DataFrame) -> list[dict[str, object]]:
    """Width and height of the images of `tables.tweet_table`, in pixels, where known."""
    return tweets.dropna(subset=["width"])[["split", "id", "width", "height"]].to_dict("records")


def entities_per_tweet(rows: Rows) -> Figure:
    """How many tweets have how many entities (`tweet_counts`)."""
    figure, ax = plt.subplots(figsize=(5.6, 3.2))
    counts = {str(row["entities"]): row["tweets"] for row in rows}
    count_bars(ax, counts, xlabel="entities in a tweet", ylabel="tweets")
    ax.set_title(f"Entities per tweet (n = {sum(counts.values()):,})")
    return figure


def boxes(rows: Rows, *, labels: Sequence[str]) -> Figure:
    """Boxes per groundable entity, and the largest box as a share of the image.

    Args:
        rows: of `box_rows`.
        labels: coarse types in the order of the legend.
    """
    frame = pd.DataFrame(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    counts = frame["n_boxes"].clip(upper=_MANY).value_counts().sort_index()
    named = {f"{n} or more" if n == _MANY else str(n): int(count) for n, count in counts.items()}
    count_bars(left, named, xlabel="boxes of an entity", ylabel="groundable entities")
    left.set_title(f"Boxes per groundable entity (n = {len(frame):,})")
    order = [label for label in labels if label in set(frame["coarse"])]
    options = {"hue": "coarse", "hue_order": order, "palette": palette.TYPES, "multiple": "stack", "alpha": 1}
    sns.histplot(frame, x="box_share", bins=np.linspace(0, 1, 21), ax=right, **options)
    right.set(xlabel="area of the largest box / area of the image", ylabel="entities", xlim=(0, 1))
    right.set_title(f"Size of boxes (n = {len(frame):,})")
    right.legend_.set_title("")
    return figure


def image_sizes(rows: Rows) -> Figure:
    """Width against height of images in pixels, a translucent dot each; the dotted diagonal is square."""
    frame = pd.DataFrame(rows)
    limit = 1.05 * max(1, frame[["width", "height"]].to_numpy().max())
    figure, ax = plt.subplots(figsize=(4.2, 4))
    ax.plot([0, limit], [0, limit], color=palette.DARK, linewidth=0.8, linestyle=":")
    sns.scatterplot(frame, x="width", y="height", s=14, alpha=0.25, color=palette.MEDIUM, linewidth=0, ax=ax)
    ax.set(xlabel="width, px", ylabel="height, px", xlim=(0, limit), ylim=(0, limit), aspect="equal")
    ax.set_title(f"Annotated images (n = {len(frame):,})")
    return figure


def lengths(rows: Rows, *, limit: int, n_columns: int = 3) -> Figure:
    """Lengths of chains by style, a histogram each (`injection.length_rows`).

    Args:
        limit: drawn as a line: the longest chain that the testbed's model can afford.
    """
    frame = pd.DataFrame(rows)
    bins = np.linspace(0, max(frame["tokens"].quantile(0.999), limit) + 1, 41)
    n_styles = frame["style"].nunique()
    n_rows = -(-n_styles // n_columns)
    size = (8.4, 1.6 * n_rows + 0.6)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharex=True, squeeze=False)
    for ax, (style, tokens) in zip(axes.flat, frame.groupby("style", sort=False)["tokens"], strict=False):
        sns.histplot(x=tokens.clip(upper=bins[-1]), bins=bins, color=palette.BLUE, alpha=1, ax=ax)
        ax.axvline(limit, color=palette.DARK, linestyle=":", linewidth=1)
        within = f"{100 * (tokens <= limit).mean():.0f} % within {limit}"
        ax.set_title(f"{style} · median {tokens.median():.0f}, {within}", fontsize=8)
        ax.set(yticks=[], xlabel="", ylabel="")
    for ax in axes.flat[n_styles:]:
        ax.set_axis_off()
    figure.supxlabel("words, numbers and punctuation marks of a chain", fontsize=9)
    palette.title(figure, f"Lengths of chains (n = {len(frame):,}), dotted: {limit}")
    return figure


def _values(rows: Rows, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
