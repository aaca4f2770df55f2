"""Chains: built, rewritten, rendered, checked, and read back from a model's own words."""

from dataclasses import replace

import numpy as np
import pytest

from mcr_lib import chains, rewards, statements
from mcr_lib.answer import parse_answer
from mcr_lib.boxes import BOX_FORMATS, box_format, resized_size
from mcr_lib.chains import Chain
from mcr_lib.errors import UserError
from mcr_lib.schema import CONSTRAINTS, Entity, Example, PredictedEntity
from mcr_lib.styles import STYLES
from mcr_lib.verify import FLAWS

LABELS = ("PER", "LOC", "ORG", "OTHER")
TWEET = Example(
    "1", "demo", "train", ("Ada", "Byron", "in", "Rome", "with", "Eve"),
    (
        Entity("Ada Byron", 0, 2, "PER", ((10, 10, 50, 80),)),
        Entity("Rome", 3, 4, "LOC", ()),
        Entity("Eve", 5, 6, "PER", ((60, 20, 90, 80),)),
    ),
    LABELS, image_size_px=(100, 90),
)  # fmt: skip
NOBODY = Example("2", "demo", "train", ("rain",), (), LABELS)


def built(example=TWEET, style="distill", seed=0, **kwargs):
    return chains.build(example, style, np.random.default_rng(seed), **kwargs)


def test_a_row_gives_an_equal_chain_back():
    for example in (
        TWEET,
        NOBODY,
        replace(TWEET, constraints=("span", "type")),
        replace(TWEET, constraints=("groundable", "box")),
    ):
        for style in STYLES:
            assert Chain.from_row(built(example, style).to_row()) == built(example, style)
    with pytest.raises(ValueError, match="not a row of a chain"):
        Chain.from_row({**built().to_row(), "is_privileged": False})  # a key of version 1


def test_rendered_numbers_are_the_familys_own_in_chain_and_answer_alike():
    # 100 x 90 px as 112 x 84 (4 x 3 units of 28): x · 1.12, y · 0.9333; in thousandths: x · 10, y · 11.11
    assert resized_size((100, 90), min_pixels=3136, max_pixels=10**6) == (112, 84)
    qwen = chains.render(built(), "qwen2.5-vl", (112, 84))
    assert qwen.count("[11, 9, 56, 75]") == qwen.count("[67, 19, 101, 75]") == 2
    glm = chains.render(built(), "glm-4.5v", None)
    assert glm.count("[100, 111, 500, 889]") == glm.count("[600, 222, 900, 889]") == 2
    assert "[[" not in qwen.replace("[[box", "!").split("<answer>")[0]


ORDERS = {  # style -> the names of TWEET's answer: as in the text, by type, those with a box first
    "distill": ["Ada Byron", "Rome", "Eve"],
    "questions": ["Ada Byron", "Eve", "Rome"],
    "conclusions": ["Ada Byron", "Eve", "Rome"],
}


@pytest.mark.parametrize("form", ["json", "paper"])
@pytest.mark.parametrize("style", ORDERS)
def test_an_answer_has_the_orders_of_its_style_and_reads_the_same(style, form):
    text = chains.render(built(style=style), "qwen3-vl", None, form=form, labels=LABELS)
    parsed = parse_answer(text, labels=LABELS)
    assert [e.text for e in parsed.entities] == ORDERS[style]
    first = {"entity": "Ada Byron", "type": "PER" if form == "json" else "person"}[STYLES[style].fields[0]]
    answer = text.split("<answer>")[1]
    assert answer.index(first) < min(answer.index(v) for v in ("Ada Byron", "100, 111") if v != first)
    slots = {s.name: s.slot for s in built(style=style).answer}
    assert slots == {"Ada Byron": 1, "Rome": None, "Eve": 2}, "slots count in the order of the text"


