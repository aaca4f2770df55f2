"""The tiny backbone and its pretraining: tokens, rows, attention targets, resume, and the committed base."""

import contextlib
import itertools
import json
import re
import resource
import runpy
import shutil
import signal
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import architecture
import bars
import card
import measure
import pretrain
import sight
import tasks
from batches import IGNORED, Batcher, cells_of
from guide import Guide
from mcr_lib import prompts, testbed
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.errors import UserError
from mcr_lib.schema import PredictedEntity
from mcr_lib.testbed import drawing, teacher
from mcr_lib.testbed.world import BEINGS, BY_NAME
from mcr_lib.training import backbones
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.nano

STEPS = zip(pretrain.RECIPE.phases, (2, 7, 2, 2, 2, 2, 2), strict=True)
SMALL = replace(pretrain.RECIPE, phases=tuple(replace(p, steps=n, batch=4) for p, n in STEPS))
BASE = REPOSITORY / "data" / "tiny-base"


@pytest.fixture(scope="module")
def fresh():
    return pretrain.new_backbone(pretrain.RECIPE)


@pytest.fixture(scope="module")
def batcher(fresh):
    return Batcher(fresh.processor)


@pytest.fixture(scope="module")
def some_rows():
    return {task: list(itertools.islice(tasks.rows(task, seed=0), 40)) for task in tasks.TASKS}


@pytest.fixture(scope="module")
def saved(fresh, tmp_path_factory):
    """The backbone before training, as a folder."""
    folder = tmp_path_factory.mktemp("saved") / "backbone"
    backbones.save(fresh, folder, dtype=torch.float16)
    return folder


@pytest.fixture(autouse=True)
def _logs_every_step(monkeypatch):
    monkeypatch.setattr(pretrain, "LOG_EVERY", 1)
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)


def test_an_answer_of_two_entities_takes_few_tokens_and_comes_back_whole(fresh):
    said = [PredictedEntity("Mira Solano", "PER", ((52, 31, 88, 140),)), PredictedEntity("Osprey X", "OTHER")]
    text = write_answer(said)
    ids = fresh.processor.tokenizer.encode(text)
    assert fresh.processor.tokenizer.decode(ids) == text
    assert (
        len(ids) == 19
    )  # by hand: 2 around the list, 1 opening, 5 + 6 for the first with its box, 5 for the second


def test_every_number_and_every_word_of_a_name_is_one_token(fresh):
    tokenizer = fresh.processor.tokenizer
    for form in ("{}", " {}", ", {}"):
        assert len(set(architecture.number_ids(tokenizer, form))) == architecture.LARGEST_NUMBER + 1
    for being in BEINGS:
        assert len(tokenizer.encode(being.name)) == len(being.name.split())


def test_a_chain_of_two_entities_in_the_terse_style_fits_64_tokens(fresh):
    import numpy as np

    from mcr_lib import chains

    tokenizer = fresh.processor.tokenizer
    made = (testbed.make("gmner", "train", k).example for k in range(300))
    two = [example for example in made if len(example.entities) == 2]
    for example in two:
        chain = chains.build(example, "terse", np.random.default_rng(0))
        think = chains.render(chain, "qwen2.5-vl", tasks.TARGET.size(example)).split("\n<answer>")[0]
        assert len(tokenizer.encode(think)) <= 64, think


def test_the_ids_of_a_prompt_are_a_prefix_of_those_of_prompt_and_answer(fresh, some_rows):
    tokenizer = fresh.processor.tokenizer
    for row in itertools.chain(*some_rows.values()):
        asked = fresh.processor.apply_chat_template(row.chat, tokenize=False, add_generation_prompt=True)
        for answer in (row.answer, "\n" + row.answer, "words"):
            ids = tokenizer(asked)["input_ids"]
            assert tokenizer(asked + answer)["input_ids"][: len(ids)] == ids


