"""The simulated teacher: chains that say what the picture shows and compare it, before they judge.

The paper's *distill* chains are written by an MLLM that is shown the image and the gold (Sec. 4.1, App. C.1).
On the testbed the world itself plays that teacher: it knows every emblem of a picture, bait included, and
what each name's emblem looks like. Such a chain holds what the annotation of real data does not, as an MLLM's
does; it is verified like any other (words and order are ours; paper silent).
"""

from mcr_lib import statements
from mcr_lib.boxes import Box, Size
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.testbed import SOURCE
from mcr_lib.testbed.world import BY_NAME

Seen = tuple[str, Box]  # place and look of an emblem, e.g. "top left red disc dot", and its box
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
EMPTY = "empty"  # what is said of a picture without emblems


def look(name: str) -> str:
    """Colour, outline and mark of a name's emblem.

    Example:
        >>> look("Mira Solano")
        'red disc dot'
    """
    being = BY_NAME[name]
    return f"{being.colour} {being.outline} {being.mark}"


def place(box_xyxy_px: Box, size_px: Size) -> str:
    """The ninth of the picture that holds the centre of a box, e.g. "top left"."""
    x1, y1, x2, y2 = box_xyxy_px
    width, height = size_px
    column, row = min(2, 3 * (x1 + x2) // (2 * width)), min(2, 3 * (y1 + y2) // (2 * height))
    return f"{ROWS[row]} {COLUMNS[column]}"


def seen(example: Example) -> list[Seen]:
    """Every emblem of the picture, named or not, from left to right."""
    shown = [(e.text, box) for e in example.entities for box in e.boxes_xyxy_px or ()]
    shown += [(bait.text, box) for bait in example.image_only or () for box in bait.boxes_xyxy_px]
    by_place = sorted(dict.fromkeys(shown), key=lambda one: one[1])
    return [(f"{place(box, example.image_size_px)} {look(name)}", box) for name, box in by_place]


def describe(example: Example) -> str:
    """What stands where in the picture, e.g. "top left red disc dot ; top right blue house bar ."."""
    return f"{' ; '.join(text for text, _ in seen(example)) or EMPTY} ."


def say(example: Example) -> str:
    """The teacher's chain of a tweet of the testbed, with slots; `UserError`: the tweet is of other data."""
    if example.source != SOURCE:
        raise UserError(
            f"the simulated teacher knows the testbed only, not {example.source}; take chains: template"
        )
    return " ".join([f"picture : {describe(example)}", *(_judged(example) or ["no name ;"])])


def _judged(example: Example) -> list[str]:
    boxes = statements.gold_boxes(example)
    said = []
    for one in statements.of_example(example):
        head = f"{one.mention} : {one.type} , {look(one.name)}"
        if one.slot:
            at = place(boxes[one.slot - 1], example.image_size_px)
            said.append(f"{head} found {at} , shown at {statements.slot(one.slot)} ;")
        else:
            said.append(f"{head} missing , not shown , no box ;")
    return said