def test_an_order_in_which_names_would_not_be_found_is_that_of_the_text():
    tokens = ("Paris", "Hilton", "in", "Paris")
    hilton, city = Entity("Paris Hilton", 0, 2, "PER", ()), Entity("Paris", 3, 4, "LOC", ((1, 1, 9, 9),))
    tweet = replace(TWEET, tokens=tokens, entities=(hilton, city))
    said = statements.of_example
    # with the box first, "Paris" would be placed on the first word, and "Paris Hilton" nowhere
    assert [s.name for s in chains.in_order(said(tweet), tweet, "conclusions")] == ["Paris Hilton", "Paris"]
    assert [s.name for s in chains.in_order(said(tweet), tweet, "questions")] == ["Paris Hilton", "Paris"]
    clear = replace(
        tweet, tokens=("Hilton", "x", "in", "Paris"), entities=(replace(hilton, text="Hilton", end=1), city)
    )
    assert [s.name for s in chains.in_order(said(clear), clear, "conclusions")] == ["Paris", "Hilton"]


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match="without an image size"):
        built(replace(TWEET, image_size_px=None))
    with pytest.raises(ValueError, match="without an image size"):
        chains.render(replace(built(), image_size_px=None), "qwen3-vl", None)
    with pytest.raises(ValueError, match="model_size"):
        chains.render(built(), "qwen2.5-vl", None)
    with pytest.raises(UserError, match="unknown model family 'llava'"):
        chains.render(built(), "llava", None)
    with pytest.raises(ValueError, match="unknown style 'sonnet'"):
        built(style="sonnet")


def test_check_compares_with_the_gold_beside_the_words():
    chain = built()
    assert chains.check(chain, TWEET) is None
    assert chains.check(replace(chain, style="sonnet"), TWEET) == "unknown_style"
    assert (
        chains.check(replace(chain, boxes_xyxy_px=((10, 10, 50, 81), (60, 20, 90, 80))), TWEET)
        == "other_gold"
    )
    assert chains.check(replace(chain, answer=chain.answer[:2]), TWEET) == "other_answer"
    wrong = chain.text.replace("a person", "an organization")
    assert chains.check(replace(chain, text=wrong), TWEET) == "wrong_type"


REWRITES = {
    "nothing": (None, "empty"),
    "white space": ("  \n ", "empty"),
    "garbage": ("I cannot help with that.", "missing_name"),
    "another tweet's": (
        built(replace(TWEET, tokens=("Oslo",), entities=(Entity("Oslo", 0, 1, "LOC", ()),))).text,
        "unknown_name",
    ),
    "changed numbers": (built().text.replace("[[box 2]]", "[[box 3]]"), "foreign_slot"),
    "raw numbers": (built().text.replace("[[box 2]]", "[1, 2, 3, 4]"), "number"),
    "swapped numbers": (
        built().text.replace("box 2", "box X").replace("box 1", "box 2").replace("box X", "box 1"),
        "foreign_slot",
    ),
    "with its own answer": (built().text + "<answer>[]</answer>", "tag"),
    "not a text": (7, "empty"),
}


@pytest.mark.parametrize("name", REWRITES)
def test_a_bad_rewrite_is_named_tried_again_and_falls_back(name):
    text, flaw = REWRITES[name]
    asked = []
    kept, rejected = chains.rewrite(built(), TWEET, lambda request: asked.append(request) or text, n_tries=3)
    assert kept == built()
    assert rejected == [flaw] * 3
    assert flaw in FLAWS
    assert len(asked) == 3


def test_a_good_rewrite_is_kept_and_a_second_try_counts():
    tries = iter([None, "Well then. " + built().text])
    kept, rejected = chains.rewrite(built(), TWEET, lambda request: next(tries), source="mllm")
    assert (kept.source, kept.text, rejected) == ("mllm", "Well then. " + built().text, ["empty"])
    assert chains.check(kept, TWEET) is None


def test_the_request_holds_the_tweet_the_chain_and_the_rules():
    request = chains.rewrite_request(built(), TWEET)
    assert TWEET.text in request
    assert request.endswith(built().text)
    assert "double quotes" in request


def own(think, entities):
    parsed = parse_answer(chains.write_answer(entities, think=think), labels=LABELS)
    return chains.faithfulness(parsed, labels=LABELS, task=CONSTRAINTS)


ADA, ROME = PredictedEntity("Ada Byron", "PER", ((11, 9, 56, 75),)), PredictedEntity("Rome", "LOC")


SHOWN = '"Ada Byron" : PER , shown at [11, 9, 56, 75]'
TWICE = '"Rome" (mention 1) : LOC , not shown ; "Rome" (mention 2) : LOC , not shown ;'


