"""What the paper says, `data/paper_facts.yaml`, and how far each of its tables and figures is reproduced."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from mcr_lib.data.files import read_text
from mcr_lib.study.runs.config import repository

MODELS = ("Qwen2.5-VL-7B", "MiMo-VL-7B")  # the backbones that the paper trains
STAGES = ("SFT", "MRSI", "MCR")  # how it trains them; MCR is MRSI, then CVO
METHODS = ("direct", "CoT", "3-shot", *STAGES)
_MARKED = {"silent": "ours", "our reading": "value", "contradiction": "ours"}


@cache
def all_facts() -> dict[str, Any]:
    """The whole file as a dict."""
    return yaml.safe_load(read_text(repository() / "data" / "paper_facts.yaml"))


def table(name: str, of: Mapping[str, Any] | None = None) -> dict[str, dict[str, float | None]]:
    """The cells of a table of the paper, row -> column -> value; `of` = the facts, by default the file's.

    >>> table("T1")["Qwen2.5-VL-7B MCR"]["GMNER F1"]
    70.6
    """
    one = (of or all_facts())["tables"][name]
    return {row: dict(zip(one["columns"], cells, strict=True)) for row, cells in one["rows"].items()}


def filled(template: str, of: Mapping[str, Any] | None = None) -> str:
    """A text with each `{fact}` and each `{table[row][column]}` replaced by its value.

    >>> filled("{cvo_hours} h, {T1[Qwen2.5-VL-7B SFT][GMNER F1]}")
    '11 h, 62.7'
    """
    facts = of or all_facts()
    values = {name: fact.get("value") for name, fact in facts["facts"].items()}
    return template.format(**values, **{name: table(name, facts) for name in facts["tables"]})


def departures(of: Mapping[str, Any] | None = None) -> list[str]:
    """A sentence per decision where the paper is silent, implicit or at odds with itself, then per departure.

    Each fact in its own words: what is done here, where the paper was read, and why if it is our reading.
    """
    facts, lines = of or all_facts(), []
    for name, fact in facts["facts"].items():
        if (key := _MARKED.get(fact["status"])) is not None:
            why = fact.get("why") or "; ".join(fact.get("values", ()))
            source = f"{fact['status'].capitalize()}, {fact['where']}{why and f': {why}'}"
            lines.append(filled(f"**{name.replace('_', ' ')}**: {fact[key]}. ({source}.)", of))
    return lines + [f"{one['what']}: {one['why']}." for one in facts["departures"]]


def published(of: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
    """Published GMNER F1 with the paper that reports each, the highest first."""
    rows = [{**row, "f1": filled(str(row["f1"]), of)} for row in (of or all_facts())["published_gmner_f1"]]
    return sorted(rows, key=lambda row: -float(row["f1"]))


def f1_rows() -> list[dict[str, Any]]:
    """F1 of GMNER, MNER and EEG in the paper's T1, of the backbones that it trains."""
    cells = table("T1")
    return [
        {"model": model, "method": method, "kind": task, "f1": cells[f"{model} {method}"][f"{task} F1"]}
        for model in MODELS for method in METHODS for task in ("GMNER", "MNER", "EEG")
    ]  # fmt: skip


def yardsticks(*names: str) -> dict[str, float]:
    """GMNER F1 (IoU >= 0.5) of these yardsticks on Twitter-GMNER v2 test, from the committed evidence."""
    path = repository() / "data" / "results" / "twitter-gmner-v2-test" / "yardsticks.json"
    rows = json.loads(read_text(path))["rows"]
    return {name: rows[name].get("paper", rows[name]["e2e"]) for name in names}


def reproduction() -> list[dict[str, Any]]:
    """How each table and figure of the paper is reproduced, and its status: `data/reproduction.yaml`."""
    return yaml.safe_load(read_text(repository() / "data" / "reproduction.yaml"))["rows"]
