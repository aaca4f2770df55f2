"""README's picture: one tweet of a run, answered by the base model and after MCR, drawn from their answers.

The rule: a tweet of the scored split with an entity that its picture shows and one that it does not. The base
boxes one that is not shown, and MCR's answer is wholly right. Tweets whose reasoning states the answer come
first, then those with few names, then those that name an absent person, then the shortest reasoning.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mcr_lib import boxes, chains, metrics
from mcr_lib.boxes import Box
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.metrics import Judged
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.figures import palette
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables import scoring
from mcr_lib.study.tables.scoring import ScoredFile
from mcr_lib.verify import BOX
from tools import readme

SETTINGS = {"base": "Base model: takes the textual shortcut", "mcr": "After MCR: the answer is right"}
_SHORTCUT = [
    ("The shortcut: what the text names gets a box,", {}),
    ("whether the picture shows it or not.", {}),
]
_INCHES, _DPI = 8.0, 200  # 800 px wide where it is shown


@dataclass(frozen=True)
class Tweet:
    """The chosen tweet: its two answers, what is said of it, and of how many it is one."""

    example: Example
    by_setting: Mapping[str, Judged]
    reasoning: str  # MCR's, as it wrote it
    claimed: Sequence[Box]  # boxes of the reasoning that the answer lacks, in pixels of the original image
    facts: Mapping[str, Any]  # for tour.json


def choose(folder: RunFolder, split: str) -> Tweet:
    """The tweet of the rule above.

    Raises:
        UserError: no tweet of the split is like that.
    """
    examples = prepare.read_examples(folder, split)
    answers = {
        n: scoring.read_answers(examples, folder.predictions(f"{n}.{split}"), "strict") for n in SETTINGS
    }
    task = {"labels": examples[0].labels, "task": examples[0].constraints}
    found = []
    for k, example in enumerate(examples):
        base, mcr = (answers[name].judged[k] for name in SETTINGS)
        parsed = answers["mcr"].parsed[k]
        if parsed is None or not parsed.think or not _is_right(mcr) or not (absent := _wrongly_boxed(base)):
            continue
        flaw = chains.faithfulness(parsed, **task)
        shown = any(entity.is_groundable for entity in example.entities)
        key = (
            not shown,
            flaw is not None,
            len(example.entities),
            "PER" not in absent.values(),
            len(parsed.think),
        )
        found.append((key, k, flaw, absent))
    if not found:
        raise UserError(
            f"no tweet of {split} is answered rightly after MCR and with a box too many before it"
        )
    _, k, flaw, absent = min(found)
    facts = {
        "id": examples[k].id, "split": split, "absent": [*absent], "flaw": flaw, "n_tweets": len(examples),
        "n_like_it": len(found), "n_like_it_faithful": sum(flaw is None for _, _, flaw, _ in found),
    }  # fmt: skip
    claimed = _claimed(answers["mcr"], k, examples[k])
    by_setting = {name: of.judged[k] for name, of in answers.items()}
    return Tweet(examples[k], by_setting, answers["mcr"].parsed[k].think.strip(), claimed, facts)


def _is_right(judged: Judged) -> bool:
    counts = metrics.outcome(judged, "gmner", "paper")
    return not counts.fp and not counts.fn


def _wrongly_boxed(judged: Judged) -> dict[str, str]:
    """Name -> type of the gold entities that have no box and are answered with one."""
    return {
        gold.text: gold.type for p, gold in judged.matched if p.boxes_xyxy and gold.is_groundable is False
    }


def _claimed(answers: ScoredFile, k: int, example: Example) -> list[Box]:
    row, size = answers.rows[k], example.image_size_px
    numbers = [re.findall(r"-?\d+(?:\.\d+)?", text) for text in BOX.findall(answers.parsed[k].think)]
    how = {"image_size": size, "model_size": row.model_size}
    claims = [boxes.from_space(tuple(map(float, of)), row.coordinate_space, **how) for of in numbers]
    answered = [p.box_xyxy for p in answers.judged[k].predictions if p.box_xyxy]
    return [
        box for box in dict.fromkeys(claims) if not any(boxes.iou(box, other) > 0.5 for other in answered)
    ]


def draw(tweet: Tweet, note: str) -> Figure:
    """The two answers side by side, 800 px wide where it is shown, every text at 11 px or more."""
    aspect = tweet.example.image_size_px[1] / tweet.example.image_size_px[0]
    image_width = min(2.9, 2.4 / aspect)
    lines = {name: _answer_lines(judged) for name, judged in tweet.by_setting.items()}
    reasoning = _reasoning_lines(tweet)
    below = 0.2 * (max(map(len, lines.values())) + len(reasoning)) + 0.35
    top, bottom, height = 0.75, 0.3, image_width * aspect
    figure = Figure((_INCHES, top + height + below + bottom), dpi=_DPI, facecolor="white")
    total = figure.get_figheight()

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(
            x / _INCHES, 1 - y / total, text, va="top", **{"fontsize": 9, "color": palette.DARK, **style}
        )

    write(0.15, 0.1, f"“{_plain(tweet.example.text)}”", fontsize=10.5, fontweight="bold")
    for k, (name, title) in enumerate(SETTINGS.items()):
        x = 0.15 + 4.0 * k
        write(x, 0.44, title, fontweight="bold", fontsize=10)
        where = (x / _INCHES, 1 - (top + height) / total, image_width / _INCHES, height / total)
        _panel(figure.add_axes(where), tweet, name)
        y = top + height + 0.1
        for text, is_right in lines[name]:
            write(x, y, text, fontweight="normal" if is_right else "bold")
            y += 0.2
        for text, style in reasoning if name == "mcr" else _SHORTCUT:
            write(x, y + 0.06, text, **style)
            y += 0.2
    write(0.15, total - 0.24, note, color=palette.DARK, fontsize=8)
    return figure


def _panel(ax: Axes, tweet: Tweet, name: str) -> None:
    width, height = tweet.example.image_size_px
    ax.imshow(open_image(tweet.example.images[0]), extent=(0, width, height, 0), interpolation="nearest")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.spines[:].set(color=palette.LIGHT, linewidth=0.8)
    judged, placed = tweet.by_setting[name], []
    for box in tweet.claimed if name == "mcr" else ():
        _box(ax, box, palette.MEDIUM, ":", "in the reasoning only", placed)
    for prediction in judged.predictions:
        if prediction.box_xyxy:
            is_right = _verdict(judged, prediction)[1]
            _box(
                ax,
                prediction.box_xyxy,
                palette.RIGHT if is_right else palette.REGION,
                "--",
                prediction.text,
                placed,
            )


def _box(ax: Axes, box: Box, colour: str, style: str, label: str, placed: list[float]) -> None:
    """A box with its name above it, or below where another name or the edge is in the way."""
    (x1, y1, x2, y2), height = box, ax.get_ylim()[0]
    for edge in ({"edgecolor": "white", "linewidth": 3.4}, {"edgecolor": colour, "linestyle": style}):
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **{"linewidth": 2, **edge}))
    room = 0.09 * height
    free = (y1 - room, y2 + 0.01 * height, y1 - 2 * room, y2 + room)
    inside = [y for y in free if 0 <= y <= height - room and all(abs(y - other) >= room for other in placed)]
    y = inside[0] if inside else y1
    placed.append(y)
    width = ax.get_xlim()[1]
    x = max(0.01 * width, min(x1, width * (0.97 - 0.03 * len(label))))
    frame = {"facecolor": "white", "edgecolor": colour, "linewidth": 1.4, "pad": 1.8}
    ax.text(x, y + room / 2, _plain(label), color=palette.DARK, fontsize=8, va="center", bbox=frame)


def _verdict(judged: Judged, prediction: PredictedEntity) -> tuple[str, bool]:
    gold = next((gold for p, gold in judged.matched if p is prediction), None)
    if gold is None:
        return "no such entity", False
    if prediction.type != gold.type:
        return f"wrong type, {gold.type}", False
    if not gold.is_groundable:
        return (
            ("boxed, but not in the picture", False) if prediction.box_xyxy else ("not in the picture", True)
        )
    hits = metrics.is_region_right(prediction.boxes_xyxy, gold.boxes_xyxy_px, inclusive=True)
    return (
        ("box on it", True)
        if hits
        else ("box misses" if prediction.box_xyxy else "left without a box", False)
    )


def _answer_lines(judged: Judged) -> list[tuple[str, bool]]:
    lines = []
    for prediction in judged.predictions:
        words, is_right = _verdict(judged, prediction)
        mark = "✓" if is_right else "✗"
        lines.append((f"{mark} {prediction.type or '–'} {_plain(prediction.text)}: {words}", is_right))
    found = [gold for _, gold in judged.matched]
    return lines + [
        (f"✗ {e.type} {e.text}: left out", False) for e in judged.example.entities if e not in found
    ]


def _reasoning_lines(tweet: Tweet) -> list[tuple[str, dict[str, Any]]]:
    lines: list[tuple[str, dict[str, Any]]] = [("Its reasoning, as written:", {"fontweight": "bold"})]
    for clause in re.split(r"(?<=[.;])\s+", tweet.reasoning):
        wrapped = textwrap.wrap(_plain(clause), 58, subsequent_indent="   ")
        lines += [(text, {"family": "DejaVu Sans Mono", "fontsize": 8}) for text in wrapped]
    flaw = tweet.facts["flaw"]
    verdict = f"✗ the reasoning {readme.said(flaw)}" if flaw else "✓ the reasoning states the answer"
    return [*lines, *((text, {"fontweight": "bold"}) for text in textwrap.wrap(verdict, 48))]


def _plain(text: str) -> str:
    return "".join(c if ord(c) < 0x2600 else "·" for c in text).replace("$", r"\$")
