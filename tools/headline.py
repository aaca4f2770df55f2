"""The main comparison in README: the differences between settings over seeds, as a figure and in a sentence,
both from the committed evidence of the claims.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mcr_lib.data.files import read_text, write_text, written_whole
from mcr_lib.study.catalogue import label
from mcr_lib.study.compare.tables import COMMITTED, CONTROLLED
from mcr_lib.study.figures import palette
from mcr_lib.study.runs.config import repository

Row = dict[str, Any]
FIGURE = f"{COMMITTED}/main"
TITLE = "GMNER F1, difference in points (line: 95 %, over seeds and tweets; small dots: seeds)"
SHOWN = {  # (first, second, metric, split) of data/claims.yaml -> how the figure calls it
    ("mcr", "sft", "gmner_f1", "test"): "MCR − SFT",
    ("mcr", "sft", "gmner_f1", "test_adversarial"): "MCR − SFT, test_adversarial",
    ("mcr", "sft", "gmner_f1", "test_unseen"): "MCR − SFT, test_unseen",
    ("mcr", "mrsi", "gmner_f1", "test"): "MCR − MRSI",
    ("mcr", "mrsi-d2", "gmner_f1", "test"): "MCR − MRSI on D2 too",
    ("mcr", "mrsi-gold-30", "gmner_f1", "test"): "MCR − MRSI on kept gold †",
    ("mcr", "sft-gold-30", "gmner_f1", "test"): "MCR − SFT on kept gold †",
}
MAIN = ("MCR − SFT", "MCR − SFT, test_adversarial")  # of the first sentence
CONTROLS = {  # of CVO -> how the sentence calls them
    "MCR − MRSI on D2 too": "MRSI trained further on D2",
    "MCR − MRSI on kept gold †": "MRSI continued on the gold of the tweets that the filter kept",
    "MCR − SFT on kept gold †": "SFT continued on the same gold",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def rows() -> list[Row]:
    """The committed rows that are shown, under their names, those without a run left out."""
    committed = json.loads(read_text(repository() / COMMITTED / "claims.json"))["rows"]
    of = {(row["first"], row["second"], row["metric"], row["split"]): row for row in committed}
    return [{"name": name} | of[at] for at, name in SHOWN.items() if of[at]["n_seeds"]]


def sentence() -> str:
    """What the evidence shows of MCR against plain fine-tuning and controls of CVO, and of its reasoning."""
    of = {row["name"]: row for row in rows()}
    main = of["MCR − SFT"]
    below = sum(value < 0 for value in main["per_seed"].values())
    side, n = ("below", below) if main["mean"] < 0 else ("above", main["n_seeds"] - below)
    splits = [f"{_value(of[name])} on `{of[name]['split']}`" for name in MAIN if name in of]
    texts = [
        f"**On the testbed MCR scores {side} plain fine-tuning on answers (SFT) in {_number(n)} of"
        f" {_number(main['n_seeds'])} seeds**: GMNER F1 {', '.join(splits)}.",
        *(_against(of[name], control) for name, control in CONTROLS.items() if name in of),
        _reasoning(),
        _why(),
    ]
    return " ".join(texts)


def _against(row: Row, control: str) -> str:
    """MCR against a control of CVO, and whether the interval tells them apart."""
    if row["ci_low"] <= 0 <= row["ci_high"]:
        return f"Its difference from {control} is not distinguishable from zero: {_value(row)}."
    return f"It scores {'above' if row['mean'] > 0 else 'below'} {control}: {_value(row)}."


def _value(row: Row) -> str:
    return f"{row['mean']:+.1f} points (95 %: {row['ci_low']:+.1f} to {row['ci_high']:+.1f})".replace(
        "-", "−"
    )


def _number(n: int) -> str:
    return _NUMBERS[n] if n < len(_NUMBERS) else str(n)


def _reasoning() -> str:
    committed = json.loads(read_text(repository() / COMMITTED / "claims.json"))["rows"]
    of = {
        (r["first"], r["split"]): r["mean"] for r in committed if r["metric"] == "faithful" and r["n_seeds"]
    }
    splits = [at for at in ("test", "test_unseen") if {("mcr", at), ("mrsi", at)} <= of.keys()]
    mcr, mrsi = ([f"{of[name, at]:.0f} %" for at in splits] for name in ("mcr", "mrsi"))
    of_mcr = " and ".join(f"{value} of `{at}`" for value, at in zip(mcr, splits, strict=True))
    return f"Its reasoning states its answer in {of_mcr} (MRSI: {' and '.join(mrsi)})."


def _why() -> str:
    """How often CVO ended above its start: MCR, its other variants with a filter, and without one."""
    with (repository() / COMMITTED / "kept.csv").open(encoding="utf-8", newline="") as file:
        runs = [
            (r["setting"], float(r["end gmner_f1"]) - float(r["start gmner_f1"]))
            for r in csv.DictReader(file)
        ]
    gains = [[gain for name, gain in runs if (name == "mcr") is flag] for flag in (True, False)]
    scores = json.loads(read_text(repository() / COMMITTED / "scores.json"))["rows"]
    at = {r["setting"]: r["per_seed"] for r in scores if (r["split"], r["metric"]) == ("test", "gmner_f1")}
    without = at.get("mcr-unfiltered", {})
    gains.append([value - at["mrsi"][seed] for seed, value in without.items()])
    of_mcr, others, unfiltered = (f"{sum(g > 0 for g in some)} of {len(some)}" for some in gains)
    return (
        f"CVO ended above its start in {of_mcr} runs of MCR, in {others} of its variants with a filter of D2"
        f" and in {unfiltered} without one."
    )


def values() -> str:
    """The values of the figure, as CSV."""
    file = io.StringIO()
    seeds = list(dict.fromkeys(seed for row in rows() for seed in row["per_seed"]))
    columns = ("name", "first", "second", "metric", "split", "mean", "ci_low", "ci_high", "n_seeds")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, *(f"seed {seed}" for seed in seeds)])
    for row in rows():
        writer.writerow([*(row[c] for c in columns), *(row["per_seed"].get(seed, "") for seed in seeds)])
    return file.getvalue()


def draw(shown: Sequence[Row]) -> Figure:
    """The differences, a line each, 800 px wide where it is shown, every text at 11 px or more."""
    figure = Figure((8, 0.9 + 0.36 * len(shown)), dpi=200, facecolor="white")
    ax = figure.add_axes((0.27, 0.56 / figure.get_figheight(), 0.38, 1 - 0.96 / figure.get_figheight()))
    ax.axvline(0, color=palette.DARK, linewidth=0.8)
    for y, row in enumerate(shown):
        ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=palette.DARK, linewidth=1.6)
        style = {
            "markerfacecolor": "white" if row["ci_low"] <= 0 <= row["ci_high"] else palette.DARK,
            "color": palette.DARK,
        }
        ax.plot(row["mean"], y, marker="o", markersize=7, **style)
        seeds = list(row["per_seed"].values())
        ax.scatter(seeds, [y + 0.28] * len(seeds), s=10, color=palette.MEDIUM, linewidths=0)
        side, n = (
            ("below", sum(v < 0 for v in seeds)) if row["mean"] < 0 else ("above", sum(v > 0 for v in seeds))
        )
        words = f"{_value(row).split(' points')[0]}; {side} in {n} of {len(seeds)} seeds"
        ax.text(1.03, y, words, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
    ax.set(
        yticks=range(len(shown)),
        ylim=(len(shown) - 0.4, -0.5),
        xlabel=f"← worse    {label('gmner_f1')}, points    better →",
    )
    ax.set_yticklabels([row["name"] for row in shown], fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.xaxis.label.set_size(8.5)
    ax.grid(axis="x", color=palette.LIGHT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.text(0.01, 0.985, TITLE, fontsize=9, fontweight="bold", va="top")
    figure.text(
        0.01,
        0.02,
        f"{CONTROLLED} On test unless noted; ring: holds 0; †: post hoc.",
        fontsize=8,
        color=palette.DARK,
    )
    return figure


def write(root: Path) -> None:
    """Draw the figure if its values have changed."""
    path = root / f"{FIGURE}.csv"
    if path.is_file() and read_text(path) == values() and path.with_suffix(".png").is_file():
        return
    write_text(path, values())
    with written_whole(path.with_suffix(".png"), "wb") as file:
        draw(rows()).savefig(file, format="png")
