"""What notebook 06 counts of the answers that `bias_found` finds, as rows of tables, figures and results.csv."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mcr_lib import bias, chains, metrics, statistics, yardsticks
from mcr_lib.data import probes
from mcr_lib.data.files import write_json
from mcr_lib.schema import FORMAT_VERSION, Example, checksum
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables import comparison as compared
from mcr_lib.study.tables.bias_found import Answers, BiasResults

Rows = list[dict[str, Any]]
Faults = Mapping[str, str | None]
"""Id of a tweet -> the `bias.fault` of an answer to it."""

CONTROLS = ("mute_blank",)
"""Variants that something else is held against; they say nothing of consistency."""

WRONG = ("own entity, inexact", "another entity", "image only", "background")
"""What a wrong box may show (`bias.wrong_boxes`)."""

FAITHFUL = ("name", "answers", "faithful", "share", "ci_low", "ci_high")
"""Keys of `faithful_rows` beside the flaws."""

TEXTUAL = ("n_pre", "n_rec", "n_f1", "false_grounding", "missed_grounding", "balanced_accuracy")


def grounding_rows(found: BiasResults) -> Rows:
    """Per name, and per rule that looks at nothing, the metrics of textual bias with intervals, on all
    entities and (`hard`) on those of tweets that show one of their type and lack another.
    """
    rows, n = [], len(found.examples)
    for name, report in found.reports.items():
        textual = report.get("textual_bias")
        rows += (
            [_metric_row(name, "setting", part, k, values) for part, k, values in _parts(textual, n)]
            if textual
            else []
        )
    if "box" in found.examples[0].constraints:
        n_hard = sum(any(bias.is_hard(example, e) for e in example.entities) for example in found.examples)
        for name, judged in _blind(found).items():
            for part, k in (("all", n), ("hard", n_hard)):
                ratios = bias.textual_bias(judged, only_hard=part == "hard")
                values = {key: ratio.percent for key, ratio in ratios.items()}
                values["balanced_accuracy"] = bias.balanced_accuracy(
                    values["false_grounding"], values["missed_grounding"]
                )
                rows.append(_metric_row(name, "blind rule", part, k, {**values, "ci95": {}}))
    return rows


def _blind(found: BiasResults) -> dict[str, list[metrics.Judged]]:
    """Rule that looks at nothing -> its judged answers, with perfect text."""
    return {
        name: [metrics.judge(e, yardsticks.YARDSTICKS[name](e)) for e in found.examples]
        for name in yardsticks.BLIND
    }


def _parts(textual: Mapping[str, Any], n: int) -> list[tuple[str, int, Mapping[str, Any]]]:
    return [("all", n, textual), ("hard", textual["hard"]["n_tweets"], textual["hard"])]


def _metric_row(name: str, kind: str, part: str, n: int, values: Mapping[str, Any]) -> dict[str, Any]:
    row = {"name": name, "kind": kind, "entities": part, "tweets": n}
    for key in TEXTUAL:
        low, high = (values["ci95"].get(key) or (None, None)) if values[key] is not None else (None, None)
        row |= {
            key: None if values[key] is None else round(values[key], 2),
            f"{key}_low": low,
            f"{key}_high": high,
        }
    return row


def naming_rows(found: BiasResults) -> Rows:
    """Per name, and per rule that looks at nothing, N-Count, predictions, N-Rate with its interval, and the
    altered ones.
    """
    rows = []
    for name, report in found.reports.items():
        visual = report["visual_bias"]
        low, high = visual["ci95"]["n_rate"] or (None, None)
        rows.append(
            {
                "name": name, "kind": "setting", "n_count": visual["n_count"], "n_predictions": visual["n_predictions"],
                "n_rate": visual["n_rate"], "n_rate_low": low, "n_rate_high": high, "altered": visual["altered"],
            }
        )  # fmt: skip
    for name, judged in _blind(found).items() if rows else ():
        rates = bias.visual_bias(judged)
        counts = {
            "n_count": int(rates["n_rate"].numerator.sum()),
            "n_predictions": int(rates["n_rate"].denominator.sum()),
        }
        told = {"n_rate": rates["n_rate"].percent, "n_rate_low": None, "n_rate_high": None}
        rows.append(
            {
                "name": name,
                "kind": "blind rule",
                **counts,
                **told,
                "altered": int(rates["altered_rate"].numerator.sum()),
            }
        )
    return rows


def invented_rows(found: BiasResults) -> Rows:
    """Per split and name N-Count, predictions, and where the names come from that the text lacks
    (`bias.invented_names`).
    """
    rows = []
    for split, of_split in {found.config.eval_split: found.answers, **found.beside}.items():
        for name, answers in of_split.items():
            kinds = bias.invented_names(answers.judged, found.trained_on)
            n = sum(len(j.predictions) for j in answers.judged)
            rows.append(
                {"name": name, "split": split, "n_count": sum(kinds.values()), "n_predictions": n, **kinds}
            )
    return rows


def sharing_rows(found: BiasResults) -> Rows:
    """Per name what its wrong boxes show, and pairs of its predictions that share a box."""
    rows = []
    for name, report in found.reports.items():
        if "textual_bias" in report:
            textual = report["textual_bias"]
            shared, gold = textual["box_sharing"]["pairs"], textual["box_sharing"]["gold_pairs"]
            rows.append(
                {
                    "name": name,
                    **textual["wrong_boxes"],
                    "pairs that share a box": shared,
                    "gold pairs that do": gold,
                }
            )
    return rows


def consistency_rows(found: BiasResults) -> Rows:
    """Per name and variant: tweets, those right on the original, those of them that are clean on the probe,
    with the interval of the share, and of the others what is first wrong. Variant "all": clean on every probe
    of the tweet but controls; "blank": the worst of the three; both only of a name that answered all of them,
    for others would have less to fail.
    """
    made = [variant for variant in found.probes if variant not in CONTROLS]
    rows = []
    for name, probed in found.probed.items():
        before, chosen = (
            found.answers[name].faults,
            {v: a.faults for v, a in probed.items() if v not in CONTROLS},
        )
        of_name = [
            _consistency_row(found, name, variant, before, faults) for variant, faults in chosen.items()
        ]
        blank = [
            row
            for row in of_name
            if row["probe"] in probes.PROBES["blank"] and row["consistency"] is not None
        ]
        if blank and len(blank) == sum(variant in made for variant in probes.PROBES["blank"]):
            worst = min(blank, key=lambda row: row["consistency"])
            of_name.insert(len(blank), {**worst, "probe": "blank", "worst": worst["probe"]})
        if chosen and set(chosen) == set(made):
            of_name.append(_consistency_row(found, name, "all", before, together(chosen)))
        rows += of_name
    return rows


def together(by_probe: Mapping[str, Faults]) -> dict[str, str | None]:
    """Id of a tweet -> what is wrong with the first answer that is not clean, over all probes of it; `None`
    where all are clean.

    Example:
        >>> together({"erase": {"1": None, "2": None}, "mute": {"1": "box misses"}})
        {'1': 'box misses', '2': None}
    """
    ids = dict.fromkeys(id for faults in by_probe.values() for id in faults)
    return {
        id: next((faults[id] for faults in by_probe.values() if faults.get(id) is not None), None)
        for id in ids
    }


def _consistency_row(
    found: BiasResults,
    name: str,
    variant: str,
    before: Mapping[str, str | None],
    after: Mapping[str, str | None],
) -> dict[str, Any]:
    ratio = bias.consistency([before[id] for id in after], list(after.values()))
    low, high = statistics.interval95(ratio, found.weights(len(after))) or (None, None)
    kinds = Counter(fault for id, fault in after.items() if fault is not None and before[id] is None)
    percent = ratio.percent
    return {
        "name": name, "probe": variant, "worst": "", "tweets": len(after), "right": int(ratio.denominator.sum()),
        "clean": int(ratio.numerator.sum()), "consistency": None if percent is None else round(percent, 2),
        "ci_low": None if low is None else round(low, 2), "ci_high": None if high is None else round(high, 2),
        **{kind: kinds[kind] for kind in bias.FAULTS},
    }  # fmt: skip


def image_caused_rows(found: BiasResults) -> Rows:
    """Per name and text (as it is, muted): N-Rate at the real image and at a blank one, and the difference
    with interval and p.

    Of the three blank images the one with the largest difference is told, and which one it is.
    """
    rows = []
    for name, probed in found.probed.items():
        pairs = [
            ("as it is", found.answers[name], probed[v], v) for v in probes.PROBES["blank"] if v in probed
        ]
        if pairs:
            rows.append(
                max(
                    (_image_caused_row(found, name, *pair) for pair in pairs),
                    key=lambda row: row["difference"],
                )
            )
        if "mute" in probed and "mute_blank" in probed:
            rows.append(
                _image_caused_row(found, name, "muted", probed["mute"], probed["mute_blank"], "blank_mean")
            )
    return rows


def _image_caused_row(
    found: BiasResults, name: str, text: str, real: Answers, blank: Answers, variant: str
) -> dict[str, Any]:
    ids = list(blank.faults)
    at_real, at_blank = real.of(ids), blank.judged
    rng = np.random.default_rng(found.config.seed)
    test = bias.image_caused(at_real, at_blank, n_resamples=found.config.n_resamples, rng=rng)
    row: dict[str, Any] = {"name": name, "text": text, "blank": variant, "tweets": test.n}
    for image, judged in (("real", at_real), ("blank", at_blank)):
        rate = bias.visual_bias(judged)["n_rate"]
        counts = {
            "n_count": int(rate.numerator.sum()),
            "n_predictions": int(rate.denominator.sum()),
            "n_rate": round(rate.percent or 0, 2),
        }
        row |= {f"{key} {image}": value for key, value in counts.items()}
    low, high = test.ci95
    return row | {
        "difference": round(test.difference, 2),
        "ci_low": round(low, 2),
        "ci_high": round(high, 2),
        "p": round(test.p_value, 4),
    }


def rename_rows(found: BiasResults) -> Rows:
    """Per name and sign ("old box", "old name"): renamed tweets that show it, with the interval of the share."""
    rows = []
    old = {probe.example.id: probe.changed for probe in found.probes.get("rename", ())}
    for name, probed in found.probed.items():
        if "rename" in probed:
            signs = [bias.old_signs(j, old[j.example.id]) for j in probed["rename"].judged]
            for sign in ("old box", "old name"):
                ratio = statistics.Ratio(
                    np.array([sign in some for some in signs], dtype=np.int64),
                    np.ones(len(signs), dtype=np.int64),
                )
                low, high = statistics.interval95(ratio, found.weights(len(signs))) or (0.0, 0.0)
                rows.append({"name": name, "sign": sign, "tweets": len(signs), "count": int(ratio.numerator.sum()),
                             "share": round(ratio.percent, 2), "ci_low": round(low, 2), "ci_high": round(high, 2)})  # fmt: skip
    return rows


def faithful_rows(found: BiasResults) -> Rows:
    """Per name that reasons: answers, those whose reasoning states just what they answer, with the interval
    of the share, else the flaw.
    """
    rows = []
    for name, answers in found.answers.items():
        if not answers.reasons:
            continue
        labels, task = found.examples[0].labels, found.examples[0].constraints
        flaws = [
            "unread" if p is None else chains.faithfulness(p, labels=labels, task=task)
            for p in answers.parsed
        ]
        is_faithful = np.array([flaw is None for flaw in flaws], dtype=np.int64)
        ratio = statistics.Ratio(is_faithful, np.ones(len(flaws), dtype=np.int64))
        low, high = statistics.interval95(ratio, found.weights(len(flaws))) or (0.0, 0.0)
        counts = Counter(flaw for flaw in flaws if flaw is not None)
        rows.append({"name": name, "answers": len(flaws), "faithful": int(is_faithful.sum()), "share": round(ratio.percent, 2),
                     "ci_low": round(low, 2), "ci_high": round(high, 2), **dict(counts.most_common())})  # fmt: skip
    return rows


def one_tweet(found: BiasResults) -> dict[str, Example]:
    """A tweet as it is and under every probe: of those probed the one to which most probes apply, with most
    entities.
    """
    by_id: dict[str, dict[str, Example]] = {}
    for variant, made in found.probes.items():
        for probe in made:
            by_id.setdefault(probe.example.id, {})[variant] = probe.example
    if not by_id:
        return {}
    original = {example.id: example for example in found.examples if example.id in by_id}
    id = max(by_id, key=lambda id: (len(by_id[id]), len(original[id].entities), id))
    return {"original": original[id], **by_id[id]}


def drawn_rows(tweets: Mapping[str, Example]) -> Rows:
    """What a picture of `one_tweet` shows, as values."""
    return [
        {
            "probe": name,
            "id": e.id,
            "text": e.text,
            "gold": [(g.text, g.type, g.boxes_xyxy_px) for g in e.entities],
        }
        for name, e in tweets.items()
    ]


def result_rows(found: BiasResults, told: Mapping[str, Rows]) -> Rows:
    """Rows of results.csv for what 05 does not tell.

    Args:
        told: "grounding", "invented", "sharing", "consistency", "image caused", "rename", "faithful" -> the
            rows of that function.
    """
    rows = []
    for row in told["grounding"]:
        if row["kind"] == "setting" and row["entities"] == "hard":
            rows += [_result(found, row, f"{key}_hard", key, f"{key}_low", f"{key}_high") for key in TEXTUAL]
    for row in told["sharing"]:
        named = {
            key: f"wrong_box_{_slug(key)}" if key in WRONG else _slug(key) for key in row if key != "name"
        }
        rows += [_result(found, row, metric, key) for key, metric in named.items()]
    for row in told["invented"]:
        rows += [
            _result(found, row, f"n_count_{_slug(kind)}", kind, split=row["split"])
            for kind in bias.INVENTED
            if kind in row
        ]
    for row in told["consistency"]:
        metric = "consistency" if row["probe"] == "all" else f"consistency_{row['probe']}"
        rows.append(_result(found, row, metric, "consistency", n="right", probe=row["worst"] or row["probe"]))
    for row in told["image caused"]:
        metric = "image_caused_n_rate" + "_muted" * (row["text"] == "muted")
        rows.append(_result(found, row, metric, "difference", n="tweets", probe=row["blank"]))
    for row in told["rename"]:
        rows.append(_result(found, row, f"renamed_{_slug(row['sign'])}", "share", n="tweets", probe="rename"))
    return rows + [_result(found, row, "faithful", "share", n="answers") for row in told["faithful"]]


def _result(
    found: BiasResults,
    row: Mapping[str, Any],
    metric: str,
    value: str,
    low: str = "ci_low",
    high: str = "ci_high",
    *,
    n: str = "",
    probe: str = "",
    split: str | None = None,
) -> dict[str, Any]:
    c, split = found.config, split or found.config.eval_split
    examples = found.tweets(split)
    extra: dict[str, Any] = {"resamples": c.n_resamples, "seed": c.seed}
    if probe:
        tweets = [
            p.example for variant, made in found.probes.items() if probe in (variant, "all") for p in made
        ]
        extra |= {"probe": f"{probe}:{checksum(tweets or examples)}"}
    signature = metrics.signature(
        scorer=c.scorer,
        source=examples[0].source,
        checksum=checksum(examples),
        split=split,
        parse=c.parse,
        extra=extra,
    )
    return {
        "setting": row["name"], "split": split, "seed": c.seed, "metric": metric, "value": row[value], "ci_low": row.get(low),
        "ci_high": row.get(high), "n": row[n] if n else len(examples), "signature": signature,
    }  # fmt: skip


def _slug(text: str) -> str:
    return text.replace(",", "").replace(" ", "_")


def write(
    found: BiasResults, folder: RunFolder, told: Mapping[str, Rows], results: Rows, note: str
) -> list[str]:
    """Write `scores/bias.json` (all rows, and what is missing) and add to `results.csv`; a line per file."""
    write_json(
        folder.score("bias"),
        {"format_version": FORMAT_VERSION, **told, "missing": found.missing, "note": note},
    )
    return ["scores/bias.json", *(compared.add_results(folder, results) if results else [])]
