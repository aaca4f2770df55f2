"""Attention at the box digits: reduced numbers equal those worked out slowly from whole maps, and cuts those
of masks made by hand.
"""

import weakref
from dataclasses import replace

import numpy as np
import pytest

from mcr_lib import prompts
from mcr_lib.boxes import to_space
from mcr_lib.data import mrsi
from mcr_lib.data.predictions import Prediction
from mcr_lib.schema import Entity, Example

pytestmark = pytest.mark.canary


@pytest.fixture(scope="module")
def base():
    from mcr_lib.training import backbones

    return backbones.load("tiny-base", device="cpu")


@pytest.fixture(scope="module")
def answered(base, nano_tweets):
    """Tweets with answers that say the gold, reasoning first in three styles."""
    shown = [example for example in nano_tweets if any(entity.is_groundable for entity in example.entities)]
    rows = []
    for example, style in zip(shown, ("terse", "checklist", "terse"), strict=False):
        (row,) = mrsi.sft_rows(
            mrsi.build_chains([(example, style)], seed=0).chains,
            {example.id: example},
            base.target,
            prompt="mcr",
        )
        size = base.target.size(example)
        rows.append(
            (
                example,
                Prediction(
                    example.id,
                    row["completion"][0]["content"][0]["text"],
                    False,
                    "model_px",
                    size,
                    example.image_size_px,
                ),
            )
        )
    return rows


@pytest.fixture(scope="module")
def looks(base, answered):
    from mcr_lib.training import attention

    return attention.look(base, answered, prompt="mcr", batch_size=2)


