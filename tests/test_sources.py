"""MNER-MI and GREC go through prompts, chains, rewards, answers and scores by the constraints that they
annotate: the sample of each, with the real functions and no case of its own anywhere.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from mcr_lib import chains, data, prompts, rewards
from mcr_lib.answer import FORMS, parse_answer, write_answer
from mcr_lib.boxes import BOX_FORMATS
from mcr_lib.data import modality, mrsi
from mcr_lib.data.images import usable_images
from mcr_lib.data.predictions import finished_row, write_predictions
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.strict_rewards import WEIGHTS
from mcr_lib.study.commands.cli import main
from mcr_lib.study.tables.scoring import score_file
from mcr_lib.styles import PAPER, STYLES
from mcr_lib.yardsticks import perfect

SOURCES = {"mner-mi": ("span", "type"), "grec": ("groundable", "box")}
SPLIT_OF_TEST = {"mner-mi": "test", "grec": "testB"}
EARNED = {"mner-mi": {"count", "span", "type"}, "grec": {"grounding", "entailment"}}


@pytest.fixture(scope="module")
def of(sample_dir):
    """Source -> the sample's training examples with images and sizes."""
    return {
        source: usable_images(data.load_split(source, sample_dir, split="train", images_dir=sample_dir))[0]
        for source in SOURCES
    }


def target(family="qwen2.5-vl", form="paper"):
    return mrsi.Target(family, 56 * 56, 1280 * 28 * 28, form=form)


@pytest.mark.parametrize("source", SOURCES)
def test_an_example_survives_its_row(of, source):
    for example in of[source]:
        assert Example.from_row(json.loads(json.dumps(example.to_row()))) == example
        assert example.constraints == SOURCES[source]


@pytest.mark.parametrize("wording", prompts.WORDINGS)
def test_a_prompt_shows_every_image_and_asks_what_is_annotated(of, wording):
    for example in of["mner-mi"]:
        (user,) = [m for m in prompts.messages(example, "mcr", wording=wording) if m["role"] == "user"]
        kinds = [part["type"] for part in user["content"]]
        assert kinds == ["image"] * len(example.images) + ["text"]
        assert "box" not in prompts.text_of([user])
    for example in of["grec"]:
        text = prompts.text_of(prompts.messages(example, "mcr", wording=wording))
        assert f'"{example.text}"' in text
        assert "person" not in text.replace(example.text, "")
        assert "nothing to list" not in text, "the expression is always listed"


@pytest.mark.parametrize("style", STYLES)
def test_instructions_and_chains_leave_out_what_is_not_annotated(of, style):
    words = {"grec": ("entity_num", "<mner"), "mner-mi": ("<entailment", "<location", "[[box")}
    for source, absent in words.items():
        for example in of[source]:
            text = prompts.text_of(prompts.messages(example, "mcr", style=style))
            text += chains.build(example, style, np.random.default_rng(0)).text
            assert [word for word in absent if word in text] == []
            assert "  " not in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", BOX_FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_chains_are_verified_and_earn_every_reward_that_is_annotated(of, source, family, form):
    to = target(family, form)
    drawn = mrsi.pairs(of[source], seed=0)
    assert len(drawn) == 2 * len(of[source])
    built = mrsi.build_chains(drawn, seed=0).chains
    examples = {e.id: e for e in of[source]}
    assert [chains.check(chain, examples[chain.id]) for chain in built] == [None] * len(built)
    completions = [row["completion"] for row in mrsi.sft_rows(built, examples, to, prompt="mcr")]
    rows = list(mrsi.grpo_rows(drawn, to, prompt="mcr"))
    columns = {key: [row[key] for row in rows] for key in ("gold", "model_size", "family")}
    for kind in ("paper", "strict"):
        for function in rewards.grpo_reward_functions(kind=kind, reasoning="agreeing"):
            name = function.__name__.removeprefix("reward_")
            expected = 1.0 if name in EARNED[source] else None
            assert set(function(completions, **columns)) == {expected}, name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_written_answer_parses_back_with_the_keys_of_the_task(of, source, form):
    for example in of[source]:
        gold = rewards.written_gold(example, "norm1000")
        how = {"constraints": example.constraints, "labels": example.labels}
        text = write_answer(perfect(gold), think="So.", form=form, **how)
        parsed = parse_answer(text, **how)
        assert parsed.reason is None
        assert list(parsed.entities) == [
            PredictedEntity(e.text, e.type, (e.boxes_xyxy_px or ())[:1]) for e in gold.entities
        ]
    other = {"mner-mi": "bbox_2d", "grec": "type"}[source]
    assert other not in write_answer(perfect(of[source][0]), constraints=SOURCES[source])


def test_a_wrong_answer_to_an_expression_loses_grounding_or_entailment(of):
    shown = next(e for e in of["grec"] if e.entities[0].boxes_xyxy_px)
    hidden = next(e for e in of["grec"] if not e.entities[0].boxes_xyxy_px)

    def earned(example, box):
        entity = PredictedEntity(example.text, None, (box,) if box else ())
        text = write_answer([entity], constraints=example.constraints)
        parsed = parse_answer(text, labels=(), constraints=example.constraints)
        r = rewards.rewards(parsed, rewards.written_gold(example, "norm1000"))
        return (r.grounding, r.entailment)

    assert earned(shown, None) == (0, 0)
    assert earned(shown, (990, 990, 999, 999)) == (0, 1)
    assert earned(hidden, (1, 1, 9, 9)) == (0, 0)
    assert earned(hidden, None) == (1, 1)
    assert sum(WEIGHTS) == 5


