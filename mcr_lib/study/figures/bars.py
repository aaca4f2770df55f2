"""Bars and histograms: counts, scores with intervals, and counts stacked by kind (n = tweets, for titles)."""

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mcr_lib.study.figures import heat, palette
from mcr_lib.study.figures.palette import Fill, Rows, panels, unique

_NOT_FLAWS = ("name", "split", "answers", "faithful", "share", "ci_low", "ci_high")
_MASSES = {"gold": ("its region", palette.TONES[0]), "rest": ("rest of the image", palette.TONES[2]),
    "words": ("its words in the tweet", palette.TONES[1])}  # fmt: skip
_CUTS = {"cut_image": ("whole image", palette.TONES[1]), "cut_gold": ("its region", palette.TONES[0]),
    "cut_elsewhere": ("as much elsewhere", palette.TONES[2])}  # fmt: skip

_RIM = patheffects.withStroke(linewidth=3, foreground="white")
_RIMMED = {"linewidth": 1.2, "path_effects": [_RIM]}  # an interval that is seen on a dark bar too


def stack(ax: Axes, rows: Rows, fills: Mapping[str, Fill], *, whole: str = "") -> Axes:
    """Draw a bar per row (`name`, counts by kind) with its sum at the end; the count `whole` is 100 %."""
    counts = pd.DataFrame(rows, columns=list(fills)).fillna(0).astype(int)
    widths = counts.mul([100 / max(1, row[whole]) for row in rows], axis=0) if whole else counts
    ends, longest = widths.cumsum(axis=1), max(1, widths.sum(axis=1).max(), ax.get_xlim()[1] / 1.12)
    for kind, (colour, hatch) in fills.items():
        style = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
        bars = ax.barh(counts.index, widths[kind], 0.7, ends[kind] - widths[kind], label=kind, **style)
        texts = counts[kind].map("{:,}".format).where(widths[kind] > 0.05 * longest, "")
        style = {"fontsize": 8, "color": palette.ink(colour)}
        for label in ax.bar_label(bars, texts, label_type="center", **style):
            if hatch and label.get_text():
                label.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1.5})
    ax.bar_label(bars, counts.sum(axis=1).map("{:,}".format), padding=4, fontsize=8)
    palette.name_lines(ax, [row["name"] for row in rows])
    ax.set_xlim(0, max(ax.get_xlim()[1], 1.12 * longest))
    return ax


def _stacked(rows: Rows, fills: Mapping[str, Fill], title: str, xlabel: str) -> Figure:
    figure, (ax,) = panels(1, (9.2, 1.2 + 0.42 * len(rows)), title)
    stack(ax, rows, fills).set(xlabel=xlabel)
    return palette.legend(figure, fills)


def types(rows: Rows) -> Figure:
    """Entities by coarse type, split by whether the image shows them (`type_rows`)."""
    named = [{**r, "name": r["type"] + (f": {r['% in the image']} %" if r["entities"] else "")} for r in rows]
    title = f"Entities by type, and how many the image shows (n = {sum(row['entities'] for row in rows):,})"
    return _stacked(named, palette.GROUNDABLE, title, "entities")


def wrong_boxes(rows: Rows, *, n: int) -> Figure:
    """What wrong boxes of right spans show, per setting (`bias.sharing_rows`)."""
    title = f"Wrong boxes of right spans (n = {n:,} tweets, single run)"
    return _stacked(rows, palette.WRONG_BOXES, title, "boxes")


def faithful(rows: Rows) -> Figure:
    """Share of answers whose reasoning states them, of others by first flaw (`bias.faithful_rows`)."""
    name = "{split} · {name}, n = {answers:,}\n{share:.1f} % ({ci_low:.1f} to {ci_high:.1f})".format
    kinds = dict.fromkeys(["faithful", *(key for row in rows for key in row if key not in _NOT_FLAWS)])
    shares = [{k: 100 * row.get(k, 0) / row["answers"] for k in kinds} for row in rows]
    table = [{"": name(**row)} | of for row, of in zip(rows, shares, strict=True)]
    title = "Does the reasoning state what is answered? % of answers, by first flaw (single run, 95 %)"
    return heat.numbers([{palette.FLAWS.get(k, k): v for k, v in row.items()} for row in table], title=title)


