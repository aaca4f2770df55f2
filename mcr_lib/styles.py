"""Styles: the ways in which a chain puts its statements into words.

Nine forms that differ in shape and in the order of the constraints, each in three wordings, so that a model
learns what to reason and not how to phrase it (the paper's multi-style chains; its styles are not public,
these are ours). A style contains no rule: it says of each name what the constraints claim. A wording is a
list of parts; a part is a heading and one piece per constraint, in the order in which they are said. Pieces
of constraints that the task lacks are left out, and so is a part without any piece.

    span              C_s        the name is an entity of the text
    type              C_t        which type, and why
    shown / absent    C_e        whether the image shows it
    at / nowhere      C_u        where; or that there is no box
    open, end                    text around the pieces

{m} the name in quotes, {type} its label, {a_type} its label in words, {why} a reason for it, {slot} its box.
`verify` reads any chain by one rule: claims belong to the name in their clause or else to the last one, so a
wording keeps C_e and C_u in clauses of their own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mcr_lib.schema import TYPE_WORDS
from mcr_lib.statements import Statement, slot

# Why a name has a type, in general: no annotation says more. The verifier takes no word here for a claim.
TYPE_REASONS = {
    "PER": "it names somebody",
    "LOC": "one can go there",
    "ORG": "it acts as a group",
    "OTHER": "it is a work, an event, a product or the like",
    "MIS": "it is a work, an event, a product or the like",
}
Part = tuple[str, dict[str, str]]  # heading (may be empty) and pieces said of each name under it, in order

_CONSTRAINT_OF = {
    "span": "span", "type": "type",
    "shown": "groundable", "absent": "groundable", "at": "box", "nowhere": "box",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Style:
    """One form of a chain."""

    form: str  # what distinguishes it, in a few words
    wordings: tuple[tuple[Part, ...], ...]
    nobody: tuple[str, ...]  # per wording, the chain of a tweet without entities
    joint: str = " "  # the separator of two lines


def say(style: Style, wording: int, statements: Sequence[Statement], task: Collection[str]) -> str:
    """The statements in the wording of that index, restricted to the constraints of the task.

    Example:
        >>> oslo = Statement("Oslo", type="LOC", is_groundable=False)
        >>> say(STYLES["terse"], 0, [oslo], ("span", "type", "groundable", "box"))
        '"Oslo" : LOC , not shown , no box ;'
    """
    lines = [] if statements else [style.nobody[wording]]
    for heading, pieces in style.wordings[wording] if statements else ():
        sentences = [text for s in statements if (text := _sentence(pieces, s, task))]
        lines += ([heading] if heading and sentences else []) + sentences
    starts = [k == 0 or lines[k - 1][-1:] in ".?" for k in range(len(lines))]
    pairs = zip(starts, lines, strict=True)
    return style.joint.join(line[:1].upper() + line[1:] if is_start else line for is_start, line in pairs)


def _sentence(pieces: dict[str, str], statement: Statement, task: Collection[str]) -> str | None:
    """One part about one name; `None` if none of it belongs to the task."""
    left_out = ("absent", "nowhere") if statement.is_groundable else ("shown", "at")
    stated = {*task, "span"}
    keys = [k for k in pieces if k not in left_out and _CONSTRAINT_OF.get(k, "span") in stated]
    if not any(_CONSTRAINT_OF.get(key) in task for key in keys):
        return None
    text = "".join(pieces[key] for key in keys)
    if "{m}" not in text:  # the piece with the name belongs to a constraint that the task lacks
        text = "{m}: " + text.lstrip(" ,;.")
    label = statement.type or ""
    why = TYPE_REASONS.get(label, "its words say so")
    box = slot(statement.slot or 0)
    return text.format(m=statement.mention, type=label, a_type=type_in_words(label), why=why, slot=box)


def order(wording: Sequence[Part]) -> tuple[str, ...]:
    """The constraints in the order in which a wording says them of something that the image shows."""
    keys = (key for _, pieces in wording for key in pieces if key not in ("absent", "nowhere"))
    return tuple(dict.fromkeys(_CONSTRAINT_OF[key] for key in keys if key in _CONSTRAINT_OF))


def type_in_words(label: str) -> str:
    """A label with its article, spelled out if it is an abbreviation."""
    words = TYPE_WORDS.get(label, label)
    return f"{'an' if words[:1] in 'aeiou' else 'a'} {words}" + (f" ({label})" if label in TYPE_WORDS else "")


def part(heading: str = "", **pieces: str) -> Part:
    """A part of a wording; the keys of the pieces are those of the table above."""
    return heading, pieces


STYLES = {
    "text-first": Style(
        "all of the text, then all of the image",
        (
            (part("The text first.", span="{m} is an entity of it", type=", {a_type}, since {why}", end="."),
             part("Then the picture.", open="The image ", shown="shows {m}", absent="does not show {m}",
                  at=", at {slot}", nowhere=", so it gets no box", end=".")),
            (part("Reading the words:", span="{m} counts as a name", type=" and is {a_type}: {why}", end="."),
             part("Looking at the photo:", shown="{m} can be seen", absent="{m} cannot be seen",
                  at=", namely at {slot}", nowhere=", hence nothing to box", end=".")),
            (part("Whom or what does the writer mention?", span="The writer mentions {m}",
                  type=", which is {a_type} because {why}", end="."),
             part("And what of it is pictured?", shown="{m} is pictured", absent="{m} is not pictured",
                  at="; its place is {slot}", nowhere="; its place stays null", end=".")),
        ),
        (
            "The text first. There is no entity in it. Then the picture. "
            "Whatever it holds, there is nothing to list.",
            "Reading the words: none of them counts as a name. So the photo has nothing to add.",
            "Whom or what does the writer mention? Nobody and nothing by name. "
            "The picture alone makes no entity.",
        ),
    ),
    "image-first": Style(
        "all of the image, then all of the text",
        (
            (part("Start from the scene.", shown="It contains {m}", absent="Nothing in it is {m}",
                  at=", inside {slot}", nowhere=", hence null", end="."),
             part("Now the wording.", span="{m} occurs in the post", type=" as {a_type}; {why}", end=".")),
            (part("Scanning the view:", at="region {slot} ", shown="depicts {m}",
                  absent="no region depicts {m}", nowhere=", box null", end="."),
             part("From the caption:", type="{a_type} ", span="goes by {m}", end=".")),
            (part("Eyes before ears.", shown="{m} appears", absent="{m} is missing", at=", framed by {slot}",
                  nowhere=", without a frame", end="."),
             part("What is told:", span="{m} is told of", type=" and means {a_type}, as {why}", end=".")),
        ),
        (
            "Start from the scene. It may hold much. Now the wording. "
            "No name occurs in the post, so the list stays empty.",
            "Scanning the view: no region matters here. From the caption: nobody goes by any name.",
            "Eyes before ears. What is told: nothing by name, hence an empty list.",
        ),
    ),
    "checklist": Style(
        "name by name, a line per constraint",
        (
            (part(open="* {m}", span="\n- words: copied from the text", type="\n- type: {type}",
                  shown="\n- visible: yes", absent="\n- visible: no", at="\n- box: {slot}",
                  nowhere="\n- box: null"),),
            (part(open="Entity {m}", span="\n1) taken over as it stands", type="\n2) class {type}",
                  shown="\n3) depicted", absent="\n3) not depicted", at="\n4) corners {slot}",
                  nowhere="\n4) corners none"),),
            (part(open="For {m}:", span="\nC_s ok", type="\nC_t {type}", shown="\nC_e true",
                  absent="\nC_e false", at="\nC_u {slot}", nowhere="\nC_u null"),),
        ),
        ("* no name\n- nothing to check", "Entity none\n1) nothing is taken over", "For nobody:\nC_s null"),
        joint="\n",
    ),
    "table": Style(
        "a row per name, the image's columns before the type",
        (
            (part("Table of names:", open="| {m} |", span=" span ok |", shown=" in view: yes |",
                  absent=" in view: no |", at=" area: {slot} |", nowhere=" area: none |",
                  type=" label: {type} |"),),
            (part("One row each.", span="{m}", shown=", visible", absent=", invisible", at=", {slot}",
                  nowhere=", null", type=", {type}"),),
            (part("rows:", span="name={m}", shown=", seen=true", absent=", seen=false", at=", xyxy={slot}",
                  nowhere=", xyxy=null", type=", class={type}"),),
        ),
        ("Table of names:\n| no row |", "One row each.\n(no row)", "rows:\nnone"),
        joint="\n",
    ),
    "self-check": Style(
        "questions and answers, name by name",
        (
            (part(span="Q: Is {m} in the text? A: It is.",
                  type=" Q: As what? A: As {a_type}. Q: Why? A: Because {why}.",
                  shown=" Q: Does the image show it? A: Yes.", absent=" Q: Does the image show it? A: No.",
                  at=" Q: Where? A: {slot}.", nowhere=" Q: Which box then? A: None."),),
            (part(span="{m}, word for word? Word for word.", type=" Which kind is that? {type}; {why}.",
                  shown=" Could one point at it? One could.", absent=" Could one point at it? One could not.",
                  at=" With what? With {slot}.", nowhere=" With what? With nothing."),),
            (part("Let me check myself.", span="Did I copy {m} rightly? I did.", type=" My type? {type}.",
                  shown=" Seen? Yes.", absent=" Seen? No.", at=" My box? {slot}.",
                  nowhere=" My box? Null."),),
        ),
        (
            "Q: Which names are in the text? A: None. "
            "Q: And what is in the image alone? A: That does not count.",
            "A name, word for word? Not one. So with nothing at all.",
            "Let me check myself. Did I copy any name? No, and there was none.",
        ),
    ),
    "contrast": Style(
        "the text's side against the image's side, name by name",
        (
            (part(span="On one side the tweet has {m}", type=", {a_type} in that {why}",
                  shown="; on the other side the camera shows it too",
                  absent="; on the other side the camera does not show it", at=", around {slot}",
                  nowhere=", so words stand alone without box", end="."),),
            (part(span="Words versus pixels for {m}: the words say it", type=", meaning {type} ({why})",
                  shown="; the pixels agree and depict it", absent="; the pixels do not depict it",
                  at=", right here {slot}", nowhere=", which leaves no box", end="."),),
            (part(span="While one reads {m}", type=" for {a_type}", shown=", one likewise finds it pictured",
                  absent=", one finds it pictured nowhere", at=", bounded by {slot}",
                  nowhere=", bounded by nothing", end="."),),
        ),
        (
            "On one side the tweet has no name; on the other side whatever the camera caught stays out.",
            "Words versus pixels: the words say no name, and pixels alone make none.",
            "While one reads no name, what one finds in the picture is beside the point.",
        ),
    ),
    "evidence": Style(
        "the boxes as evidence first, then the decisions",
        (
            (part("Evidence.", at="{slot} fits ", nowhere="No area fits ", end="{m}."),
             part("Decision.", span="{m} belongs to the sentence", shown=", is depicted by the image",
                  absent=", is not depicted by the image", type=", falls under {type} given that {why}",
                  end=".")),
            (part("Clues so far:", at="what lies at {slot} goes with ", nowhere="nothing goes with ",
                  end="{m}."),
             part("Verdict:", span="keep {m}", shown=", grounded", absent=", ungrounded",
                  type=", filed under {type}", end=".")),
            (part("I gather support.", at="The patch {slot} supports ", nowhere="No patch supports ",
                  end="{m}."),
             part("I conclude.", span="{m} comes from the post", shown=", visible there",
                  absent=", invisible there", type=", to be called {type}", end=".")),
        ),
        (
            "Evidence. No area has to fit. Decision. No name belongs to the sentence.",
            "Clues so far: nothing that a name goes with. Verdict: keep none.",
            "I gather support. No patch is needed. I conclude. Nothing named comes from the post.",
        ),
    ),
    "by-kind": Style(
        "the type first, then the name and its image",
        (
            (part(type="Under {type} falls ", span="{m}, spelled as in the tweet",
                  shown=". A look confirms that it is visible", absent=". A look confirms that it is absent",
                  at=", here: {slot}", nowhere=", box: none", end="."),),
            (part(type="One {type} ", span="called {m} is spoken of", shown=". One finds it depicted",
                  absent=". One finds it not depicted", at=", in the frame {slot}", nowhere=", in no frame",
                  end="."),),
            (part("Kind by kind.", type="{a_type} when {why}, ", span="to wit {m}", shown="; sighted",
                  absent="; not sighted", at=", spot {slot}", nowhere=", spot null", end="."),),
        ),
        (
            "Under no type falls anything in the tweet.",
            "Nobody and nothing is spoken of by name.",
            "Kind by kind. No kind has a name here.",
        ),
    ),
    "terse": Style(
        "a few words per name, for a model of a few million parameters",
        (
            (part(span="{m}", type=" : {type}", shown=" , shown", absent=" , not shown", at=" at {slot}",
                  nowhere=" , no box", end=" ;"),),
            (part(span="{m}", type=" = {type}", shown=" , yes", absent=" , no", at=" , {slot}",
                  nowhere=" , null", end=" ."),),
            (part(span="{m}", type=" is {type}", shown=" and seen", absent=" , unseen", at=" in {slot}",
                  nowhere=" , none", end=" ."),),
        ),
        ("no name ;", "none .", "nobody ."),
    ),
}  # fmt: skip
