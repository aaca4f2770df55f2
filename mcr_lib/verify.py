"""Verification: whether a chain says of each name exactly what the constraints claim, whoever wrote it.

A chain is free text: from a template, an LLM's rewrite of one, or a model's own reasoning. It is read by one
rule. Names in double quotes are mentions; type words, slots and words of showing or denying are claims. A
claim belongs to the mention in its clause; of several to the nearest before it; without one to the nearest
before it in its sentence, else after it, else to the last mention so far. A question claims nothing. The
claims must be the statements, no more and no less (`FLAWS`). Rule and word lists are ours (paper silent),
measured by mutation: of chains with one planted error at least 99 % are rejected, of templates none.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from mcr_lib.schema import TYPE_WORDS
from mcr_lib.statements import SLOT, Statement

# Words that deny: alone, that there is a box; with a word of showing, that the image shows the entity.
NEGATIONS = (
    "no", "not", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without", "cannot",
    "null", "absent", "missing", "lacks", "lacking", "unseen", "invisible", "unboxed", "ungrounded", "false",
    "fails",
)  # fmt: skip
SHOWING = (  # words that say that the image shows something, unless their clause contains a negation
    "shown", "shows", "show", "showing", "depicts", "depicted", "depict", "visible", "seen", "pictured",
    "pictures", "contains", "appears", "grounded", "sighted", "yes", "true",
)  # fmt: skip

FLAWS = {  # in the order in which they are checked
    "empty": "nothing is said",
    "too_long": "more than 6,000 characters",
    "tag": "a tag of the answer stands in the reasoning",
    "number": "a box is written in numbers, not as a slot",
    "unknown_name": "a quoted name that the gold does not have",
    "missing_name": "a name is not mentioned",
    "stray_claim": "a type or a slot before any name",
    "wrong_type": "a type is claimed that is not the name's",
    "missing_type": "a name's type is not said",
    "foreign_slot": "a slot is claimed that is not the name's",
    "missing_slot": "a name's slot is not said",
    "wrong_negation": "something that the image shows is denied",
    "missing_negation": "what the image does not show is not denied, or is said to be shown",
}
MAX_CHARS = 6000

_VALUE = r"\s*-?\d+(?:\.\d+)?\s*"
BOX = re.compile(rf"[\[(]{_VALUE},{_VALUE},{_VALUE},{_VALUE}[\])]")  # a box written in numbers
_TAG = re.compile(r"</?(?:think|process|answer)>")
_STEP_TAG = re.compile(r"</?(?:entity_num|mner|entailment|location)>")  # of the formal style; claims nothing
UNSAYABLE = re.compile("|".join([BOX.pattern, SLOT.pattern, _TAG.pattern, _STEP_TAG.pattern, "[\x02\x03]"]))
Event = tuple[int, str, str]  # number of the clause within its sentence, kind (a group of `_pattern`), value
Claims = set[tuple[str, str]]  # what a chain says of one mention: kind and value


def verify(
    text: str, statements: Sequence[Statement], *, labels: Sequence[str], task: Collection[str],
    bare_names: bool = False,
) -> str | None:  # fmt: skip
    """The first flaw of a chain, a key of `FLAWS`; `None` if it says exactly the statements.

    `bare_names`: also take names without quotes as mentions (for a model not trained on our chains); added
    names are then noticed only by the claims that they bring.

    Example:
        >>> oslo = Statement("Oslo", type="LOC", is_groundable=False)
        >>> task = ("span", "type", "groundable", "box")
        >>> texts = ('"Oslo" is a LOC, not shown.', '"Oslo" is a PER, not shown.', '"Oslo" at [[box 1]].')
        >>> [verify(text, [oslo], labels=("PER", "LOC"), task=task) for text in texts]
        [None, 'wrong_type', 'missing_type']
    """
    if not text.strip():
        return "empty"
    if len(text) > MAX_CHARS:
        return "too_long"
    if _TAG.search(text):
        return "tag"
    if BOX.search(text):
        return "number"
    marked = _with_marks(_STEP_TAG.sub(" ", text), statements, bare_names)
    if '"' in marked and not bare_names:
        return "unknown_name"
    if not statements:
        kinds = {kind for kind, _ in _events(marked, tuple(labels))}
        return "stray_claim" if kinds & {"type", "slot"} else None if "deny" in kinds else "missing_negation"
    claims = _read(marked, tuple(labels))
    if claims is None:
        return "stray_claim"
    flaws = {_flaw(statement, claims.get(k), task) for k, statement in enumerate(statements)}
    return next((name for name in FLAWS if name in flaws), None)


def _with_marks(text: str, statements: Sequence[Statement], bare_names: bool) -> str:
    """The text with mentions, longer ones first, as numbers of statements between control characters."""
    text = text.replace("\x02", " ").replace("\x03", " ").replace("“", '"').replace("”", '"')
    for k in sorted(range(len(statements)), key=lambda k: -len(statements[k].mention)):
        mention = statements[k].mention.replace("“", '"').replace("”", '"')
        marked = text.replace(mention, f"\x02{k}\x03")
        if bare_names and marked == text:
            marked = re.sub(rf"(?<!\w){re.escape(statements[k].name)}(?!\w)", f"\x02{k}\x03", text)
        text = marked
    return text


def _flaw(statement: Statement, claims: Claims | None, task: Collection[str]) -> str | None:
    if claims is None:
        return "missing_name"
    types = {value for kind, value in claims if kind == "type"}
    slots = {int(value) for kind, value in claims if kind == "slot"}
    is_shown, is_denied = (any(kind == sign for kind, _ in claims) for sign in ("show", "deny"))
    if types - {statement.type}:
        return "wrong_type"
    if statement.type is not None and not types:
        return "missing_type"
    if slots - {statement.slot}:
        return "foreign_slot"
    if statement.slot is not None and not slots:
        return "missing_slot"
    if statement.is_bait:
        return None if is_shown and is_denied else "missing_negation"
    if "groundable" not in task:
        return None
    if statement.is_groundable:
        return "wrong_negation" if is_denied else None
    return None if is_denied and not is_shown else "missing_negation"


def _read(text: str, labels: tuple[str, ...]) -> dict[int, Claims] | None:
    """Mention -> its claims; `None` if a type or a slot belongs to no mention."""
    claims, last = {}, None
    for is_question, sentence in _sentences(_events(text, labels)):
        mentions = [(at, int(value)) for at, (_, kind, value) in enumerate(sentence) if kind == "mention"]
        for _, k in mentions:
            claims.setdefault(k, set())
        denied_clauses = {clause for clause, kind, _ in sentence if kind == "deny"}
        for at, (clause, kind, value) in enumerate(sentence):
            if kind == "mention" or is_question:
                continue
            owner = _owner(at, sentence, mentions, last)
            if owner is None and kind in ("type", "slot"):
                return None
            if owner is not None and not (kind == "show" and clause in denied_clauses):
                claims[owner].add((kind, value))
        if mentions:
            last = mentions[-1][1]
    return claims


def _owner(at: int, sentence: list[Event], mentions: list[tuple[int, int]], last: int | None) -> int | None:
    """The mention that a claim belongs to: see the rule at the top."""
    near = [m for m in mentions if sentence[m[0]][0] == sentence[at][0]] or mentions
    before = [k for position, k in near if position < at]
    return before[-1] if before else near[0][1] if near else last


def _sentences(events: list[tuple[str, str]]) -> Iterator[tuple[bool, list[Event]]]:
    """Per sentence whether it is a question, and its events."""
    sentence, clause = [], 0
    for kind, value in [*events, ("sentence", "")]:
        if kind == "clause":
            clause += 1
        elif kind in ("sentence", "question"):
            if sentence:
                yield kind == "question", sentence
            sentence, clause = [], 0
        else:
            sentence.append((clause, kind, value))


def _events(text: str, labels: tuple[str, ...]) -> list[tuple[str, str]]:
    pattern, label_of = _pattern(labels)
    found = ((match.lastgroup, match[match.lastgroup]) for match in pattern.finditer(text))
    labelled = ((kind, v, label_of.get(v, label_of.get(v.lower(), v))) for kind, v in found)
    return [(kind, label if kind == "type" else value) for kind, value, label in labelled]


@lru_cache(maxsize=16)
def _pattern(labels: tuple[str, ...]) -> tuple[re.Pattern, dict[str, str]]:
    """One pattern for everything that a chain can claim, and type word -> label."""
    label_of = {TYPE_WORDS[label]: label for label in labels if label in TYPE_WORDS}
    label_of |= {label: label for label in labels}
    words = sorted(label_of, key=len, reverse=True)
    types = "|".join(re.escape(word) if word in labels else f"(?i:{re.escape(word)})" for word in words)
    pattern = (
        r"\x02(?P<mention>\d+)\x03|\[\[box (?P<slot>\d+)\]\]"
        rf"|(?<!\w)(?P<type>{types or '(?!)'})(?!\w)"
        rf"|(?P<deny>\b(?i:{'|'.join(NEGATIONS)})\b|n['’]t\b)"
        rf"|\b(?P<show>(?i:{'|'.join(SHOWING)}))\b"
        r"|(?P<clause>[,;|])|(?P<question>\?)|(?P<sentence>[.!\n])"
    )
    return re.compile(pattern), label_of