def errors(rows: Rows, *, n: int) -> Figure:
    """What became of gold entities, and what else was predicted, by setting (`comparison.error_kinds`)."""
    title = f"What became of gold entities, and what else was predicted (n = {n:,} tweets, single run)"
    size = (5.2, 0.5 * len(rows) + 1)
    figure, axes = panels(2, size, title, width_ratios=(3, 1), sharey=True)
    titles = {"gold entities": palette.GOLD_ERRORS, "predictions that fit none": palette.EXTRA_ERRORS}
    for ax, (title, fills) in zip(axes, titles.items(), strict=True):
        stack(ax, [{**r, "name": r["setting"]} for r in rows], fills).set(title=title, xlabel="entities")
    return palette.legend(figure, palette.GOLD_ERRORS | palette.EXTRA_ERRORS)


def foreign(rows: Rows) -> Figure:
    """Foreign names of each setting by where they come from, a panel per split (`bias.foreign_rows`)."""
    splits = unique(rows, "split")
    fills = {kind: fill for kind, fill in palette.ORIGINS.items() if any(kind in row for row in rows)}
    title = "Predicted names that do not occur in the text, by where they come from (single run)"
    size = (4.2, 1.2 + 0.36 * len(unique(rows, "name")))
    figure, axes = panels(len(splits), size, title, n_columns=2, sharex=True)
    axes[0].set_xlim(0, 112 * max(row["foreign"] / max(1, row["n_predictions"]) for row in rows))
    for ax, split in zip(axes, splits, strict=True):
        stack(ax, [row for row in rows if row["split"] == split], fills, whole="n_predictions")
        ax.set(title=split, xlabel="% of predicted names (at the end: how many)")
    return palette.legend(figure, fills)


def faults(rows: Rows) -> Figure:
    """What became of the tweets that were right on the original, per setting (`bias.consistency_rows`)."""
    chosen = [row for probe in palette.PROBES for row in rows if row["probe"] == probe]
    chosen = [row for row in chosen if row["probe"] not in ("blank", "all")]
    names = unique(rows, "name")
    title = "What becomes of right answers under a probe (single run; at the end: tweets)"
    if any(row["probe"] == "mute_blank" for row in chosen):
        title += "\nA name written at “muted, blank” too is habit: no image caused it"
    figure, axes = panels(len(names), (5.3, 0.9 + 0.24 * len(unique(chosen, "probe"))), title, n_columns=2)
    for ax, name in zip(axes, names, strict=True):
        of_name = [row for row in chosen if row["name"] == name]
        bars = [{**row, "name": palette.PROBES[row["probe"]].replace("\n", " ")} for row in of_name]
        stack(ax, bars, palette.FAULTS, whole="right")
        ax.set(xticks=range(0, 101, 25), xlabel="% of tweets right on the original", title=name)
    return palette.legend(figure, palette.FAULTS)


def group(ax: Axes, bars: Iterable[tuple], colours: Mapping[str, str]) -> Axes:
    """Draw bars (name, kind, value, low, high) in groups by name; `None` = no bar, or no interval."""
    points = [(name, kind, value) for name, kind, *values in bars for value in values]
    frame = pd.DataFrame(points, columns=["name", "kind", "value"])
    style = {"palette": colours, "hue_order": colours, "saturation": 1, "err_kws": _RIMMED}
    style |= {"estimator": lambda values: values.iloc[0], "errorbar": ("pi", 100)}  # the range
    sns.barplot(frame, x="name", y="value", hue="kind", legend=False, ax=ax, **style)
    ax.set(xlabel="", ylabel="")
    return ax


def scores(rows: Rows, *, n: int) -> Figure:
    """F1 of each setting with its 95 % interval, a panel per task (`comparison.task_rows`)."""
    tasks, names = unique(rows, "task"), unique(rows, "name")
    title = f"F1 with 95 % bootstrap intervals over tweets (n = {n:,}, single run)"
    figure, axes = panels(len(tasks), (3.3, 1.1 + 0.34 * len(names)), title, sharey=True)
    points = [{**row, "F1, %": row[key]} for row in rows for key in ("f1", "ci_low", "ci_high")]
    frame = pd.DataFrame(points)
    style = {"palette": [palette.setting(name, names) for name in names], "hue_order": names, "order": names}
    style |= {"estimator": lambda values: values.iloc[0], "errorbar": ("pi", 100), "legend": False}
    for ax, task in zip(axes, tasks, strict=True):
        of_task = frame[frame["task"] == task]
        sns.pointplot(of_task, x="F1, %", y="name", hue="name", ax=ax, linewidth=1.5, markersize=6, **style)
        for row in (row for row in rows if row["task"] == task):
            at = (row["ci_high"], names.index(row["name"]))
            ax.annotate(f"{row['f1']:.1f}", at, (5, 0), textcoords="offset points", va="center", fontsize=8)
        palette.name_lines(ax, names)
        ax.set(title=task, xlim=(0, 112), xticks=range(0, 101, 25))
    return figure


