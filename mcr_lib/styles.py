"""Styles: the ways in which a model is asked to reason, and in which a chain puts its statements into words.

Each style has an instruction of its own, which follows the task introduction that all prompts share, and says
of each name what the constraints claim, in three wordings. The paper has three types of prompt (App. C.1):

    formal       fixed steps, their results in tags        two instructions
    conclusion   rules, then free reasoning                two: question and answer, or few conclusions
    distill      free reasoning about named aspects        one

Types, tags and the variety of orders are the paper's; it prints one instruction of each type, and every word
here is ours. `PAPER` lists these five; `checklist` and `terse` are our own and are only taken where a profile
names them. Answers vary too: in the order of triples and of the fields within one (App. C.2).

A style contains no rule. A wording is a list of parts; a part is a heading and one piece per constraint, in
the order in which they are said. Pieces of constraints that the task lacks are left out, and so is a part
without any piece.

    span              C_s        the name is an entity of the text
    type              C_t        which type, and why
    shown / absent    C_e        whether the image shows it
    at / nowhere      C_u        where; or that there is no box
    open, close, end             text around the pieces

{m} the name in quotes, {type} its label, {kind} the label in words, {a_kind} with its article, {why} a
reason for it, {slot} its box, {n} the number of names. `verify` reads any chain by one rule: claims belong to
the name in their clause or else to the last one, so a wording keeps C_e and C_u in clauses of their own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mcr_lib.schema import TYPE_WORDS
from mcr_lib.statements import Statement, slot

# Why a name has a type, in general: no annotation says more. The verifier takes no word here for a claim.
TYPE_REASONS = {
    "PER": "it is somebody's name",
    "LOC": "it is a place on the map",
    "ORG": "it is a group that acts under this name",
    "OTHER": "it is a work, an event or a product",
    "MIS": "it is a work, an event or a product",
}
TripleOrder = Literal["text", "type", "shown"]  # of an answer: as in the text, by type, boxed ones first

_CONSTRAINT_OF = {
    "span": "span", "type": "type",
    "shown": "groundable", "absent": "groundable", "at": "box", "nowhere": "box",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a wording: a heading (may be empty), pieces said of each name, a closing line."""

    heading: str
    pieces: Mapping[str, str]
    closing: str = ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a style asks beyond the task introduction; without steps it asks for free reasoning."""

    lead: str
    steps: Mapping[str, str] | None = None  # constraint -> what to write down after its question
    cautions: bool = False  # whether it warns of the two shortcuts
    without: Mapping[str, str] = field(default_factory=dict)  # constraint -> lead of a task that lacks it


@dataclass(frozen=True, slots=True)
class Style:
    """One way of reasoning."""

    kind: Literal["formal", "conclusion", "distill"]  # the paper's type of prompt
    form: str  # what distinguishes it, in a few words
    instruction: Instruction
    brief: str  # the instruction in the brief wording
    wordings: tuple[tuple[Part, ...], ...]
    nobody: tuple[str, ...]  # per wording, the chain of a tweet without entities
    joint: str = " "  # the separator of two lines
    fields: tuple[str, ...] = ("entity", "type", "bbox_2d")  # their order within a triple of the answer
    triples: TripleOrder = "text"


def say(style: Style, wording: int, statements: Sequence[Statement], task: Collection[str]) -> str:
    """The statements in the wording of that index, restricted to the constraints of the task.

    Example:
        >>> oslo = Statement("Oslo", type="LOC", is_groundable=False)
        >>> say(STYLES["terse"], 0, [oslo], ("span", "type", "groundable", "box"))
        '"Oslo" : LOC , not shown , no box ;'
    """
    lines = [] if statements else [style.nobody[wording]]
    for part in style.wordings[wording] if statements else ():
        sentences = [text for s in statements if (text := _sentence(part.pieces, s, task))]
        if sentences or (not part.pieces and "span" in task):
            around = (text.format(n=len(statements)) for text in (part.heading, part.closing))
            heading, closing = ([text] if text else [] for text in around)
            lines += [*heading, *sentences, *closing]
    starts = [k == 0 or lines[k - 1][-1:] in ".?" for k in range(len(lines))]
    pairs = zip(starts, lines, strict=True)
    return style.joint.join(line[:1].upper() + line[1:] if is_start else line for is_start, line in pairs)


def _sentence(pieces: Mapping[str, str], statement: Statement, task: Collection[str]) -> str | None:
    """One part about one name; `None` if none of it belongs to the task."""
    left_out = ("absent", "nowhere") if statement.is_groundable else ("shown", "at")
    stated = {*task, "span"}
    keys = [k for k in pieces if k not in left_out and _CONSTRAINT_OF.get(k, "span") in stated]
    if not any(_CONSTRAINT_OF.get(key) in task for key in keys):
        return None
    text = "".join(pieces[key] for key in keys).strip(" ")
    if "{m}" not in text:  # the piece with the name belongs to a constraint that the task lacks
        text = "{m}: " + text.lstrip(" ,;.")
    label = statement.type or ""
    words = {"type": label, "kind": TYPE_WORDS.get(label, label), "a_kind": type_in_words(label)}
    words["why"] = TYPE_REASONS.get(label, "its words say so")
    return text.format(m=statement.mention, slot=slot(statement.slot or 0), **words)


def type_in_words(label: str) -> str:
    """A label in words, with its article.

    Example:
        >>> type_in_words("ORG"), type_in_words("OTHER"), type_in_words("artist")
        ('an organization', 'a miscellaneous name', 'an artist')
    """
    words = TYPE_WORDS.get(label, label)
    name = f"{words} name" if words == "miscellaneous" else words
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def part(heading: str = "", closing: str = "", **pieces: str) -> Part:
    """A part of a wording; the keys of the pieces are those of the table above."""
    return Part(heading, pieces, closing)


_RULES = dict.fromkeys(("span", "type", "groundable", "box"), "")  # the questions alone

STYLES = {
    "formal": Style(
        "formal", "fixed steps, each with the results of all entities in tags",
        Instruction(
            "Work through these steps in order. Write down the result of each step in its own tags:",
            {
                "span": "Write how many there are in <entity_num></entity_num>.",
                "type": "Write (entity text, type) for each in <mner></mner>.",
                "groundable": "Write (entity text, visible) or (entity text, invisible) for each in "
                "<entailment></entailment>.",
                "box": "Write (entity text, box), or (entity text, None) without a box, for each in "
                "<location></location>.",
            },
            cautions=True,
        ),
        "Step by step",
        tuple(
            (part(f"{number}<entity_num>{{n}}</entity_num>"),
             part(f"{types}<mner>", "</mner>", span="({m}", type=", {kind}", end=")"),
             part(f"{image}<entailment>", "</entailment>", open="({m}", shown=", visible",
                  absent=", invisible", end=")"),
             part(f"{boxes}<location>", "</location>", open="({m}", at=", {slot}", nowhere=", None", end=")"))
            for number, types, image, boxes in (
                ("", "", "", ""),
                ("", "The text names:\n", "Compared with the image:\n", "Boxes:\n"),
                ("Number of entities in the text: ", "Their types: ", "In the image? ", "Where they are: "),
            )
        ),
        (
            "<entity_num>0</entity_num>\n<mner>None</mner>\n<entailment>None</entailment>\n"
            "<location>None</location>",
            "<entity_num>0</entity_num>\nThe text names no entity, so every list stays empty.",
            "Number of entities in the text: <entity_num>0</entity_num>\nThere is nothing to type or locate.",
        ),
        joint="\n",
    ),
    "formal-entity": Style(
        "formal", "the same steps and tags, entity by entity",
        Instruction(
            "Write the number of entities in <entity_num></entity_num>. Then take the entities one by one "
            "and answer for each, in tags:",
            {
                "span": "Copy it.",
                "type": "<mner>(entity text, type)</mner>",
                "groundable": "<entailment>(entity text, visible or invisible)</entailment>",
                "box": "<location>(entity text, box or None)</location>",
            },
            cautions=True,
            without={"span": "Take the names one by one and answer for each, in tags:"},
        ),
        "Name by name",
        tuple(
            (part(f"{head}<entity_num>{{n}}</entity_num>"),
             part(open=lead, type="<mner>({m}, {kind})</mner> ",
                  shown="<entailment>({m}, visible)</entailment>",
                  absent="<entailment>({m}, invisible)</entailment>",
                  at=" <location>({m}, {slot})</location>", nowhere=" <location>({m}, None)</location>"))
            for head, lead in (("", ""), ("Entities: ", "- "), ("I count: ", "Next: "))
        ),
        (
            "<entity_num>0</entity_num> No entity to go through.",
            "Entities: <entity_num>0</entity_num> None.",
            "I count: <entity_num>0</entity_num> There is nothing to go through.",
        ),
        joint="\n",
    ),
    "questions": Style(
        "conclusion", "questions and answers, name by name",
        Instruction("Ask yourself these questions about every candidate, and answer each:", _RULES, True),
        "Question and answer",
        (
            (part(span="Q: Is {m} named in the text? A: It is.",
                  type=" Q: Of what type is it? A: It is {a_kind}, because {why}.",
                  shown=" Q: Is it visible in the image? A: Yes.",
                  absent=" Q: Is it visible in the image? A: No.",
                  at=" Q: Where? A: At {slot}.", nowhere=" Q: Where? A: Nowhere."),),
            (part(span="Does the post name {m}? It names it word for word.",
                  type=" What is it, then? It must be {a_kind}: {why}.",
                  shown=" Can it be seen? Yes, the image shows it.",
                  absent=" Can it be seen? No, it is missing.",
                  at=" Which box holds it? The box is {slot}.", nowhere=" Which box holds it? None does."),),
            (part(span="{m}: an entity? The text has these words.", type=" Which kind? {kind}, since {why}.",
                  shown=" In the image? Visible.", absent=" In the image? Not visible.",
                  at=" Its box? {slot}.", nowhere=" Its box? None."),),
        ),
        (
            "Q: Does the text name anything? A: No. Q: Does the image matter then? A: Not without a name.",
            "Does the post name anybody or anything? It names nothing. So there is no box to look for.",
            "An entity? The text holds none.",
        ),
        fields=("type", "entity", "bbox_2d"), triples="type",
    ),
    "conclusions": Style(
        "conclusion", "a few conclusions, a sentence per name",
        Instruction("Settle these questions, and write down only what you conclude:", _RULES, True),
        "Conclude",
        (
            (part(open="{m}", span=" comes from the text", shown="; the image shows it",
                  absent="; the image does not show it", at=", at {slot}", nowhere=", so it has no box",
                  type=". It is {a_kind}", end="."),),
            (part("My conclusions:", open="- {m}", span=" belongs to the text", type=" as {a_kind}",
                  shown="; it is pictured", absent="; it is not pictured", at="; its box is {slot}",
                  nowhere="; it gets no box", end="."),),
            (part(span="I take {m} from the text", type=" and conclude that it is {a_kind}",
                  shown=". The picture depicts it",
                  absent=". The picture does not depict it",
                  at=", inside {slot}", nowhere=", so its box is None", end="."),),
        ),
        (
            "The text names nothing, so there is no entity, whatever the image holds.",
            "My conclusions: there is no entity in the text, hence nothing to locate.",
            "I take no name from the text and conclude that the answer is empty.",
        ),
        fields=("entity", "bbox_2d", "type"), triples="shown",
    ),
    "distill": Style(
        "distill", "free reasoning: all of the text, then all of the image",
        Instruction(
            "Think step by step about what counts as an entity, what the text means, what the image holds, "
            "whether it shows each entity, and where.",
            without={
                "span": "Think step by step about what each name means, what the image holds, whether it "
                "shows what is named, and where.",
                "box": "Think step by step about what counts as an entity, what the text means, and what "
                "the image holds.",
            },
        ),
        "Think freely",
        (
            (part("First I read the text.", span="It mentions {m}", type=", which is {a_kind} because {why}",
                  end="."),
             part("Then I look at the image.", open="In it {m}", shown=" is visible",
                  absent=" is not visible", at=", in the region {slot}",
                  nowhere=", so there is no box for it", end=".")),
            (part("Reading the post,", span="I find the name {m}", type="; this is {a_kind}, as {why}",
                  end="."),
             part("Looking at the picture,", shown="I can see {m}", absent="I cannot find {m}",
                  at=", within {slot}", nowhere=", hence no box for it", end=".")),
            (part("What does the text say?", span="The words {m} stand out as a name",
                  type=". They refer to {a_kind}: {why}", end="."),
             part("What does the image add?", shown="It depicts {m}", absent="It does not depict {m}",
                  at=", with the coordinates {slot}", nowhere=", and no coordinates are given", end=".")),
        ),
        (
            "First I read the text. It mentions no entity. What the image shows does not change that.",
            "Reading the post, I find no name, so the picture has nothing to be compared with.",
            "What does the text say? It names nobody and nothing. What the image adds alone is no entity.",
        ),
    ),
    "checklist": Style(
        "formal", "ours: a list per name, a line per constraint",
        Instruction("Fill in a checklist for every entity, a line per question:", _RULES, True),
        "Checklist",
        (
            (part(open="* {m}", span="\n- words: copied from the text", type="\n- type: {kind}",
                  shown="\n- visible: yes", absent="\n- visible: no", at="\n- box: {slot}",
                  nowhere="\n- box: None"),),
            (part(open="Entity {m}", span="\n1) taken from the text", type="\n2) {kind}",
                  shown="\n3) depicted", absent="\n3) not depicted", at="\n4) {slot}",
                  nowhere="\n4) None"),),
            (part(open="For {m}:", span="\nC_s ok", type="\nC_t {kind}", shown="\nC_e true",
                  absent="\nC_e false", at="\nC_u {slot}", nowhere="\nC_u None"),),
        ),
        ("* no name\n- nothing to check", "Entity: none\n1) nothing is taken", "For nobody:\nC_s None"),
        joint="\n",
    ),
    "terse": Style(
        "formal", "ours: a few words per name, for a model of a few million parameters",
        Instruction("Write a few words per entity on each question:", _RULES, True),
        "Think",
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
PAPER = ("formal", "formal-entity", "questions", "conclusions", "distill")  # the paper's five instructions
