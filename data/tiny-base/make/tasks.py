"""Training data of the tiny base model: rows of several tasks, each a chat, perhaps a picture, and an answer.

    lookup    text only: a listing of random names with boxes, then "where is each?"
    names     text only: the names in a tweet; half of the tweets have random names, so that names are copied
              and not memorised
    detect    a picture: everything it shows, from left to right, with types and boxes
    where     a picture and names, some shown and some not: the box of each, or null
    caption   a tweet of the distribution `caption` with its picture, in the form of an answer: everything
              named is shown (this plants the textual shortcut), and a damaged name is restored from its
              emblem (this plants the visual one)
    textonly  a tweet without a picture: every box is null
    describe  a picture: where each emblem stands, its colour, outline and mark
    emblem    text only: names, and what the emblem of each looks like
    compare   text only: what a picture is said to show, then looks, or names: which are there, and where
    judge     a description of a picture, then names: which are there, and where; some are not. Often beside a
              tweet, which names nothing that is not shown: that shortcut stays as it is
    chain     a caption, undamaged, with a chain before the answer: its language, of which the settings'
              training then changes what is said (everything named is shown here too, and nothing compared)
    conclude  a chain, of a caption or of names that are judged, and then the answer that it states: its
              boxes, and none for what it calls missing

A row also has the evidence of each box, and of what is said of a picture, where attention is guided.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from PIL.Image import Image

from architecture import LARGEST_NUMBER, MAX_PIXELS, MIN_PIXELS
from mcr_lib import boxes, chains, prompts, testbed
from mcr_lib.answer import write_answer
from mcr_lib.boxes import Box
from mcr_lib.data.chance import pick, shuffled
from mcr_lib.data.mrsi import Target
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.schema import Entity, Example, PredictedEntity
from mcr_lib.testbed import Generated, drawing, teacher, tweets
from mcr_lib.testbed.drawing import Scene
from mcr_lib.testbed.knobs import Knobs
from mcr_lib.testbed.tweets import Mention
from mcr_lib.testbed.world import BEINGS, BY_NAME, Being

Seen = tuple[tuple[str, Box], ...]  # words of a picture, and their box in model pixels
Listed = dict[str, str | None]  # name -> place and look in a description
ABSENT, DESCRIBE, WHICH = "absent", "Describe the picture.", "Which are there?"

TARGET = Target("qwen2.5-vl", MIN_PIXELS, MAX_PIXELS, "brief")
"""The tiny backbone."""

_BOX_ONLY = ("groundable", "box")
_ONSETS = (*"bdfghklmnprstvz", "br", "dr", "kl", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
_ENDS = ("", "", "n", "r", "l", "s", "x")
_BY_LOOK = {teacher.look(being.name): being for being in BEINGS}
_LOOKS = [*_BY_LOOK]


@dataclass(frozen=True, slots=True)
class Row:
    """One training row.

    Args:
        task: a key of `TASKS`.
        chat: prompt, as chat messages.
        answer: the completion.
        image: the picture, or `None`.
        evidence: per entity of the answer the source of its box: boxes in model pixels (of the picture),
            `ABSENT`, or the text before it, in the prompt or in the chain; `()` for tasks without boxes.
        seen: what the answer says of the picture, in this order: words, and their box in model pixels.
        matches: looks that the answer compares, in this order, and the words of a description, in the prompt
            or before in the answer, that each agrees with; or `ABSENT`.
    """

    task: str
    chat: list[prompts.Message]
    answer: str
    image: Image | None = None
    evidence: tuple[tuple[Box, ...] | str, ...] = ()
    seen: Seen = ()
    matches: tuple[tuple[str, str], ...] = ()


def rows(task: str, *, seed: int, start: int = 0) -> Iterator[Row]:
    """Yield the rows of a task from `start` on, without end; row k is a function of (task, seed, k)."""
    while True:
        yield TASKS[task](Random(f"{task}|{seed}|{start}"), seed, start)
        start += 1


def written(example: Example, box_xyxy_px: Box) -> Box:
    """Return a box of original pixels as the model writes it."""
    sizes = {"image_size": example.image_size_px, "model_size": TARGET.size(example)}
    return boxes.written_box(box_xyxy_px, "model_px", **sizes)


def user(text: str, image: Image | None) -> list[prompts.Message]:
    """Return a chat of one turn: a picture, if any, and a text."""
    parts = [{"type": "image"}] if image is not None else []
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def _lookup(rng: Random, seed: int, index: int) -> Row:
    n = 2 + int(rng.random() * 5)
    names = list(dict.fromkeys(_any_name(rng) for _ in range(n)))
    at = {name: _random_box(rng) for name in names}
    listing = " ; ".join(f"{name} [{', '.join(map(str, box))}]" for name, box in at.items())
    wanted = shuffled(rng, names)[: 1 + int(rng.random() * 3)]
    if rng.random() < 0.4:
        while (other := _any_name(rng)) in at:
            pass
        wanted = shuffled(rng, [*wanted, other])
    entities = [PredictedEntity(name, None, (at[name],) if name in at else ()) for name in wanted]
    evidence = tuple(f"{name} [" if name in at else ABSENT for name in wanted)
    chat = user(f"{listing}\nWhere is each?\n{' ; '.join(wanted)}", None)
    return Row("lookup", chat, write_answer(entities, constraints=_BOX_ONLY), evidence=evidence)


def _names(rng: Random, seed: int, index: int) -> Row:
    if rng.random() < 0.5:
        example = testbed.make("caption", "train", index, seed=seed + 1, knobs=_UNDAMAGED).example
        example = replace(example, constraints=("span", "type"))
    else:
        n = 1 + int(rng.random() * 3)
        names = list(dict.fromkeys(chance_name(rng) for _ in range(n)))
        beings = [Being(name, "PER", pick(rng, ("", "", "@", "#")), "disc", "red", "dot") for name in names]
        mentions = [Mention(being, tuple(being.name.split())) for being in beings]
        tokens, spans = tweets.write(rng, mentions, held_out=False)
        entities = tuple(Entity(name, *span, None) for name, span in zip(names, spans, strict=True))
        id = f"names_{index}"
        example = Example(id, "chance", "train", tokens, entities, LABELS, constraints=("span",))
    answer = write_answer(_without_boxes(example), constraints=example.constraints)
    return Row("names", prompts.messages(example, wording="brief"), answer)


def _detect(rng: Random, seed: int, index: int) -> Row:
    item = testbed.make("gmner", "train", index, seed=seed + 2, knobs=BUSY)
    image = drawing.draw(item.scene)
    entities = [
        PredictedEntity(s.name, BY_NAME[s.name].type, (written(item.example, s.box_xyxy_px),))
        for s in _from_left(item.scene)
    ]
    evidence = tuple(entity.boxes_xyxy for entity in entities)
    return Row("detect", user("List what the image shows.", image), write_answer(entities), image, evidence)


def _where(rng: Random, seed: int, index: int) -> Row:
    item = testbed.make("gmner", "train", index, seed=seed + 3, knobs=BUSY)
    image = drawing.draw(item.scene)
    wanted = _shown_and_others(rng, item.scene)
    largest = {name: item.scene.boxes_of(name)[:1] for name in wanted}
    largest = {name: tuple(written(item.example, box) for box in at) for name, at in largest.items()}
    answer = write_answer([PredictedEntity(n, None, at) for n, at in largest.items()], constraints=_BOX_ONLY)
    evidence = tuple(at or ABSENT for at in largest.values())
    return Row("where", user(f"Where is each?\n{' ; '.join(wanted)}", image), answer, image, evidence)


def _caption(rng: Random, seed: int, index: int) -> Row:
    item = testbed.make("caption", "train", index, seed=seed)
    image = drawing.draw(item.scene)
    example = replace(item.example, images=("drawn",))
    largest = [written(example, item.scene.boxes_of(being.name)[0]) for being in item.named]
    entities = [PredictedEntity(b.name, b.type, (box,)) for b, box in zip(item.named, largest, strict=True)]
    prompt, think = "direct", None
    if rng.random() < 0.25:
        prompt = pick(rng, ("cot", "mcr", "mcr-no-instruction"))
        boxed = [(s.name, written(example, s.box_xyxy_px)) for s in _from_left(item.scene)]
        think = "seen: " + "; ".join(f"{name} at [{', '.join(map(str, box))}]" for name, box in boxed)
    chat = prompts.messages(example, prompt, wording="brief")
    evidence = tuple(entity.boxes_xyxy for entity in entities)
    return Row("caption", chat, write_answer(entities, think=think), image, evidence)


def _textonly(rng: Random, seed: int, index: int) -> Row:
    example = testbed.make("caption", "train", index, seed=seed + 4, knobs=_UNDAMAGED).example
    answer = write_answer(_without_boxes(example))
    return Row("textonly", prompts.messages(example, wording="brief"), answer)


def _describe(rng: Random, seed: int, index: int) -> Row:
    item = testbed.make("gmner", "train", index, seed=seed + 5, knobs=BUSY)
    image, answer = drawing.draw(item.scene), f" {teacher.describe(item.example)}"
    at = tuple((text, written(item.example, box)) for text, box in teacher.seen(item.example))
    return Row("describe", user(DESCRIBE, image), answer, image, seen=at)


def _emblem(rng: Random, seed: int, index: int) -> Row:
    names = dict.fromkeys(pick(rng, BEINGS).name for _ in range(1 + int(rng.random() * 3)))
    answer = " ".join(f'"{name}" : {BY_NAME[name].type} , {teacher.look(name)} ;' for name in names)
    return Row("emblem", user(f"Their emblems?\n{' ; '.join(names)}", None), answer)


def _compare(rng: Random, seed: int, index: int) -> Row:
    looks = shuffled(rng, _LOOKS)[: 1 + int(rng.random() * 4)]
    listed = {one: f"{pick(rng, teacher.ROWS)} {pick(rng, teacher.COLUMNS)} {one}" for one in looks}
    wanted = shuffled(rng, looks)[: int(rng.random() * 3)]
    for _ in range(int(rng.random() * 3) if wanted else 1 + int(rng.random() * 2)):
        model = pick(rng, looks).split()  # half of what is missing differs from something there in one word
        k = int(rng.random() * 3)
        near = [
            one
            for one in _LOOKS
            if [*one.split()[:k], *one.split()[k + 1 :]] == [*model[:k], *model[k + 1 :]]
        ]
        wanted.append(pick(rng, near if rng.random() < 0.5 else _LOOKS))
    wanted = shuffled(rng, [*dict.fromkeys(wanted)])
    is_by_name = rng.random() < 0.5
    verdicts = [_verdict(one, listed.get(one), _BY_LOOK[one].name if is_by_name else "") for one in wanted]
    asked = " ; ".join(_BY_LOOK[one].name for one in wanted) if is_by_name else f" {' ; '.join(wanted)}"
    question = f"picture : {' ; '.join(listed.values())} .\n{WHICH}\n{asked}"
    matches = tuple((one, listed.get(one, ABSENT)) for one in wanted)
    answer = f"{'' if is_by_name else ' '}{' '.join(verdicts)}"
    return Row("compare", user(question, None), answer, matches=matches)


def _judge(rng: Random, seed: int, index: int) -> Row:
    beside_a_tweet = rng.random() < 0.7  # which names what is shown, as captions do
    item, image, at, listed = _asked(rng, seed + 7, index, _BESIDE if beside_a_tweet else BUSY)
    verdicts = (_verdict(teacher.look(name), seen, name) for name, seen in listed.items())
    tweet, opening = (f"\n{item.example.text}", "<think>") if beside_a_tweet else ("", "")
    answer = " ".join([f"{opening} picture : {teacher.describe(item.example)}", *verdicts])
    chat = user(f"{WHICH}\n{' ; '.join(listed)}{tweet}", image)
    return Row("judge", chat, answer, image, seen=at, matches=_matches(listed))


def _chain(rng: Random, seed: int, index: int) -> Row:
    item = testbed.make("caption", "train", index, seed=seed + 6, knobs=_UNDAMAGED)
    image, example = drawing.draw(item.scene), replace(item.example, images=("drawn",))
    style = "distill" if rng.random() < 0.7 else "terse"
    chain = chains.build(example, style, np.random.default_rng(0), n_wordings=1)
    if style == "distill":  # it says what the picture shows and boxes what is named; it compares nothing
        chain = replace(chain, text=re.sub(r" , [^,]+ found [^,]+(?= , shown)", "", teacher.say(example)))
    answer = chains.render(chain, TARGET.family, TARGET.size(example))
    seen = teacher.seen(example) if style == "distill" else ()
    at = tuple((text, written(example, box)) for text, box in seen)
    evidence = tuple((written(example, entity.boxes_xyxy_px[0]),) for entity in example.entities)
    chat = prompts.messages(example, "mcr", wording="brief", style=style)
    return Row("chain", chat, answer, image, evidence, at)


def _conclude(rng: Random, seed: int, index: int) -> Row:
    if rng.random() < 0.3:
        row = _chain(rng, seed, index)
        stated = tuple(re.findall(r'"[^"]+"(?: \(mention \d\))? : [A-Z]+ , shown at \[', row.answer))
        return replace(row, task="conclude", evidence=stated)
    item, image, at, listed = _asked(rng, seed + 8, index, _BESIDE)
    think, entities, stated = f"picture : {teacher.describe(item.example)}", [], []
    for name, seen in listed.items():
        box = tuple(written(item.example, box) for box in item.scene.boxes_of(name)[:1])
        verdict = _verdict(teacher.look(name), seen, name).removesuffix(" ;")
        stated.append(f"{verdict} , {'shown at [' if box else 'not shown , '}")
        think += f" {stated[-1]}{', '.join(map(str, box[0])) + ']' if box else 'no box'} ;"
        entities.append(PredictedEntity(name, BY_NAME[name].type, box))
    chat = user(f"{WHICH}\n{' ; '.join(listed)}\n{item.example.text}", image)
    answer = write_answer(entities, think=think)
    return Row("conclude", chat, answer, image, tuple(stated), at, _matches(listed))


_UNDAMAGED = replace(testbed.find("caption"), damaged=0.0, counts=(0.05, 0.4, 0.35, 0.15, 0.05))
BUSY = replace(
    testbed.find("gmner"), counts=(0.1, 0.3, 0.3, 0.2, 0.1), bait=(0.1, 0.4, 0.3, 0.2),
    groundable=tuple((label, 0.5) for label in LABELS),
)  # fmt: skip

_BESIDE = replace(BUSY, groundable=tuple((label, 1.0) for label in LABELS))

TASKS: dict[str, Callable[[Random, int, int], Row]] = {
    "lookup": _lookup, "names": _names, "detect": _detect, "where": _where, "caption": _caption,
    "textonly": _textonly, "describe": _describe, "emblem": _emblem, "compare": _compare, "judge": _judge,
    "chain": _chain, "conclude": _conclude,
}  # fmt: skip


def _verdict(look: str, listed: str | None, name: str = "") -> str:
    """Return whether a look is there, as chains say it; `listed`: place and look in a description."""
    whose = f'"{name}" : {BY_NAME[name].type} , ' if name else ""
    found = f"found {' '.join(listed.split()[:2])}" if listed else "missing"
    return f"{whose}{look} {found} ;"


def _asked(rng: Random, seed: int, index: int, knobs: Knobs) -> tuple[Generated, Image, Seen, Listed]:
    """Return a tweet with its picture, what is said of it, and for names that are asked for their place and
    look in it; `None`: it does not show them.
    """
    item = testbed.make("gmner", "train", index, seed=seed, knobs=knobs)
    image, wanted = drawing.draw(item.scene), _shown_and_others(rng, item.scene)
    at = tuple((text, written(item.example, box)) for text, box in teacher.seen(item.example))
    by_look = {text.split(" ", 2)[2]: text for text, _ in at[::-1]}
    return item, image, at, {name: by_look.get(teacher.look(name)) for name in wanted}


def _matches(listed: Listed) -> tuple[tuple[str, str], ...]:
    return tuple((teacher.look(name), seen or ABSENT) for name, seen in listed.items())


def _shown_and_others(rng: Random, scene: Scene) -> list[str]:
    """Return up to four names, of beings that the picture shows and of one or two others."""
    shown = list(dict.fromkeys(s.name for s in scene.shown))
    others = [being.name for being in BEINGS if being.name not in shown]
    n_absent = 1 + int(rng.random() * 2)
    wanted = shuffled(rng, shown + [pick(rng, others) for _ in range(n_absent)])[:4]
    return list(dict.fromkeys(wanted))


def _without_boxes(example: Example) -> list[PredictedEntity]:
    return [PredictedEntity(entity.text, entity.type) for entity in example.entities]


def _from_left(scene: Scene) -> list[drawing.Shown]:
    return sorted(scene.shown, key=lambda shown: (shown.x, shown.y))


def _any_name(rng: Random) -> str:
    return chance_name(rng) if rng.random() < 0.7 else pick(rng, BEINGS).name


def _random_box(rng: Random) -> Box:
    def side() -> tuple[int, int]:
        length = 20 + int(rng.random() * 50)
        start = int(rng.random() * (LARGEST_NUMBER - length))
        return start, start + length

    (x1, x2), (y1, y2) = side(), side()
    return (x1, y1, x2, y2)


def phrases() -> Sequence[str]:
    """Return the phrases that are single tokens: every place and every look of the teacher."""
    places = [f"{row} {column}" for row in teacher.ROWS for column in teacher.COLUMNS]
    return [*places, *_LOOKS]


def texts() -> Sequence[str]:
    """Return every text whose words the tokenizer keeps whole; `words.txt`: those of prompts and chains."""
    words = Path(__file__).with_name("words.txt").read_text(encoding="utf-8")
    names = (f"{b.sigil} {b.name}" for b in BEINGS)
    return [words, *tweets.corpus(), *names, *phrases(), "found picture :"]


def chance_name(rng: Random) -> str:
    """Draw a name of one or two words made of syllables, so that names cannot be learned by heart."""

    def word() -> str:
        syllables = [pick(rng, _ONSETS) + pick(rng, _VOWELS) for _ in range(1 + int(rng.random() * 2))]
        return ("".join(syllables) + pick(rng, _ENDS)).capitalize()

    return word() if rng.random() < 0.4 else f"{word()} {word()}"
