"""The card of a base model: recipe, measures, curves, and how it was made, for people and for
`backbone.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

import bars
from mcr_lib.data.files import read_text, written_whole
from mcr_lib.study.runs import artifacts
from pretrain import Recipe, as_told

CURVES = {
    "language": "language model",
    "name": "name of a cell",
    "box": "box of a cell",
    "box_looks": "looks at boxes",
    "word_looks": "looks at words",
}
"""Losses of the log -> what a figure calls them."""


def read_log(folder: str | Path) -> pd.DataFrame:
    """The log of a pretraining run: a row per line, `at` = optimiser steps over all phases."""
    lines = [json.loads(line) for line in read_text(Path(folder) / "log.jsonl").splitlines()]
    log = pd.DataFrame(lines)
    ends = log.groupby("phase", sort=False)["step"].max()
    log["at"] = log["step"] + log["phase"].map(ends.cumsum() - ends)
    return log


def curves(log: pd.DataFrame) -> Figure:
    """One panel per phase: its losses by step."""
    phases = list(dict.fromkeys(log["phase"]))
    figure = Figure(figsize=(4 * len(phases), 3), layout="constrained")
    axes = figure.subplots(1, len(phases), squeeze=False)[0]
    for ax, phase in zip(axes, phases, strict=True):
        part = log[(log["phase"] == phase) & (log["step"] >= 20)]
        for name, label in CURVES.items():
            if name in part and part[name].notna().any():
                ax.plot(part["step"], part[name].rolling(3, min_periods=1).mean(), label=label)
        ax.set(title=f"phase {phase}, single run", xlabel="optimiser step", ylabel="loss (nats)")
        ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the legend
        ax.legend(frameon=False, fontsize=8)
    return figure


def card(
    recipe: Recipe, measured: Mapping[str, Mapping[str, Any]], *, seconds: float, command: str, threads: int
) -> dict[str, Any]:
    """What `backbone.json` tells of a base: command, recipe, time, hardware, measures by split."""
    around = artifacts.environment()
    kept = ("python", "packages", "n_cpus", "memory_gb", "gpu")
    return {
        "command": command,
        "recipe": as_told(recipe),
        "seconds": round(seconds),
        "threads": threads,
        "made_with": {name: around[name] for name in kept},
        "measured": json.loads(json.dumps(measured)),
    }


def write_readme(folder: str | Path, told: Mapping[str, Any], *, n_parameters: int) -> None:
    """The card as `README.md` beside the weights."""
    measured = told["measured"]
    splits = list(measured)
    made, n_threads = told["made_with"], told["threads"]
    threads = "1 thread" if n_threads == 1 else f"{n_threads} threads"
    lines = [
        "# tiny-base: the testbed's base model",
        "",
        f"Qwen2.5-VL's own classes at {n_parameters:,} parameters, pretrained on the testbed so that both shortcuts are planted: what a",
        "caption names is always shown (textual), and a damaged name is told by its emblem (visual). It is a check of a mechanism in a",
        "controlled world; it says nothing of 7B models on tweets.",
        "",
        f"Made by `{told['command']}` in {told['seconds'] / 60:.0f} minutes on {made['n_cpus']} cores, {threads}.",
        "",
        *bars.table(measured),
    ]
    reached = {split: bars.met(measured[split]) for split in splits}
    missed = [
        f"{bar} ({split})" for split, found in reached.items() for bar, is_met in found.items() if not is_met
    ]
    lines += [
        "",
        "All bars are reached." if not missed else f"Bars that are not reached: {', '.join(missed)}.",
    ]
    lines += ["", "| phase | steps | batch | tasks |", "|---|---|---|---|"]
    for phase in told["recipe"]["phases"]:
        tasks = ", ".join(f"{task} {share:g}" for task, share in phase["mix"].items()) or "dense vision"
        lines.append(f"| {phase['name']} | {phase['steps']:,} | {phase['batch']} | {tasks} |")
    counts = ", ".join(f"{split} {measured[split]['n']:,}" for split in splits)
    lines += [
        "",
        f"Tweets measured of each distribution: {counts}. Curves: `curves.png`; losses: `log.jsonl`; checksums: `backbone.json`.",
    ]
    with written_whole(Path(folder) / "README.md") as file:
        file.write("\n".join(lines) + "\n")
