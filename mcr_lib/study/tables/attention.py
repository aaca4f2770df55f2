"""Attention sections of notebook 06: where settings look when they write a location, and if it matters."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mcr_lib import metrics
from mcr_lib.data import probes
from mcr_lib.data.predictions import parse_prediction, read_predictions
from mcr_lib.schema import Example
from mcr_lib.statistics import Ratio
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import facts, scoring
from mcr_lib.study.tables.bias import Rows, estimate
from mcr_lib.training import families

if TYPE_CHECKING:
    from mcr_lib.training.attention import EntityKey, Look, Share

Looks = Mapping[str, Sequence["Look"]]  # setting -> its looks
ROWS_OF_T5 = {"normal": "SFT, right", "textual bias": "SFT, textual bias", "MCR": "MCR"}  # by group
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
        if _is_measurable(study, name):
            from mcr_lib.training.attention import look

            given = _answered(study, name, examples)
            by_setting[name] = look(study.load(name), given, prompt=study[name].prompt)
    return by_setting


def image_shares(study: Study) -> dict[str, list["Share"]]:
    """The paper's share (Table 5) of the first plain fine-tuning at entities that the image does not show, up
    to `attention_answers` that it answers with none ("normal") and boxes ("textual bias"), drawn at random;
    ours: at as many boxes of entities that it shows, since the digits of a box are other words than none, and
    settings of CVO at the same ones, so that a difference is one of models.
    """
    n, settings = study.config.attention_answers * (study.config.attention_examples > 0), study.settings
    plain = next((name for name, one in settings.items() if (one.stage, one.rows) == ("sft", "answers")), "")
    if not n or not plain or not _is_measurable(study, plain):
        return {}
    from mcr_lib.training import attention

    of_cvo = [name for name, one in settings.items() if one.stage == "cvo" and _is_measurable(study, name)]
    tweets, by_setting = study.examples(study.config.eval_split), {}
    answers = {name: _answered(study, name, tweets) for name in (plain, *of_cvo)}
    keys = _drawn(answers[plain], n, study.config.seed)
    drawn = {id for id, _ in keys}
    for name, answered in answers.items():
        given = [(example, row) for example, row in answered if example.id in drawn]
        by_setting[name] = attention.image_shares(study.load(name), given, keys, prompt=study[name].prompt)
    return by_setting


def paper_shares() -> dict[str, float]:
    """Group -> attention on the image in percent in the paper's Table 5."""
    table = facts.table("T5")
    return {group: table[row]["vision"] for group, row in ROWS_OF_T5.items()}


def _is_measurable(study: Study, name: str) -> bool:
    known = families.FAMILIES.get(study.config.family)
    if known and "linear_attention" in known.lora_per_layer:  # most layers have no map of attention
        return False
    return study[name].modality == "full" and study.can_answer(name) and study.is_answered(name)


def _answered(study: Study, name: str, examples: Sequence[Example]) -> list[tuple[Example, Any]]:
    rows = {row.id: row for row in read_predictions(study.answer(name))[1]}
    return [(e, rows[e.id]) for e in examples if e.images and e.id in rows]


def _drawn(answered: Sequence[tuple[Example, Any]], n: int, seed: int) -> set["EntityKey"]:
    """Up to n entities that are not shown and answered with none, as many boxed, and as many shown boxed."""
    keys: dict[Any, list[EntityKey]] = {(False, False): [], (False, True): [], (True, True): []}
    for example, row in answered:
        parsed, entities = parse_prediction(row, example, "strict")
        for predicted, gold in metrics.judge(example, entities).matched if parsed.reason is None else ():
            if (kind := (gold.is_groundable, bool(predicted.boxes_xyxy))) in keys:
                keys[kind].append((example.id, gold.start))
    rng = np.random.default_rng(seed)
    return {some[k] for some in keys.values() for k in rng.permutation(len(some))[:n]}


def share_rows(study: Study, shares: Mapping[str, Sequence["Share"]]) -> Rows:
    """Per group of Table 5 and setting the mean share of the image and of the sentence in percent."""
    result = []
    for name, of_setting in shares.items():
        shown, absent = ([s for s in of_setting if s.gold.is_groundable is flag] for flag in (True, False))
        groups = {"normal": [s for s in absent if not s.is_boxed]}
        groups["textual bias"] = [s for s in absent if s.is_boxed]
        groups = ({"MCR": absent} if study[name].stage == "cvo" else groups) | {"shown": shown}
        for group, some in groups.items():
            row = {"group": group, "setting": name, "answers": len(some)}
            row |= {"boxed": sum(one.is_boxed for one in some)}
            estimated = _mean([one.example.id for one in some], [one.image for one in some], study, "image")
            sentence = None if estimated["image"] is None else round(100 - estimated["image"], 1)
            result.append({**row, **estimated, "sentence": sentence})
    return result


def _mean(ids: Sequence[str], values: Sequence[float], study: Study, key: str, **how: Any) -> dict[str, Any]:
    """The mean of values (`nan` = undefined) with its interval over the tweets `ids`."""
    tweets, values = list(dict.fromkeys(ids)), np.array(values, dtype=float)
    at = np.array([tweets.index(id) for id in ids], dtype=np.int64)[~np.isnan(values)]
    sums = np.bincount(at, values[~np.isnan(values)], len(tweets))
    ratio = Ratio(sums, np.bincount(at, minlength=len(tweets)))
    return estimate(ratio, study.config, key, ends=key, **{"digits": 1, **how})


def rows(study: Study, looks: Looks) -> Rows:
    """Per setting and part the means over boxes, intervals over tweets; `None` = never measured."""
    result = []
    for name, part in product(looks, PARTS):
        if not (some := [look for look in looks[name] if look.part == part]):
            continue
        ids = [look.example.id for look in some]
        row = {"setting": name, "part": part, "boxes": len(some), "tweets": len(set(ids))}
        row["log_probability"] = round(float(np.mean([look.log_probability for look in some])), 3)
        row["sinks"] = round(float(np.mean([look.n_sinks for look in some])), 2)
        for key in METRICS:
            cut = key.removeprefix("cut_")
            values = [look.mass[key].mean() if cut == key else look.cuts[cut] for look in some]
            row |= _mean(ids, values, study, key, scale=100, digits=3)
        result.append(row)
    return result


def result_rows(study: Study, rows: Sequence[Mapping[str, Any]], shares: Rows = ()) -> Rows:
    """Rows of `results.csv`: attention_<group>_<part> (1 = a token's share), cut_<kind>_<part> (nats), and
    attention_on_image_<group of Table 5> (percent).
    """
    if not rows and not shares:
        return []
    c, how = study.config, scoring.options(study.config) | {"parse": "strict"}
    of_run = {"split": c.eval_split, "seed": c.seed, "signature": scoring.signature(chosen(study), how)}
    pairs = product(rows, METRICS.items())
    named = [(row, f"{name}_{row['part']}", key, row["tweets"]) for row, (key, name) in pairs]
    groups = [f"attention_on_image_{row['group'].lower().replace(' ', '_')}" for row in shares]
    named += [(row, name, "image", row["answers"]) for row, name in zip(shares, groups, strict=True)]
    return [
        {"setting": row["setting"], "metric": metric, "value": row[key], "ci_low": row[f"{key}_low"],
         "ci_high": row[f"{key}_high"], "n": n, **of_run} for row, metric, key, n in named
    ]  # fmt: skip
