"""The comparison over seeds in words: tables for terminal and documents, and the verdict in one sentence."""

from collections.abc import Mapping
from typing import Any

CONTROLLED = "A check of the mechanism in a controlled world; it says nothing of 7B models on tweets."
"""Stands beside every number of the testbed."""

LABELS = {
    "gmner_f1": "GMNER F1", "false_grounding": "false grounding", "missed_grounding": "missed grounding",
    "image_caused_n_rate": "image-caused N-Rate", "image_caused_n_rate_muted": "image-caused N-Rate, names muted",
    "consistency": "consistency",
}  # fmt: skip
"""Metric -> what tables and figures call it; the others stand in `scores.json` alone."""

OF_PAIR = {**LABELS, "n_f1": "N-F1", "n_rate": "N-Rate"}
"""The same for the table of the pair."""


def settings_table(scores: Mapping[str, Any]) -> str:
    """Every setting: mean over seeds with its 95 % interval, GMNER F1 on every split, the secondary metrics
    on the scored one.
    """
    split = scores["eval_split"]
    columns = [(other, "gmner_f1") for other in scores["splits"]] + [
        (split, metric) for metric in LABELS if metric != "gmner_f1"
    ]
    found = {(row["setting"], row["split"], row["metric"]): row for row in scores["rows"]}
    columns = [at for at in columns if any((name, *at) in found for name in scores["settings"])]
    lines = [
        f"| %, {split} if nothing is said | seeds | {' | '.join(_heading(at, split) for at in columns)} |"
    ]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name in scores["settings"]:
        cells = [found.get((name, *at)) for at in columns]
        n_seeds = max((cell["n_seeds"] for cell in cells if cell), default=0)
        if n_seeds:
            lines.append(f"| {name} | {n_seeds} | {' | '.join(_cell(cell, n_seeds) for cell in cells)} |")
    return "\n".join(lines) + "\n\n" + _note(scores) + "\n"


def pair_table(scores: Mapping[str, Any]) -> str:
    """The pair that is tested: difference with interval, with each seed, and verdict, the primary comparison
    first.
    """
    first, second = scores["pair"]
    lines = [
        f"| {first} − {second}, points | difference | with each seed | seeds that agree | is it better? |",
        "|---|---|---|---|---|",
    ]
    order = [scores["primary"], *(row for row in scores["comparisons"] if row != scores["primary"])]
    for row in order:
        if row is not None and row["metric"] in OF_PAIR:
            per_seed = ", ".join(f"{value:+.1f}" for value in row["per_seed"].values())
            what = f"{OF_PAIR[row['metric']]}, {row['split']}" + (
                " (primary)" if row == scores["primary"] else ""
            )
            lines.append(
                f"| {what} | {_signed(row)} | {per_seed} | {row['n_agreeing']} of {row['n_seeds']} | {row['verdict']} |"
            )
    return "\n".join(lines) + "\n\n" + _note(scores) + "\n"


def isolated_table(scores: Mapping[str, Any]) -> str:
    """What each part of the method adds: differences between settings that differ in it, with intervals and
    without verdict.
    """
    shown = [split for split in scores["splits"] if split != "dev"]
    columns = [(split, metric) for metric in ("gmner_f1", "n_rate") for split in shown]
    columns += [(scores["eval_split"], metric) for metric in ("false_grounding", "missed_grounding")]
    found = {(row["isolates"], row["split"], row["metric"]): row for row in scores["isolated"]}
    split = scores["eval_split"]
    lines = [
        f"| points, {split} if nothing is said | settings | seeds | {' | '.join(_heading(at, split) for at in columns)} |"
    ]
    lines.append("|---" * (len(columns) + 3) + "|")
    for what, pair in {
        row["isolates"]: f"{row['first']} − {row['second']}" for row in scores["isolated"]
    }.items():
        cells = [found.get((what, *at)) for at in columns]
        n_seeds = max(cell["n_seeds"] for cell in cells if cell)
        lines.append(
            f"| {what} | {pair} | {n_seeds} | {' | '.join(_signed(cell) if cell else '–' for cell in cells)} |"
        )
    return (
        "\n".join(lines)
        + f"\n\nDescribed, not tested: no interval is corrected for their number. {_note(scores)}\n"
    )


def verdict(scores: Mapping[str, Any]) -> str:
    """The primary comparison in one sentence."""
    row, (first, second) = scores["primary"], scores["pair"]
    if row is None:
        return f"{first} − {second}: no seed has answers of both to {scores['eval_split']}."
    agreeing = f"{row['n_agreeing']} of {row['n_seeds']} seeds with that sign"
    return f"{first} − {second} in GMNER F1 on {row['split']}: {_signed(row)} points, {agreeing}: {row['verdict']}."


def _heading(at: tuple[str, str], split: str) -> str:
    return OF_PAIR[at[1]] + (f", {at[0]}" if at[0] != split else "")


def _cell(row: Mapping[str, Any] | None, n_seeds: int) -> str:
    if row is None:
        return "–"
    of = "" if row["n_seeds"] == n_seeds else f", {row['n_seeds']} seed" + "s" * (row["n_seeds"] > 1)
    return f"{row['mean']:.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f}{of})"


def _signed(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.1f} ({row['ci_low']:+.1f} to {row['ci_high']:+.1f})"


def _note(scores: Mapping[str, Any]) -> str:
    tweets = ", ".join(f"{split} {n:,}" for split, n in scores["n_tweets"].items())
    seeds = ", ".join(map(str, scores["seeds"]))
    told = f"Mean over the seeds that a row has, of {seeds}, with 95 % intervals over seeds and tweets ({tweets})."
    return f"{told} {CONTROLLED}" if scores["source"] == "testbed" else told
