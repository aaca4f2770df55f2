"""Notebook 06, last section: where settings look when they write a box, and whether it matters to the box.

For thin cells (nothing is loaded, and nothing drawn, where the profile's `attention_examples` is 0):

    looks = attention_views.looks(study)                     # setting -> its looks at the boxes of up to attention_examples tweets
    print(attention_views.describe(study, looks))                # what was looked at, and what is missing
    attention_rows = attention_views.rows(study, looks)      # setting, part (answer | reasoning), masses and cuts with intervals
    if attention_rows:
        plots.save(plots_attention.masses(attention_rows), folder.figures, "06_attention", attention_rows)
        plots.save(plots_attention.cuts(attention_rows), folder.figures, "06_attention_cut", attention_rows)
        plots.save(plots_attention.overlays(looks, n=3), folder.figures, "06_attention_overlay",
        attention_views.drawn_rows(looks, n=3))
    attention_views.result_rows(study, attention_rows)       # rows of results.csv: attention_gold_answer, cut_image_reasoning, ...
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mcr_lib import metrics, statistics
from mcr_lib.data import probes
from mcr_lib.data.predictions import read_predictions
from mcr_lib.schema import Example, checksum
from mcr_lib.statistics import Ratio
from mcr_lib.study.runs.settings import Study

if TYPE_CHECKING:
    from mcr_lib.training.attention import Look

Rows = list[dict[str, Any]]
Looks = Mapping[str, Sequence["Look"]]

PARTS = {"answer": "in the answer", "reasoning": "in the reasoning"}
MASSES = {
    "gold": ("its region", "#E69F00"),
    "rest": ("rest of the image", "#B8B8B8"),
    "words": ("its words in the tweet", "#56B4E9"),
}
CUTS = {
    "image": ("whole image", "#0072B2"),
    "gold": ("its region", "#E69F00"),
    "elsewhere": ("as much elsewhere", "#B8B8B8"),
}
"""Group or cut -> its name in figures and its colour."""


def chosen(study: Study) -> list[Example]:
    """The tweets that are looked at: of the scored split, with an image that shows something, by a hash of
    (seed, id).
    """
    c = study.config
    return (
        probes.choose(study.examples(c.eval_split), c.attention_examples, seed=c.seed)
        if c.attention_examples
        else []
    )


def is_ready(study: Study, name: str) -> bool:
    """Whether a setting sees the whole tweet and its model and answers are there."""
    return study[name].modality == "full" and study.can_answer(name) and study.is_answered(name)


def looks(study: Study) -> dict[str, list["Look"]]:
    """Setting -> its looks, of every setting that is ready."""
    examples = chosen(study)
    found = {}
    for name in study.settings if examples else ():
        if is_ready(study, name):
            from mcr_lib.training import attention

            rows = {row.id: row for row in read_predictions(study.answer(name))[1]}
            answered = [(example, rows[example.id]) for example in examples if example.id in rows]
            found[name] = attention.look(study.load(name), answered, prompt=study[name].prompt)
    return found


def describe(study: Study, looks: Looks) -> str:
    """What was looked at and what was not, to read."""
    if not study.config.attention_examples:
        return "attention_examples is 0: nothing is looked at"
    lines = []
    for name in study.settings:
        if name in looks:
            counts = Counter(look.part for look in looks[name])
            boxes = (
                ", ".join(f"{counts[part]} boxes {where}" for part, where in PARTS.items() if counts[part])
                or "no box to look at"
            )
            lines.append(f"{name}: {boxes}")
        elif study[name].modality == "full":
            lines.append(
                f"{name}: left out, its answers to {study.config.eval_split} or its model are not there"
            )
    return "\n".join(
        [f"{len(chosen(study))} tweets of {study.config.eval_split} that show something they name", *lines]
    )


def rows(study: Study, looks: Looks) -> Rows:
    """Per setting and part: boxes, tweets, and the mean over boxes of each mass (mean over layers) and of
    each cut, with 95 % intervals.
    """
    found = []
    for name, of_setting in looks.items():
        for part in PARTS:
            seen = [look for look in of_setting if look.part == part]
            if not seen:
                continue
            row = {
                "setting": name,
                "part": part,
                "boxes": len(seen),
                "tweets": len({look.example.id for look in seen}),
            }
            row["log_probability"] = round(float(np.mean([look.log_probability for look in seen])), 3)
            row["sinks"] = round(float(np.mean([look.n_sinks for look in seen])), 2)
            for group in MASSES:
                row |= _mean(study, seen, [look.mass[group].mean() for look in seen], group)
            for kind in CUTS:
                row |= _mean(
                    study,
                    seen,
                    [np.nan if look.cuts[kind] is None else look.cuts[kind] for look in seen],
                    f"cut_{kind}",
                )
            found.append(row)
    return found


def _mean(study: Study, seen: Sequence["Look"], values: Sequence[float], key: str) -> dict[str, float | None]:
    """The mean of values over boxes, those left out that are NaN, with its interval over tweets."""
    ids = list(dict.fromkeys(look.example.id for look in seen))
    sums, counts = np.zeros(len(ids)), np.zeros(len(ids))
    for look, value in zip(seen, values, strict=True):
        if not np.isnan(value):
            sums[ids.index(look.example.id)] += value
            counts[ids.index(look.example.id)] += 1
    weights = statistics.resamples(
        len(ids), study.config.n_resamples, np.random.default_rng(study.config.seed)
    )
    ratio = Ratio(sums, counts)
    ends = statistics.interval95(ratio, weights) or (None, None)
    percents = {key: ratio.percent, f"{key}_low": ends[0], f"{key}_high": ends[1]}
    return {name: None if value is None else round(value / 100, 3) for name, value in percents.items()}


def result_rows(study: Study, rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows of `results.csv`: attention_<group>_<part> in multiples of a token's share, cut_<kind>_<part> in
    nats per box.
    """
    c = study.config
    if not rows:
        return []
    examples = chosen(study)
    signature = metrics.signature(
        scorer=c.scorer, source=examples[0].source, checksum=checksum(examples), split=c.eval_split, parse="strict",
        extra={"resamples": c.n_resamples, "seed": c.seed},
    )  # fmt: skip
    names = {group: f"attention_{group}" for group in MASSES} | {
        f"cut_{kind}": f"cut_{kind}" for kind in CUTS
    }
    return [
        {"setting": row["setting"], "split": c.eval_split, "seed": c.seed, "metric": f"{metric}_{row['part']}", "value": row[key],
         "ci_low": row[f"{key}_low"], "ci_high": row[f"{key}_high"], "n": row["tweets"], "signature": signature}
        for row in rows
        for key, metric in names.items()
    ]  # fmt: skip


