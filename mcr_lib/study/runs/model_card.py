"""README.md of a setting's model: what it is, from what it was made and how, what it scored, what it is not
for.

Written when the model is finished, from its facts and its card; scores are added between markers once
`results.csv` has them.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr_lib.data.files import read_text, written_whole
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.training import cards

NAME = "README.md"
SCORES, END = "<!-- scores -->", "<!-- end -->"
METRICS = {
    "gmner_f1": "GMNER F1",
    "mner_f1": "MNER F1",
    "eeg_f1": "EEG F1",
    "false_grounding": "false grounding",
    "n_rate": "N-Rate",
}
NOT_SCORED = "Not scored yet in the run that made it."

TESTBED_NOTE = "A check of the mechanism in a controlled world; it says nothing of 7B models on tweets."
"""Stands beside every number of the testbed."""

LIMITS = (
    "For research on grounded named entity recognition. It names people whom a text mentions and points at faces: not for identifying or "
    "watching people, nor for posts of private persons. Terms of the training data and of the base model apply to it."
)


def write(run: RunFolder, name: str, facts: Mapping[str, Any], *, backbone: str, source: str) -> None:
    """Write the README.md of a setting's model.

    Args:
        facts: of the setting's `fingerprint.json`.
        backbone: what the line of settings starts from.
        source: the data set.
    """
    folder = run.setting(name) / "model"
    card = cards.card(str(folder))
    is_adapter = card["kind"] == "adapter"
    what = "LoRA adapter" if is_adapter else "whole model"
    base = card["base"].get("name") or card["base"]["folder"] if is_adapter else _shown(backbone)
    head = ["---", f"base_model: {base}", f"library_name: {'peft' if is_adapter else 'transformers'}",
            "pipeline_tag: image-text-to-text", "tags: [gmner, grounded-multimodal-ner]", "---"]  # fmt: skip
    of = f"{base}, weights {card['base']['weights']}" if is_adapter else base
    rows = {
        "what": f"{what} of the family {card['family']}", "base": of, "backbone": _shown(backbone),
        "stage": _stage(facts), "data": f"{source}: {facts['n_rows']:,} rows",
        "updates": f"{facts['n_steps']:,} in {facts['n_processes']} process(es), {facts['seconds']:,.0f} s",
        "boxes in": card.get("coordinate_space", "the space of the family"),
        "asked": f"prompt {card['prompt']} in wording {card['wording']}, version {card['prompt_version']}",
        "scored by": f"`{card.get('score_signature', 'not told')}`", "made from": facts["fingerprint"],
        "made with": ", ".join(f"{key} {value}" for key, value in facts["made_with"]["packages"].items() if key in _TOLD),
    }  # fmt: skip
    departures = [
        row
        for row in facts["options"]
        if row["origin"] in ("profile", "run") or row["origin"].startswith("setting")
    ]
    parts = [
        *head, "", f"# {name}", "", *_table("| | |", rows.items()), "", "Options that depart from the defaults:", "",
        *_table("| option | value | origin |", ((row["option"], row["value"], row["origin"]) for row in departures)), "",
        "## Scores", "", SCORES, NOT_SCORED, END, "", *([TESTBED_NOTE, ""] if source == "testbed" else []),
        "## Use", "", "```", 'mcr predict --model DIR --image FILE --text "..."', "```", "", LIMITS,
    ]  # fmt: skip
    with written_whole(folder / NAME) as file:
        file.write("\n".join(parts) + "\n")
    add_scores(run)


def add_scores(run: RunFolder) -> None:
    """Put what `results.csv` has of each setting into the README.md of its model."""
    if not run.results.is_file():
        return
    rows = list(csv.DictReader(read_text(run.results).splitlines()))
    for path in sorted(run.path.glob(f"settings/*/model/{NAME}")):
        name = path.parents[1].name
        found = [row for row in rows if row["setting"] == name and row["metric"] in METRICS]
        text = read_text(path)
        told = (
            "\n".join(_table("| split | score | % | 95 % interval | n | signature |", map(_score, found)))
            if found
            else NOT_SCORED
        )
        filled = re.sub(
            f"{SCORES}.*?{END}",
            lambda _, told=told: f"{SCORES}\n{told}\n{END}",
            text,
            count=1,
            flags=re.DOTALL,
        )
        if filled != text:
            with written_whole(path) as file:
                file.write(filled)


_TOLD = ("torch", "transformers", "trl", "peft")


def _score(row: Mapping[str, str]) -> tuple[str, ...]:
    interval = f"{row['ci_low']} to {row['ci_high']}" if row["ci_low"] else ""
    return (
        row["split"],
        METRICS[row["metric"]],
        row["value"],
        interval,
        row["n"],
        f"`{row['signature'].replace('|', ' ')}`",
    )


def _stage(facts: Mapping[str, Any]) -> str:
    setting = facts["setting"]
    rows = f" on {setting.get('rows', 'chains')}" if setting.get("stage") == "sft" else ""
    return f"{setting.get('stage', 'none')}{rows}, from {setting.get('start', 'the base')}"


def _shown(backbone: str) -> str:
    """A backbone by its name; of a folder the last part, which means something elsewhere too."""
    return backbone if backbone in cards.SHIPPED or cards.is_hub_name(backbone) else Path(backbone).name


def _table(head: str, rows: Iterable[Sequence[Any]]) -> list[str]:
    rows = [[str(cell).replace("|", "·") for cell in row] for row in rows]
    return [head, "|" + "---|" * (head.count("|") - 1), *(f"| {' | '.join(row)} |" for row in rows)]
