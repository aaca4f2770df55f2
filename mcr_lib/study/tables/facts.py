"""What the paper says: `data/paper_facts.yaml`."""

import json
from typing import Any

from mcr_lib.data.files import read_text
from mcr_lib.study.runs.config import paper_facts as all_facts
from mcr_lib.study.runs.config import repository

MODELS = ("Qwen2.5-VL-7B", "MiMo-VL-7B")  # the backbones that the paper trains
STAGES = ("SFT", "MRSI", "MCR")  # how it trains them; MCR is MRSI, then CVO
METHODS = ("direct", "CoT", "3-shot", *STAGES)


def table(name: str) -> dict[str, dict[str, float | None]]:
    """The cells of a table of the paper, row -> column -> value.

    >>> table("T1")["Qwen2.5-VL-7B MCR"]["GMNER F1"]
    70.6
    """
    one = all_facts()["tables"][name]
    return {row: dict(zip(one["columns"], cells, strict=True)) for row, cells in one["rows"].items()}


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