def test_forms_of_a_word_start_alike_and_near_numbers_too(fresh):
    vectors, tokenizer = fresh.model.get_input_embeddings().weight, fresh.processor.tokenizer
    plain, spaced = (vectors[tokenizer.encode(text)[0]] for text in ("Solano", " Solano"))
    other = vectors[tokenizer.encode("Brandt")[0]]
    assert F.cosine_similarity(plain, spaced, dim=0) > 0.5 > abs(F.cosine_similarity(plain, other, dim=0))
    numbers = vectors[architecture.number_ids(tokenizer, "{}")]
    near, far = (F.cosine_similarity(numbers[50], numbers[k], dim=0) for k in (51, 130))
    assert near > 0.9 > far


def test_the_processor_resizes_as_boxes_say(fresh):
    for made in (testbed.make("gmner", "dev", k) for k in range(12)):
        grid = fresh.processor.image_processor([drawing.draw(made.scene)], return_tensors="pt")[
            "image_grid_thw"
        ][0].tolist()
        assert (14 * grid[2], 14 * grid[1]) == tasks.TARGET.size(made.example)


def test_rows_are_what_their_task_says(some_rows):
    for row in some_rows["caption"] + some_rows["detect"]:
        said = parse_answer(row.answer, labels=LABELS).entities
        assert all(p.box_xyxy for p in said), "what is named is shown"
    for row in some_rows["textonly"]:
        assert row.image is None
        assert all(p.box_xyxy is None for p in parse_answer(row.answer, labels=LABELS).entities)
    said = [
        p
        for row in some_rows["where"]
        for p in parse_answer(row.answer, labels=LABELS, constraints=("groundable", "box")).entities
    ]
    assert 0.2 < sum(p.box_xyxy is None for p in said) / len(said) < 0.7
    assert {row.image is None for row in some_rows["lookup"] + some_rows["names"]} == {True}


def test_some_captions_name_what_only_the_picture_tells(some_rows):
    hidden = 0
    for row in some_rows["caption"]:
        text = prompts.text_of(row.chat).split("\n")[-1]
        hidden += any(
            f" {p.text} " not in f" {text} " for p in parse_answer(row.answer, labels=LABELS).entities
        )
    assert 4 <= hidden <= 22  # 0.3 of 40, give or take three standard deviations


def test_a_row_is_a_function_of_task_seed_and_place(some_rows):
    for task, known in some_rows.items():
        again = next(tasks.rows(task, seed=0, start=7))
        assert replace(again, image=None) == replace(known[7], image=None)
        assert (again.image and again.image.tobytes()) == (known[7].image and known[7].image.tobytes())


def test_labels_are_the_answer_and_its_end(fresh, batcher, some_rows):
    rows = [some_rows["caption"][0], some_rows["names"][0]]
    batch = batcher(rows)
    for k, row in enumerate(rows):
        learned = batch.labels[k][batch.labels[k] != IGNORED]
        assert fresh.processor.tokenizer.decode(learned) == row.answer + "<|im_end|>"


