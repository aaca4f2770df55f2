"""Writes the embedded sample: two dozen invented tweets with drawn images, in Twitter-GMNER's own files, and
some more in the files of MNER-MI (several images per tweet) and of gRefCOCO (expressions with or without a
target).

    python data/make_sample.py [FOLDER]        (default: data/sample)

Everything is invented, names and pictures alike. Each picture is drawn from a list of things with their
boxes, so the annotation is exact. `expected.json` is counted from the table below and not from the files, so
a check of the sample tests the reader. `predictions.jsonl` answers the test split with one typical fault per
tweet.
"""

import json
import re
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from mcr_lib.answer import write_answer
from mcr_lib.boxes import largest, resized_size, written_box
from mcr_lib.data.files import write_json, write_text, written_whole
from mcr_lib.data.predictions import write_predictions
from mcr_lib.data.twitter_gmner import LABELS, write_split
from mcr_lib.schema import Entity, Example, PredictedEntity, checksum

# name -> (how it looks, main colour, second colour)
LOOKS = {
    "Mira Solano": ("person", "#b5482a", "#3b2a1f"),
    "Tobin Hale": ("person", "#2a6fb5", "#e0b060"),
    "Ines Karr": ("person", "#2f8f5b", "#1c1c1c"),
    "Odo Brandt": ("person", "#7a4a9c", "#8a5a2b"),
    "Quill Tower": ("tower", "#8c8c94", "#d9d9df"),
    "Port Aldis": ("lighthouse", "#c0392b", "#f5f5f0"),
    "Mount Veyra": ("mountain", "#6b7f6b", "#ffffff"),
    "Norvik United": ("badge", "#1f4e9c", "#ffd24a"),
    "Halden Labs": ("badge", "#1d7874", "#e9f5db"),
    "Finch Radio": ("badge", "#c8553d", "#fff1d0"),
    "Comet Cup": ("cup", "#d4a017", "#7a5a00"),
    "Lumen 7": ("phone", "#22262e", "#7fd1ff"),
    "Paper Moons": ("clapper", "#2b2b2b", "#f2f2f2"),
}

