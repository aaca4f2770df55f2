"""The comparison over seeds in words: tables for terminal and documents."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcr_lib.data.files import read_text
from mcr_lib.errors import UserError
from mcr_lib.study.catalogue import label
from mcr_lib.study.compare.claims import Plan, Rows
from mcr_lib.study.compare.evidence import Evidence, Scores
from mcr_lib.study.render import markdown
from mcr_lib.study.runs.config import repository

CONTROLLED = "A check of the mechanism in a controlled world; it says nothing of 7B models on tweets."
COMMITTED = "data/results/claims"  # the evidence that the documents show
_PLANNED = ("number", "claim", "paper", "note", "kind", "first", "second", "metric", "split", "n_wanted")
SECONDARY = ("false_grounding", "missed_grounding", "image_caused_foreign_rate",
    "image_caused_foreign_rate_muted", "consistency")  # fmt: skip


def committed() -> tuple[Rows, str]:
    """The rows of the claims and a note, of the committed evidence; without one every row is not run yet."""
    planned = Plan.read().evaluate(Evidence({"settings": [], "seeds": []}, {}, {}))
    if not (path := repository() / COMMITTED / "claims.json").is_file():
        return [row | {"verdict": "not run yet", "missing": ""} for row in planned], CONTROLLED
    scores = json.loads(read_text(path))
    of_file, of_plan = ([[row[key] for key in _PLANNED] for row in r] for r in (scores["rows"], planned))
    if of_file != of_plan:
        raise UserError(f"{path} is not of data/claims.yaml as it is now; mcr compare makes it anew")
    return scores["rows"], scores["note"]


def settings_table(scores: Scores) -> str:
    """A row per setting: GMNER F1 on every split and the secondary metrics on the scored one."""
    scored, rows = scores["eval_split"], []
    columns = [*((split, "gmner_f1") for split in scores["splits"]), *((scored, key) for key in SECONDARY)]
    by_key = {(row["setting"], row["split"], row["metric"]): row for row in scores["rows"]}
    headings = {at: label(at[1]) + f", {at[0]}" * (at[0] != scored) for at in columns}
    headings = {at: text for at, text in headings.items() if at in {key[1:] for key in by_key}}
    first = f"%, on {scored} unless noted"
    for name in scores["settings"]:
        of = {heading: by_key.get((name, *at)) for at, heading in headings.items()}
        if n_seeds := max((cell["n_seeds"] for cell in of.values() if cell), default=0):
            texts = {heading: _value(cell, "", n_seeds) if cell else "–" for heading, cell in of.items()}
            rows.append({first: name, "seeds": n_seeds, **texts})
    return f"{markdown(rows, [first, 'seeds', *headings.values()])}\n\n{note(scores)}\n"


def claims_table(rows: Sequence[Mapping[str, Any]], *about: str) -> str:
    """A row per contrast, measure and split, after columns with these keys of it: `Plan.evaluate`."""
    columns = [*about, "contrast", "measure", "mean (95 %)", "seeds", "verdict"]
    lines = [[*(row[key] for key in about), *cells(row)] for row in rows]
    return markdown([dict(zip(columns, line, strict=True)) for line in lines], columns)


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Contrast, measure, mean with interval, seeds and verdict of such a row, in words."""
    contrast = " − ".join(filter(None, (row["first"], row["second"])))
    expected = {"higher": " ↑", "lower": " ↓"}.get(row["expect"], "")
    verdict = ": ".join(filter(None, (row["verdict"], row["missing"])))
    value = _value(row, "+" * bool(row["second"])) if row["n_seeds"] else "–"
    measure = label(row["metric"]) + f", {row['split']}{expected}" * (row["metric"] != "training_minutes")
    lacking = f" of {row['n_wanted']}" * (row["n_seeds"] < row["n_wanted"])
    return contrast, measure, value, f"{row['n_seeds']}{lacking}", verdict


def _value(row: Mapping[str, Any], sign: str, n_seeds: int | None = None) -> str:
    """Mean and interval; `n_seeds`: also the number of seeds if it is another one."""
    mean, low, high = (f"{row[key]:{sign}.1f}" for key in ("mean", "ci_low", "ci_high"))
    of = "" if n_seeds in (None, row["n_seeds"]) else f", {row['n_seeds']} seed" + "s" * (row["n_seeds"] > 1)
    return f"{mean} ({low} to {high}{of})"


def note(scores: Scores) -> str:
    """How the numbers were made, and what they say nothing about."""
    tweets = ", ".join(f"{split} {n:,}" for split, n in scores["n_tweets"].items())
    seeds = ", ".join(map(str, scores["seeds"]))
    mean = f"Means over the seeds available (of {seeds}), with 95 % intervals over seeds and tweets"
    return f"{mean} ({tweets})." + f" {CONTROLLED}" * (scores["source"] == "testbed")
