"""Attention section of notebook 06: where settings look when they write a box, and whether it matters to the
box. Nothing is loaded where the profile's `attention_examples` is 0.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mcr_lib import metrics, statistics
from mcr_lib.data import probes
from mcr_lib.data.predictions import read_predictions
from mcr_lib.schema import Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables.bias import rounded

if TYPE_CHECKING:
    from mcr_lib.training.attention import Look

Rows = list[dict[str, Any]]
Looks = Mapping[str, Sequence["Look"]]  # setting -> its looks

PARTS = ("answer", "reasoning")
MASSES = {"gold": "attention_gold", "rest": "attention_rest", "words": "attention_words"}
CUTS = {f"cut_{kind}": f"cut_{kind}" for kind in ("image", "gold", "elsewhere")}  # key -> metric, too


def chosen(study: Study) -> list[Example]:
    """Up to `attention_examples` tweets of the scored split whose image shows an entity, as `probes.choose`."""
    c = study.config
    tweets = study.examples(c.eval_split) if c.attention_examples else []
    return probes.choose(tweets, c.attention_examples, seed=c.seed)


def looks(study: Study) -> dict[str, list["Look"]]:
    """The looks at the chosen tweets of every setting that sees the whole tweet and has a model and answers."""
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
            boxes = [f"{counts[part]} boxes in the {part}" for part in PARTS if part in counts]
            lines.append(f"{name}: {', '.join(boxes) or 'no box to look at'}")
        elif study[name].modality == "full":
            lines.append(f"{name}: left out, its answers to {split} or its model are not there")
    return "\n".join(lines)


def rows(study: Study, looks: Looks) -> Rows:
    """Per setting and part: boxes, tweets, and the means over boxes of each mass (itself a mean over layers)
    and each cut, with 95 % intervals over tweets; `None` = never measured.
    """
    result = []
    for name, part in ((name, part) for name in looks for part in PARTS):
        if some := [look for look in looks[name] if look.part == part]:
            ids = [look.example.id for look in some]
            row = {"setting": name, "part": part, "boxes": len(some), "tweets": len(set(ids))}
            row["log_probability"] = round(float(np.mean([look.log_probability for look in some])), 3)
            row["sinks"] = round(float(np.mean([look.n_sinks for look in some])), 2)
            values = {group: [look.mass[group].mean() for look in some] for group in MASSES}
            values |= {key: [look.cuts[key.removeprefix("cut_")] for look in some] for key in CUTS}
            for key, of_key in values.items():
                row |= _mean(study, ids, of_key, key)
            result.append(row)
    return result


def _mean(study: Study, ids: list[str], values: Sequence[float | None], key: str) -> dict[str, float | None]:
    """The mean of one value per box, without those that are `None` or NaN; its interval resamples tweets."""
    c, array = study.config, np.array(values, dtype=float)
    position = {id: k for k, id in enumerate(dict.fromkeys(ids))}
    is_measured = ~np.isnan(array)
    tweets, n = np.array([position[id] for id in ids])[is_measured], len(position)
    ratio = Ratio(np.bincount(tweets, array[is_measured], n), np.bincount(tweets, minlength=n))
    weights = statistics.resamples(n, c.n_resamples, np.random.default_rng(c.seed))
    low, high = statistics.interval95(ratio, weights) or (None, None)
    percents = {key: ratio.percent, f"{key}_low": low, f"{key}_high": high}
    return rounded({name: None if value is None else value / 100 for name, value in percents.items()}, 3)


def result_rows(study: Study, rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows of `results.csv`: attention_<group>_<part> in multiples of a token's share, cut_<kind>_<part> in nats."""
    c, examples = study.config, chosen(study) if rows else []
    if not rows:
        return []
    data = {"source": examples[0].source, "checksum": checksum(examples), "split": c.eval_split}
    extra = {"resamples": c.n_resamples, "seed": c.seed}
    signature = metrics.signature(scorer=c.scorer, **data, parse="strict", extra=extra)
    return [
        {"setting": row["setting"], "split": c.eval_split, "seed": c.seed, "metric": f"{name}_{row['part']}",
         "value": row[key], "ci_low": row[f"{key}_low"], "ci_high": row[f"{key}_high"], "n": row["tweets"],
         "signature": signature}
        for row in rows
        for key, name in (MASSES | CUTS).items()
    ]  # fmt: skip


def most_boxed(looks: Looks, n: int) -> list[tuple[str, int]]:
    """Up to n entities to draw as (id, first token), one per tweet: first those that most settings box in
    their answers, then those with the smallest region.
    """
    by_entity: dict[tuple[str, int], list[Look]] = defaultdict(list)
    for look in (look for of_setting in looks.values() for look in of_setting if look.part == "answer"):
        by_entity[look.example.id, look.gold.start].append(look)

    def rank(key: tuple[str, int]) -> tuple[int, float, tuple[str, int]]:
        first = by_entity[key][0]
        width, height = first.example.image_size_px
        area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in first.gold.boxes_xyxy_px)
        return -len(by_entity[key]), area / (width * height), key

    best = {id: start for id, start in sorted(by_entity, key=rank, reverse=True)}  # the last one counts
    return sorted(best.items(), key=rank)[:n]


def drawn_rows(looks: Looks, n: int = 3) -> Rows:
    """The values of the figure `overlays`: setting, tweet, entity, attention to each cell, row by row."""
    drawn = []
    for key, name in ((key, name) for key in most_boxed(looks, n) for name in looks):
        in_answer = (look for look in looks[name] if look.part == "answer")
        for look in [look for look in in_answer if (look.example.id, look.gold.start) == key][:1]:
            heat = np.round(look.heat.astype(float), 2).tolist()
            drawn.append({"setting": name, "id": look.example.id, "entity": look.gold.text, "heat": heat})
    return drawn
