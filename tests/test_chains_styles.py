"""Styles: every form says everything, they differ in order and words, and the terse one is short."""

import itertools
import re
from dataclasses import replace

import pytest

from mcr_lib import boxes, statements
from mcr_lib.schema import CONSTRAINTS, Entity, Example
from mcr_lib.statements import Statement
from mcr_lib.styles import STYLES, say
from mcr_lib.verify import SHOWING, verify

LABELS = ("PER", "LOC", "ORG", "OTHER")
ADA = Statement("Ada Byron", type="PER", is_groundable=True, slot=1)
ROME = Statement("Rome", type="LOC", is_groundable=False)
EVERY = [(name, k) for name, style in STYLES.items() for k in range(len(style.wordings))]


def test_there_are_eight_full_styles_and_a_terse_one_with_three_wordings_each():
    assert len(STYLES) >= 9
    assert "terse" in STYLES
    for style in STYLES.values():
        assert len(style.wordings) == len(style.nobody) == 3


@pytest.mark.parametrize(("name", "wording"), EVERY)
def test_a_wording_says_all_four_constraints_of_every_name(name, wording):
    both = say(STYLES[name], wording, [ADA, ROME], CONSTRAINTS)
    for claims in (ADA.mention, ROME.mention, "PER", "LOC", "[[box 1]]"):
        assert claims in both
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
    assert any(label in text for label in LABELS) == ("type" in task)


@pytest.mark.parametrize(("name", "wording"), EVERY)
def test_a_tweet_without_entities_has_a_chain(name, wording):
    text = say(STYLES[name], wording, [], CONSTRAINTS)
    assert verify(text, [], labels=LABELS, task=CONSTRAINTS) is None
    assert text not in {
        say(STYLES[other], k, [], CONSTRAINTS) for other, k in EVERY if (other, k) != (name, wording)
    }


def order_of(text):
    """The constraints in the order in which a chain about `ADA` first says them."""
    showing = re.search(rf"\b(?:{'|'.join(SHOWING)}|point|fits|goes with|supports)\b", text.lower())
    places = {
        "span": text.index('"Ada'),
        "type": text.index("PER"),
        "groundable": showing.start(),
        "box": text.index("[[box 1]]"),
    }
    return tuple(sorted(places, key=places.get))


def test_the_constraints_come_in_at_least_four_orders():
    orders = {name: order_of(say(style, 0, [ADA], CONSTRAINTS)) for name, style in STYLES.items()}
    assert len(set(orders.values())) >= 4
    assert orders["text-first"] == ("span", "type", "groundable", "box")
    assert orders["by-kind"][0] == "type"
    assert orders["evidence"][0] == "box"
    assert orders["image-first"][0] == "groundable"


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
        text = re.sub(r"an? (person|location) \((PER|LOC)\)|PER|LOC", " TYPE ", text)
        words = re.findall(r"\w+", text.replace("BOX", "BOX").lower())
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
