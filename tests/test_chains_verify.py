"""The verifier, judged by mutation: it passes every template and rejects chains with one planted error."""

import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr_lib import statements
from mcr_lib.schema import CONSTRAINTS, TYPE_WORDS
from mcr_lib.statements import Statement
from mcr_lib.study.tables.mistakes import PLANTED, plant
from mcr_lib.styles import STYLES, say
from mcr_lib.verify import FLAWS, MAX_CHARS, verify

LABELS = ("PER", "LOC", "ORG", "OTHER")
ADA = Statement("Ada Byron", type="PER", is_groundable=True, slot=1)
EVE = Statement("Eve", type="PER", is_groundable=True, slot=2)
ROME = Statement("Rome", type="LOC", is_groundable=False)


def flaw(text, claims=(ADA, EVE, ROME), **kwargs):
    return verify(text, list(claims), labels=LABELS, task=CONSTRAINTS, **kwargs)


GOOD = (
    '"Ada Byron" is a PER at [[box 1]]; so is "Eve" (PER), at [[box 2]]. '
    'The image does not show "Rome", a LOC.'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, None),
        ("“Ada Byron”: person, [[box 1]]. “Eve”: person, [[box 2]]. “Rome”: location, absent.", None),
        ('At [[box 1]], one sees "Ada Byron", a person. "Eve" is a PER. She is at [[box 2]]. '
         '"Rome" is a LOC. It isn\'t there.', None),
        ('Is "Rome" shown? No. It is a LOC. "Ada Byron" PER [[box 1]]. "Eve" PER [[box 2]].', None),
        ("", "empty"),
        (" \n", "empty"),
        (GOOD + "x" * MAX_CHARS, "too_long"),
        (GOOD + "</think>", "tag"),
        (GOOD.replace("[[box 1]]", "[10, 20, 30, 40]"), "number"),
        (GOOD + ' And "Oslo".', "unknown_name"),
        (GOOD.replace("Byron", "Lovelace"), "unknown_name"),
        (GOOD.replace('"Eve"', "she"), "missing_name"),
        ("Two PER first. " + GOOD, "stray_claim"),
        (GOOD.replace("LOC", "ORG"), "wrong_type"),
        (GOOD + " It is also an ORG.", "wrong_type"),
        (GOOD.replace("a LOC", "a place"), "missing_type"),
        (GOOD.replace("box 1", "box 7"), "foreign_slot"),
        (GOOD.replace("box 1", "box X").replace("box 2", "box 1").replace("box X", "box 2"), "foreign_slot"),
        (GOOD + " It is at [[box 1]].", "foreign_slot"),
        (GOOD.replace(" at [[box 1]]", ""), "missing_slot"),
        (GOOD.replace("PER at", "PER not seen, at"), "wrong_negation"),
        (GOOD.replace("does not show", "shows"), "missing_negation"),
        (GOOD + " Still it is visible.", "missing_negation"),
    ],
)  # fmt: skip
def test_flaws_are_named(text, expected):
    assert flaw(text) == expected


PARAPHRASES = [
    'The tweet mentions "Eve", a person (PER). Looking at the picture, I can see her in the box [[box 2]]. '
    'It also mentions "Rome", a location (LOC), but nothing in the picture corresponds to it, '
    "so there is no box.",
    '"Eve" (PER) is clearly visible at [[box 2]], whereas "Rome" (LOC) cannot be seen anywhere.',
    'In the image, a woman stands at [[box 2]]; this is "Eve", a PER. '
    'The city "Rome" is a LOC; the image gives no view of it.',
    'First, "Eve" is named. She is a singer, so PER. The image shows a woman in the region [[box 2]], '
    'which matches. Next comes "Rome". It is a city, i.e. LOC. '
    "I look for a skyline in the image but there is none.",
    'Names: "Eve" → PER, "Rome" → LOC. In the image: "Eve" at [[box 2]], and no sign of "Rome".',
    '- "Eve" | PER | grounded: [[box 2]]\n- "Rome" | LOC | not grounded',
    'Who appears in the picture? A woman, framed by [[box 2]]; the text calls her "Eve", so this is a PER. '
    'What about "Rome"? The text names it as a LOC, yet the picture does not depict it.',
]  # fmt: skip


@pytest.mark.parametrize("text", PARAPHRASES)
def test_free_words_pass_and_their_flips_do_not(text):
    assert flaw(text, (EVE, ROME)) is None
    assert flaw(text.replace("PER", "ORG"), (EVE, ROME)) == "wrong_type"
    assert flaw(text.replace("LOC", "ORG"), (EVE, ROME)) == "wrong_type"
    assert (
        flaw(text.replace('"Eve"', "'").replace('"Rome"', '"Eve"').replace("'", '"Rome"'), (EVE, ROME))
        is not None
    )
    assert flaw(text.replace("[[box 2]]", "[[box 1]]"), (EVE, ROME)) == "foreign_slot"


def test_what_the_rule_cannot_follow_is_rejected_rather_than_guessed():
    assert (
        flaw(
            '"Eve" and "Rome". The first is a PER at [[box 2]]. The second is a LOC that is not shown.',
            (EVE, ROME),
        )
        == "wrong_type"
    )
    assert (
        flaw('"Eve" is no LOC but a PER, at [[box 2]]. "Rome" is a LOC, unseen.', (EVE, ROME)) == "wrong_type"
    )