@pytest.mark.parametrize(
    ("think", "entities", "expected"),
    [
        (f'{SHOWN} ; "Rome" : LOC , not shown , no box ;', [ADA, ROME], None),
        ("Ada Byron is a person at (11, 9, 56, 75). Rome is a LOC but not shown.", [ADA, ROME], None),
        (f'{SHOWN.replace("75", "76")} ; "Rome" : LOC , not shown ;', [ADA, ROME], "foreign_slot"),
        (f'{SHOWN.replace("PER", "ORG")} ; "Rome" : LOC , not shown ;', [ADA, ROME], "wrong_type"),
        ('"Ada Byron" : PER , not shown ; "Rome" : LOC , not shown ;', [ADA, ROME], "missing_slot"),
        (f"{SHOWN} ;", [ADA, ROME], "missing_name"),
        (f'{SHOWN} ; "Rome" : LOC , not shown ;', [ADA], "wrong_type"),  # Rome is no mere bait
        (f'{SHOWN} ; "Zed" , shown , not in text ;', [ADA], None),
        (f'{SHOWN} ; "Rome" : LOC , not shown ;', [ADA, ROME, ROME], None),  # an answer that repeats itself
        (f"{SHOWN} ; {TWICE}", [ADA, ROME, ROME], None),
        (f"{SHOWN} ;", [ADA, PredictedEntity("Ada Byron", "PER")], "missing_name"),  # two answers of one name
        ('"Ada Byron" : PER , shown at [[box 1]] ;', [ADA], "missing_slot"),  # a slot is no number
        ("nobody .", [], None),
        ('"Rome" : LOC , not shown ;', [], "wrong_type"),
    ],
)  # fmt: skip
def test_faithfulness_of_a_models_own_chain(think, entities, expected):
    assert own(think, entities) == expected


def test_an_unread_answer_and_one_without_reasoning_are_told_apart():
    assert chains.faithfulness(parse_answer("no", labels=LABELS), labels=LABELS, task=CONSTRAINTS) == "unread"
    assert own(None, [ADA]) == "no_reasoning"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([11, 9, 56, 76], None),
        ([11, 9, 56, 43], None),  # 34/66
        ([11, 9, 56, 42], "foreign_slot"),  # 33/66
        ([80, 9, 95, 75], "foreign_slot"),
    ],
)
def test_boxes_may_be_near_where_that_is_asked(box, expected):
    parsed = parse_answer(
        chains.write_answer([ADA], think=f'"Ada Byron" : PER , shown at {box} ;'), labels=LABELS
    )
    assert chains.faithfulness(parsed, labels=LABELS, task=CONSTRAINTS, min_iou=0.5) == expected


def test_a_box_of_the_reasoning_is_the_nearest_one_of_the_answer():
    boxes = [(0, 0, 10, 10), (2, 0, 12, 10)]
    assert (
        chains.with_slots("[2, 0, 11, 10] [0, 0, 9, 10] [50, 50, 60, 60]", boxes, min_iou=0.5)
        == "[[box 2]] [[box 1]] [[box 3]]"
    )
    assert chains.with_slots("[0, 0, 10, 10]", [], min_iou=0.5) == "[[box 1]]"


def test_two_names_in_one_box_are_faithful():
    eve = replace(ADA, text="Eve")
    think = '"Ada Byron" : PER , shown at [11, 9, 56, 75] ; "Eve" : PER , shown at [11, 9, 56, 75] ;'
    assert own(think, [ADA, eve]) is None


@pytest.mark.parametrize("family", BOX_FORMATS)
@pytest.mark.parametrize("max_pixels", [28 * 28 * 16, 28 * 28 * 1280])
def test_rendered_chains_of_real_tweets_parse_score_the_maximum_and_are_faithful(real, family, max_pixels):
    speaks = box_format(family)
    for k, example in enumerate(real("dev")[::8]):
        size = example.image_size_px and resized_size(
            example.image_size_px, unit=speaks.unit, min_pixels=56 * 56, max_pixels=max_pixels
        )
        chain = built(example, list(STYLES)[k % len(STYLES)], seed=k)
        parsed = parse_answer(chains.render(chain, family, size), labels=example.labels)
        gold = rewards.written_gold(example, speaks.space, model_size=size)
        assert rewards.rewards(parsed, gold).total((1,) * 5) == 5
        assert chains.faithfulness(parsed, labels=example.labels, task=example.constraints) is None, (
            chain.text
        )
