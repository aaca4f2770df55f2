"""The comparison over seeds in words: tables for terminal and documents, and the verdict in one sentence."""

from collections.abc import Mapping
from typing import Any

from mcr_lib.study.tables.catalogue import labels
from mcr_lib.study.tables.render import markdown

Scores = Mapping[str, Any]
"""What `evidence.summary` returns."""

CONTROLLED = "A check of the mechanism in a controlled world; it says nothing of 7B models on tweets."
"""The caveat next to every number of the testbed."""

LABELS = labels((
    "gmner_f1", "false_grounding", "missed_grounding", "image_caused_n_rate", "image_caused_n_rate_muted",
    "consistency",
))  # fmt: skip
"""Metric -> label, for the metrics in tables and figures of the settings; the others are only in
`scores.json`.
"""

OF_PAIR = LABELS | labels(("n_f1", "n_rate"))
"""The same for the table of the pair."""


def settings_table(scores: Scores) -> str:
    """A row per setting: means over seeds with 95 % intervals, GMNER F1 on every split and the secondary
    metrics on the scored one.
    """
    split, first = scores["eval_split"], f"%, {scores['eval_split']} if nothing is said"
    by_key = {(row["setting"], row["split"], row["metric"]): row for row in scores["rows"]}
    columns = [(other, "gmner_f1") for other in scores["splits"]]
    columns += [(split, metric) for metric in LABELS if metric != "gmner_f1"]
    columns = [at for at in columns if any((name, *at) in by_key for name in scores["settings"])]
    rows = []
    for name in scores["settings"]:
        cells = {_heading(at, split): by_key.get((name, *at)) for at in columns}
        n_seeds = max((cell["n_seeds"] for cell in cells.values() if cell), default=0)
        if n_seeds:
            texts = {heading: _cell(cell, n_seeds) for heading, cell in cells.items()}
            rows.append({first: name, "seeds": n_seeds, **texts})
    headings = [first, "seeds", *(_heading(at, split) for at in columns)]
    return f"{markdown(rows, headings)}\n\n{_note(scores)}\n"


def pair_table(scores: Scores) -> str:
    """The tested pair, a row per split and metric, the primary comparison first: difference with its 95 %
    interval, the value of each seed, and the verdict.
    """
    first, primary = f"{scores['pair'][0]} − {scores['pair'][1]}, points", scores["primary"]
    columns = [first, "difference", "with each seed", "seeds that agree", "is it better?"]
    rows = []
    for row in [primary, *(row for row in scores["comparisons"] if row != primary)]:
        if row is not None and row["metric"] in OF_PAIR:
            what = f"{OF_PAIR[row['metric']]}, {row['split']}" + " (primary)" * (row == primary)
            per_seed = ", ".join(f"{value:+.1f}" for value in row["per_seed"].values())
            agreeing = f"{row['n_agreeing']} of {row['n_seeds']}"
            cells = (what, _signed(row), per_seed, agreeing, row["verdict"])
            rows.append(dict(zip(columns, cells, strict=True)))
    return f"{markdown(rows, columns)}\n\n{_note(scores)}\n"


def isolated_table(scores: Scores) -> str:
    """What each part of the method adds: differences between settings that differ in it, with 95 % intervals
    and without verdict.
    """
    split, first = scores["eval_split"], f"points, {scores['eval_split']} if nothing is said"
    shown = [split for split in scores["splits"] if split != "dev"]
    columns = [(split, metric) for metric in ("gmner_f1", "n_rate") for split in shown]
    columns += [(split, metric) for metric in ("false_grounding", "missed_grounding")]
    by_key = {(row["isolates"], row["split"], row["metric"]): row for row in scores["isolated"]}
    pairs = {row["isolates"]: f"{row['first']} − {row['second']}" for row in scores["isolated"]}
    rows = []
    for part, pair in pairs.items():
        cells = {_heading(at, split): by_key.get((part, *at)) for at in columns}
        n_seeds = max(cell["n_seeds"] for cell in cells.values() if cell)
        texts = {heading: _signed(cell) if cell else "–" for heading, cell in cells.items()}
        rows.append({first: part, "settings": pair, "seeds": n_seeds, **texts})
    headings = [first, "settings", "seeds", *(_heading(at, split) for at in columns)]
    note = f"Described, not tested: no interval is corrected for their number. {_note(scores)}"
    return f"{markdown(rows, headings)}\n\n{note}\n"


def verdict(scores: Scores) -> str:
    """The primary comparison in one sentence."""
    row, (first, second) = scores["primary"], scores["pair"]
    if row is None:
        return f"{first} − {second}: no seed has answers of both to {scores['eval_split']}."
    difference = f"{first} − {second} in GMNER F1 on {row['split']}: {_signed(row)} points"
    agreeing = f"{row['n_agreeing']} of {row['n_seeds']} seeds with that sign"
    return f"{difference}, {agreeing}: {row['verdict']}."


def _heading(at: tuple[str, str], split: str) -> str:
    return OF_PAIR[at[1]] + (f", {at[0]}" if at[0] != split else "")


def _cell(row: Mapping[str, Any] | None, n_seeds: int) -> str:
    if row is None:
        return "–"
    of = "" if row["n_seeds"] == n_seeds else f", {row['n_seeds']} seed" + "s" * (row["n_seeds"] > 1)
    return f"{row['mean']:.1f} ({row['ci_low']:.1f} to {row['ci_high']:.1f}{of})"


def _signed(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.1f} ({row['ci_low']:+.1f} to {row['ci_high']:+.1f})"


def _note(scores: Scores) -> str:
    tweets = ", ".join(f"{split} {n:,}" for split, n in scores["n_tweets"].items())
    seeds = ", ".join(map(str, scores["seeds"]))
    note = f"Mean over the seeds that a row has, of {seeds}, with 95 % intervals over seeds and tweets"
    return f"{note} ({tweets}). {CONTROLLED}" if scores["source"] == "testbed" else f"{note} ({tweets})."