# id, size, sky and ground colour, text with [TYPE name] around entities, things drawn: (name, x, y, width,
# height), pixels from 0
TRAIN = [
    ("100201", (240, 180), "#cfe8ff", "#7fae6a", "[PER Mira Solano] lifts the [OTHER Comet Cup] at last !",
     [("Mira Solano", 60, 40, 60, 120), ("Comet Cup", 140, 70, 50, 70)]),
    ("100202", (300, 200), "#f3e3c3", "#9c8b5f",
     "Sunrise over [LOC Mount Veyra] , thanks to [ORG Finch Radio] for the early alarm",
     [("Mount Veyra", 40, 50, 200, 110)]),
    ("100203", (200, 260), "#d8d8e8", "#5d5d6b",
     "RT @ gadgetgull : the [OTHER Lumen 7] is out today http://t. co/abc123",
     [("Lumen 7", 60, 60, 70, 130)]),
    ("16_05_01_11", (260, 180), "#cfe8ff", "#86a86f",
     "[PER Tobin Hale] leaves [ORG Norvik United] for [ORG Halden Labs] FC # transfer",
     [("Tobin Hale", 30, 40, 60, 120), ("Norvik United", 170, 50, 60, 60)]),
    ("16_05_01_12", (240, 240), "#e9dff5", "#8a7fa0",
     "Nobody slept . Not even the cat &amp ; that says a lot",
     [("Quill Tower", 90, 30, 50, 180)]),
    ("O_31", (320, 180), "#bfe3f2", "#4f86a0",
     "Foggy morning in [LOC Port Aldis] with [PER Ines Karr] and [PER Odo Brandt]",
     [("Port Aldis", 20, 20, 50, 140), ("Odo Brandt", 200, 50, 60, 110)]),
    ("O_32", (200, 200), "#ffe9d6", "#b58863",
     "# [OTHER Paper Moons] premiere tonight , @ MovieMoth is there",
     [("Paper Moons", 50, 60, 100, 80)]),
    ("100204", (280, 180), "#dff2df", "#6f8f6f", "[ORG Norvik United] 2 : 0 [ORG Finch Radio] XI",
     [("Norvik United", 30, 50, 70, 70), ("Finch Radio", 170, 50, 70, 70)]),
    ("100205", (240, 180), "#f5f5f5", "#a0a0a0", "[PER Mira Solano] says [PER Mira Solano] never said that",
     [("Mira Solano", 90, 40, 60, 120)]),
    ("16_05_02_3", (260, 200), "#d0e0f0", "#708090",
     "Two of them , says [ORG Halden Labs] : the new badge and the old one",
     [("Halden Labs", 30, 60, 60, 60), ("Halden Labs", 150, 60, 80, 80)]),
]  # fmt: skip
DEV = [
    ("200301", (240, 180), "#cfe8ff", "#7fae6a", "[PER Odo Brandt] climbs [LOC Quill Tower] for charity",
     [("Odo Brandt", 30, 60, 50, 100), ("Quill Tower", 150, 20, 50, 150)]),
    ("200302", (240, 240), "#fff2cc", "#c0a060",
     "Queue for the [OTHER Lumen 7] goes round [LOC Port Aldis] twice",
     [("Lumen 7", 80, 60, 80, 140)]),
    ("O_41", (300, 180), "#e0f0ff", "#80a0c0", "[PER Ines Karr] signs for [ORG Norvik United]",
     [("Norvik United", 200, 50, 70, 70)]),
    ("O_42", (200, 200), "#ececec", "#8c8c8c", "monday again ;)", []),
    ("16_06_01_1", (260, 180), "#dff2df", "#6f8f6f",
     "What a save by [PER Tobin Hale] in the [OTHER Comet Cup] , says [ORG Finch Radio]",
     [("Tobin Hale", 40, 30, 60, 130), ("Mira Solano", 160, 40, 60, 120)]),
    ("16_06_01_2", (240, 180), "#f3e3c3", "#9c8b5f", "[LOC Mount Veyra] from my window", [("Mount Veyra", 20,
     40, 200, 120)]),
]  # fmt: skip
TEST = [
    ("300401", (240, 180), "#cfe8ff", "#7fae6a", "[PER Mira Solano] meets fans at [LOC Port Aldis]",
     [("Mira Solano", 40, 40, 60, 120), ("Port Aldis", 170, 20, 40, 140)]),
    ("300402", (260, 200), "#f3e3c3", "#9c8b5f",
     "The [OTHER Comet Cup] goes to [ORG Norvik United] # champions",
     [("Comet Cup", 100, 60, 60, 90)]),
    ("300403", (240, 180), "#e0f0ff", "#80a0c0", "[ORG Halden Labs] shows the [OTHER Lumen 7]",
     [("Halden Labs", 30, 50, 60, 60), ("Lumen 7", 150, 30, 60, 120)]),
    ("O_51", (280, 180), "#bfe3f2", "#4f86a0",
     "[PER Tobin Hale] and [PER Ines Karr] off to [LOC Mount Veyra]",
     [("Tobin Hale", 60, 40, 60, 120)]),
    ("O_52", (200, 200), "#ffe9d6", "#b58863", "Rain , rain , rain .", [("Odo Brandt", 60, 50, 60, 120)]),
    ("16_07_01_5", (300, 180), "#dff2df", "#6f8f6f",
     "Tickets for [OTHER Paper Moons] at [LOC Quill Tower] , ask [PER Odo Brandt]",
     [("Paper Moons", 30, 60, 90, 70), ("Quill Tower", 200, 20, 50, 150)]),
    ("16_07_01_6", (240, 240), "#e9dff5", "#8a7fa0", "[ORG Finch Radio] interviews [PER Mira Solano]",
     [("Finch Radio", 20, 60, 80, 80), ("Ines Karr", 150, 60, 60, 140)]),
    ("300404", (260, 180), "#fff2cc", "#c0a060",
     "[PER Ines Karr] wins the [OTHER Comet Cup] again , @ [ORG Norvik United] fans cry",
     [("Ines Karr", 40, 40, 60, 120), ("Comet Cup", 150, 60, 50, 80)]),
]  # fmt: skip
SPLITS = {"train": TRAIN, "dev": DEV, "test": TEST}

