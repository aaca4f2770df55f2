"""Bars and histograms: counts, scores with intervals, and counts stacked by kind (n = tweets, for titles)."""

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import cycle, product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mcr_lib.study.figures import palette
from mcr_lib.study.figures.palette import Rows, panels, unique

_NOT_FLAWS = ("name", "split", "answers", "faithful", "share", "ci_low", "ci_high")
_MASSES = {"gold": ("its region", palette.ORANGE), "rest": ("rest of the image", palette.GREY),
    "words": ("its words in the tweet", palette.SKY)}  # fmt: skip
_CUTS = {"cut_image": ("whole image", palette.BLUE), "cut_gold": ("its region", palette.ORANGE),
    "cut_elsewhere": ("as much elsewhere", palette.GREY)}  # fmt: skip


def stack(ax: Axes, rows: Rows, colours: Mapping[str, str], *, whole: str = "") -> Axes:
    """Draw a bar per row (`name`, counts by kind) with its sum at the end; the count `whole` is 100 %."""
    counts = pd.DataFrame(rows, columns=list(colours)).fillna(0).astype(int)
    widths = counts.mul([100 / max(1, row[whole]) for row in rows], axis=0) if whole else counts
    ends, longest = widths.cumsum(axis=1), max(1, widths.sum(axis=1).max())
    for kind, colour in colours.items():
        bars = ax.barh(counts.index, widths[kind], 0.7, ends[kind] - widths[kind], color=colour, label=kind)
        texts = counts[kind].map("{:,}".format).where(widths[kind] > 0.05 * longest, "")
        ax.bar_label(bars, texts, label_type="center", fontsize=7.5, color=palette.ink(colour))
    ax.bar_label(bars, counts.sum(axis=1).map("{:,}".format), padding=4, fontsize=8)
    palette.name_lines(ax, [row["name"] for row in rows])
    ax.set_xlim(0, max(ax.get_xlim()[1], 1.12 * longest))
    return ax


def _stacked(rows: Rows, colours: Mapping[str, str], title: str, xlabel: str, whole: str = "") -> Figure:
    figure, (ax,) = panels(1, (9.2, 1.2 + 0.42 * len(rows)), title)
    stack(ax, rows, colours, whole=whole).set(xlabel=xlabel)
    return palette.legend(figure, colours)


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
    """Answers whose reasoning states what they answer, others by their first flaw (`bias.faithful_rows`)."""
    flaws = dict.fromkeys(key for row in rows for key in row if key not in _NOT_FLAWS)
    colours = {"faithful": palette.GREEN, **dict(zip(flaws, cycle(palette.FLAWS), strict=False))}
    name = "{name}, {split}: {share:.1f} %\n({ci_low:.1f} to {ci_high:.1f})".format
    rows = [{**r, "name": name(**r)} for r in rows]
    title = "Answers whose own reasoning states just what they answer (95 % intervals)"
    return _stacked(rows, colours, title, "% of answers (single run)", "answers")


def errors(rows: Rows, *, n: int) -> Figure:
    """What became of gold entities, and what else was predicted, by setting (`comparison.error_rows`)."""
    figure, axes = panels(2, (5.2, 0.5 * len(rows) + 1), width_ratios=(3, 1.4), sharey=True)
    titles = {f"gold entities (n = {n:,} tweets)": palette.GOLD_ERRORS, "beside them": palette.EXTRA_ERRORS}
    for ax, (title, colours) in zip(axes, titles.items(), strict=True):
        stack(ax, [{**r, "name": r["setting"]} for r in rows], colours).set(title=title, xlabel="entities")
    return palette.legend(figure, palette.GOLD_ERRORS | palette.EXTRA_ERRORS)