def test_worked_examples_and_other_modalities_take_several_images(of, tmp_path):
    (first, second) = mrsi.worked_examples(of["mner-mi"], target(), n=2)
    chat = prompts.messages(of["mner-mi"][0], "cot-3shot", shots=[first, second])
    n_images = sum(part["type"] == "image" for m in chat for part in m["content"] if isinstance(part, dict))
    assert n_images == sum(len(e.images) for e in (first[0], second[0], of["mner-mi"][0]))
    several = of["mner-mi"][1]
    grey = modality.masked(several, "text", tmp_path)
    assert len(grey.images) == len(several.images) == 3
    assert len(set(grey.images)) == 1


# --- scores
# ----------------------------------------------------------------------------------------------------------


def score(sample_dir, tmp_path, source, rows, **how):
    write_predictions(tmp_path / "p.jsonl", rows)
    split = SPLIT_OF_TEST[source]
    file = tmp_path / "p.jsonl"
    return score_file(source=source, root=sample_dir, split=split, predictions=file, n_resamples=50, **how)


@pytest.mark.parametrize("source", SOURCES)
def test_perfect_answers_score_100_on_what_is_annotated(sample_dir, tmp_path, source, capsys):
    split = SPLIT_OF_TEST[source]
    examples = data.load_split(source, sample_dir, split=split)
    report = score(sample_dir, tmp_path, source, [finished_row(e, perfect(e)) for e in examples])
    assert report["parse"]["ok"] == len(examples)
    assert ("grec" in report, "mner" in report) == (source == "grec", source == "mner-mi")
    assert not {"gmner", "eeg", "yardsticks"} & report.keys()
    if source == "grec":
        metrics = {key: report["grec"][key] for key in ("n_acc", "precision", "t_acc", "f1", "f1_giou")}
        assert set(metrics.values()) == {100}
        assert report["signature"].startswith("scorer=grec|iou=>=0.5|data=grec-v1:")
        assert report["other_parse"] == {"parse": "lenient", "grec_f1": 100}
    else:
        assert (report["mner"]["p"], report["mner"]["r"], report["mner"]["f1"]) == (100, 100, 100)
        assert report["by_type"]["mner"]["MIS"]["n_gold"] == 1
    file = str(tmp_path / "p.jsonl")
    given = ["--source", source, "--root", str(sample_dir), "--split", split, "--predictions", file]
    assert main(["score", *given, "--compare", file, "--resamples", "20"]) == 0
    shown = capsys.readouterr().out
    assert ("N-acc" in shown, "F1-score (GIoU)" in shown) == (source == "grec",) * 2
    assert "are equal in" in shown


def test_a_missing_and_an_unreadable_answer_are_no_right_none(sample_dir, tmp_path):
    examples = data.load_split("grec", sample_dir, split="testB")
    hidden = next(e for e in examples if not e.entities[0].boxes_xyxy_px)
    rows = [finished_row(e, perfect(e)) for e in examples if e is not hidden]
    unread = {"id": hidden.id, "coordinate_space": "norm1000"}
    for more in ([], [{**unread, "answer": "<answer>("}], [{"id": hidden.id, "answer": None}]):
        report = score(sample_dir, tmp_path, "grec", rows + more)
        assert (report["grec"]["n_acc"], report["grec"]["precision"]) == (0, 100)
    said = [{**unread, "answer": "<answer>None</answer>"}]
    assert score(sample_dir, tmp_path, "grec", rows + said)["grec"]["n_acc"] == 100


@pytest.mark.parametrize("source", [*SOURCES, "twitter-gmner"])
def test_mcr_data_check_prints_counts_beside_the_expected_ones(sample_dir, source, capsys):
    assert main(["data", "check", source, "--root", str(sample_dir)]) == 0
    shown = capsys.readouterr().out
    assert "found (expected)" in shown
    assert "statistics are as expected" in shown
    assert main(["data", "check", source, "--root", str(sample_dir / "images"), "--json"]) == 2
    assert capsys.readouterr().err.startswith("mcr: ")


def test_mcr_data_check_says_what_differs_from_the_paper(sample_dir, tmp_path, capsys):
    (tmp_path / "grefcoco").symlink_to(sample_dir / "grefcoco")
    assert main(["data", "check", "grec", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "DIFFERS  testA + testB: tweets is 5, expected 19,066" in shown
    assert "2 × expression with several targets (left out" in shown
    assert "no image of 13 tweets" in shown


def test_chains_of_both_are_built_by_the_command(sample_dir, tmp_path, capsys):
    for source in SOURCES:
        given = ["--source", source, "--root", str(sample_dir), "--out", str(tmp_path / source)]
        assert main(["chains", "build", *given, "--d1-share", "1"]) == 0
        assert "12 chains, all verified" in capsys.readouterr().out
        kept = data.load_split(source, sample_dir, split="train")
        assert len(mrsi.read_chains(tmp_path / source / "chains.jsonl", kept)) == 12
    few = ["--n-train", "2", "--styles", "terse", "--d1-share", "1"]
    assert main(["chains", "build", *given[:4], "--out", str(tmp_path / "few"), *few]) == 0
    drawn = mrsi.draw(kept, n=2, seed=0)
    assert {chain.id for chain in mrsi.read_chains(tmp_path / "few" / "chains.jsonl", drawn)} == {
        e.id for e in drawn
    }
    assert len(PAPER) == 5
    assert replace(kept[0], split="x").source == "grec-v1"