# MNER-MI: id, text as above, and of each image what is drawn there
MNER_MI = {
    "train": [
        ("101", "[PER Mira Solano] and [PER Odo Brandt] on tour", [[("Mira Solano", 60, 40, 60, 120)],
         [("Odo Brandt", 80, 40, 60, 120)]]),
        ("102", "[ORG Halden Labs] opens a shop in [LOC Port Aldis]", [[("Halden Labs", 30, 50, 60, 60)],
         [("Port Aldis", 150, 20, 40, 140)], [("Lumen 7", 80, 30, 60, 120)]]),
        ("103", "four views of [LOC Mount Veyra]", [[("Mount Veyra", 20 + 5 * k, 40, 150, 110)]
         for k in range(4)]),
        ("104", "so happy with my new phone", [[("Lumen 7", 80, 30, 60, 120)]]),
        ("105", "[MIS Comet Cup] final : [ORG Norvik United] against [ORG Finch Radio] XI",
         [[("Comet Cup", 100, 60, 60, 90)], [("Norvik United", 30, 50, 70, 70)]]),
        ("106", "[PER Tobin Hale] reads [MIS Paper Moons] aloud", [[("Tobin Hale", 40, 40, 60, 120)],
         [("Paper Moons", 50, 60, 90, 70)]]),
    ],
    "val": [
        ("201", "[PER Ines Karr] at [LOC Quill Tower]", [[("Ines Karr", 40, 40, 60, 120)],
         [("Quill Tower", 90, 20, 50, 150)]]),
        ("202", "nothing but rain", [[("Odo Brandt", 60, 50, 60, 120)], []]),
        ("203", "the [MIS Lumen 7] in two colours", [[("Lumen 7", 40, 30, 60, 120)],
         [("Lumen 7", 120, 30, 60, 120)]]),
    ],
    "test": [
        ("301", "[ORG Finch Radio] meets [PER Mira Solano]", [[("Finch Radio", 20, 60, 80, 80)],
         [("Mira Solano", 150, 40, 60, 120)]]),
        ("302", "[LOC Port Aldis] before and after", [[("Port Aldis", 40, 20, 40, 140)],
         [("Port Aldis", 150, 20, 40, 140)]]),
        ("303", "[PER Tobin Hale] lifts the [MIS Comet Cup]", [[("Tobin Hale", 40, 40, 60, 120)],
         [("Comet Cup", 150, 60, 50, 80)], [("Norvik United", 80, 50, 70, 70)]]),
    ],
}  # fmt: skip
# tweets of Twitter-2017, as MNER-MI-Plus has them besides
TWITTER_2017 = {
    "train": [("twitter2017-17_01_7", "[PER Odo Brandt] wins the [MISC Comet Cup]",
               [[("Comet Cup", 100, 60, 60, 90)]])],
    "val": [("twitter2017-17_01_8", "[LOC Quill Tower] by night", [[("Quill Tower", 90, 20, 50, 150)]])],
    "test": [("twitter2017-17_01_9", "[MISC Paper Moons] by [ORG Halden Labs]",
              [[("Paper Moons", 50, 60, 90, 70)]])],
}  # fmt: skip
_SIZE, _COLOURS = (240, 180), ("#dff2df", "#6f8f6f")  # of these pictures

