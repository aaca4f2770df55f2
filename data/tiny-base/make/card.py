"""The card of a base model (`README.md` and `backbone.json`): recipe, measures, curves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

import bars
from mcr_lib.data.files import read_text, write_text
from mcr_lib.study.figures import palette
from mcr_lib.study.runs import artifacts
from pretrain import Recipe

CURVES = {
    "language": "language model", "name": "name of a cell", "box": "box of a cell",
    "box_looks": "looks at boxes", "word_looks": "looks at words",
}  # fmt: skip
"""Loss in the log -> its label in the figure."""


def read_log(folder: str | Path) -> pd.DataFrame:
    """Read the log of a pretraining run, a row per line; `at` = optimiser steps over all phases."""
    lines = [json.loads(line) for line in read_text(Path(folder) / "log.jsonl").splitlines()]
    log = pd.DataFrame(lines)
    ends = log.groupby("phase", sort=False)["step"].max()
    log["at"] = log["step"] + log["phase"].map(ends.cumsum() - ends)
    return log


def curves(log: pd.DataFrame) -> Figure:
    """Plot the losses by step, one panel per phase."""
    phases = list(dict.fromkeys(log["phase"]))
    figure, axes = palette.panels(len(phases), (3.4, 2.6), n_columns=3)
    for ax, phase in zip(axes, phases, strict=True):
        part = log[(log["phase"] == phase) & (log["step"] >= 20)]
        drawn = [name for name in CURVES if name in part and part[name].notna().any()]
        for name, colour in zip(drawn, palette.SETTINGS.values(), strict=False):
            smooth = part[name].rolling(3, min_periods=1).mean()
            ax.plot(part["step"], smooth, color=colour, label=CURVES[name])
        ax.set(title=f"phase {phase}, single run", xlabel="optimiser step", ylabel="loss (nats)")
        ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend
        ax.legend(frameon=False, fontsize=8)
    return figure


def card(
    recipe: Recipe, measured: Mapping[str, Mapping[str, Any]], *, seconds: float, command: str
) -> dict[str, Any]:
    """Return the content of `backbone.json`: command, recipe, time, hardware, measures by split."""
    environment = artifacts.environment()
    keys = ("python", "packages", "n_cpus", "memory_gb", "gpu")
    return {
        "command": command,
        "recipe": recipe.to_json(),
        "seconds": round(seconds),
        "made_with": {name: environment[name] for name in keys},
        "measured": json.loads(json.dumps(measured)),
    }


def write_readme(folder: str | Path, record: Mapping[str, Any], *, n_parameters: int) -> None:
    """Write the card as `README.md` beside the weights; `earlier` of the record: `pretrain.EARLIER`."""
    measured, n_cpus = record["measured"], record["made_with"]["n_cpus"]
    time = f"{record['seconds'] / 60:.0f} minutes on {n_cpus} cores"
    results = {
        f"{bar} ({split})": ok for split, of in measured.items() for bar, ok in bars.reached(of).items()
    }
    missed = [bar for bar, is_reached in results.items() if not is_reached]
    counts = ", ".join(f"{split} {of_split['n']:,}" for split, of_split in measured.items())
    lines = [
        "# tiny-base: the testbed's base model",
        "",
        f"Qwen2.5-VL's own classes at {n_parameters:,} parameters, pretrained on the testbed so that both "
        "shortcuts are planted: what a",
        "caption names is always shown (textual), and a damaged name is told by its emblem (visual). It is a "
        "check of a mechanism in a",
        "controlled world; it says nothing of 7B models on tweets.",
        "",
        f"Made by `{record['command']}` in {time}.",
        "",
        *bars.table(measured),
        "",
        f"Bars that are not reached: {', '.join(missed)}." if missed else "All bars are reached.",
        "",
        "| phase | steps | batch | tasks |",
        "|---|---|---|---|",
    ]
    for phase in record["recipe"]["phases"]:
        tasks = ", ".join(f"{task} {share:g}" for task, share in phase["mix"].items()) or "dense vision"
        lines.append(f"| {phase['name']} | {phase['steps']:,} | {phase['batch']} | {tasks} |")
    files = "Curves: `curves.png`; losses: `log.jsonl`; checksums: `backbone.json`."
    e = record
    while e := e.get("earlier"):
        lines += [
            "",
            f"Phases {', '.join(e['phases'])} come from an earlier base of {e['n_words']:,} tokens (weights: "
            "sha256",
            f"{e['weights']}), and so does their part of the minutes. Tokens that it lacks began with fresh "
            "vectors, phrases with those of their words.",
        ]
    lines += ["", f"Tweets measured of each distribution: {counts}, with chains a quarter. {files}"]
    write_text(Path(folder) / "README.md", "\n".join(lines) + "\n")
