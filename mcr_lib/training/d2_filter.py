"""The filter of D2: CVO trains on the rows on which the start model mostly fails and sometimes succeeds.

G answers to each row (a pair of tweet and style) are sampled from the start model as training samples them.
Of their R = Σ λ_k R_k, a row is kept if (paper App. D.3)

    standard deviation ≥ filter_std    maximum ≥ filter_max    median in filter_median

The deviation is of the population (paper silent; ours). `filter_scale`: R as it is, or its share of Σ λ_k
over the rewards that the source annotates. The paper does not say which scale its thresholds are on; the
reward axes of its Fig. 4 begin above the highest median that they allow, so the curves are on another scale
or of other samples (our reading).

    filter.jsonl    id, style, R of each answer, std, max, median, verdict, seconds; a row per row of D2

It is made as predictions are (`Parts`): a killed run continues, several processes share the work. Answers
are sampled by transformers, also where a vLLM server samples those of training.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mcr_lib.errors import UserError
from mcr_lib.prompts import Kind
from mcr_lib.training import cards, loop
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import VERDICTS, WITHOUT_EFFECT, CvoOptions
from mcr_lib.training.parts import Parts
from mcr_lib.training.preflight import Row, Rows, sample_groups

FILE = "filter.jsonl"
KIND = "filter"
REMEDIES = {  # reason -> what to do where it is the most frequent one
    "too even": "raise the temperature, or lower filter_std",
    "never right": "fine-tune the start for longer, or lower filter_max",
    "too hard": "fine-tune the start for longer, or lower the first value of filter_median",
    "too easy": "raise the second value of filter_median, or take harder tweets",
}


def kept(
    backbone: Backbone, rows: Rows, folder: Path, options: CvoOptions, *, prompt: Kind, start: str,
    progress: loop.Progress = None,
) -> tuple[list[Row], dict[str, Any]]:  # fmt: skip
    """The rows that are kept, and for `checks.json` their number, those of each reason, and the seconds."""

    def sampled(batch: Sequence[Row]) -> Iterator[dict[str, Any]]:
        began = time.monotonic()
        groups = sample_groups(backbone, batch, options, prompt=prompt)
        seconds = round((time.monotonic() - began) / len(batch), 3)
        for row, group in zip(batch, groups, strict=True):
            totals = [options.scaled(rewards) for rewards in group]
            id, style = _key(row)
            earned = {"R": [round(total, 6) for total in totals], **options.judge(totals)}
            yield {"id": id, "style": style, **earned, "seconds": seconds}

    def told(done: int, of: int) -> None:
        if progress:
            progress(done, of, {"task": "filter of D2"})

    file = Parts(folder / FILE, KIND, _header(start, rows, options, prompt), _key)
    size = max(1, options.filter_batch_size // options.num_generations)
    judged = list(file.read().values()) or file.make(
        {_key(row): row for row in rows}, sampled, size=size, seed=options.seed, progress=told,
        length=lambda row: len(json.dumps(row["prompt"])), device=backbone.model.device.type,
    )  # fmt: skip
    torch.manual_seed(options.seed)  # what follows draws the same whether rows were sampled now or before
    counts = Counter(row["verdict"] for row in judged)
    if not counts["kept"]:
        reason, _ = counts.most_common(1)[0]
        listed = ", ".join(f"{counts[name]} {name}" for name in REMEDIES if counts[name])
        problem = f"the filter of D2 keeps none of {len(judged)} rows ({listed})"
        raise UserError(f"{problem}; {REMEDIES[reason]}, or take filter_d2=false; see {file.path}")
    chosen = {_key(row) for row in judged if row["verdict"] == "kept"}
    facts = {"filter_rows": len(judged)}
    facts |= {f"filter_{name.replace(' ', '_')}": counts[name] for name in VERDICTS}
    facts["filter_seconds"] = round(sum(row["seconds"] for row in judged), 1)  # of all processes
    return [row for row in rows if _key(row) in chosen], facts


def _key(row: Row) -> tuple[str, str]:
    return row["id"], row.get("style") or ""


def _header(start: str, rows: Rows, options: CvoOptions, prompt: Kind) -> dict[str, Any]:
    """The options that count, and a fingerprint of all that the file depends on."""
    names = {name for name in CvoOptions.model_fields if name.startswith("filter_")} - {*WITHOUT_EFFECT}
    names |= {*options.sampling, "num_generations", "max_completion_length", "reward_weights", "seed"}
    own = {**options.model_dump(mode="json", include=names), **options.rewarding(prompt)}
    shown = [{**row, "images": [Path(path).name for path in row["images"]]} for row in rows]
    card = cards.card(start)
    model = card["sha256"], card.get("base", {}).get("weights")
    made_from = hashlib.sha256(json.dumps([model, own, shown]).encode()).hexdigest()[:16]
    return {"made_from": made_from, "options": own}