# GREC: number of an image -> what is drawn there; split, image, numbers of its targets, expressions
COCO = {
    101: [("Mira Solano", 20, 40, 60, 120), ("Tobin Hale", 150, 40, 60, 120)],
    102: [("Comet Cup", 30, 60, 50, 80), ("Lumen 7", 150, 30, 60, 120)],
    103: [("Quill Tower", 30, 20, 50, 150), ("Mount Veyra", 100, 60, 120, 100)],
    104: [("Odo Brandt", 90, 40, 60, 120)],
    105: [("Port Aldis", 40, 20, 40, 140), ("Norvik United", 150, 50, 70, 70)],
}
REFS = [
    ("train", 101, [0], ["woman in orange", "left person"]), ("train", 101, [1], ["blue shirt"]),
    ("train", 101, [], ["a red car"]), ("train", 101, [0, 1], ["both people"]),
    ("train", 102, [0], ["golden cup on the left"]), ("train", 102, [], ["the blue bottle"]),
    ("val", 103, [0], ["tall grey building"]), ("val", 103, [], ["man on the mountain"]),
    ("val", 103, [0, 1], ["the tower and the mountain"]),
    ("testA", 104, [0], ["person in purple"]), ("testA", 104, [], ["person in yellow"]),
    ("testB", 105, [0], ["striped tower", "lighthouse"]), ("testB", 105, [], ["sailing boat"]),
]  # fmt: skip
_MARKED = re.compile(r"\[([A-Z]+) ([^\]]+)\]|(\S+)")


def example(split: str, scene: tuple) -> Example:
    """The annotated tweet of one scene; boxes count pixels from 1, as in Twitter-GMNER."""
    id, size, _, _, text, drawn = scene
    tokens, entities = [], []
    for match in _MARKED.finditer(text):
        type_, name, word = match.groups()
        if word:
            tokens.append(word)
            continue
        boxes = tuple((x + 1, y + 1, x + w, y + h) for n, x, y, w, h in drawn if n == name)
        entities.append(Entity(name, len(tokens), len(tokens) + len(name.split()), type_, boxes))
        tokens += name.split()
    has_box = any(entity.boxes_xyxy_px for entity in entities)
    return Example(
        id,
        "twitter-gmner-v2",
        split,
        tuple(tokens),
        tuple(entities),
        LABELS,
        image_size_px=size if has_box else None,
    )


def tweet(version: str, split: str, scene: tuple) -> Example:
    """The annotated tweet of one scene of MNER-MI."""
    id, text, pictures = scene
    tokens, tags = tagged(text)
    starts = [k for k, tag in enumerate(tags) if tag.startswith("B-")]
    entities = []
    for k in starts:
        end = next((j for j in range(k + 1, len(tags)) if not tags[j].startswith("I-")), len(tags))
        label = tags[k][2:].replace("MISC", "MIS")
        entities.append(Entity(" ".join(tokens[k:end]), k, end, label))
    task = ("span", "type")
    return Example(id, version, split, tokens, tuple(entities), ("PER", "LOC", "ORG", "MIS"), task)


def tagged(text: str) -> tuple[tuple[str, ...], list[str]]:
    """The tokens of a marked text and their BIO tags."""
    tokens, tags = [], []
    for type_, name, word in _MARKED.findall(text):
        words = name.split() or [word]
        tokens += words
        tags += [f"{'I' if k else 'B'}-{type_}" if type_ else "O" for k in range(len(words))]
    return tuple(tokens), tags


def write_mner_mi(folder: Path) -> None:
    """The files of MNER-MI and MNER-MI-Plus."""
    for split, scenes in MNER_MI.items():
        rows = []
        for id, text, pictures in [*scenes, *TWITTER_2017[split]]:
            is_other = id.startswith("twitter2017-")
            names = [f"{id}.jpg"] if is_other else [f"{id}_{k}.jpg" for k in range(len(pictures))]
            tokens, tags = tagged(text)
            row = {
                "id": id if is_other else int(id),
                "text": tokens,
                "images": names,
                "label": tags,
                "url": "",
            }
            rows.append(json.dumps(row) + "\n")
            place = folder / ("twitter2017_images" if is_other else "images")
            for name, things in zip(names, pictures, strict=True):
                with written_whole(place / name.removeprefix("twitter2017-"), "wb") as file:
                    draw((id, _SIZE, *_COLOURS, "", things)).save(file, format="PNG", optimize=True)
        for start, some in (("MNER-MI", rows[: len(scenes)]), ("MNER-UNI", rows)):
            with written_whole(folder / "text" / f"{start}_{split}.txt") as file:
                file.writelines(some)


