"""README.md of a setting's model, written after training; `results.csv` fills in scores between markers."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr_lib.data.files import read_text, write_text
from mcr_lib.study.catalogue import labels
from mcr_lib.study.render import markdown
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.training import cards

NAME = "README.md"
SCORES, END = "<!-- scores -->", "<!-- end -->"
METRICS = labels(
    ("gmner_f1", "mner_f1", "eeg_f1", "grec_n_acc", "grec_precision", "false_grounding", "n_rate")
)
NOT_SCORED = "Not scored yet in the run that made it."
TESTBED_NOTE = "A check of the mechanism in a controlled world; it says nothing of 7B models on tweets."

TEMPLATE = read_text(Path(__file__).with_suffix(".md"))


def write(run: RunFolder, name: str, record: Mapping[str, Any], *, backbone: str, source: str) -> None:
    """Write the README.md of a setting's model from its record; `source` is the data set."""
    from huggingface_hub import ModelCard, ModelCardData  # comes with transformers, not in the light core

    folder, setting = run.setting(name) / "model", record["setting"]
    card, packages = cards.card(str(folder)), record["made_with"]["packages"]
    if backbone not in cards.SHIPPED and not cards.is_hub_name(backbone):
        backbone = Path(backbone).name  # the path of a folder means nothing elsewhere
    is_adapter, stage = card["kind"] == "adapter", setting.get("stage", "none")
    base = card["base"].get("name") or card["base"]["folder"] if is_adapter else backbone
    of_sft = f" on {setting.get('rows', 'chains')}" if stage == "sft" else ""
    made_with = [key for key in packages if key in ("torch", "transformers", "trl", "peft")]
    facts = {
        "what": f"{'LoRA adapter' if is_adapter else 'whole model'} of the family {card['family']}",
        "base": f"{base}, weights {card['base']['weights']}" if is_adapter else base,
        "backbone": backbone, "stage": f"{stage}{of_sft}, from {setting.get('start', 'the base')}",
        "data": f"{source}: {record['n_rows']:,} rows",
        "updates": "{n_steps:,} in {n_processes} process(es), {seconds:,.0f} s".format(**record),
        "boxes in": card.get("coordinate_space", "the space of the family"),
        "asked": "prompt {prompt} in wording {wording}, version {prompt_version}".format(**card),
        "scored by": f"`{card.get('score_signature', 'not told')}`", "made from": record["fingerprint"],
        "made with": ", ".join(f"{key} {packages[key]}" for key in made_with),
    }  # fmt: skip
    own = [row for row in record["options"] if row["origin"].split()[0] in ("profile", "run", "setting")]
    options = [(row["option"], row["value"], row["origin"]) for row in own]
    head = ModelCardData(
        base_model=base, library_name="peft" if is_adapter else "transformers",
        pipeline_tag="image-text-to-text", tags=["gmner", "grounded-multimodal-ner"],
    )  # fmt: skip
    text = TEMPLATE.format(
        name=name, head=head.to_yaml(),
        facts=_table(("", " "), facts.items()), options=_table(("option", "value", "origin"), options),
        scores=f"{SCORES}\n{NOT_SCORED}\n{END}",
        note=f"{TESTBED_NOTE}\n\n" if source.startswith("testbed") else "",
    )  # fmt: skip
    write_text(folder / NAME, str(ModelCard(text)))
    add_scores(run)


def add_scores(run: RunFolder) -> None:
    """Fill the scores of `results.csv` into the README.md of each setting's model."""
    if not run.results.is_file():
        return
    results = list(csv.DictReader(read_text(run.results).splitlines()))
    for path in sorted(run.path.glob(f"settings/*/model/{NAME}")):
        name, before, scores = path.parents[1].name, read_text(path), []
        for row in results:
            if row["setting"] == name and row["metric"] in METRICS:
                interval = f"{row['ci_low']} to {row['ci_high']}" if row["ci_low"] else ""
                signature = f"`{row['signature'].replace('|', ' ')}`"
                label = METRICS[row["metric"]]
                scores.append((row["split"], label, row["value"], interval, row["n"], signature))
        table = _table(("split", "score", "%", "95 % interval", "n", "signature"), scores)
        start, end = before.partition(SCORES)[0], before.partition(END)[2]
        after = f"{start}{SCORES}\n{table if scores else NOT_SCORED}\n{END}{end}"
        if SCORES in before and END in before and after != before:
            write_text(path, after)


def _table(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    cells = ([str(cell).replace("|", "·") for cell in line] for line in lines)
    return markdown([dict(zip(columns, line, strict=True)) for line in cells], columns)