def test_every_flaw_has_a_case_above():
    cases = next(mark for mark in test_flaws_are_named.pytestmark if mark.name == "parametrize").args[1]
    assert {expected for _, expected in cases} == {None, *FLAWS}


def test_entity_free_chains_deny_and_claim_nothing():
    assert flaw("Nobody is named.", ()) is None
    assert flaw("It rains.", ()) == "missing_negation"
    assert flaw("No PER here.", ()) == "stray_claim"
    assert flaw('No name but "Eve".', ()) == "unknown_name"


def test_bait_is_said_to_be_shown_and_not_named():
    bait = Statement("Zed", is_bait=True)
    assert (
        flaw(GOOD + ' The image also shows "Zed", which the text does not name.', (ADA, EVE, ROME, bait))
        is None
    )
    assert flaw(GOOD, (ADA, EVE, ROME, bait)) == "missing_name"
    assert flaw(GOOD + ' The image also shows "Zed".', (ADA, EVE, ROME, bait)) == "missing_negation"
    assert (
        flaw(GOOD + ' The image also shows "Zed", an ORG that is not named.', (ADA, EVE, ROME, bait))
        == "wrong_type"
    )


def test_names_within_names_and_names_that_hold_quotes():
    claims = (replace(ADA, name='The "Eve" Show', type="OTHER"), EVE)
    text = '"The "Eve" Show" is OTHER at [[box 1]]. "Eve" is PER at [[box 2]].'
    assert flaw(text, claims) is None
    assert flaw(text.replace('. "Eve"', ". She"), claims) == "missing_name"


def test_names_without_quotes_count_only_where_asked():
    text = "Eve is a PER at [[box 2]]."
    assert flaw(text, (EVE,)) == "stray_claim"
    assert flaw(text, (EVE,), bare_names=True) is None
    assert flaw("Everyone is a PER at [[box 2]].", (EVE,), bare_names=True) == "stray_claim"


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read_without_error(before, after):
    assert flaw(before + GOOD + after) in {None, *FLAWS}
    assert flaw(before, ()) in {None, *FLAWS}


# planted errors, said by the templates themselves
# --------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "step"), [("twitter-gmner", 20), ("twitter-fmnerg", 60)])
def test_of_real_tweets_no_template_is_rejected_and_99_percent_of_planted_errors_are(real, source, step):
    rng = np.random.default_rng(0)
    n, passed = Counter(), Counter()
    for example in real("train", source)[::step]:
        claims = statements.of_example(example)
        for name, style in STYLES.items():
            wording = int(rng.integers(3))
            text = say(style, wording, claims, example.constraints)
            assert verify(text, claims, labels=example.labels, task=example.constraints) is None, (
                name,
                wording,
                text,
            )
            for kind in PLANTED:
                wrong = plant(kind, claims, example, rng)
                if wrong is not None:
                    text = say(style, wording, wrong, example.constraints)
                    n[kind] += 1
                    passed[kind] += (
                        verify(text, claims, labels=example.labels, task=example.constraints) is None
                    )
    assert min(n[kind] for kind in PLANTED) > 30
    assert all(passed[kind] <= 0.01 * n[kind] for kind in PLANTED), passed


# planted errors, by editing the text: independent of how templates are made
# ---------------------------------------------------------


def edits(text, claims, rng):
    """Texts with one error each: a label, a slot, a name or a denial changed in one place."""
    for s in claims:
        others = [label for label in LABELS if label != s.type]
        for match in re.finditer(rf"(?<![\w</])(?:{s.type}|{TYPE_WORDS[s.type]})(?![\w>])", text):
            yield "label", text[: match.start()] + rng.choice(others) + text[match.end() :]
        for match in re.finditer(re.escape(s.mention), text):
            yield "name", text[: match.start()] + '"Nowhereman"' + text[match.end() :]
    for match in re.finditer(r"\[\[box \d\]\]", text):
        yield "slot", text[: match.start()] + "[[box 8]]" + text[match.end() :]
        yield "no slot", text[: match.start()] + "somewhere" + text[match.end() :]
        yield "denied", text[: match.start()] + "nowhere" + text[match.end() :]
    for old, new in (
        ("does not show", "shows"),
        ("invisible", "visible"),
        (" not visible", " visible"),
        (" no", " yes"),
        ("not depicted", "depicted"),
    ):
        if any(s.is_groundable is False for s in claims) and old + "," in text + ",":
            yield "affirmed", text.replace(old, new, 1)
    if text.count("[[box 1]]") and text.count("[[box 2]]"):
        yield (
            "swap",
            text.replace("[[box 1]]", "\0").replace("[[box 2]]", "[[box 1]]").replace("\0", "[[box 2]]"),
        )


def test_99_percent_of_edited_texts_are_rejected(real):
    rng = random.Random(1)
    n, passed = Counter(), Counter()
    for example in real("dev")[::6]:
        claims = statements.of_example(example)
        for style in STYLES.values():
            text = say(style, rng.randrange(3), claims, example.constraints)
            for kind, wrong in edits(text, claims, rng):
                n[kind] += 1
                passed[kind] += verify(wrong, claims, labels=example.labels, task=example.constraints) is None
    assert len(n) == 7
    assert all(passed[kind] <= 0.01 * n[kind] for kind in n), (passed, n)
