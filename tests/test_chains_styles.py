"""Styles: every form says everything, they differ in order and words, and the terse one is short."""

import itertools
import re
from dataclasses import replace

import pytest

from mcr_lib import boxes, statements
from mcr_lib.schema import CONSTRAINTS, TYPE_WORDS, Entity, Example
from mcr_lib.statements import Statement
from mcr_lib.styles import PAPER, STYLES, say
from mcr_lib.verify import verify

LABELS = ("PER", "LOC", "ORG", "OTHER")
ADA = Statement("Ada Byron", type="PER", is_groundable=True, slot=1)
ROME = Statement("Rome", type="LOC", is_groundable=False)
EVERY = [(name, k) for name, style in STYLES.items() for k in range(len(style.wordings))]


def said_type(label, text):
    """Whether a chain says a type, by its label or in the paper's word."""
    return label in text or re.search(rf"\b{TYPE_WORDS[label]}\b", text, re.IGNORECASE) is not None


def test_the_papers_three_types_have_two_two_and_one_instruction_and_ours_say_so():
    kinds = [STYLES[name].kind for name in PAPER]
    assert kinds == ["formal", "formal", "conclusion", "conclusion", "distill"]
    assert all(style.form.startswith("ours") == (name not in PAPER) for name, style in STYLES.items())
    for style in STYLES.values():
        assert len(style.wordings) == len(style.nobody) == 3
    for texts in ({s.instruction.lead for s in STYLES.values()}, {s.brief for s in STYLES.values()}):
        assert len(texts) == len(STYLES), "two styles are asked for in the same words"


def test_orders_of_triples_and_of_their_fields_vary():
    assert {STYLES[name].triples for name in PAPER} == {"text", "type", "shown"}
    assert len({STYLES[name].fields for name in PAPER}) >= 3
    for style in STYLES.values():
        assert sorted(style.fields) == ["bbox_2d", "entity", "type"]


def test_the_formal_style_writes_the_papers_tags_in_the_papers_order():
    text = say(STYLES["formal"], 0, [ADA, ROME], CONSTRAINTS)
    tags = re.findall(r"<(\w+)>", text)
    assert tags == ["entity_num", "mner", "entailment", "location"]
    assert "<entity_num>2</entity_num>" in text
    assert '("Ada Byron", person)' in text
    assert '("Rome", invisible)' in text
    assert '("Rome", None)' in text


@pytest.mark.parametrize(("name", "wording"), EVERY)
def test_a_wording_says_all_four_constraints_of_every_name(name, wording):
    both = say(STYLES[name], wording, [ADA, ROME], CONSTRAINTS)
    for claims in (ADA.mention, ROME.mention, "[[box 1]]"):
        assert claims in both
    assert said_type("PER", both)
    assert said_type("LOC", both)
    assert verify(both, [ADA, ROME], labels=LABELS, task=CONSTRAINTS) is None
    # the same words with another claim are another text: nothing is left unsaid
    for other in (
        replace(ROME, type="ORG"),
        replace(ROME, is_groundable=True, slot=2),
        replace(ROME, name="Oslo"),
    ):
        assert say(STYLES[name], wording, [ADA, other], CONSTRAINTS) != both


@pytest.mark.parametrize(("name", "wording"), EVERY)
@pytest.mark.parametrize("task", [("span", "type"), ("groundable", "box")])
def test_a_task_is_said_by_its_own_constraints_alone(name, wording, task):
    claims = [replace(s, type=s.type if "type" in task else None) for s in (ADA, ROME)]
    if "box" not in task:
        claims = [replace(s, is_groundable=None, slot=None) for s in claims]
    text = say(STYLES[name], wording, claims, task)
    assert verify(text, claims, labels=LABELS, task=task) is None
    assert ("[[box 1]]" in text) == ("box" in task)
    without_tags = re.sub(r"</?\w+>", "", text)
    assert any(said_type(label, without_tags) for label in LABELS) == ("type" in task)


