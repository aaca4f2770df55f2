"""The filter of D2: CVO trains on the rows on which the start model mostly fails and sometimes succeeds.

G answers to each row (a pair of tweet and style) are sampled from the start model as training samples them.
Of their R = Σ λ_k R_k, a row is kept if (paper App. D.3)

    standard deviation ≥ filter_std    maximum ≥ filter_max    median in filter_median

The deviation is of the population (paper silent; ours). `filter_scale`: R as it is, or its share of Σ λ_k
over the rewards that the source annotates; R as it is counts the others as the mean of these, so that a
source with two constraints can pass as one with four (`CvoOptions.scaled`; ours). The paper does not say
which scale its thresholds are on; the reward axes of its Fig. 4 begin above the highest median that they
allow, so the curves are on another scale or of other samples (our reading).

    filter.jsonl    id, style, answers, R of each, std, max, median, verdict, seconds; a row per row of D2

A pair that passes is kept alone (paper: D2 is of pairs) or, with `filter_keeps: tweets` (ours), with its
tweet in every style that D2 has: else the style may tell the verdict, where what passes in one style
contradicts a shortcut and what passes in another agrees with it (LOG.md). With `split_by: tweets` D2 has all
styles of a tweet.

It is made as predictions are (`Parts`): a killed run continues, several processes share the work. A setting
that differs in rewards or thresholds alone judges the answers of another one anew. Answers are sampled by
transformers, also where a vLLM server samples those of training.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mcr_lib.data.files import read_jsonl
from mcr_lib.errors import UserError
from mcr_lib.prompts import Kind
from mcr_lib.training import cards, loop
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.options import VERDICTS, WITHOUT_EFFECT, CvoOptions
from mcr_lib.training.parts import Parts
from mcr_lib.training.preflight import Row, Rows, rewards_of, sample_answers

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
    header = _header(start, rows, options, prompt)
    before = _sampled_before(folder, header["sampled_from"])

    def sampled(batch: Sequence[Row]) -> Iterator[dict[str, Any]]:
        began = time.monotonic()
        known = [before.get(_key(row)) for row in batch]
        answers = sample_answers(backbone, batch, options) if None in known else known
        groups = rewards_of(batch, answers, options, prompt=prompt)
        seconds = round((time.monotonic() - began) / len(batch), 3)
        for row, own, group in zip(batch, answers, groups, strict=True):
            totals = [options.scaled(rewards) for rewards in group]
            id, style = _key(row)
            earned = {"R": [round(total, 6) for total in totals], **options.judge(totals)}
            yield {"id": id, "style": style, "answers": own, **earned, "seconds": seconds}

    def told(done: int, of: int) -> None:
        if progress:
            progress(done, of, {"task": "filter of D2"})

    file = Parts(folder / FILE, KIND, header, _key)
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
    chosen = options.chosen(judged)
    facts = {"filter_rows": len(judged)}
    facts |= {f"filter_{name.replace(' ', '_')}": counts[name] for name in VERDICTS}
    facts["filter_seconds"] = round(sum(row["seconds"] for row in judged), 1)  # of all processes
    return [row for row in rows if _key(row) in chosen], facts


def _key(row: Row) -> tuple[str, str]:
    return row["id"], row.get("style") or ""


def _sampled_before(folder: Path, sampled_from: str) -> dict[tuple[str, str], list[str]]:
    """The answers that another setting of the run sampled from the same model, to the same rows, alike."""
    for path in sorted(folder.parent.glob(f"*/{FILE}")):
        header, rows = read_jsonl(path, kind=KIND)
        if header.get("sampled_from") == sampled_from:
            return {_key(row): row["answers"] for _, row in rows}
    return {}


def _header(start: str, rows: Rows, options: CvoOptions, prompt: Kind) -> dict[str, Any]:
    """The options that count, and fingerprints of all that the answers and the file depend on."""
    of_sampling = {*options.sampling, "num_generations", "max_completion_length", "seed"}
    names = {name for name in CvoOptions.model_fields if name.startswith("filter_")} - {*WITHOUT_EFFECT}
    own = options.model_dump(mode="json", include=names | of_sampling | {"reward_weights"})
    own |= options.rewarding(prompt)
    shown = [{**row, "images": [Path(path).name for path in row["images"]]} for row in rows]
    card = cards.card(start)
    model = card["sha256"], card.get("base", {}).get("weights")
    sampled_from = _digest(model, options.model_dump(mode="json", include=of_sampling), shown)
    return {"made_from": _digest(model, own, shown), "sampled_from": sampled_from, "options": own}


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
