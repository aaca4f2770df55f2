"""Attention section of notebook 06: where settings look when they write a box, and whether it matters."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mcr_lib import metrics
from mcr_lib.data import probes
from mcr_lib.data.predictions import read_predictions
from mcr_lib.schema import Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables.bias import Rows, estimate

if TYPE_CHECKING:
    from mcr_lib.training.attention import Look

Looks = Mapping[str, Sequence["Look"]]  # setting -> its looks
Boxed = dict[tuple[str, int], dict[str, "Look"]]  # id of the tweet, first token -> setting -> look
PARTS = ("answer", "reasoning")
METRICS = {key: f"attention_{key}" for key in ("gold", "rest", "words")}  # key of a row -> its metric
METRICS |= {key: key for key in ("cut_image", "cut_gold", "cut_elsewhere")}


def chosen(study: Study) -> list[Example]:
    """Up to `attention_examples` tweets of the scored split whose image shows an entity (`probes.choose`)."""
    c = study.config
    tweets = study.examples(c.eval_split) if c.attention_examples else []
    return probes.choose(tweets, c.attention_examples, seed=c.seed)


def looks(study: Study) -> dict[str, list["Look"]]:
    """The looks at the chosen tweets of settings that see the whole tweet and have a model and answers."""
    examples, by_setting = chosen(study), {}
    for name in study.settings if examples else ():
        if study[name].modality == "full" and study.can_answer(name) and study.is_answered(name):
            from mcr_lib.training.attention import look

            predictions = {row.id: row for row in read_predictions(study.answer(name))[1]}
            answered = [(e, predictions[e.id]) for e in examples if e.id in predictions]
            by_setting[name] = look(study.load(name), answered, prompt=study[name].prompt)
    return by_setting


def describe(study: Study, looks: Looks) -> str:
    """The number of boxes looked at per setting and part, and the settings that were left out."""
    split = study.config.eval_split
    if not study.config.attention_examples:
        return "attention_examples is 0: nothing is looked at"
    lines = [f"{len(chosen(study))} tweets of {split} that show something they name"]
    for name in study.settings:
        if name in looks:
            counts = Counter(look.part for look in looks[name])
            boxes = ", ".join(f"{counts[part]} boxes in the {part}" for part in PARTS if part in counts)
            lines.append(f"{name}: {boxes or 'no box to look at'}")
        elif study[name].modality == "full":
            lines.append(f"{name}: left out, its answers to {split} or its model are not there")
    return "\n".join(lines)


def rows(study: Study, looks: Looks) -> Rows:
    """Per setting and part the means over boxes, intervals over tweets; `None` = never measured."""
    result = []
    for name, part in product(looks, PARTS):
        if not (some := [look for look in looks[name] if look.part == part]):
            continue
        ids = list(dict.fromkeys(look.example.id for look in some))
        tweets = np.array([ids.index(look.example.id) for look in some])
        row = {"setting": name, "part": part, "boxes": len(some), "tweets": len(ids)}
        row["log_probability"] = round(float(np.mean([look.log_probability for look in some])), 3)
        row["sinks"] = round(float(np.mean([look.n_sinks for look in some])), 2)
        for key in METRICS:
            cut = key.removeprefix("cut_")
            values = [look.mass[key].mean() if cut == key else look.cuts[cut] for look in some]
            values = np.array(values, dtype=float)
            at, values = tweets[~np.isnan(values)], values[~np.isnan(values)]
            ratio = Ratio(np.bincount(at, values, len(ids)), np.bincount(at, minlength=len(ids)))
            row |= estimate(ratio, study.config, key, ends=key, scale=100, digits=3)
        result.append(row)
    return result


def result_rows(study: Study, rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows of `results.csv`: attention_<group>_<part> (1 = a token's share), cut_<kind>_<part> (nats)."""
    if not rows:
        return []
    c, examples = study.config, chosen(study)
    data = {"source": examples[0].source, "checksum": checksum(examples), "split": c.eval_split}
    extra = {"resamples": c.n_resamples, "seed": c.seed}
    signature = metrics.signature(scorer=c.scorer, **data, parse="strict", extra=extra)
    return [
        {"setting": row["setting"], "split": c.eval_split, "seed": c.seed, "metric": f"{name}_{row['part']}",
         "value": row[key], "ci_low": row[f"{key}_low"], "ci_high": row[f"{key}_high"], "n": row["tweets"],
         "signature": signature} for row in rows for key, name in METRICS.items()
    ]  # fmt: skip


def most_boxed(looks: Looks, n: int) -> Boxed:
    """Up to n entities, one per tweet: boxed by most settings in their answers, then the smallest."""
    boxed: Boxed = {}
    for name, of_setting in looks.items():
        for look in (look for look in of_setting if look.part == "answer"):
            boxed.setdefault((look.example.id, look.gold.start), {})[name] = look

    def rank(key: tuple[str, int]) -> tuple[int, float, tuple[str, int]]:
        first = next(iter(boxed[key].values()))
        width, height = first.example.image_size_px
        area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in first.gold.boxes_xyxy_px)
        return -len(boxed[key]), area / (width * height), key

    best = {key[0]: key for key in sorted(boxed, key=rank, reverse=True)}  # the last of a tweet is its best
    return {key: boxed[key] for key in sorted(best.values(), key=rank)[:n]}


def drawn_rows(looks: Looks, n: int = 3) -> Rows:
    """The values of the figure `overlays`: setting, tweet, entity, attention to each cell, row by row."""
    rows = []
    for name, look in (pair for of_entity in most_boxed(looks, n).values() for pair in of_entity.items()):
        row = {"setting": name, "id": look.example.id, "entity": look.gold.text}
        rows.append(row | {"heat": np.round(look.heat.astype(float), 2).tolist()})
    return rows