def write_grec(folder: Path) -> None:
    """The files of gRefCOCO, and the images of COCO that they name."""
    names = {number: f"COCO_train2014_{number:012}.jpg" for number in COCO}
    images, annotations, refs, n_sent = [], [], [], 0
    for number, things in COCO.items():
        images.append({"id": number, "file_name": names[number], "width": _SIZE[0], "height": _SIZE[1]})
        for k, (_, x, y, w, h) in enumerate(things):
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotation = {"id": 10 * number + k, "image_id": number, "category_id": 1, "bbox": [x, y, w, h]}
            annotations.append(annotation | {"segmentation": [corners], "area": w * h, "iscrowd": 0})
        with written_whole(folder / "images" / "train2014" / names[number], "wb") as file:
            draw((number, _SIZE, *_COLOURS, "", things)).save(file, format="PNG", optimize=True)
    for ref_id, (split, number, targets, expressions) in enumerate(REFS):
        sentences = [
            {"sent_id": n_sent + k, "tokens": sent.split(), "raw": sent, "sent": sent}
            for k, sent in enumerate(expressions)
        ]
        n_sent += len(sentences)
        refs.append(
            {
                "ref_id": ref_id,
                "ann_id": [10 * number + k for k in targets] or [-1],
                "category_id": [1] * len(targets) or [-1],
                "image_id": number,
                "file_name": names[number],
                "split": split,
                "no_target": not targets,
                "sent_ids": [row["sent_id"] for row in sentences],
                "sentences": sentences,
            }
        )
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    for name, value in (("grefs(unc).json", refs), ("instances.json", coco)):
        write_text(folder / "grefcoco" / name, json.dumps(value) + "\n")


def expressions(split: str) -> list[Example]:
    """The expressions of a split of GREC that are not left out, from the scenes."""
    examples = []
    for ref_id, (of, number, targets, sents) in enumerate(REFS):
        if of != split or len(targets) > 1:
            continue
        corners = [COCO[number][k][1:] for k in targets]
        boxes = tuple((x, y, x + w, y + h) for x, y, w, h in corners)
        for k, sent in enumerate(sents):
            words = tuple(sent.split())
            entity = Entity(sent, 0, len(words), None, boxes)
            examples.append(Example(f"{ref_id}_{k}", "grec-v1", split, words, (entity,), ()))
    return examples