def reported(rows: Rows, colours: Mapping[str, str], *, title: str, lines: Mapping[str, float]) -> Figure:
    """F1 by method and kind, a panel per model (`facts.f1_rows`, `simulate.none_rows`), and named `lines`."""
    models = unique(rows, "model")
    size = (1.4 + 0.24 * len(rows) / len(models), 3.4)
    figure, axes = panels(len(models), size, title, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        group(ax, [[r[k] for k in ("method", "kind", "f1")] for r in rows if r["model"] == model], colours)
        for bars, colour in zip(ax.containers, colours.values(), strict=True):
            style = {"fontsize": 8, "rotation": 90, "color": palette.ink(colour)}
            ax.bar_label(bars, fmt="%.1f", label_type="center", **style)
        for name, f1 in lines.items():
            ax.axhline(f1, color=palette.DARK, linestyle=":", linewidth=1)
            ax.text(-0.45, f1 + 0.8, f"{name}: {f1:.1f}", fontsize=8, color=palette.DARK)
        ax.set(title=model, ylabel="F1, %" if ax is axes[0] else "", ylim=(0, 104), yticks=range(0, 101, 20))
    return palette.legend(figure, colours)


def attention(rows: Rows) -> Figure:
    """Attention at the digits of a box, by setting and part of the answer (`attention.rows`)."""
    title = "Where it looks when it writes the box of an entity (dotted: no preference; single run)"
    return _by_part(rows, _MASSES, title, "attention per token, × a token's share", reference=1)


def image_shares(rows: Rows, *, paper: Mapping[str, float]) -> Figure:
    """Attention on the image as a share of that on image and sentence, by group (`attention.share_rows`),
    beside the `paper`'s: group -> percent.
    """
    here, there, bars = "this run", "paper, Qwen2.5-VL-7B", []
    colours = {here: palette.DARK, **({there: palette.GREY} if paper else {})}
    for row in rows:
        name = f"{row['group']}\n{row['setting']}, {row['answers']} answers"
        bars.append((name, here, *(row[f"image{end}"] for end in ("", "_low", "_high"))))
        bars += [(name, there, *[paper.get(row["group"])] * 3)] if paper else []
    title = "Attention while an absent entity's location is written; shown: others' boxes (single run, 95 %)"
    figure, (ax,) = panels(1, (max(5.2, 2.4 + 1.5 * len(rows)), 3.1), title)
    group(ax, bars, colours).set(ylabel="attention on the image,\n% of image and sentence", ylim=(0, 100))
    return palette.legend(figure, colours)


def cuts(rows: Rows) -> Figure:
    """Change of the log-probability of a box's digits if attention is cut (`attention.rows`)."""
    title = (
        "How much less probable a written box gets if attention is cut from … (single run, 95 %)\nIts region "
    )
    title += "can cost more than the whole image; we guess that what is left offers other things to box"
    return _by_part(rows, _CUTS, title, "change of log-probability, nats per box", reference=0)


def _by_part(rows: Rows, kinds: Mapping, title: str, ylabel: str, *, reference: float) -> Figure:
    by_part = {part: [row for row in rows if row["part"] == part] for part in sorted(unique(rows, "part"))}
    widths = [max(2, len(some)) for some in by_part.values()]
    size = (2.0 + 1.15 * sum(widths) / len(widths), 3.3)
    figure, axes = panels(len(by_part), size, title, width_ratios=widths, sharey=True)
    colours = dict(kinds.values())
    for ax, (part, some) in zip(axes, by_part.items(), strict=True):
        bars = []
        for (key, (label, _)), row in product(kinds.items(), some):
            values = (row[key + end] for end in ("", "_low", "_high"))
            bars.append((f"{row['setting']}\n{row['boxes']} boxes", label, *values))
        group(ax, bars, colours).axhline(reference, color=palette.DARK, linestyle=":", linewidth=1)
        ax.set(title=f"in the {part}", ylabel=ylabel if ax is axes[0] else "")
    return palette.legend(figure, colours)


def yardsticks(rows: Rows, *, scored: Container[str], n: int) -> Figure:
    """GMNER F1 of yardsticks, and of the names in `scored`, which are to be compared with them."""
    frame = pd.DataFrame(rows).sort_values("gmner_f1", ascending=False)
    names = [name for name in unique(rows, "name") if name in scored]
    colours = {one: palette.setting(one, names) if one in names else palette.GREY for one in frame["name"]}
    title = f"GMNER F1 beside answers made from gold without a model, in grey (n = {n:,}, single run)"
    figure, [ax] = panels(1, (7.4, 1.5 + 0.26 * len(rows)), title)
    style = {"palette": colours, "saturation": 1, "width": 0.65, "legend": False}
    sns.barplot(frame, x="gmner_f1", y="name", hue="name", ax=ax, **style)
    for bars in ax.containers:
        ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    palette.name_lines(ax, list(frame["name"]))
    for tick in ax.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in scored else "normal")
    ax.set(xlim=(0, 110), xlabel="GMNER F1, %")
    return figure


