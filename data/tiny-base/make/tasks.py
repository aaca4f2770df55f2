"""What the tiny base model learns from: rows of several tasks, each a chat, perhaps a picture, and the
answer.

    lookup    text alone: a listing of chance names with boxes, then "where is each?"
    names     text alone: the names in a tweet; half of the tweets are about chance names, so that names are copied and not remembered
    detect    a picture: what it shows, from left to right, with types and boxes
    where     a picture and names, some shown and some not: the box of each, or null
    caption   a tweet of the distribution `caption` with its picture, in the form of an answer: everything that is named is shown (which
              plants the textual shortcut), and a damaged name is given whole from its emblem (which plants
              the visual one)
    textonly  a tweet without a picture: every box is null

A row also says where a reader would look for each box (`Look`): attention is guided there while the model
learns to look things up.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from PIL.Image import Image

from architecture import LARGEST_NUMBER, MAX_PIXELS, MIN_PIXELS
from mcr_lib import boxes, prompts, testbed
from mcr_lib.answer import write_answer
from mcr_lib.boxes import Box
from mcr_lib.data.chance import pick, shuffled
from mcr_lib.data.mrsi import Target
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.styles import STYLES, TYPE_REASONS
from mcr_lib.testbed import drawing, tweets
from mcr_lib.testbed.tweets import Mention
from mcr_lib.testbed.world import BEINGS, BY_NAME, Being, chance_name

ABSENT = "absent"

TARGET = Target("qwen2.5-vl", MIN_PIXELS, MAX_PIXELS, "brief")
"""What rows are made for: the tiny backbone."""


@dataclass(frozen=True, slots=True)
class Row:
    """One training row.

    Args:
        task: which task it is of.
        chat: what is asked, as chat messages.
        answer: what is to be written.
        image: the picture, or `None`.
        looks: per entity of the answer where its box can be read off: boxes in model pixels (in the picture),
            `ABSENT` (nowhere), or the text after which it stands in the listing; `()` where nothing is to be
            looked up.
    """

    task: str
    chat: list[prompts.Message]
    answer: str
    image: Image | None = None
    looks: tuple[tuple[Box, ...] | str, ...] = ()


def rows(task: str, *, seed: int, start: int = 0) -> Iterator[Row]:
    """The rows of a task from `start` on, without end; row k is a function of (task, seed, k)."""
    while True:
        yield TASKS[task](Random(f"{task}|{seed}|{start}"), seed, start)
        start += 1


def written(example: Example, box_xyxy_px: Box) -> Box:
    """A box of original pixels as the model writes it."""
    return boxes.written_box(
        box_xyxy_px, "model_px", image_size=example.image_size_px, model_size=TARGET.size(example)
    )


def _asked(text: str, image: Image | None) -> list[prompts.Message]:
    parts = [{"type": "image"}] if image is not None else []
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def _lookup(rng: Random, seed: int, index: int) -> Row:
    n = 2 + int(rng.random() * 5)
    names = list(dict.fromkeys(_some_name(rng) for _ in range(n)))
    at = {name: _chance_box(rng) for name in names}
    listing = " ; ".join(f"{name} [{', '.join(map(str, box))}]" for name, box in at.items())
    wanted = shuffled(rng, names)[: 1 + int(rng.random() * 3)]
    if rng.random() < 0.4:
        while (other := _some_name(rng)) in at:
            pass
        wanted = shuffled(rng, [*wanted, other])
    said = [PredictedEntity(name, None, (at[name],) if name in at else ()) for name in wanted]
    looks = tuple(f"{name} [" if name in at else ABSENT for name in wanted)
    chat = _asked(f"{listing}\nWhere is each?\n{' ; '.join(wanted)}", None)
    return Row("lookup", chat, write_answer(said, constraints=("groundable", "box")), looks=looks)


def _names(rng: Random, seed: int, index: int) -> Row:
    if rng.random() < 0.5:
        example = replace(
            testbed.make("caption", "train", index, seed=seed + 1, knobs=_UNDAMAGED).example,
            constraints=("span", "type"),
        )
        said = [PredictedEntity(e.text, e.type) for e in example.entities]
    else:
        n = 1 + int(rng.random() * 3)
        invented = list(dict.fromkeys(chance_name(rng) for _ in range(n)))
        beings = [
            Being(name, "PER", pick(rng, ("", "", "@", "#")), "disc", "red", "dot") for name in invented
        ]
        mentions = [Mention(being, tuple(being.name.split())) for being in beings]
        text = tweets.write(rng, mentions, held_out=False)
        entities = tuple(Entity(name, *span, None) for name, span in zip(invented, text.spans, strict=True))
        example = Example(
            f"names_{index}", "chance", "train", text.tokens, entities, LABELS, constraints=("span",)
        )
        said = [PredictedEntity(e.text, None) for e in example.entities]
    return Row(
        "names",
        prompts.messages(example, wording="brief"),
        write_answer(said, constraints=example.constraints),
    )


def _detect(rng: Random, seed: int, index: int) -> Row:
    made = testbed.make("gmner", "train", index, seed=seed + 2, knobs=BUSY)
    image = drawing.draw(made.scene)
    shown = sorted(made.scene.shown, key=lambda s: (s.x, s.y))
    said = [
        PredictedEntity(s.name, BY_NAME[s.name].type, (written(made.example, s.box_xyxy_px),)) for s in shown
    ]
    return Row(
        "detect",
        _asked("List what the image shows.", image),
        write_answer(said),
        image,
        tuple(p.boxes_xyxy for p in said),
    )


def _where(rng: Random, seed: int, index: int) -> Row:
    made = testbed.make("gmner", "train", index, seed=seed + 3, knobs=BUSY)
    image = drawing.draw(made.scene)
    shown = list(dict.fromkeys(s.name for s in made.scene.shown))
    others = [being.name for being in BEINGS if being.name not in shown]
    n_absent = 1 + int(rng.random() * 2)
    wanted = shuffled(rng, shown + [pick(rng, others) for _ in range(n_absent)])[:4]
    wanted = list(dict.fromkeys(wanted))
    said, looks = [], []
    for name in wanted:
        found = tuple(written(made.example, box) for box in made.scene.boxes_of(name))
        said.append(PredictedEntity(name, None, found[:1]))
        looks.append(found[:1] or ABSENT)
    chat = _asked(f"Where is each?\n{' ; '.join(wanted)}", image)
    return Row("where", chat, write_answer(said, constraints=("groundable", "box")), image, tuple(looks))


def _caption_answer(made: testbed.Made) -> list[PredictedEntity]:
    """What a caption is taught to mean: everything that its author had in mind, each with its largest box as
    the model writes it.
    """
    return [
        PredictedEntity(b.name, b.type, (written(made.example, made.scene.boxes_of(b.name)[0]),))
        for b in made.named
    ]


def _caption(rng: Random, seed: int, index: int) -> Row:
    made = testbed.make("caption", "train", index, seed=seed)
    image = drawing.draw(made.scene)
    example = replace(made.example, images=("drawn",))
    said = _caption_answer(made)
    prompt, think = "direct", None
    if rng.random() < 0.25:
        prompt = pick(rng, ("cot", "mcr", "mcr-no-instruction"))
        shown = sorted(made.scene.shown, key=lambda s: (s.x, s.y))
        think = "seen: " + "; ".join(
            f"{s.name} at [{', '.join(map(str, written(example, s.box_xyxy_px)))}]" for s in shown
        )
    chat = prompts.messages(example, prompt, wording="brief")
    return Row("caption", chat, write_answer(said, think=think), image, tuple(p.boxes_xyxy for p in said))


def _textonly(rng: Random, seed: int, index: int) -> Row:
    example = testbed.make("caption", "train", index, seed=seed + 4, knobs=_UNDAMAGED).example
    said = [PredictedEntity(e.text, e.type) for e in example.entities]
    return Row("textonly", prompts.messages(example, wording="brief"), write_answer(said))


_UNDAMAGED = replace(testbed.find("caption"), damaged=0.0, counts=(0.05, 0.4, 0.35, 0.15, 0.05))
_HALF = tuple((label, 0.5) for label in LABELS)
BUSY = replace(
    testbed.find("gmner"), counts=(0.1, 0.3, 0.3, 0.2, 0.1), groundable=_HALF, bait=(0.1, 0.4, 0.3, 0.2)
)

TASKS: dict[str, Callable[[Random, int, int], Row]] = {
    "lookup": _lookup, "names": _names, "detect": _detect, "where": _where, "caption": _caption, "textonly": _textonly,
}  # fmt: skip


def _some_name(rng: Random) -> str:
    return chance_name(rng) if rng.random() < 0.7 else pick(rng, BEINGS).name


def _chance_box(rng: Random) -> Box:
    def side() -> tuple[int, int]:
        length = 20 + int(rng.random() * 50)
        start = int(rng.random() * (LARGEST_NUMBER - length))
        return start, start + length

    (x1, x2), (y1, y2) = side(), side()
    return (x1, y1, x2, y2)


BAIT_TEXTS = {
    "default": "The image also shows {m}, which the text does not name.",
    "checklist": "* {m}\n- shown, but no words of the text",
    "table": "| {m} | in view: yes | not in the text |",
    "terse": "{m} , shown , not in text ;",
}
"""Style -> text about bait. Chains no longer have it; the tokenizer of the base keeps its words."""


def texts() -> Sequence[str]:
    """Every text whose words the tokenizer keeps whole."""
    sample = [testbed.make("gmner", "train", 3).example, testbed.make("gmner", "train", 4).example]
    asked = [
        prompts.text_of(prompts.messages(e, kind, wording="brief"))
        for e in sample
        for kind in prompts.KINDS
        if kind != "cot-3shot"
    ]
    subsets = (("span",), ("span", "type"), ("groundable", "box"))
    asked += [
        prompts.text_of(prompts.messages(replace(sample[0], constraints=c), wording="brief")) for c in subsets
    ]
    asked += [*TYPE_REASONS.values(), *prompts.TYPE_WORDS.values()]
    asked += ["user assistant Where is each? List what the image shows. seen: at ; [ ]", " ".join(LABELS)]
    for name, style in STYLES.items():
        asked += [*style.nobody, BAIT_TEXTS.get(name, BAIT_TEXTS["default"])]
        asked += [
            text
            for wording in style.wordings
            for heading, pieces in wording
            for text in (heading, *pieces.values())
        ]
    asked = [re.sub(r"\{\w+\}", " ", text) for text in asked]
    return [*asked, *tweets.corpus(), *(f"{b.sigil} {b.name}" for b in BEINGS)]