def foreign(rows: Rows) -> Figure:
    """Foreign names of each setting by where they come from, a panel per split (`bias.foreign_rows`)."""
    splits = unique(rows, "split")
    colours = {kind: colour for kind, colour in palette.ORIGINS.items() if any(kind in row for row in rows)}
    title = "Where names come from of which the text has no word (single run)"
    figure, axes = panels(len(splits), (3.6, 1.2 + 0.36 * len(unique(rows, "name"))), title, sharex=True)
    for ax, split in zip(axes, splits, strict=True):
        stack(ax, [row for row in rows if row["split"] == split], colours, whole="n_predictions")
        ax.set(title=split, xlabel="foreign names, % of all  (their number at the end)")
    return palette.legend(figure, colours)


def faults(rows: Rows) -> Figure:
    """What became of the tweets that were right on the original, per setting (`bias.consistency_rows`)."""
    chosen = [row for row in rows if row["probe"] not in ("blank", "all")]
    names = unique(chosen, "name")
    title = "What becomes of right answers under a probe (single run; right of each bar: tweets)"
    figure, axes = panels(len(names), (5.3, 0.9 + 0.24 * len(unique(chosen, "probe"))), title, n_columns=2)
    for ax, name in zip(axes, names, strict=True):
        of_name = [row for row in chosen if row["name"] == name]
        bars = [{**row, "name": palette.PROBES[row["probe"]].replace("\n", " ")} for row in of_name]
        stack(ax, bars, palette.FAULTS, whole="right")
        ax.set(xticks=range(0, 101, 25), xlabel="% of tweets right on the original")
        ax.set_title(name, color=palette.setting(name, names), fontweight="bold")
    return palette.legend(figure, palette.FAULTS)


def group(ax: Axes, bars: Iterable[tuple], colours: Mapping[str, str]) -> Axes:
    """Draw bars (name, kind, value, low, high) in groups by name; `None` = no bar, or no interval."""
    points = [(name, kind, value) for name, kind, *values in bars for value in values]
    frame = pd.DataFrame(points, columns=["name", "kind", "value"])
    style = {"palette": colours, "hue_order": colours, "saturation": 1, "err_kws": {"linewidth": 1.2}}
    style |= {"estimator": lambda values: values.iloc[0], "errorbar": ("pi", 100)}  # the range
    sns.barplot(frame, x="name", y="value", hue="kind", legend=False, ax=ax, **style)
    ax.set(xlabel="", ylabel="")
    return ax


def scores(rows: Rows, *, n: int) -> Figure:
    """F1 of each task by name with its 95 % interval (`comparison.task_rows`)."""
    tasks = {task: colour for task, colour in palette.TASKS.items() if task in unique(rows, "task")}
    size = (max(5.2, 2.0 + 1.5 * len(unique(rows, "name"))), 3.1)
    figure, (ax,) = panels(1, size, f"F1 with 95 % bootstrap interval over tweets (n = {n:,}, single run)")
    group(ax, [[row[key] for key in ("name", "task", "f1", "ci_low", "ci_high")] for row in rows], tasks)
    for bars, colour in zip(ax.containers, tasks.values(), strict=True):
        ax.bar_label(bars, fmt="%.1f", label_type="center", fontsize=7.5, color=palette.ink(colour))
    ax.set(ylabel="F1, %", ylim=(0, 104), yticks=range(0, 101, 20))
    return palette.legend(figure, tasks)