def type_rows(entities: pd.DataFrame, labels: Sequence[str]) -> Rows:
    """Per coarse type the entities of `examples.entity_table`, and how many of them the image shows."""
    is_groundable = entities["is_groundable"].astype(bool).groupby(entities["coarse"])
    counts = is_groundable.agg(["sum", "size"]).reindex(labels, fill_value=0)
    return [{"type": label, "groundable": shown, "not groundable": n - shown, "entities": n,
             "% in the image": round(100 * shown / n, 1) if n else None}
            for label, shown, n in counts.itertuples()]  # fmt: skip


def marks(rows: Rows, *, title: str) -> Figure:
    """A mark per tweet in reading order, coloured by its `kind` (`examples.contradiction`)."""
    n_columns, colours = max(20, round((3 * len(rows)) ** 0.5)), palette.CONTRADICTIONS
    n_lines, kinds = -(-len(rows) // n_columns), [row["kind"] for row in rows]
    cells = np.full(n_columns * n_lines, np.nan)
    cells[: len(rows)] = [list(colours).index(kind) for kind in kinds]
    figure, (ax,) = panels(1, (7.5, 0.6 + 5 * n_lines / n_columns), title)
    style = {"cmap": ListedColormap([*colours.values()]), "vmin": -0.5, "vmax": len(colours) - 0.5}
    ax.pcolormesh(cells.reshape(n_lines, n_columns), edgecolors="white", linewidth=40 / n_columns, **style)
    ax.set(aspect="equal", ylim=(n_lines, 0))
    ax.set_axis_off()
    return palette.legend(figure, {f"{kind}: {kinds.count(kind):,}": c for kind, c in colours.items()})


def entities_per_tweet(rows: Rows) -> Figure:
    """How many tweets have how many entities."""
    counts = {str(row["entities"]): row["tweets"] for row in rows}
    figure, (ax,) = panels(1, (5.6, 2.9), f"Entities per tweet (n = {sum(counts.values()):,})")
    bars = ax.bar(list(counts), list(counts.values()), 0.7, color=palette.DARK)
    ax.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    ax.set(xlabel="entities in a tweet", ylabel="tweets")
    return figure


def box_shares(rows: Rows, *, labels: Sequence[str]) -> Figure:
    """The largest box of groundable entities as a share of the image, a panel per type."""
    frame = pd.DataFrame(rows)
    order = [label for label in labels if label in set(frame["coarse"])]
    title = f"How much of the image the largest box of a shown entity covers (n = {len(frame):,})"
    figure, axes = panels(len(order), (2.5, 2.2), title, sharey=True)
    for ax, label in zip(axes, order, strict=True):
        shares = frame.loc[frame["coarse"] == label, "box_share"]
        sns.histplot(x=shares, bins=20, binrange=(0, 1), color=palette.DARK, alpha=1, ax=ax)
        ax.set(title=f"{label} (n = {len(shares):,})", ylabel="entities", xlim=(0, 1))
        ax.set_xlabel("share of the image")
    return figure


def lengths(rows: Rows, *, limit: int) -> Figure:
    """Lengths of chains by style (`injection.length_rows`); the line is the limit of the testbed's model."""
    frame = pd.DataFrame(rows)
    end = max(frame["tokens"].quantile(0.999), limit) + 1
    by_style = frame.groupby("style", sort=False)["tokens"]
    title = f"Lengths of chains (n = {len(frame):,}), dotted: {limit}"
    figure, axes = panels(by_style.ngroups, (2.8, 1.7), title, n_columns=3, sharex=True)
    for ax, (style, tokens) in zip(axes, by_style, strict=True):
        sns.histplot(x=tokens.clip(upper=end), bins=40, binrange=(0, end), color=palette.DARK, alpha=1, ax=ax)
        ax.axvline(limit, color=palette.REGION, linestyle=":", linewidth=1.5)
        within = f"{100 * (tokens <= limit).mean():.0f} % within {limit}"
        ax.set_title(f"{style} · median {tokens.median():.0f}, {within}", fontsize=8)
        ax.set(yticks=[], xlabel="", ylabel="")
    figure.supxlabel("words, numbers and punctuation marks of a chain", fontsize=9)
    return figure
