"""Prompts ask what the task's constraints ask, in both wordings, and end with the text of the tweet."""

from dataclasses import replace

import pytest

from mcr_lib import constraints, prompts
from mcr_lib.schema import CONSTRAINTS, Entity, Example

TWEET = Example(
    "1", "demo", "train", ("Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 0, 2, "PER", ((0, 0, 9, 9),)), Entity("Rome", 3, 4, "LOC", ())), ("PER", "LOC"),
    images=("1.jpg",), image_size_px=(10, 10),
)  # fmt: skip
TEXT_TASK, IMAGE_TASK = ("span", "type"), ("groundable", "box")


def asked(kind, *, task=CONSTRAINTS, wording="full"):
    example = replace(TWEET, constraints=task)
    return prompts.text_of(
        prompts.messages(
            example, kind, wording=wording, shots=[(example, "x")] if kind == "cot-3shot" else ()
        )
    )


@pytest.mark.parametrize("wording", prompts.WORDINGS)
@pytest.mark.parametrize("kind", prompts.KINDS)
def test_a_prompt_asks_what_the_task_asks_and_nothing_else(kind, wording):
    for task in (CONSTRAINTS, TEXT_TASK, IMAGE_TASK):
        text = asked(kind, task=task, wording=wording).lower()
        assert ("per" in text.split("ada byron")[0].replace(".", "").replace(",", "").split()) == (
            "type" in task
        )
        assert ("image" in text) == ("box" in task or (kind == "mcr" and wording == "full")), (
            "the warning about visual bias stays"
        )
        assert ("null" in text) == ("box" in task) or (kind, wording) == ("mcr", "brief")
        assert ('"ada byron", "rome"' in text) == ("span" not in task), (
            "names are given where they are not asked for"
        )
        assert text.split("\n")[-1] == "ada byron in rome"


def test_only_the_mcr_prompt_states_the_questions_of_the_constraints():
    for kind in prompts.KINDS:
        for task in (CONSTRAINTS, TEXT_TASK, IMAGE_TASK):
            stated = [c.name for c in constraints.ALL.values() if c.question in asked(kind, task=task)]
            assert stated == (list(task) if kind == "mcr" else [])


def test_all_kinds_and_wordings_differ_but_for_the_shots():
    for wording in prompts.WORDINGS:
        texts = {kind: asked(kind, wording=wording) for kind in prompts.KINDS}
        assert texts["cot"] == texts["cot-3shot"]
        assert len(set(texts.values())) == len(prompts.KINDS) - 1


def test_reasoning_is_asked_for_except_in_the_direct_prompt():
    for kind in prompts.KINDS:
        assert ("<think>" in asked(kind)) == (kind != "direct")


@pytest.mark.parametrize(
    ("kind", "limit"), [("direct", 20), ("cot", 25), ("mcr", 35), ("mcr-no-instruction", 35)]
)
def test_the_brief_wording_is_brief_and_has_no_system_message(kind, limit):
    example = replace(TWEET, labels=("PER", "LOC", "ORG", "OTHER"))
    chat = prompts.messages(example, kind, wording="brief")
    assert [m["role"] for m in chat] == ["user"]
    assert len(prompts.text_of(chat).split("\n")[0].split()) <= limit


def test_a_chat_has_a_part_per_image_and_a_turn_per_shot():
    two_images = replace(TWEET, images=("1.jpg", "2.jpg"))
    shots = [(TWEET, "first"), (replace(TWEET, images=()), "second")]
    chat = prompts.messages(two_images, "cot-3shot", shots=shots)
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [[part["type"] for part in m["content"]] for m in chat if m["role"] == "user"] == [
        ["image", "text"],
        ["text"],
        ["image", "image", "text"],
    ]
    assert [m["content"][0]["text"] for m in chat if m["role"] == "assistant"] == ["first", "second"]


def test_gold_never_shows_where_names_are_asked_for():
    blind = replace(TWEET, entities=())
    for kind in ("direct", "mcr"):
        assert prompts.messages(TWEET, kind) == prompts.messages(blind, kind)


def test_a_prompt_that_does_not_exist_and_stray_shots_are_refused():
    with pytest.raises(ValueError, match="unknown prompt 'cott'"):
        prompts.messages(TWEET, "cott")
    with pytest.raises(ValueError, match="belong to cot-3shot"):
        prompts.messages(TWEET, "cot", shots=[(TWEET, "x")])
    with pytest.raises(ValueError, match="needs some"):
        prompts.messages(TWEET, "cot-3shot")
