"""One model on several sources: settings, pairs, rows, batches with and without images, scores per source."""

import csv
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from trl import GRPOTrainer

from mcr_lib import chains
from mcr_lib.data import mrsi, read_split
from mcr_lib.data.grec import SEVERAL
from mcr_lib.errors import UserError
from mcr_lib.rewards import NAMES
from mcr_lib.study.runs import config, joint, preflight, prepare
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import comparison
from mcr_lib.testbed import variants
from mcr_lib.training import cvo, loop, sft
from mcr_lib.training.options import CvoOptions, SftOptions

pytestmark = pytest.mark.nano
BOTH = {"mner-mi": {}, "grec": {"splits": ["testA"]}}
OWN = {"testbed_sizes": {"train": 12, "dev": 4, "test": 4}, "max_new_tokens": 8, "answer_batch_size": 8}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The three sources of the testbed, on chance weights."""
    return Study(config.load("nano", tmp_path_factory.mktemp("joint"), {"joint": BOTH, **OWN}))


@pytest.fixture(scope="module")
def rows(study):
    """Rows with no, one, two and three images, of three tasks."""
    return study.rows("mcr")


def mixed(rows):
    """A row of every number of images, and two of GREC."""
    by_number = {}
    for row in rows:
        by_number.setdefault(len(row["images"]), []).append(row)
    assert sorted(by_number) == [0, 1, 2, 3]
    return [row for some in by_number.values() for row in some[:1]] + rows[-2:]


CVO = {
    "max_steps": 1, "batch_size": 12, "num_generations": 2, "max_completion_length": 28, "lora_rank": 0,
    "beta": 0.04, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "save_steps": 50, "check_groups": 0,
    "filter_d2": False,
}  # fmt: skip


def train_cvo(study, rows, folder, per_device, shared):
    options = CvoOptions(**CVO, shared_prefix=shared, per_device_batch_size=per_device)
    report = cvo.train(study.backbone, mixed(rows), folder, options, prompt="direct", device="cpu")
    assert report["n_steps"] == 1
    return loop.read_log(folder), pq.read_table(folder / "rollouts.parquet").to_pylist()


@pytest.mark.canary
def test_cvo_trains_on_mixed_batches_and_parts_without_images_as_row_by_row(study, rows, tmp_path):
    """Rows with 0 to 3 images in one batch: all at once and shared, or two at a time and singly."""
    at_once, answers = train_cvo(study, rows, tmp_path / "a", 12, True)
    in_parts, same = train_cvo(study, rows, tmp_path / "b", 2, False)
    assert [row["answer"] for row in answers] == [row["answer"] for row in same]
    for name in ("loss", "kl", "reward", "grad_norm"):
        assert [r[name] for r in at_once] == pytest.approx([r[name] for r in in_parts], abs=2e-4), name
    known = {tuple(n for n in NAMES if row[n] is not None) for row in answers}
    assert known == {NAMES, ("count", "span", "type"), ("grounding", "entailment")}


@pytest.mark.canary
def test_stock_trl_cannot_batch_rows_with_and_without_images(study, rows, tmp_path, monkeypatch):
    """When TRL mends one of these, what `cvo` does about it can go."""
    monkeypatch.setattr(cvo._Trainer, "_tokenize_prompts", GRPOTrainer._tokenize_prompts)
    with pytest.raises(TypeError, match="NoneType"):
        train_cvo(study, rows, tmp_path / "a", 12, False)
    monkeypatch.undo()
    monkeypatch.setattr(cvo, "_without_empty", lambda model: model)
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        train_cvo(study, rows, tmp_path / "b", 2, False)


@pytest.mark.canary
def test_sft_trains_on_mixed_batches_as_row_by_row(study, rows, tmp_path):
    of = {}
    for per_device, shared in ((16, True), (2, False)):
        how = {"max_steps": 1, "lora_rank": 0, "batch_size": 8, "shared_prefix": shared}
        options = SftOptions(**how, per_device_batch_size=per_device)
        folder = tmp_path / str(per_device)
        sft.train(study.backbone, study.rows("sft")[4:44:3], folder, options, prompt="direct", device="cpu")
        of[per_device] = [row["loss"] for row in loop.read_log(folder)]
    assert of[16] == pytest.approx(of[2], abs=2e-4)


# --- the sources of a run
# ----------------------------------------------------------------------------------------------------------


def test_d_r_is_made_of_every_source_alike(study):
    n = {name: len(examples) for name, examples in study.training.items()}
    assert list(n) == ["testbed", "mner-mi", "grec"]
    assert n["testbed"] == 12
    drawn = study.pairs("mcr")  # on all of D_R, in one style
    assert len(drawn) == sum(n.values())
    assert {example.constraints for example, _ in drawn} == {
        ("span", "type", "groundable", "box"), ("span", "type"), ("groundable", "box")
    }  # fmt: skip
    assert len({row["id"] for row in study.rows("sft")}) == len(drawn)


def test_a_setting_that_keeps_to_the_source_of_the_run_is_the_same_as_without_others(study, tmp_path):
    alone = Study(config.load("nano", tmp_path, OWN))
    settings = {"sft": {"stage": "sft", "rows": "answers", "joint": False}}
    apart = Study(config.load("nano", study.run.path, {"joint": BOTH, **OWN, "settings": settings}))
    rows, same = ([{**r, "images": len(r["images"])} for r in s.rows("sft")] for s in (alone, apart))
    assert rows == same
    assert apart.fingerprint("sft") == alone.fingerprint("sft") != study.fingerprint("sft")


def test_a_fingerprint_covers_the_data_of_every_source(study):
    before = study.fingerprint("sft")
    for name, examples in study.training.items():
        other = Study(study.loaded)
        other._training = {**study.training, name: examples[:-1]}
        assert other.fingerprint("sft") != before, name


def test_an_id_that_two_sources_have_is_told_apart(study):
    first, *_ = study.training["testbed"]
    twin = replace(study.training["grec"][0], id=first.id)
    unique = joint.renamed({"testbed": [first], "grec": [twin, study.training["grec"][1]]})
    assert [e.id for e in unique["grec"]] == [f"grec.{first.id}", study.training["grec"][1].id]


def test_examples_are_drawn_by_seed_and_share(sample_dir):
    how = {"root": sample_dir, "images_dir": None, "testbed": (sample_dir, 0)}
    every = joint.load("grec", joint.JointSource(), "train", seed=0, **how)
    assert all(e.images for e in every)
    ids = []
    for seed in range(4):
        some = joint.load("grec", joint.JointSource(n_train=3), "train", seed=seed, **how)
        assert [e for e in every if e in some] == some
        assert len(some) == 3
        ids.append(tuple(e.id for e in some))
    assert len(set(ids)) > 1
    assert len(joint.load("grec", joint.JointSource(n_train=1), "val", seed=0, **how)) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"joint": {"gerc": {}}}, r"joint names 'gerc' \(did you mean grec\?\); choose from twitter-gmner"),
        ({"joint": {"testbed": {}}}, "joint names 'testbed'"),
        ({"joint": {"grec": {"version": "v2"}}}, "grec has no version 'v2'"),
        ({"joint": {"grec": {"n_trian": 3}}}, r"joint\.grec\.n_trian is 3"),
        ({"joint": {"twitter-gmner": {}}}, "joint source twitter-gmner needs data_dir, its folder"),
    ],
)  # fmt: skip
def test_a_mistake_in_joint_is_one_sentence(tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        config.load("nano", tmp_path, given)


def test_a_split_that_a_source_lacks_and_five_images_are_one_sentence(tmp_path, sample_dir):
    grec = {"data_dir": str(sample_dir), "splits": ["testC"]}
    study = Study(config.load("nano", tmp_path, {"joint": {"grec": grec}}))
    with pytest.raises(UserError, match="split 'testC' of grec: .* has no expression of it; found train"):
        study.answer("base", "grec_testC")
    with pytest.raises(UserError, match="no split 'grec_testA' in this run; it has .*grec_testC"):
        study.examples("grec_testA")
    row = {"id": 1, "text": ["Ada"], "images": ["1.jpg"] * 5, "label": ["B-PER"]}
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "MNER-MI_train.txt").write_text(json.dumps(row))
    study = Study(config.load("nano", tmp_path, {"joint": {"mner-mi": {"data_dir": str(tmp_path)}}}))
    with pytest.raises(UserError, match="line 1: tweet 1 has 5 images and 1 tokens; expected up to 4"):
        study.rows("sft")


# --- chains
# ----------------------------------------------------------------------------------------------------------


def test_the_teacher_leaves_other_sources_their_templates(study):
    grec, own = study.training["grec"][0], study.training["testbed"][0]
    say = prepare.teacher_of(study.loaded)
    built = mrsi.build_chains([(grec, "distill"), (own, "distill")], seed=0, teacher=say).chains
    assert [chain.source for chain in built] == ["template", "mllm"]


def test_a_file_of_chains_per_source_will_do(study, tmp_path):
    settings = {"mrsi": {"stage": "sft", "chains": "mine", "data": "train"}}
    settings["alone"] = {**settings["mrsi"], "joint": False}
    own = Study(config.load("nano", tmp_path, {"joint": BOTH, **OWN, "settings": settings}))
    for name, examples in own.training.items():
        built = mrsi.build_chains([(e, "terse") for e in examples], seed=0).chains
        marked = [replace(chain, source="llm") for chain in built]
        stem = "mine" if name == "testbed" else f"mine.{name}"
        mrsi.write_chains(own.run.chains(stem), marked, examples)
        before = own.fingerprint("mrsi")
    assert {row["source"] for row in own.rows("mrsi")} == {"llm"}
    assert len(own.rows("mrsi")) == len(own.everyone("mrsi"))
    assert {row["id"] for row in own.rows("alone")} == {e.id for e in own.training["testbed"]}
    own.run.chains("mine.grec").unlink()
    assert own.fingerprint("mrsi") != before
    with pytest.raises(UserError, match="24 of 60 pairs of tweet and style are missing"):
        own.rows("mrsi")


# --- answers and scores
# ----------------------------------------------------------------------------------------------------------


def test_the_tests_of_every_source_are_answered_and_scored_by_its_own_metric(study):
    assert list(study.config.joint_splits) == ["mner-mi_test", "grec_testA"]
    own = {split: comparison.reports(study, ["base"], split) for split in study.config.joint_splits}
    assert study.run.predictions("base.grec_testA").is_file()
    assert {split: some["base"]["n_examples"] for split, some in own.items()} == dict.fromkeys(own, 6)
    comparison.write(study.run, own, {}, seed=0)
    with study.run.results.open() as file:
        metrics = {(row["split"], row["metric"]) for row in csv.DictReader(file)}
    assert {("mner-mi_test", "mner_f1"), ("grec_testA", "grec_n_acc"), ("grec_testA", "grec_precision"),
            ("grec_testA", "grec_t_acc"), ("grec_testA", "grec_f1")} <= metrics  # fmt: skip
    assert not {(s, m) for s, m in metrics if m.startswith("gmner") or (s, m) == ("grec_testA", "mner_f1")}
    rows = {row["split"]: row for row in comparison.joint_rows(own)}
    assert rows["mner-mi_test"]["N-acc"] == "–" != rows["grec_testA"]["N-acc"]


def test_worked_examples_are_of_the_task_that_is_asked(study):
    settings = {"shots": {"prompt": "cot-3shot"}}
    own = Study(config.load("nano", study.run.path, {"joint": BOTH, **OWN, "settings": settings}))
    header = json.loads(own.answer("shots", "grec_testA").read_text().split("\n")[0])
    assert set(header["shots"]) <= {e.id for e in own.training["grec"]}


# --- the testbed's variants
# ----------------------------------------------------------------------------------------------------------


def test_variants_are_read_by_the_real_readers_and_written_once(tmp_path):
    for name, version in (("mner-mi", "v1"), ("mner-mi", "plus"), ("grec", "v1")):
        root, how = tmp_path / f"{name}-{version}", {"version": version, "seed": 3}
        assert variants.write_missing(root, name, {"train": 40, "test": 4}, **how)
        assert not variants.write_missing(root, name, {"train": 40, "test": 4}, **how)
        examples, quirks = read_split(name, root, split="train", version=version)
        if name == "grec":
            assert {quirk.kind for quirk in quirks} <= {SEVERAL}
            shown = sum(e.entities[0].is_groundable for e in examples)
            assert len(examples) + len(quirks) == 40
            assert 5 < shown < 35
        else:
            assert sorted({len(e.images) for e in examples}) == [0, 1, 2, 3]
            assert {one.type for e in examples for one in e.entities} <= {"PER", "LOC", "ORG", "MIS"}
        assert all(chains.unsayable(e) is None for e in examples)
        assert variants.write_missing(root, name, {"train": 2, "test": 4}, **how)


# --- before a run
# ----------------------------------------------------------------------------------------------------------


def lines(profile, folder, sample_dir, **sizes):
    of = {name: {"data_dir": str(sample_dir)} for name in ("mner-mi", "grec")}
    given = {"data_dir": str(sample_dir), "joint": of, "backbone": "random"}
    context = preflight.Context(config.load(profile, folder, given), folder)
    if sizes:
        example = context.study.training["grec"][0]
        context.study._training = {name.replace("_", "-"): [example] * n for name, n in sizes.items()}
    return list(preflight.joint(context))


def test_preflight_tells_that_a_joint_source_trains_on_texts_of_the_tests(tmp_path, sample_dir, monkeypatch):
    load = prepare.load_joint
    own = read_split("twitter-gmner", sample_dir, split="test")[0][:3]
    monkeypatch.setattr(prepare, "load_joint", lambda *how: [*load(*how), *own])
    monkeypatch.setattr(Study, "_usable", lambda self, examples: list(examples))
    (line,) = (line for line in lines("qwen2.5-vl-7b", tmp_path, sample_dir) if line.check == "leakage")
    assert line.mark == "✗"
    assert line.result == "6 texts of mner-mi, grec that are trained on stand in dev or test"


def test_preflight_counts_the_pairs_beside_the_paper_s(tmp_path, sample_dir):
    paper = {"twitter_gmner": 7000, "mner_mi": 6856, "grec": 14000}
    *tests, d_r = lines("qwen2.5-vl-7b", tmp_path, sample_dir, **paper)
    assert [line.mark for line in tests] == ["✓"] * 3
    assert (d_r.mark, d_r.check) == ("✓", "D_R")
    told = "55,712 pairs of twitter-gmner 7,000, mner-mi 6,856, grec 14,000"
    assert d_r.result == f"{told}, as in the paper"
    d_r = lines("qwen2.5-vl-7b", tmp_path, sample_dir)[-1]
    assert d_r.mark == "✗"
    assert d_r.result.endswith("; the paper has 55,712 of twitter-gmner 7,000, mner-mi 6,856, grec 14,000")
    context = preflight.Context(config.load("smoke", tmp_path / "run"), tmp_path / "scratch")
    assert {line.mark for line in preflight.joint(context)} == {"✓"}