def reported(rows: Rows, colours: Mapping[str, str], *, title: str, lines: Mapping[str, float]) -> Figure:
    """F1 by method and kind, a panel per model (`facts.f1_rows`, `simulate.none_rows`), and named `lines`."""
    models = unique(rows, "model")
    size = (1.4 + 0.27 * len(rows) / len(models), 3.4)
    figure, axes = panels(len(models), size, title, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        group(ax, [[r[k] for k in ("method", "kind", "f1")] for r in rows if r["model"] == model], colours)
        for bars, colour in zip(ax.containers, colours.values(), strict=True):
            ax.bar_label(bars, fmt="%.1f", label_type="center", fontsize=6.5, color=palette.ink(colour))
        for name, f1 in lines.items():
            ax.axhline(f1, color=palette.DARK, linestyle=":", linewidth=1)
            ax.text(-0.45, f1 + 0.8, f"{name}: {f1:.1f}", fontsize=7, color=palette.DARK)
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
    colours = {here: palette.BLUE, **({there: palette.GREY} if paper else {})}
    for row in rows:
        name = f"{row['group']}\n{row['setting']}, {row['answers']} answers"
        bars.append((name, here, *(row[f"image{end}"] for end in ("", "_low", "_high"))))
        bars += [(name, there, *[paper.get(row["group"])] * 3)] if paper else []
    title = "While the location of what the image does not show is written (single run, 95 % over tweets)"
    figure, (ax,) = panels(1, (max(5.2, 2.4 + 1.5 * len(rows)), 3.1), title)
    group(ax, bars, colours).set(ylabel="attention on the image,\n% of image and sentence", ylim=(0, 100))
    return palette.legend(figure, colours)


def cuts(rows: Rows) -> Figure:
    """Change of the log-probability of a box's digits if attention is cut (`attention.rows`)."""
    title = "What a box loses when the answer cannot look at … (single run)"
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
    no_model, score = palette.YARDSTICKS
    frame = pd.DataFrame(rows).sort_values("gmner_f1", ascending=False)
    kinds = [score if name in scored else no_model for name in frame["name"]]
    figure, [ax] = panels(1, (7.4, 1.5 + 0.26 * len(rows)), f"Yardsticks: perfect text, no model (n = {n:,})")
    style = {"palette": palette.YARDSTICKS, "saturation": 1, "width": 0.65}
    sns.barplot(frame, x="gmner_f1", y="name", hue=kinds, ax=ax, **style)
    for bars in ax.containers:
        ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    palette.name_lines(ax, list(frame["name"]))
    ax.set(xlim=(0, 110), xlabel="GMNER F1, %")
    ax.legend(loc="lower right")
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
    bars = ax.bar(list(counts), list(counts.values()), 0.7, color=palette.MEDIUM)
    ax.bar_label(bars, fmt="{:,.0f}", fontsize=7.5)
    ax.set(xlabel="entities in a tweet", ylabel="tweets")
    return figure


def box_shares(rows: Rows, *, labels: Sequence[str]) -> Figure:
    """The largest box of groundable entities as a share of the image, by type."""
    frame = pd.DataFrame(rows).rename(columns={"coarse": "type"})
    figure, (ax,) = panels(1, (5.6, 2.9), f"Largest boxes of groundable entities (n = {len(frame):,})")
    order = [label for label in labels if label in set(frame["type"])]
    style = {"palette": palette.TYPES, "hue_order": order, "multiple": "stack", "alpha": 1}
    sns.histplot(frame, x="box_share", hue="type", bins=20, binrange=(0, 1), ax=ax, **style)
    ax.set(xlabel="area of the largest box / area of the image", ylabel="entities", xlim=(0, 1))
    return figure


def lengths(rows: Rows, *, limit: int) -> Figure:
    """Lengths of chains by style (`injection.length_rows`); the line is the limit of the testbed's model."""
    frame = pd.DataFrame(rows)
    end = max(frame["tokens"].quantile(0.999), limit) + 1
    by_style = frame.groupby("style", sort=False)["tokens"]
    title = f"Lengths of chains (n = {len(frame):,}), dotted: {limit}"
    figure, axes = panels(by_style.ngroups, (2.8, 1.7), title, n_columns=3, sharex=True)
    for ax, (style, tokens) in zip(axes, by_style, strict=True):
        sns.histplot(x=tokens.clip(upper=end), bins=40, binrange=(0, end), color=palette.BLUE, alpha=1, ax=ax)
        ax.axvline(limit, color=palette.DARK, linestyle=":", linewidth=1)
        within = f"{100 * (tokens <= limit).mean():.0f} % within {limit}"
        ax.set_title(f"{style} · median {tokens.median():.0f}, {within}", fontsize=8)
        ax.set(yticks=[], xlabel="", ylabel="")
    figure.supxlabel("words, numbers and punctuation marks of a chain", fontsize=9)
    return figure
