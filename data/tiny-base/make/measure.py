"""Measures of a base: its abilities and its shortcuts, on held-out tweets.

On clean captions: MNER F1, and the share of correctly named entities whose box has IoU > 0.5. On `gmner`:
scores, false and missed grounding, and how often bait is named, with the picture and with a blank one of its
mean colour; the difference is the effect of the picture. Of pictures as in training: F1 of what a description
says of their emblems. Of text alone, and of a picture that the model describes first: verdicts on whether a
description holds a look. With chains before the answer (on a quarter of the tweets, since they are long):
scores and readable answers.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice, product, zip_longest
from typing import Any

from PIL import Image, ImageStat

import tasks
from mcr_lib import bias, boxes, metrics, prompts, testbed
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.metrics import Judged
from mcr_lib.testbed import drawing, teacher
from mcr_lib.training.backbones import Backbone
from mcr_lib.training.generate import answer_batch

MAX_NEW_TOKENS, MAX_NEW_TOKENS_CHAIN = 128, 192
HELD_OUT = {"dev": 10**6, "test": 10**6 + 1}  # seeds of rows that no phase takes
_VERDICT = re.compile(" (found|missing) ")
STYLES = ("distill", "terse")  # of the chains that are measured: those it was pretrained on


def measure(
    backbone: Backbone, *, split: str, n: int, batch_size: int = 128,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure one split, in percent rounded to 2 decimals, with counts.

    Args:
        split: "dev" or "test".
        n: tweets of each distribution.
        progress: called with a line as each part begins.
    """
    report = progress or (lambda line: None)
    clean = replace(testbed.find("caption"), damaged=0.0)
    report(f"{split}: {n} captions")
    items = [testbed.make("caption", split, k, knobs=clean) for k in range(n)]
    captions, _ = _judged(backbone, items, batch_size)
    of_chains = {"caption": items[: -(-n // 4)]}
    items = [testbed.make("gmner", split, k) for k in range(n)]
    report(f"{split}: {n} tweets")
    tweets, _ = _judged(backbone, items, batch_size)
    of_chains["gmner"] = items[: -(-n // 4)]
    report(f"{split}: {n} tweets with a blank picture")
    blank, _ = _judged(backbone, items, batch_size, is_blank=True)
    report(f"{split}: {n} descriptions, and chains in {len(STYLES)} styles of {-(-n // 4)} tweets each")
    chains = {}
    for (name, some), style in product(of_chains.items(), STYLES):
        judged, n_read = _judged(backbone, some, batch_size, style=style)
        false = _rounded(bias.textual_bias(judged)["false_grounding"].percent)
        scores = {"gmner_f1": _f1(judged, "gmner"), "false_grounding": false}
        chains[f"{name}_{style}"] = {"n": len(some), **scores, "readable": _rounded(100 * n_read / len(some))}
    textual = {name: _rounded(ratio.percent) for name, ratio in bias.textual_bias(tweets).items()}
    caption_f1, gmner_f1 = (
        {f"{task}_f1": _f1(judged, task) for task in tasks}
        for judged, tasks in ((captions, ("mner", "gmner")), (tweets, metrics.TASKS))
    )
    n_bait = sum(bool(m.example.image_only) for m in items)
    return {
        "n": n,
        "caption": {**caption_f1, **_box_accuracy(captions)},
        "gmner": {**gmner_f1, **_box_accuracy(tweets), **textual},
        "bait": {"named_rate": _bait_rate(tweets), "named_rate_blank": _bait_rate(blank), "n_tweets": n_bait},
        "describe": _descriptions(backbone, split, n, batch_size),
        **{task: _verdicts(backbone, task, split, n, batch_size) for task in ("compare", "judge")},
        **chains,
    }


def described(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Return F1 in percent of the emblems of pictures, as multisets: of their looks, and with place.

    Args:
        pairs: a description and the right one, each as the model writes it.

    Example:
        >>> described([(" top left red disc dot ; top left red disc bar .", " top right red disc dot .")])
        {'look_f1': 66.67, 'look_place_f1': 0.0}
    """
    emblems = [[_emblems(text) for text in pair] for pair in pairs]
    result = {}
    for key, first in (("look_f1", 2), ("look_place_f1", 0)):
        counts = [[Counter(tuple(words[first:]) for words in one) for one in pair] for pair in emblems]
        n_right = sum((said & true).total() for said, true in counts)
        n_all = sum(said.total() + true.total() for said, true in counts)
        result[key] = round(200 * n_right / n_all, 2) if n_all else 0.0
    return result


def _emblems(description: str) -> list[list[str]]:
    said = description.strip().removesuffix(".").strip()
    return [] if said == teacher.EMPTY else [emblem.split() for emblem in said.split(" ; ")]


def _descriptions(backbone: Backbone, split: str, n: int, batch_size: int) -> dict[str, Any]:
    pairs: list[tuple[str, str]] = []
    for start in range(0, n, batch_size):
        ks = range(start, min(n, start + batch_size))
        items = [testbed.make("gmner", split, k, knobs=tasks.BUSY) for k in ks]
        pictures = [drawing.draw(item.scene) for item in items]
        chats = [tasks.user(tasks.DESCRIBE, picture) for picture in pictures]
        images = [[picture] for picture in pictures]
        texts, _ = answer_batch(backbone, chats, images, max_new_tokens=MAX_NEW_TOKENS)
        pairs += zip(texts, (teacher.describe(item.example) for item in items), strict=True)
    return described(pairs)


def compared(pairs: Iterable[tuple[str, str]]) -> dict[str, float | None]:
    """Return, in percent, how many verdicts are right on looks that are there, and on those that are missing.

    Args:
        pairs: an answer and the right one, each as the model writes it; verdicts are compared in order.

    Example:
        >>> right = " red disc dot found top right ; red disc bar missing ;"
        >>> compared([(" red disc dot found top left ;", right)])
        {'found': 100.0, 'missing': 0.0}
    """
    n_right, n_all = Counter(), Counter()
    for verdicts in ([_VERDICT.findall(text) for text in pair] for pair in pairs):
        for said, true in zip_longest(*verdicts):
            n_all[true] += 1  # of `None`, a verdict too many, nothing is made
            n_right[true] += said == true
    return {
        word: round(100 * n_right[word] / n_all[word], 2) if n_all[word] else None
        for word in ("found", "missing")
    }


def _verdicts(backbone: Backbone, task: str, split: str, n: int, batch_size: int) -> dict[str, Any]:
    rows = list(islice(tasks.rows(task, seed=HELD_OUT[split]), n))
    texts: list[str] = []
    for start in range(0, n, batch_size):
        batch = rows[start : start + batch_size]
        images = [[row.image] if row.image is not None else [] for row in batch]
        chats = [row.chat for row in batch]
        texts += answer_batch(backbone, chats, images, max_new_tokens=MAX_NEW_TOKENS)[0]
    return compared(zip(texts, (row.answer for row in rows), strict=True))


def _judged(
    backbone: Backbone, items: Sequence[testbed.Generated], batch_size: int, *, is_blank: bool = False,
    style: str | None = None,
) -> tuple[list[Judged], int]:  # fmt: skip
    """Return the judged answers, after a chain of a style if one is given, and how many can be read."""
    prompt, most = ("mcr", MAX_NEW_TOKENS_CHAIN) if style else ("direct", MAX_NEW_TOKENS)
    order = sorted(range(len(items)), key=lambda k: len(items[k].example.text))
    judged: dict[int, Judged] = {}
    n_read = 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        pictures = [drawing.draw(items[k].scene) for k in batch]
        pictures = [_blank(picture) for picture in pictures] if is_blank else pictures
        examples = [replace(items[k].example, images=("drawn",)) for k in batch]
        chats = [prompts.messages(e, prompt, wording=backbone.wording, style=style) for e in examples]
        images = [[picture] for picture in pictures]
        texts, sizes = answer_batch(backbone, chats, images, max_new_tokens=most)
        for k, example, text, size in zip(batch, examples, texts, sizes, strict=True):
            answer = Prediction(
                example.id, text, coordinate_space=backbone.space, model_size=size[0],
                image_size_px=example.image_size_px,
            )  # fmt: skip
            parsed, entities = parse_prediction(answer, example, "strict")
            judged[k], n_read = metrics.judge(example, entities), n_read + (parsed.reason is None)
    return [judged[k] for k in range(len(items))], n_read


def _blank(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, tuple(round(value) for value in ImageStat.Stat(picture).mean))


def _f1(judged: Sequence[Judged], task: str) -> float:
    totals = metrics.totals([metrics.outcome(j, task) for j in judged])
    return _rounded(metrics.ratios(totals)["f1"].percent) or 0.0


def _box_accuracy(judged: Sequence[Judged]) -> dict[str, Any]:
    shown = [(predicted, gold) for j in judged for predicted, gold in j.matched if gold.is_groundable]
    hits = sum(bool(p.boxes_xyxy) and boxes.is_hit(p.boxes_xyxy[0], g.boxes_xyxy_px) for p, g in shown)
    return {"box_accuracy": _rounded(100 * hits / len(shown)) if shown else None, "n_boxes": len(shown)}


def _bait_rate(judged: Sequence[Judged]) -> float | None:
    """Return the share of tweets with bait in the picture in which some bait is named."""
    names = [
        ({p.text for p in j.predictions}, {bait.text for bait in j.example.image_only})
        for j in judged
        if j.example.image_only
    ]
    return _rounded(100 * sum(bool(named & bait) for named, bait in names) / len(names)) if names else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
