"""The comparison over seeds in words: tables for terminal and documents, and the verdict in one sentence."""

from collections.abc import Mapping
from typing import Any

from mcr_lib.study.catalogue import labels
from mcr_lib.study.compare.evidence import Scores
from mcr_lib.study.render import markdown

CONTROLLED = "A check of the mechanism in a controlled world; it says nothing of 7B models on tweets."
GROUNDING = ("false_grounding", "missed_grounding")
SECONDARY = (*GROUNDING, "image_caused_foreign_rate", "image_caused_foreign_rate_muted", "consistency")
LABELS = labels(("gmner_f1", *SECONDARY, "n_f1", "n_rate", "foreign_rate"))  # of the metrics in tables
Heads = dict[str, dict[str, str]]  # heading -> name -> text


def settings_table(scores: Scores) -> str:
    """A row per setting: GMNER F1 on every split and the secondary metrics on the scored one."""
    columns = [(split, "gmner_f1") for split in scores["splits"]]
    columns += [(scores["eval_split"], metric) for metric in SECONDARY]
    measured = {(row["split"], row["metric"]) for row in scores["rows"]}
    heads = {f"%, on {scores['eval_split']} unless noted": {name: name for name in scores["settings"]}}
    table = _table(scores, "rows", "setting", heads, [at for at in columns if at in measured])
    return f"{table}\n\n{_note(scores)}\n"


def pair_table(scores: Scores) -> str:
    """The tested pair, a row per split and metric, the primary comparison first."""
    primary, rows = scores["primary"], []
    pair = f"{' − '.join(scores['pair'])}, points"
    columns = pair, "difference", "with each seed", "seeds that agree", "is it better?"
    for row in [primary, *(row for row in scores["comparisons"] if row != primary)]:
        if row is not None and row["metric"] in LABELS:
            what = f"{LABELS[row['metric']]}, {row['split']}" + " (primary)" * (row == primary)
            per_seed = ", ".join(f"{value:+.1f}" for value in row["per_seed"].values())
            cells = what, _value(row), per_seed, f"{row['n_agreeing']} of {row['n_seeds']}", row["verdict"]
            rows.append(dict(zip(columns, cells, strict=True)))
    return f"{markdown(rows, columns)}\n\n{_note(scores)}\n"


def isolated_table(scores: Scores) -> str:
    """What each part of the method adds: differences between settings that differ in it, without verdict."""
    split, shown = scores["eval_split"], [split for split in scores["splits"] if split != "dev"]
    columns = [(other, metric) for metric in ("gmner_f1", "foreign_rate") for other in shown]
    columns += [(split, metric) for metric in GROUNDING]
    pairs = {row["isolates"]: f"{row['first']} − {row['second']}" for row in scores["isolated"]}
    heads = {f"points, on {split} unless noted": {part: part for part in pairs}, "settings": pairs}
    table = _table(scores, "isolated", "isolates", heads, columns)
    return f"{table}\n\nDescribed, not tested: no interval is corrected for their number. {_note(scores)}\n"


def verdict(scores: Scores) -> str:
    """The primary comparison in one sentence."""
    row, pair = scores["primary"], " − ".join(scores["pair"])
    if row is None:
        return f"{pair}: no seed has answers of both to {scores['eval_split']}."
    agreeing = f"{row['n_agreeing']} of {row['n_seeds']} seeds with that sign"
    return f"{pair} in GMNER F1 on {row['split']}: {_value(row)} points, {agreeing}: {row['verdict']}."


def _table(scores: Scores, kind: str, key: str, heads: Heads, columns: list[tuple[str, str]]) -> str:
    """A row per name that has a value: its heads, number of seeds, and a column per split and metric."""
    by_key = {(row[key], row["split"], row["metric"]): row for row in scores[kind]}
    headings = {at: LABELS[at[1]] + f", {at[0]}" * (at[0] != scores["eval_split"]) for at in columns}
    rows = []
    for name in next(iter(heads.values())):
        cells = {heading: by_key.get((name, *at)) for at, heading in headings.items()}
        if n_seeds := max((cell["n_seeds"] for cell in cells.values() if cell), default=0):
            options = {"sign": "", "n_seeds": n_seeds} if kind == "rows" else {}
            texts = {heading: _value(cell, **options) if cell else "–" for heading, cell in cells.items()}
            rows.append({h: of[name] for h, of in heads.items()} | {"seeds": n_seeds} | texts)
    return markdown(rows, [*heads, "seeds", *headings.values()])


def _value(row: Mapping[str, Any], sign: str = "+", n_seeds: int | None = None) -> str:
    """Mean and interval; `n_seeds`: also the number of seeds if it is another one."""
    mean, low, high = (f"{row[key]:{sign}.1f}" for key in ("mean", "ci_low", "ci_high"))
    of = "" if n_seeds in (None, row["n_seeds"]) else f", {row['n_seeds']} seed" + "s" * (row["n_seeds"] > 1)
    return f"{mean} ({low} to {high}{of})"


def _note(scores: Scores) -> str:
    tweets = ", ".join(f"{split} {n:,}" for split, n in scores["n_tweets"].items())
    seeds = ", ".join(map(str, scores["seeds"]))
    note = f"Mean over the seeds that a row has, of {seeds}, with 95 % intervals over seeds and tweets"
    about = CONTROLLED if scores["source"] == "testbed" else ""
    return " ".join(filter(None, [f"{note} ({tweets}).", scores.get("note"), about]))
