"""Examples: rows there and back, contradictions refused, checksums that say what they should."""

import json
from dataclasses import replace

import pytest

from mcr_lib.schema import Entity, Example, ImageOnly, checksum

TWEET = Example(
    "7", "demo", "dev", ("Go", "Kevin", "Durant", "!"),
    (Entity("Kevin Durant", 1, 3, "PER", ((1, 2, 3, 4), (5, 6, 7, 8.5))),), ("PER", "LOC"),
    images=("a.jpg",), image_size_px=(10, 20), image_only=(ImageOnly("Rome", "LOC", ((1, 1, 2, 2),)),),
)  # fmt: skip


@pytest.mark.parametrize(
    "tweet",
    [
        TWEET,
        replace(TWEET, image_only=None, image_size_px=None, images=(), entities=()),
        replace(TWEET, image_only=()),
    ],
)
def test_a_row_gives_an_equal_example_back_through_json(tweet):
    assert Example.from_row(json.loads(json.dumps(tweet.to_row()))) == tweet


def test_not_annotated_and_not_in_the_image_stay_apart():
    for boxes, is_groundable in ((None, None), ((), False), (((1, 1, 2, 2),), True)):
        tweet = replace(TWEET, entities=(Entity("Go", 0, 1, "PER", boxes),))
        back = Example.from_row(json.loads(json.dumps(tweet.to_row())))
        assert back.entities[0].is_groundable is is_groundable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entities": (Entity("Kevin", 0, 1, "PER"),)}, "is not the tokens"),
        ({"entities": (Entity("!", 3, 5, "PER"),)}, "is not the tokens"),
        ({"entities": (Entity("Go", 0, 1, "ORG"),)}, "is not one of"),
        (
            {"entities": (Entity("Durant !", 2, 4, "PER"), Entity("Go", 0, 1, "PER"))},
            "'Go' begins before the end of the one before it",
        ),
        (
            {"entities": (Entity("Go Kevin", 0, 2, "PER"), Entity("Kevin Durant", 1, 3, "PER"))},
            "begins before the end",
        ),
        ({"constraints": ("span", "colour")}, "unknown constraint 'colour'"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TWEET, **change)


def test_an_empty_span_is_refused():
    with pytest.raises(ValueError, match="empty or negative"):
        Entity("", 2, 2, "PER")


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"entities": None},
        {**TWEET.to_row(), "colour": 1},
        {**TWEET.to_row(), "entities": [{"text": "Go"}]},
    ],
)
def test_a_row_that_is_no_example_is_a_value_error(row):
    with pytest.raises(ValueError, match="not a row of an example"):
        Example.from_row(row)


def test_the_checksum_is_about_annotation_alone():
    other = replace(TWEET, id="8")
    assert checksum([TWEET, other]) == checksum([other, TWEET])
    assert checksum([TWEET]) == checksum([replace(TWEET, images=("elsewhere.png",))])
    moved = replace(TWEET, entities=(replace(TWEET.entities[0], boxes_xyxy_px=((1, 2, 3, 5),)),))
    assert len({checksum([TWEET]), checksum([moved]), checksum([other])}) == 3