def draw(scene: tuple) -> Image.Image:
    """The picture of one scene."""
    _, (width, height), sky, ground, _, drawn = scene
    image = Image.new("RGB", (width, height), sky)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((0, height * 3 // 4, width, height), fill=ground)
    for name, x, y, w, h in drawn:
        look, main, second = LOOKS[name]
        DRAWN_AS[look](canvas, x, y, x + w - 1, y + h - 1, main, second)
    return image


def _person(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    w, h = x2 - x1, y2 - y1
    c.rectangle((x1, y1 + h * 2 // 5, x2, y1 + h * 3 // 4), fill=main)
    c.rectangle((x1 + w // 5, y1 + h * 3 // 4, x1 + w * 2 // 5, y2), fill="#30343c")
    c.rectangle((x1 + w * 3 // 5, y1 + h * 3 // 4, x1 + w * 4 // 5, y2), fill="#30343c")
    c.ellipse((x1 + w // 4, y1, x2 - w // 4, y1 + h * 2 // 5), fill="#e8c39e")
    c.chord((x1 + w // 4, y1, x2 - w // 4, y1 + h * 2 // 5), 180, 360, fill=second)


def _tower(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    w, h = x2 - x1, y2 - y1
    c.polygon([(x1, y1 + h // 5), ((x1 + x2) // 2, y1), (x2, y1 + h // 5)], fill="#4a4a55")
    c.rectangle((x1, y1 + h // 5, x2, y2), fill=main)
    for k in range(2, 9, 2):
        c.rectangle((x1 + w // 3, y1 + h * k // 10 + 4, x2 - w // 3, y1 + h * (k + 1) // 10), fill=second)


def _lighthouse(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    h = y2 - y1
    c.rectangle(
        (x1 + (x2 - x1) // 4, y1, x2 - (x2 - x1) // 4, y1 + h // 6), fill="#ffe066", outline="#333333"
    )
    for k in range(1, 6):
        c.rectangle((x1, y1 + h * k // 6, x2, y1 + h * (k + 1) // 6), fill=main if k % 2 else second)


def _mountain(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    top, w, h = (x1 + (x2 - x1) // 2, y1), x2 - x1, y2 - y1
    c.polygon([(x1, y2), top, (x2, y2)], fill=main)
    c.polygon([(top[0] - w // 8, y1 + h // 4), top, (top[0] + w // 8, y1 + h // 4)], fill=second)


def _badge(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    w, h = x2 - x1, y2 - y1
    c.ellipse((x1, y1, x2, y2), fill=main, outline=second, width=3)
    c.polygon(
        [(x1 + w // 4, y1 + h * 2 // 3), (x1 + w // 2, y1 + h // 5), (x2 - w // 4, y1 + h * 2 // 3)],
        fill=second,
    )


def _cup(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    w, h = x2 - x1, y2 - y1
    c.arc((x1, y1 + h // 12, x1 + w // 2, y1 + h // 2), 90, 270, fill=second, width=4)
    c.arc((x2 - w // 2, y1 + h // 12, x2, y1 + h // 2), 270, 90, fill=second, width=4)
    c.chord((x1 + w // 6, y1 - h * 3 // 5, x2 - w // 6, y1 + h * 3 // 5), 0, 180, fill=main)
    c.rectangle((x1 + w * 3 // 7, y1 + h * 3 // 5 - 2, x2 - w * 3 // 7, y2 - h // 6), fill=main)
    c.rectangle((x1 + w // 4, y2 - h // 6, x2 - w // 4, y2), fill=second)


def _phone(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    c.rounded_rectangle((x1, y1, x2, y2), 8, fill=main)
    c.rectangle((x1 + 5, y1 + 12, x2 - 5, y2 - 16), fill=second)


def _clapper(c: ImageDraw.ImageDraw, x1: int, y1: int, x2: int, y2: int, main: str, second: str) -> None:
    w, h = x2 - x1, y2 - y1
    c.rectangle((x1, y1, x2, y2), fill=main)
    for k in range(0, 6, 2):
        left = x1 + w * k // 6
        c.polygon(
            [
                (left, y1 + h // 4),
                (left + w // 12, y1),
                (left + w // 6 + w // 12, y1),
                (left + w // 6, y1 + h // 4),
            ],
            fill=second,
        )


DRAWN_AS = {
    "person": _person, "tower": _tower, "lighthouse": _lighthouse, "mountain": _mountain, "badge": _badge,
    "cup": _cup, "phone": _phone,
    "clapper": _clapper,
}  # fmt: skip


def expected() -> dict:
    """Counts per split, from the scenes alone."""
    columns = {}
    for split, scenes in {**SPLITS, "all": TRAIN + DEV + TEST}.items():
        mentions = [
            (scene, *found) for scene in scenes for found in re.findall(r"\[([A-Z]+) ([^\]]+)\]", scene[4])
        ]
        n_boxes = [sum(thing[0] == name for thing in scene[5]) for scene, _, name in mentions]
        with_box = {scene[0] for (scene, _, _), n in zip(mentions, n_boxes, strict=True) if n}
        columns[split] = {
            "tweets": len(scenes),
            "entities": len(mentions),
            **{label: sum(type_ == label for _, type_, _ in mentions) for label in LABELS},
            "groundable": sum(n > 0 for n in n_boxes),
            "not groundable": n_boxes.count(0),
            "boxes": sum(n_boxes),
            "entities with several boxes": sum(n > 1 for n in n_boxes),
            "tweets with xml": len(with_box),
            "tweets without entity": sum("[" not in scene[4] for scene in scenes),
        }
        if split != "all":
            columns[split]["checksum"] = checksum(example(split, scene) for scene in scenes)
    statistics = {"twitter-gmner-v2": columns, "mner-mi-v1": {}, "mner-mi-plus": {}, "grec-v1": {}}
    for split, scenes in MNER_MI.items():
        for version, some in (("v1", scenes), ("plus", [*scenes, *TWITTER_2017[split]])):
            marked = [match[1] for _, text, _ in some for match in _MARKED.finditer(text) if match[1]]
            kinds = [label.replace("MISC", "MIS") for label in marked]
            statistics[f"mner-mi-{version}"][split] = {
                "tweets": len(some),
                "entities": len(kinds),
                **{label: kinds.count(label) for label in ("PER", "LOC", "ORG", "MIS")},
                "images": sum(len(pictures) for *_, pictures in some),
                "checksum": checksum(tweet(f"mner-mi-{version}", split, scene) for scene in some),
            }
    for split in ("train", "val", "testA", "testB"):
        with_target = [bool(ref[2]) for ref in REFS for _ in ref[3] if ref[0] == split and len(ref[2]) < 2]
        statistics["grec-v1"][split] = {
            "tweets": len(with_target),
            "groundable": sum(with_target),
            "not groundable": with_target.count(False),
            "boxes": sum(with_target),
            "checksum": checksum(expressions(split)),
        }
    return {"format_version": 2, "statistics": statistics}


def predictions() -> list[dict]:
    """One answer per test tweet: perfect, or with one fault."""
    rows = []
    for scene, (fault, space) in zip(TEST, FAULTS, strict=True):
        gold, size = example("test", scene), scene[1]
        model_size = resized_size(size, min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 1280)
        said = []
        for entity in gold.entities:
            text, type_, boxes = fault(entity)
            written = tuple(
                written_box(largest([box]), space, image_size=size, model_size=model_size)
                for box in boxes[:1]
            )
            said.append(PredictedEntity(text, type_, written))
        answer = FORMS.get(scene[0], lambda text: text)(
            write_answer(said, think=f"The text names {len(gold.entities)} entities.")
        )
        rows.append(
            {
                "id": gold.id,
                "answer": answer,
                "coordinate_space": space,
                "model_size": model_size,
                "image_size_px": size,
            }
        )
    return rows


def _perfect(entity: Entity) -> tuple:
    return entity.text, entity.type, entity.boxes_xyxy_px


def _short_name(entity: Entity) -> tuple:
    return entity.text.split()[-1], entity.type, entity.boxes_xyxy_px


def _org_for_other(entity: Entity) -> tuple:
    return entity.text, "ORG" if entity.type == "OTHER" else entity.type, entity.boxes_xyxy_px


def _always_a_box(entity: Entity) -> tuple:
    return entity.text, entity.type, entity.boxes_xyxy_px or ((61, 41, 120, 160),)


def _no_place(entity: Entity) -> tuple:
    return entity.text, entity.type, () if entity.type == "LOC" else entity.boxes_xyxy_px


def _what_is_seen(entity: Entity) -> tuple:
    return ("Ines Karr", "PER", ((151, 61, 210, 200),)) if entity.text == "Mira Solano" else _perfect(entity)


FAULTS = [
    (_perfect, "model_px"),
    (_short_name, "model_px"),
    (_org_for_other, "norm1000"),
    (_always_a_box, "model_px"),
    (_perfect, "model_px"),
    (_no_place, "norm1000"),
    (_what_is_seen, "model_px"),
    (_perfect, "model_px"),
]
FORMS = {
    "300403": (
        lambda text: text.replace("<answer>", "<answer>```json\n").replace("</answer>", "\n```</answer>")
    ),
    "300404": lambda text: text[: text.index("Comet") + 3],
}


def main(folder: Path) -> None:
    """Write the sample into a folder."""
    for split, scenes in SPLITS.items():
        write_split(folder, split, [example(split, scene) for scene in scenes])
        for scene in scenes:
            with written_whole(folder / "images" / f"{scene[0]}.jpg", "wb") as file:
                draw(scene).save(file, format="PNG", optimize=True)
    write_mner_mi(folder / "Dataset")
    write_grec(folder)
    write_json(folder / "expected.json", expected())
    write_predictions(folder / "predictions.jsonl", predictions(), setting="invented", split="test")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sample"))