@pytest.mark.parametrize(("name", "wording"), EVERY)
def test_a_tweet_without_entities_has_a_chain(name, wording):
    text = say(STYLES[name], wording, [], CONSTRAINTS)
    assert verify(text, [], labels=LABELS, task=CONSTRAINTS) is None
    assert text not in {
        say(STYLES[other], k, [], CONSTRAINTS) for other, k in EVERY if (other, k) != (name, wording)
    }


def four_grams(name):
    """The word 4-grams of a style, values masked, over its wordings and several mixtures of entities."""
    grams = set()
    mixtures = (
        [ADA, ROME],
        [ADA, replace(ADA, name="Eve", slot=2)],
        [ROME, replace(ROME, name="Oslo")],
        [ROME, ADA],
    )
    for wording, mixture in itertools.product(range(3), mixtures):
        text = say(STYLES[name], wording, mixture, CONSTRAINTS)
        for value in ('"Ada Byron"', '"Rome"', '"Eve"', '"Oslo"'):
            text = text.replace(value, " NAME ")
        text = re.sub(r"\[\[box \d\]\]", " BOX ", text)
        text = re.sub(r"</?\w+>", " ", text)  # the tags are the paper's, and both formal styles have them
        text = re.sub(r"an? (person|location)|person|location|PER|LOC", " TYPE ", text)
        words = re.findall(r"\w+", text.lower())
        grams |= set(zip(*(words[k:] for k in range(4)), strict=False))
    return grams


def test_no_two_styles_share_more_than_half_of_their_word_4_grams():
    grams = {name: four_grams(name) for name in STYLES}
    for a, b in itertools.combinations(STYLES, 2):
        assert len(grams[a] & grams[b]) <= 0.5 * min(len(grams[a]), len(grams[b])), (a, b)


def n_tokens(text):
    """Words, numbers and punctuation marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


@pytest.mark.parametrize("wording", range(3))
def test_the_terse_style_is_at_most_64_tokens_for_two_entities(wording):
    shown = [Statement("Kevin Wayne Durant", type="PER", is_groundable=True, slot=k) for k in (1, 2)]
    claims = [shown[0], replace(shown[1], name="Oracle Arena")]
    text = statements.SLOT.sub("[152, 131, 188, 140]", say(STYLES["terse"], wording, claims, CONSTRAINTS))
    assert n_tokens(text) <= 64


def test_slots_are_numbered_over_what_is_shown_and_stand_for_the_largest_box():
    two = ((0, 0, 2, 2), (0, 0, 9, 9))
    tweet = Example(
        "1", "demo", "train", ("Ada", "in", "Rome", "with", "Eve"),
        (
            Entity("Ada", 0, 1, "PER", two), Entity("Rome", 2, 3, "LOC", ()),
            Entity("Eve", 4, 5, "PER", ((1, 1, 3, 3),)),
        ),
        LABELS, image_size_px=(10, 10),
    )  # fmt: skip
    assert [s.slot for s in statements.of_example(tweet)] == [1, None, 2]
    assert statements.gold_boxes(tweet) == (boxes.largest(two), (1, 1, 3, 3))


def test_mentions_of_one_name_are_told_apart():
    tweet = Example(
        "1", "demo", "train", ("Rome", "or", "Rome"),
        (Entity("Rome", 0, 1, "LOC", ()), Entity("Rome", 2, 3, "ORG", ())), LABELS, image_size_px=(10, 10),
    )  # fmt: skip
    claims = statements.of_example(tweet)
    assert [s.mention for s in claims] == ['"Rome" (mention 1)', '"Rome" (mention 2)']
    swapped = [replace(claims[0], type="ORG"), replace(claims[1], type="LOC")]
    for style in STYLES.values():
        assert verify(say(style, 0, claims, CONSTRAINTS), claims, labels=LABELS, task=CONSTRAINTS) is None
        assert (
            verify(say(style, 0, swapped, CONSTRAINTS), claims, labels=LABELS, task=CONSTRAINTS)
            == "wrong_type"
        )