def test_attention_targets_are_the_cells_of_the_box_and_the_words(fresh, batcher):
    tokenizer = fresh.processor.tokenizer
    rows = tasks.rows("where", seed=0)
    row = next(r for r in rows if tasks.ABSENT in r.evidence and any(map(len, r.evidence)))
    batch = batcher([row])
    ids = batch.inputs["input_ids"][0].tolist()
    first = ids.index(batcher.image_id)
    height, width = (side // 2 for side in batch.inputs["image_grid_thw"][0, 1:].tolist())
    starts = ('", "bbox_2d": [', '", "bbox_2d": null}')
    at = [k for k, id_ in enumerate(ids) if tokenizer.decode([id_]) in starts]
    targets_of = {
        (q, w): t.nonzero().flatten().tolist()
        for (_, q), t, w in zip(batch.queries.tolist(), batch.targets, batch.is_word.tolist(), strict=True)
    }
    for k, evidence in zip(at, row.evidence, strict=True):
        expected = [0]
        if evidence != tasks.ABSENT:
            expected = [first + cell for cell in cells_of(evidence[0], height, width)]
        assert targets_of[k - 1, False] == expected
    for (query, is_word), targets in targets_of.items():
        next_word, target = (tokenizer.decode([ids[k]]).strip() for k in (query + 1, targets[0]))
        if is_word and next_word == target:
            break
    else:
        pytest.fail("no target is the word that comes next")


def test_what_is_said_of_a_picture_stands_in_the_answer_and_looks_at_the_cells_of_its_emblem(
    fresh, batcher, some_rows
):
    tokenizer = fresh.processor.tokenizer
    rows = [row for row in some_rows["describe"] + some_rows["chain"] if row.seen]
    assert len(rows) > 50
    for row in rows:
        assert re.findall("|".join(re.escape(text) for text, _ in row.seen), row.answer)[: len(row.seen)] == [
            text for text, _ in row.seen
        ]
    for row in rows[::8]:
        batch = batcher([row])
        ids = batch.inputs["input_ids"][0].tolist()
        height, width = (side // 2 for side in batch.inputs["image_grid_thw"][0, 1:].tolist())
        asked = (batch.labels[0] != IGNORED).nonzero()[0].item()
        cells = {
            place: [k - ids.index(batcher.image_id) for k in targets.nonzero().flatten().tolist()]
            for (_, place), targets, is_word in zip(
                batch.queries.tolist(), batch.targets, batch.is_word.tolist(), strict=True
            )
            if not is_word
        }
        at = asked
        for text, box in row.seen:  # the slow way: place and look, one token each, one after the other
            row_, column, look = text.split(" ", 2)
            while [tokenizer.decode([id_]) for id_ in ids[at : at + 2]] != [f" {row_} {column}", f" {look}"]:
                at += 1
            assert cells[at - 1] == cells[at] == cells_of(box, height, width)
            at += 2


def test_a_description_is_of_the_picture_and_an_emblem_of_its_name(some_rows):
    for k, row in enumerate(some_rows["describe"]):
        scene = testbed.make("gmner", "train", k, seed=5, knobs=tasks.BUSY).scene
        looks = sorted(teacher.look(shown.name) for shown in scene.shown)
        said = [] if teacher.EMPTY in row.answer else row.answer.removesuffix(" .").split(" ; ")
        assert sorted(" ".join(emblem.split()[2:]) for emblem in said) == looks
        assert prompts.text_of(row.chat).endswith(tasks.DESCRIBE)
    for row in some_rows["emblem"]:
        names = prompts.text_of(row.chat).split("\n")[1].split(" ; ")
        said = dict(re.findall(r'"([^"]+)" : \w+ , ([^;]+) ;', row.answer))
        assert said == {name: teacher.look(name) for name in names}
        assert row.image is None


def test_a_look_is_compared_with_all_that_a_picture_is_said_to_show(some_rows):
    verdicts, n_named = {"found": 0, "missing": 0}, 0
    for row in some_rows["compare"]:
        said, _, asked = prompts.text_of(row.chat).split("\n")
        listed = [
            text.split(" ", 2) for text in said.removeprefix("picture : ").removesuffix(" .").split(" ; ")
        ]
        places = {look: f"{row_} {column}" for row_, column, look in listed}
        names = [] if asked.startswith(" ") else asked.split(" ; ")
        looks = [teacher.look(name) for name in names] or asked[1:].split(" ; ")
        heads = [f'"{name}" : {BY_NAME[name].type} , ' for name in names] or [" "] * len(looks)
        expected = (
            f"{head}{look} found {places[look]} ;" if look in places else f"{head}{look} missing ;"
            for head, look in zip(heads, looks, strict=True)
        )
        assert row.answer == ("" if names else " ") + " ".join(text.lstrip() for text in expected)
        n_named += bool(names)
        for kind in verdicts:
            verdicts[kind] += row.answer.count(f" {kind}")
    assert min(verdicts.values()) > 0.3 * sum(verdicts.values())
    assert 0.3 < n_named / len(some_rows["compare"]) < 0.7


def test_names_are_judged_by_the_description_before_them(some_rows):
    n_found = n_missing = 0
    for row in some_rows["judge"]:
        said, _, verdicts = row.answer.removeprefix("<think>").removeprefix(" picture : ").partition(" .")
        looks = {" ".join(emblem.split()[2:]) for emblem in said.split(" ; ")}
        names = prompts.text_of(row.chat).split("\n")[1].split(" ; ")
        given = re.findall(r'"([^"]+)" : \w+ , (\w+ \w+ \w+) (found|missing)', verdicts)
        assert [name for name, *_ in given] == names
        for name, look, verdict in given:
            assert look == teacher.look(name)
            assert (verdict == "found") == (look in looks)
        n_found, n_missing = n_found + verdicts.count(" found "), n_missing + verdicts.count(" missing ")
    assert min(n_found, n_missing) > 0.3 * (n_found + n_missing)


def test_the_verdict_on_a_look_is_guided_to_the_words_it_agrees_with(batcher, some_rows):
    tokenizer, n_found = batcher.processor.tokenizer, 0
    for row in [*some_rows["compare"][:20], *some_rows["judge"][:20]]:
        batch = batcher([row])
        ids = batch.inputs["input_ids"][0].tolist()
        for (_, place), targets in zip(batch.queries.tolist(), batch.targets, strict=True):
            said = [tokenizer.decode([ids[k]]) for k in targets.nonzero().flatten().tolist()]
            if tokenizer.decode([ids[place + 1]]) == " found":
                assert said == [tokenizer.decode([ids[place]])], "the same look, elsewhere"
                assert tokenizer.decode([ids[place + 2]]) in tokenizer.decode(ids[:place]), "and its place"
                n_found += 1
            elif tokenizer.decode([ids[place + 1]]) == " missing":
                assert said == [tokenizer.decode([ids[0]])]
    assert n_found > 20


def test_a_chain_is_of_a_caption_in_which_everything_agrees(some_rows):
    styles = set()
    for row in some_rows["chain"]:
        parsed = parse_answer(row.answer, labels=LABELS)
        assert parsed.reason is None
        assert all(p.box_xyxy for p in parsed.entities)
        assert not {"found", "missing"} & {*parsed.think.split()}, "nothing is compared"
        assert "not shown" not in parsed.think
        styles.add(parsed.think.strip().startswith("picture :"))
    assert styles == {True, False}, "the teacher's and the terse one"


def test_a_conclusion_says_what_its_chain_says_and_copies_the_boxes(batcher, some_rows):
    tokenizer, n_copied, answers = batcher.processor.tokenizer, 0, set()
    for row in some_rows["conclude"]:
        parsed = parse_answer(row.answer, labels=LABELS)
        assert parsed.reason is None
        for entity in parsed.entities:
            box = ", ".join(map(str, entity.box_xyxy or ()))
            end = re.escape(f"shown at [{box}] ;" if box else "missing , not shown , no box ;")
            assert re.search(f'"{re.escape(entity.text)}"[^:]* : {entity.type} , [^;]*{end}', parsed.think)
            answers.add(bool(box))
        batch = batcher([row])
        ids, begin = batch.inputs["input_ids"][0].tolist(), row.answer.index("<answer>")
        n_answer = len(tokenizer(row.answer[begin:] + "<|im_end|>")["input_ids"])
        for (_, place), targets in zip(batch.queries.tolist(), batch.targets, strict=True):
            (*others, last) = targets.nonzero().flatten().tolist()
            next_one = tokenizer.decode([ids[place + 1]])
            if place > len(ids) - n_answer and next_one.strip(", ").isdigit() and not others:
                assert tokenizer.decode([ids[last]]).strip(", ") == next_one.strip(", ")
                assert last < len(ids) - n_answer, "from the chain"
                n_copied += 1
    assert answers == {True, False}
    assert n_copied > 40


def test_the_guide_measures_the_attention_that_the_model_pays(fresh, batcher, some_rows):
    batch = batcher([some_rows["where"][0], some_rows["caption"][1], some_rows["names"][0]])
    guide = Guide(fresh.model, layers=(1,), n_box_heads=2)
    fresh.model.set_attn_implementation("eager")
    with torch.no_grad(), guide.watching(batch):
        attentions = fresh.model.model(**batch.inputs, output_attentions=True).attentions[1]
    boxes, words = guide.losses()
    paid = [  # the slow way: the model's own attention map, query by query
        attentions[row, :3, place, targets.nonzero().flatten()].sum(-1)
        for (row, place), targets in zip(batch.queries.tolist(), batch.targets, strict=True)
    ]
    paid = -torch.stack(paid).log()
    assert boxes.item() == pytest.approx(paid[~batch.is_word][:, :2].mean().item(), rel=1e-4)
    assert words.item() == pytest.approx(paid[batch.is_word][:, 2].mean().item(), rel=1e-4)


def test_cells_of_a_picture_are_marked_by_the_emblem_that_covers_them(fresh):
    batch = sight.cells(fresh.processor, range(6), split="dev", seed=7)
    n_cells = (batch.image_grid_thw.prod(1) // 4).sum().item()
    assert batch.names.shape == (n_cells,)
    for name, (x1, y1, x2, y2) in zip(batch.names.tolist(), batch.boxes_xyxy.tolist(), strict=True):
        assert (name > 0) == (x2 > x1 and y2 > y1)
    assert 0.1 < (batch.names > 0).float().mean() < 0.7


@pytest.fixture
def in_32_bits(monkeypatch):
    """16 bits are slow on processors that lack them; the test of a full disk keeps them."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, in_32_bits):
    lines = {"whole": [], "cut": []}
    pretrain.pretrain(SMALL, tmp_path / "whole", device="cpu", report=lines["whole"].append)
    pretrain.pretrain(SMALL, tmp_path / "cut", device="cpu", stop_after=5, report=lines["cut"].append)
    pretrain.pretrain(SMALL, tmp_path / "cut", device="cpu", report=lines["cut"].append)
    for a, b in zip(lines["whole"], lines["cut"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    with pytest.raises(UserError, match="another recipe"):
        pretrain.pretrain(replace(SMALL, seed=1), tmp_path / "cut", device="cpu")


def test_the_last_phase_can_begin_from_a_base_with_fewer_words(tmp_path, in_32_bits, monkeypatch):
    first = replace(SMALL, phases=tuple(replace(p, steps=1) for p in SMALL.phases[:-1]))
    whole = replace(first, phases=(*first.phases, replace(SMALL.phases[-1], steps=1, lr=0)))
    texts, phrases = tasks.texts(), tasks.phrases()
    monkeypatch.setattr(tasks, "texts", lambda: [text for text in texts if text not in phrases])
    monkeypatch.setattr(tasks, "phrases", lambda: [])  # without words for looks and for where emblems stand
    old = pretrain.pretrain(first, tmp_path / "old", device="cpu", report=lambda line: None)
    monkeypatch.setattr(tasks, "texts", lambda: texts)
    monkeypatch.setattr(tasks, "phrases", lambda: phrases)
    base, folder = tmp_path / "base", tmp_path / "new"
    backbones.save(old, base, recipe=first.to_json())
    (base / "log.jsonl").write_text((tmp_path / "old" / "log.jsonl").read_text())
    new = pretrain.pretrain(whole, folder, device="cpu", report=lambda line: None, earlier=base)

    before, after = (one.processor.tokenizer.get_vocab() for one in (old, new))
    words = sorted(set(before) & set(after))
    assert {"Ġbottom", " top left", " red disc dot"} <= set(after) - set(before)
    vectors = [one.model.get_input_embeddings().weight for one in (old, new)]
    of_words = [vectors[k][[ids[word] for word in words]] for k, ids in enumerate((before, after))]
    assert torch.equal(*of_words), "a rate of 0 leaves the vectors as they were taken over"
    rest = new.model.state_dict()
    for name, value in old.model.state_dict().items():
        assert name.endswith(("embed_tokens.weight", "lm_head.weight")) or torch.equal(rest[name], value)

    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == [phase.name for phase in whole.phases]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    facts = json.loads((folder / pretrain.EARLIER).read_text())
    sums = json.loads((base / "backbone.json").read_text())["sha256"]
    assert facts == {
        "phases": [phase.name for phase in first.phases], "n_words": len(before),
        "weights": sums["model.safetensors"],
    }  # fmt: skip
    measured = {"dev": measure.measure(new, split="dev", n=1)}
    record = {"command": "make", "recipe": whole.to_json(), "seconds": 60, "measured": measured}
    card.write_readme(base, {**record, "made_with": {"n_cpus": 2}, "earlier": facts}, n_parameters=1)
    told = f"Phases {', '.join(facts['phases'])} come from an earlier base of {len(before):,} tokens"
    assert told in (base / "README.md").read_text()
    with pytest.raises(UserError, match="not made by the phases before the last of this recipe"):
        pretrain.pretrain(replace(whole, seed=1), tmp_path / "other", device="cpu", earlier=base)


@contextlib.contextmanager
def room_for(n_bytes):
    """No file may grow beyond this many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_told_in_a_sentence_and_the_checkpoint_before_stays(tmp_path):
    pretrain.pretrain(SMALL, tmp_path, device="cpu", stop_after=2, report=lambda line: None)
    before = (tmp_path / "checkpoint" / "state.json").read_text()
    with room_for(100_000), pytest.raises(UserError, match="choose a folder with room"):
        pretrain.pretrain(SMALL, tmp_path, device="cpu", stop_after=4, report=lambda line: None)
    assert (tmp_path / "checkpoint" / "state.json").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "log.jsonl"]


def test_measures_count_bait_and_boxes(fresh, monkeypatch):
    monkeypatch.setattr(measure, "MAX_NEW_TOKENS", 24)
    monkeypatch.setattr(measure, "MAX_NEW_TOKENS_CHAIN", 24)
    found = measure.measure(fresh, split="dev", n=5)
    parts = [f"{name}_{style}" for name in ("caption", "gmner") for style in measure.STYLES]
    assert [found[part]["n"] for part in parts] == [2] * 4, "a quarter, rounded up"
    assert [found[part]["readable"] for part in parts] == [0] * 4
    rows = bars.table({"dev": found})
    assert len(rows) == 2 + 8 + 2 + 4 + 5 + 5, "head, answers, descriptions, verdicts, chains in two styles"
    assert found["caption"]["mner_f1"] == 0  # chance weights name nothing
    assert not any(bars.reached(found).values())
    good = {
        "caption": {"mner_f1": 95.0, "box_accuracy": 80.0},
        "gmner": {"false_grounding": 60.0},
        "bait": {"named_rate": 20.0, "named_rate_blank": 1.0},
        "describe": {"look_f1": 80.0},
        "judge": {"found": 80.0, "missing": 80.0},
    }
    assert all(bars.reached(good).values())
    assert not bars.reached({**good, "bait": {"named_rate": 20.0, "named_rate_blank": 19.0}})[
        "bait named because of the picture"
    ]


def test_descriptions_are_scored_as_multisets_of_emblems():
    right = "top left red disc dot ; top left red disc dot ; bottom right blue house bar ."
    assert measure.described([(right, right)]) == {"look_f1": 100, "look_place_f1": 100}
    # one of two equal emblems, and the house elsewhere: 2 right of 2 said and 3 there, 1 with its place
    said = " top left red disc dot ; top right blue house bar ."
    assert measure.described([(said, right)]) == {"look_f1": 80, "look_place_f1": 40}
    assert measure.described([("empty .", right), ("", "empty .")]) == {"look_f1": 0, "look_place_f1": 0}
    assert measure.described([("empty .", "empty ."), (right, right)])["look_f1"] == 100


def test_verdicts_are_compared_in_order():
    right = " red disc dot found top left ; red disc bar missing ; blue house bar missing ;"
    assert measure.compared([(right, right)]) == {"found": 100, "missing": 100}
    said = " red disc dot missing ; red disc bar missing ;"
    assert measure.compared([(said, right)]) == {"found": 0, "missing": 50}
    assert measure.compared([("", "")]) == {"found": None, "missing": None}


def test_a_guess_of_the_mark_is_right_in_half_of_the_emblems():
    """So the bar of descriptions, 75, lies halfway between that and all of them."""
    alike = Counter((being.outline, being.colour) for being in BEINGS)
    right = sum(1 / alike[being.outline, being.colour] for being in BEINGS)
    assert right / len(BEINGS) == 0.5 == 2 * bars.BARS["describe look_f1"] / 100 - 1


def test_tied_vectors_are_stored_once_and_give_the_same_logits(fresh, saved, tmp_path):
    backbones.save(fresh, tmp_path, dtype=torch.float32)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "lm_head.weight" not in names
    assert len(names) == len(fresh.model.state_dict()) - 1
    n_bytes = sum(4 * p.numel() for p in fresh.model.parameters())  # parameters() has tied ones once
    assert 0 <= (tmp_path / "model.safetensors").stat().st_size - n_bytes < 0.02 * n_bytes
    assert (saved / "model.safetensors").stat().st_size < 0.52 * n_bytes
    again = backbones.load(str(tmp_path), device="cpu").model
    ids = torch.arange(12)[None]
    with torch.no_grad():
        logits = [model(input_ids=ids).logits for model in (again, fresh.model.eval())]
    assert torch.allclose(*logits, atol=1e-4)  # attention is computed in two ways


def test_the_committed_base_follows_its_recipe(tmp_path, in_32_bits):
    """The first steps, made again, have the losses of the committed log, which 16 bits change by less."""
    known = json.loads((BASE / "backbone.json").read_text())
    assert known["recipe"] == json.loads(json.dumps(pretrain.RECIPE.to_json()))
    logged = [json.loads(line) for line in (BASE / "log.jsonl").read_text().splitlines()]
    made = []
    pretrain.pretrain(pretrain.RECIPE, tmp_path, device="cpu", stop_after=2, report=made.append)
    for again, known in zip(made, logged, strict=False):
        for name in ("is_there", "name", "box"):
            assert again[name] == pytest.approx(known[name], rel=0.02)


def test_the_committed_base_reaches_what_its_card_says():
    backbone = backbones.load("tiny-base", device="cpu")
    known = json.loads((BASE / "backbone.json").read_text())["measured"]["dev"]
    found = measure.measure(backbone, split="dev", n=48)
    assert found["caption"]["mner_f1"] == pytest.approx(known["caption"]["mner_f1"], abs=8)
    assert found["gmner"]["false_grounding"] == pytest.approx(known["gmner"]["false_grounding"], abs=25)


def test_a_saved_backbone_comes_back_but_for_the_rounding_of_its_file(fresh, saved):
    again = backbones.load(str(saved), device="cpu")
    for name, value in fresh.model.state_dict().items():
        assert torch.allclose(again.model.state_dict()[name], value, atol=1e-3), name
    assert (again.family, again.wording, again.model.dtype) == ("qwen2.5-vl", "brief", torch.float32)
    assert again.processor.tokenizer.encode("Mira Solano") == fresh.processor.tokenizer.encode("Mira Solano")


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_an_impossible_share_of_the_recipe_is_told_in_a_sentence(share, tmp_path, capsys):
    main = runpy.run_path(str(BASE / "make" / "__main__.py"), run_name="make")["main"]
    assert main(["--out", str(tmp_path / "run"), "--share", share]) == 2
    assert "expected a share in (0, 1]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda folder: [(folder / name).unlink() for name in ("backbone.json", "config.json")],
            "is no backbone",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "not the file that was saved"),
        (lambda folder: _change(folder, family="gpt-2"), "unknown family 'gpt-2'"),
        (lambda folder: _change(folder, format_version=99), "format_version 99"),
        (lambda folder: (folder / "backbone.json").write_text("{"), "no card of a backbone"),
    ],
)
def test_a_folder_that_is_no_backbone_is_told_in_a_sentence(saved, tmp_path, harm, told):
    shutil.copytree(saved, tmp_path / "b")
    harm(tmp_path / "b")
    with pytest.raises(UserError, match=told):
        backbones.load(str(tmp_path / "b"))


def _change(folder, **values):
    path = folder / "backbone.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