def most_boxed(looks: Looks, n: int) -> list[tuple[str, int]]:
    """Up to n entities (id, first token) to draw: boxed in their answers by most settings, then those whose
    region is smallest.
    """
    seen: dict[tuple[str, int], list[Look]] = {}
    for of_setting in looks.values():
        for look in of_setting:
            if look.part == "answer":
                seen.setdefault((look.example.id, look.gold.start), []).append(look)

    def area(look: "Look") -> float:
        width, height = look.example.image_size_px
        return sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in look.gold.boxes_xyxy_px) / (width * height)

    found, ids = [], set()
    for key in sorted(seen, key=lambda key: (-len(seen[key]), area(seen[key][0]), key)):
        if key[0] not in ids:
            found.append(key)
            ids.add(key[0])
    return found[:n]


def drawn_rows(looks: Looks, n: int = 3) -> Rows:
    """What `overlays` shows, as values: setting, tweet, entity, attention to each cell row by row."""
    found = [
        (name, look)
        for key in most_boxed(looks, n)
        for name, of_setting in looks.items()
        if (look := look_at(of_setting, key))
    ]
    return [
        {
            "setting": name,
            "id": look.example.id,
            "entity": look.gold.text,
            "heat": np.round(look.heat.astype(float), 2).tolist(),
        }
        for name, look in found
    ]


def look_at(of_setting: Sequence["Look"], key: tuple[str, int]) -> "Look | None":
    """The look at an entity in the answer."""
    return next(
        (look for look in of_setting if look.part == "answer" and (look.example.id, look.gold.start) == key),
        None,
    )