class Slow:
    """One answer, unpadded, all maps at once, tokens found by decoding them one by one."""

    def __init__(self, base, example, row, prompt="mcr"):
        import torch
        from PIL import Image

        chat = prompts.messages(example, prompt, wording=base.wording)
        text = (
            base.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + row.answer
        )
        with Image.open(example.images[0]) as image:
            self.inputs = base.processor(text=[text], images=[image.convert("RGB")], return_tensors="pt")
        with torch.no_grad():
            out = base.model(**self.inputs, output_attentions=True)
        self.model, self.example, self.row = base.model, example, row
        self.ids = self.inputs["input_ids"][0].tolist()
        self.maps = [layer[0].mean(0).numpy() for layer in out.attentions]
        self.log_p = out.logits[0].log_softmax(-1)
        self.image = [k for k, id in enumerate(self.ids) if id == base.model.config.image_token_id]
        self.special = [
            k
            for k, id in enumerate(self.ids)
            if base.processor.tokenizer.decode([id]).startswith("<|") and k not in self.image
        ]
        pieces = [base.processor.tokenizer.decode([id]) for id in self.ids]
        ends = np.cumsum([len(piece) for piece in pieces])
        self.text = "".join(pieces)
        self.chars = [(int(end) - len(piece), int(end)) for piece, end in zip(pieces, ends, strict=True)]
        self.answer_at = self.text.rindex(row.answer)
        self.n_answer = sum(start >= self.answer_at for start, _ in self.chars)

    def tokens(self, start, text, *, with_digit=False):
        """Of the tokens on a piece of text those that hold one of its letters or digits."""
        found = [k for k, (a, b) in enumerate(self.chars) if a < start + len(text) and b > start]
        return [
            k for k in found if not with_digit or any(c.isdigit() for c in self.text[slice(*self.chars[k])])
        ]

    def digits(self, entity, part, size):
        """Where the box of an entity is written: the gold one, so it can be searched for."""
        box = ", ".join(
            str(round(v))
            for v in to_space(
                entity.boxes_xyxy_px[0], "model_px", image_size=self.example.image_size_px, model_size=size
            )
        )
        begin = self.text.index("<answer>", self.answer_at)
        at = self.text.index(box, begin if part == "answer" else self.answer_at)
        assert (at > begin) == (part == "answer")
        return self.tokens(at, box, with_digit=True)

    def gold(self, entity, size):
        """Cells of 28 pixels that share area with the box, tried one by one."""
        found = []
        for n, key in enumerate(self.image):
            row, column = divmod(n, size[0] // 28)
            x1, y1, x2, y2 = to_space(
                entity.boxes_xyxy_px[0], "model_px", image_size=self.example.image_size_px, model_size=size
            )
            if min(x2, column * 28 + 28) > max(x1, column * 28) and min(y2, row * 28 + 28) > max(
                y1, row * 28
            ):
                found.append(key)
        return found

    def sinks(self, layer):
        queries = range(len(self.ids) - self.n_answer - 1, len(self.ids) - 1)
        strong = [
            k
            for k in range(len(self.ids))
            if sum(self.maps[layer][q, k] * (q + 1) > 10 for q in queries) > len(queries) / 2
        ]
        return {0, *self.special, *strong}

    def mass(self, layer, keys, digits):
        """Attention per key of a group over attention per key, mean over the queries before the digits."""
        sinks, values = self.sinks(layer), []
        for query in (at - 1 for at in digits):
            seen = [k for k in range(query + 1) if k not in sinks]
            group = [k for k in keys if k not in sinks]
            per_key = sum(self.maps[layer][query, k] for k in seen) / len(seen)
            values.append(sum(self.maps[layer][query, k] for k in group) / len(group) / per_key)
        return np.mean(values)

    def log_probability(self, digits, hidden=()):
        """Of the digits; with keys hidden from the answer's tokens by a mask of our own."""
        import torch

        if not hidden:
            return float(sum(self.log_p[at - 1, self.ids[at]] for at in digits))
        n = len(self.ids)
        mask = torch.triu(torch.full((n, n), float("-inf")), diagonal=1)
        mask[n - self.n_answer - 1 :, list(hidden)] = float("-inf")
        kinds = self.inputs["mm_token_type_ids"]
        positions, _ = self.model.model.get_rope_index(
            self.inputs["input_ids"], kinds, image_grid_thw=self.inputs["image_grid_thw"]
        )
        given = {key: value for key, value in self.inputs.items() if key != "attention_mask"}
        with torch.no_grad():
            out = self.model(
                **given, attention_mask={"full_attention": mask[None, None]}, position_ids=positions
            )
        log_p = out.logits[0].log_softmax(-1)
        return float(sum(log_p[at - 1, self.ids[at]] for at in digits))


def test_reduced_masses_and_cuts_are_those_of_whole_maps_and_of_masks_made_by_hand(base, answered, looks):
    from mcr_lib.training import attention

    assert {look.part for look in looks} == {"answer", "reasoning"}
    n_seen = 0
    for example, row in answered:
        slow = Slow(base, example, row)
        for look in (look for look in looks if look.example is example and len(look.gold.boxes_xyxy_px) == 1):
            digits, gold = (
                slow.digits(look.gold, look.part, row.model_size),
                slow.gold(look.gold, row.model_size),
            )
            tweet_at = slow.text.rindex(example.text, 0, slow.answer_at)
            words = slow.tokens(
                tweet_at + len(" ".join((*example.tokens[: look.gold.start], ""))) * bool(look.gold.start),
                look.gold.text,
            )
            groups = {"gold": gold, "rest": [k for k in slow.image if k not in gold], "words": words}
            for group, keys in groups.items():
                expected = [slow.mass(layer, keys, digits) for layer in range(len(slow.maps))]
                assert look.mass[group] == pytest.approx(expected, rel=1e-3), group
            assert look.n_sinks == np.mean([len(slow.sinks(layer)) for layer in range(len(slow.maps))])
            whole = slow.log_probability(digits)
            assert look.log_probability == pytest.approx(whole, abs=1e-3)
            for kind, hidden in (("image", slow.image), ("gold", gold)):
                assert look.cuts[kind] == pytest.approx(
                    slow.log_probability(digits, hidden) - whole, abs=1e-2
                )
            n_seen += 1
    assert n_seen >= 4
    assert set(attention.CUTS) == set(looks[0].cuts)


@pytest.mark.parametrize("is_boxed", [False, True])
def test_shares_of_image_and_sentence_are_those_of_whole_maps(base, nano_tweets, is_boxed):
    from mcr_lib.training import attention

    unseen = [e for e in nano_tweets if any(entity.is_groundable is False for entity in e.entities)][:3]
    answered, of = [], set()
    for example in unseen:
        box = "[11, 22, 33, 44]" if is_boxed else "null"
        items = [f'{{"entity": "{e.text}", "type": "{e.type}", "bbox_2d": {box}}}' for e in example.entities]
        size = base.target.size(example)
        answer = f"<answer>[{', '.join(items)}]</answer>"
        row = Prediction(example.id, answer, False, "model_px", size, example.image_size_px)
        answered.append((example, row))
        of |= {(example.id, entity.start) for entity in example.entities}
    shares = attention.image_shares(base, answered, of, prompt="direct")
    wanted = [
        (e.id, g)
        for e in unseen
        for is_shown in ((False, True) if is_boxed else (False,))
        for g in e.entities
        if g.is_groundable is is_shown
    ]
    assert [(share.example.id, share.gold) for share in shares] == wanted
    assert {share.is_boxed for share in shares} == {is_boxed}
    assert not attention.image_shares(base, answered, {("none", 0)}, prompt="direct")
    for example, row in answered:
        slow = Slow(base, example, row, prompt="direct")
        sentence = slow.tokens(slow.text.rindex(example.text, 0, slow.answer_at), example.text)
        for share in (share for share in shares if share.example is example):
            at = slow.text.index('"bbox_2d": ', slow.text.index(f'"{share.gold.text}"', slow.answer_at))
            at += len('"bbox_2d": ') + is_boxed
            queries = slow.tokens(at, "11, 22, 33, 44" if is_boxed else "null", with_digit=is_boxed)
            image, text = (
                np.mean([[sum(m[q - 1, k] for k in keys) for q in queries] for m in slow.maps])
                for keys in (slow.image, sentence)
            )
            assert share.image == pytest.approx(image / (image + text), rel=1e-3)


def test_boxes_of_the_reasoning_are_read_off_the_image_and_those_of_the_answer_off_the_reasoning(looks):
    parts = {part: [look for look in looks if look.part == part] for part in ("reasoning", "answer")}
    cut = {part: np.mean([look.cuts["gold"] for look in some]) for part, some in parts.items()}
    assert all(look.cuts["gold"] < -2 for look in parts["reasoning"])
    assert cut["reasoning"] + 10 < cut["answer"] < -1, "what is copied needs its region less"
    for part, some in parts.items():
        assert np.mean([look.cuts["elsewhere"] for look in some]) > cut[part] + 2
        on_gold, on_rest = (np.mean([look.mass[key].mean() for look in some]) for key in ("gold", "rest"))
        assert on_gold > 1 > on_rest


def test_numbers_do_not_depend_on_the_implementation_of_attention_nor_on_the_batch_and_it_stays_as_it_was(
    base, answered, looks
):
    from mcr_lib.training import attention, backbones

    other = backbones.load("tiny-base", device="cpu")
    other.model.set_attn_implementation("sdpa")
    again = attention.look(other, answered, prompt="mcr", batch_size=16)
    assert other.model.config.get_text_config()._attn_implementation == "sdpa"
    for one, two in zip(looks, again, strict=True):
        assert (one.example.id, one.gold, one.part) == (two.example.id, two.gold, two.part)
        assert one.mass["gold"] == pytest.approx(two.mass["gold"], rel=1e-3)
        assert one.cuts == pytest.approx(two.cuts, abs=1e-2)
    assert not any(
        layer.self_attn._forward_hooks or layer.self_attn._forward_pre_hooks
        for layer in other.model.get_decoder().layers
    )


def test_no_map_of_an_earlier_layer_is_kept(base, answered, monkeypatch):
    from mcr_lib.training import attention

    reduced, maps, alive = attention._Batch._reduced, [], []

    def watched(self, map):
        alive.append(sum(ref() is not None for ref in maps))
        maps.append(weakref.ref(map))
        return reduced(self, map)

    monkeypatch.setattr(attention._Batch, "_reduced", watched)
    attention.look(base, answered[:1], prompt="mcr")
    assert len(maps) >= 4
    assert max(alive) <= 1  # the layer before may not have been let go yet


def spots(base, example, answer):
    from mcr_lib.training import attention

    row = Prediction(example.id, answer, False, "model_px", (112, 112), example.image_size_px)
    return attention.spots_of(base, example, row, "mcr")


def test_boxes_of_entities_that_are_right_and_shown_are_looked_at_and_no_others(base):
    rome, ada, oslo = (
        Entity("Rome", 1, 2, "LOC", ((0, 0, 9, 9),)),
        Entity("Ada", 3, 4, "PER", ()),
        Entity("Oslo", 5, 6, "LOC", ((5, 5, 9, 9),)),
    )
    tokens = ("Go", "Rome", "with", "Ada", "to", "Oslo")
    tweet = Example(
        "1",
        "demo",
        "test",
        tokens,
        (rome, ada, oslo),
        ("PER", "LOC"),
        images=("1.png",),
        image_size_px=(112, 112),
    )
    said = ", ".join(
        ('{"entity": "Rome", "type": "PER", "bbox_2d": [1, 2, 30, 40]}',
         '{"entity": "Ada", "type": "PER", "bbox_2d": [5, 6, 70, 80]}',
         '{"entity": "Oslo", "type": "LOC", "bbox_2d": null}')
    )  # fmt: skip
    (spot,) = spots(base, tweet, f"<answer>[{said}]</answer>")  # Ada is not shown, Oslo has no box
    assert (spot.gold, set(spot.digits)) == (rome, {"answer"})
    ids = base.processor.tokenizer(spot.text)["input_ids"]
    read = [base.processor.tokenizer.decode([ids[-k]]) for k in spot.digits["answer"]]
    assert "".join(read).replace(" ", "") == "1,2,30,40"
    assert "".join(base.processor.tokenizer.decode([ids[-k]]) for k in spot.words).strip() == "Rome"
    assert not spots(base, tweet, f"<answer>[{said}")  # cannot be read
    assert not spots(base, tweet, f"<answer>[{said}, {said.split('}')[0]}}}]</answer>")  # a name twice
    assert not spots(base, replace(tweet, images=()), f"<answer>[{said}]</answer>")
    think = (
        '"Ada" is not shown, "Rome" is, at [1, 2, 31, 40] , "Rome" at [9, 9, 10, 10]; "Oslo" at [3, 3, 4, 4].'
    )
    (spot,) = spots(base, tweet, f"<think>{think}</think>\n<answer>[{said}]</answer>")
    ids = base.processor.tokenizer(spot.text)["input_ids"]
    assert (
        "".join(base.processor.tokenizer.decode([ids[-k]]) for k in spot.digits["reasoning"]).replace(" ", "")
        == "1,2,31,40"
    )


def test_locations_are_found_in_both_forms_of_answer_whatever_the_order_of_fields():
    from mcr_lib.training.attention import _LOCATION

    answers = {
        '[{"entity": "None", "type": "PER", "bbox_2d": null}, {"bbox_2d": [1, 2, 3, 4], "entity": "Ada"}]': (
            ["null", "[1, 2, 3, 4]"]
        ),
        '(Ada, person, (1, 2, 3, 4)) (None, Oslo, location) ("None", person, None)': (
            ["(1, 2, 3, 4)", "None", "None"]
        ),
        "None</answer>": [],
    }
    for answer, expected in answers.items():
        assert [match.group() for match in _LOCATION.finditer(answer)] == expected


@pytest.mark.parametrize("wording", prompts.WORDINGS)
def test_the_tokens_of_the_sentence_and_of_the_name_are_those_of_the_tweet(base, answered, wording):
    from mcr_lib.training import attention

    tokenizer = base.processor.tokenizer
    for example, row in answered:
        spots = attention.spots_of(replace(base, wording=wording), example, row, "mcr")
        assert spots
        for spot in spots:
            ids = tokenizer(spot.text)["input_ids"]
            for places, text in ((spot.sentence, example.text), (spot.words, spot.gold.text)):
                decoded = tokenizer.decode([ids[-k] for k in places])
                assert "".join(decoded.split()) == "".join(text.split())
