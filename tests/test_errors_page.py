"""docs/errors.md: every sentence on it is provoked here, and nothing is provoked that it does not explain."""

import errno
import json
import os
import re
import shutil
import struct
import sys
from argparse import Namespace
from types import ModuleType, SimpleNamespace

import pytest

from contrib import ms_swift
from mcr_lib import boxes, data, prompts, rewards, yardsticks
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.data import voc_xml
from mcr_lib.data.files import write_jsonl, written_whole
from mcr_lib.data.images import find_images, open_image, usable_images
from mcr_lib.data.predictions import read_predictions, write_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example
from mcr_lib.study.commands import arguments
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.compare.evidence import Evidence
from mcr_lib.study.compare.merge import merge
from mcr_lib.study.runs import config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables.scoring import score_file
from mcr_lib.testbed import teacher
from mcr_lib.training import cards, launch, options
from mcr_lib.training.endpoint import Endpoint
from tests.conftest import REPOSITORY
from tests.test_endpoint import served as at_port
from tests.test_endpoint import started
from tools import colab

PAGE = (REPOSITORY / "docs" / "errors.md").read_text()
SENTENCES = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|", PAGE, re.MULTILINE))
"""What is wrong -> what is said of it; … stands for what changes."""
HUB = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.fixture
def at(tmp_path, monkeypatch, sample_dir):
    """Where a mistake is made: a folder of its own, a way to bend things, the embedded sample."""
    return SimpleNamespace(tmp=tmp_path, bend=monkeypatch, sample=sample_dir)


def assert_said(what, provoke):
    with pytest.raises(UserError) as raised:
        provoke()
    pattern = ".+".join(map(re.escape, SENTENCES[what].split("…")))
    assert re.fullmatch(pattern, str(raised.value)), f"{raised.value}\nis not\n{SENTENCES[what]}"


def read(root, version=None):
    return data.read_split("twitter-gmner", root, split="test", version=version)


def broken_file(at):
    shutil.copytree(at.sample / "Twitter10000_v2.0", at.tmp / "Twitter10000_v2.0")
    (at.tmp / "Twitter10000_v2.0" / "txt" / "test.txt").write_text("IMGID:1\nin\n")
    read(at.tmp)


def of_mner_mi(at, **departures):
    """A file of MNER-MI with one row that is bent."""
    row = {"id": 1, "text": ["hi", "Ada"], "images": ["1_0.jpg"], "label": ["O", "B-PER"], **departures}
    (at.tmp / "MNER-MI_val.txt").write_text(json.dumps(row))
    data.read_split("mner-mi", at.tmp, split="val")


def of_grec(at, bend=None, split="val"):
    """The sample of gRefCOCO with `instances.json` bent."""
    shutil.copytree(at.sample / "grefcoco", at.tmp / "grefcoco")
    coco = json.loads((at.tmp / "grefcoco" / "instances.json").read_text())
    if bend:
        bend(coco)
    (at.tmp / "grefcoco" / "instances.json").write_text(json.dumps(coco))
    data.read_split("grec", at.tmp, split=split)


def only_a_pickle(at):
    (at.tmp / "grefs(unc).p").write_bytes(b"")
    data.read_split("grec", at.tmp, split="val")


NOTHING = Evidence({"settings": ["base"], "splits": ["test"], "profile": "mine"}, {}, {})


def two_worlds(at):
    for seed in (0, 7):
        loaded = config.load("tiny", at.tmp / str(seed), {"testbed_seed": seed})
        loaded.folder.mkdir()
        (loaded.folder / "profile.yaml").write_text(config.as_yaml(loaded))
    merge([at.tmp / "0", at.tmp / "7"])


def bad_claims(at):
    text = (REPOSITORY / "data" / "claims.yaml").read_text()
    (at.tmp / "claims.yaml").write_text(text.replace("kind: level", "kind: levels"))
    Plan.read(at.tmp / "claims.yaml")


def bad_xml(at, size):
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>9</ymax>"
    box = f"<object><name>A</name><bndbox>{corners}</bndbox></object>"
    (at.tmp / "1.xml").write_text(f"<annotation>{size}{box}</annotation>")
    voc_xml.read_annotation(at.tmp / "1.xml")


def damaged_answers(at):
    write_jsonl(at.tmp / "p.jsonl", [{"id": "1", "entities": []}], kind="predictions", seal=True)
    (at.tmp / "p.jsonl").write_text((at.tmp / "p.jsonl").read_text().replace('"1"', '"2"'))
    read_predictions(at.tmp / "p.jsonl")


def full_file_system(at):
    with written_whole(at.tmp / "p.jsonl"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def damaged_image(at):
    (at.tmp / "1.jpg").write_bytes((at.sample / "images" / "100201.jpg").read_bytes()[:400])
    open_image(at.tmp / "1.jpg")


def html_page(at):
    (at.tmp / "1.jpg").write_text("<html>404</html>")
    open_image(at.tmp / "1.jpg")


def huge_image(at):
    at.bend.setattr("mcr_lib.data.images.MAX_PIXELS", 100)
    open_image(at.sample / "images" / "100201.jpg")


def shards(at, bend):
    """A released model of two shards of which one is bent."""
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (at.tmp / "model.safetensors.index.json").write_text(json.dumps(index))
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (at.tmp / name).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    bend(at.tmp / "model-2.safetensors")
    cards.shards(at.tmp, HUB)


def held_folder(at):
    with RunFolder(at.tmp).locked(), RunFolder(at.tmp).locked():
        pass


def other_split(at):
    dev = data.load_split("twitter-gmner", at.sample, split="dev")
    write_predictions(at.tmp / "p.jsonl", [{"id": example.id, "entities": []} for example in dev])
    score_file(source="twitter-gmner", root=at.sample, predictions=at.tmp / "p.jsonl", n_resamples=100)


def rows(at, *rows):
    (at.tmp / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    score_file(source="twitter-gmner", root=at.sample, predictions=at.tmp / "p.jsonl", n_resamples=100)


def failing_pip(at):
    at.bend.setattr(
        colab.subprocess,
        "run",
        lambda *a, **k: SimpleNamespace(returncode=1, stderr="ERROR: no way", stdout=""),
    )
    colab.install(at.tmp)


def replaced_package(at):
    versions = iter(["18.1.0", "26.0.1"])
    at.bend.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    at.bend.delitem(sys.modules, "datasets", raising=False)
    at.bend.setattr(colab, "pins_of_installed", list)
    at.bend.setattr(
        colab.subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=0, stderr="", stdout="")
    )
    at.bend.setattr(colab.importlib.metadata, "version", lambda name: next(versions))
    colab.install(at.tmp)


def placeholder(at):
    ms_swift.swift_row(
        {
            "id": "7",
            "images": [],
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "a <bbox>"}]}],
        }
    )


def asked(at, fault, key="sk-7"):
    """A question to a server that is broken in this way."""
    at.bend.setenv("OPENAI_API_KEY", key)
    with started("break", 1) as port, at_port(port, at.tmp, f"/always-{fault}", n_tries=1) as one:
        one.ask([prompts.message("user", "hi")])


def no_client(at):
    at.bend.setattr("mcr_lib.training.endpoint.find_spec", lambda name: None)
    with at_port(1, at.tmp):
        pass


def no_images(at):
    given = {"images": str(at.tmp), "root": str(at.sample), "source": "twitter-gmner", "version": None}
    arguments.shown(Namespace(**given), "test")


def joint_without_images(at):
    nowhere = at.tmp / "nowhere"
    nowhere.mkdir()
    grec = {"data_dir": str(at.sample), "images_dir": str(nowhere)}
    of = {"data_dir": str(at.sample), "backbone": "random", "joint": {"grec": grec}}
    Study(config.load("qwen2.5-vl-7b", at.tmp / "run", of)).training


LIGHT = {
    "server down or broken": lambda at: asked(at, "500"),
    "key missing": lambda at: asked(at, "401", key=""),
    "key refused": lambda at: asked(at, "401"),
    "no such model": lambda at: asked(at, "404"),
    "wrong model": lambda at: asked(at, "wrong"),
    "no address": lambda at: Endpoint("localhost:8000", "m", at.tmp / "kept"),
    "key in the address": lambda at: Endpoint("http://k:x@localhost/v1", "m", at.tmp / "kept"),
    "family unknown": lambda at: arguments.target(Namespace(family=None, model="gpt-9")),
    "images not found": no_images,
    "no client": no_client,
    "no data": lambda at: read(at.tmp),
    "other version": lambda at: read(at.sample, "v1"),
    "no such split": lambda at: data.read_split("twitter-gmner", at.sample, split="test_unseen"),
    "broken file": broken_file,
    "no MNER-MI": lambda at: data.read_split("mner-mi", at.tmp, split="val"),
    "row of MNER-MI": lambda at: of_mner_mi(at, label=["O"]),
    "five images": lambda at: of_mner_mi(at, images=[f"1_{k}.jpg" for k in range(5)]),
    "unknown label": lambda at: of_mner_mi(at, label=["O", "B-OTHER"]),
    "no gRefCOCO": lambda at: data.read_split("grec", at.tmp, split="val"),
    "a pickle": only_a_pickle,
    "no expression": lambda at: of_grec(at, split="test"),
    "COCO lacks an image": lambda at: of_grec(at, lambda coco: coco["images"].pop(2)),
    "box without area": lambda at: of_grec(at, lambda coco: coco["annotations"][4]["bbox"].__setitem__(2, 0)),
    "column of a reward": lambda at: rewards.grpo_reward_functions()[0](completions=["x"]),
    "no size in the xml": lambda at: bad_xml(at, "<size/>"),
    "box of no use": lambda at: bad_xml(at, "<size><width>9</width><height>9</height></size>"),
    "damaged answers": damaged_answers,
    "no images folder": lambda at: find_images(at.tmp / "nowhere", {"1"}),
    "images missing": lambda at: usable_images([Example("1", "demo", "dev", ("hi",), (), ("PER",))]),
    "damaged image": damaged_image,
    "another kind of file": html_page,
    "huge image": huge_image,
    "hub name, no network": lambda at: cards.folder_of(HUB),
    "shard missing": lambda at: shards(at, lambda path: path.unlink()),
    "shard cut off": lambda at: shards(at, lambda path: path.write_bytes(path.read_bytes()[:-3])),
    "no backbone": lambda at: cards.card(str(at.tmp)),
    "processes and batch": lambda at: options.batch_shape(options.CvoOptions(), 3),
    "several processes": lambda at: launch.require_launcher(4, "cvo --profile mine --setting mcr"),
    "disk full": full_file_system,
    "run folder in use": held_folder,
    "colocate vLLM": lambda at: options.options_of("cvo", {"vllm_mode": "colocate"}, "mine.yaml"),
    "loss of whole answers": lambda at: options.options_of("cvo", {"loss_type": "luspo"}, "mine.yaml"),
    "simulated teacher": lambda at: teacher.say(Example("1", "demo", "train", ("hi",), (), ("PER",))),
    "unknown key": lambda at: config.load("tiny", at.tmp, {"sede": 1}),
    "unknown profile": lambda at: config.load("huge", at.tmp),
    "unknown joint source": lambda at: config.load("tiny", at.tmp, {"joint": {"gerc": {}}}),
    "joint source without data": lambda at: config.load("qwen2.5-vl-7b", at.tmp, {"joint": {"grec": {}}}),
    "joint source without images": joint_without_images,
    "another split's answers": other_split,
    "runs of two worlds": two_worlds,
    "nothing to compare": lambda at: Plan.of_pair(NOTHING, "mcr", "sft"),
    "a mistake among the claims": bad_claims,
    "no prediction": lambda at: rows(at, {"id": "300401", "output": "nobody"}),
    "another format": lambda at: rows(at, {"response": "nobody", "images": []}),
    "rows without ids": lambda at: rows(at, {"response_answer_orig": "None"}),
    "no setting of a stage": lambda at: Study(config.load("nano", at.tmp, {"settings": {}})).of_stage("sft"),
    "repository, address": lambda at: colab.publish(at.tmp, "https://example.org/x"),
    "Colab's pip": failing_pip,
    "Colab, loaded before": replaced_package,
    "ms-swift, placeholder": placeholder,
}


@pytest.mark.parametrize("what", LIGHT)
def test_the_sentence_of_the_page_is_said(what, at):
    assert_said(what, lambda: LIGHT[what](at))


# --- of models: these load torch
# ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(nano_folder, nano_tweets):
    """A backbone of chance weights that may be bent, and its rows."""
    from mcr_lib.data import mrsi
    from mcr_lib.training import backbones

    backbone = backbones.load(str(nano_folder), device="cpu")
    sft_rows = list(mrsi.answer_rows(nano_tweets, backbone.target, prompt="direct"))
    return SimpleNamespace(
        backbone=backbone,
        folder=nano_folder,
        sft_rows=sft_rows,
        rows=list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets], backbone.target, prompt="direct")),
    )


CVO = options.CvoOptions(
    batch_size=8, num_generations=4, max_completion_length=8, lora_rank=0, check_groups=2
)


def pixel_budget(at, trained):
    from mcr_lib.training import backbones

    backbones._set_pixels(trained.backbone.processor, (4, 4), family="qwen2.5-vl")


def loaded(at, trained, **how):
    from mcr_lib.training import backbones

    backbones.load(str(trained.folder), **how)


def no_bitsandbytes(at, trained):
    at.bend.setattr("torch.cuda.is_available", lambda: True)
    at.bend.setattr("mcr_lib.training.backbones.find_spec", lambda name: None)
    loaded(at, trained, device="cuda", quantization="4bit")


def changed_model(at, trained):
    shutil.copytree(trained.folder, at.tmp / "model")
    weights = at.tmp / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    cards.card(str(at.tmp / "model"))


def weights_too_large(at, trained):
    import torch

    def full(*arguments, **how):
        raise torch.OutOfMemoryError("CUDA out of memory")

    at.bend.setattr("torch.nn.Module.to", full)
    loaded(at, trained, device="cpu")


def full_gpu(at, trained):
    import torch
    from transformers import Trainer

    from mcr_lib.training import sft

    def full(*arguments, **how):
        raise torch.OutOfMemoryError("CUDA out of memory")

    at.bend.setattr(Trainer, "train", full)
    sft.train(
        str(trained.folder),
        trained.sft_rows,
        at.tmp,
        options.SftOptions(max_steps=1, lora_rank=0),
        prompt="direct",
        device="cpu",
    )


def other_processor(at, trained):
    at.bend.setattr(trained.backbone.processor.image_processor, "merge_size", 1)
    checked(trained)


def damaged_part(at, trained):
    from mcr_lib.training.parts import Parts

    (at.tmp / "p.jsonl.part").write_bytes(b"00000000 {}\n")
    how = {"size": 1, "length": len, "seed": 0, "device": "cpu", "progress": None}
    Parts(at.tmp / "p.jsonl", "predictions", {}, key=str).make({}, list, **how)


def merging_tokenizer(at, trained):
    from tokenizers import AddedToken

    trained.backbone.processor.tokenizer.add_tokens([AddedToken("\n<answer>[", normalized=False)])
    checked(trained)


def short_model(at, trained):
    trained.backbone.model.config.get_text_config().max_position_embeddings = 20
    checked(trained)


def checked(trained):
    from mcr_lib.training import preflight

    preflight.check_rows(trained.backbone, trained.sft_rows)


def gold_checked(at, trained):
    from mcr_lib.training import preflight

    preflight.check_gold(trained.backbone, trained.rows, CVO)


def groups_checked(at, trained):
    from mcr_lib.training import preflight

    preflight.check_groups(trained.backbone, trained.rows, CVO, prompt="direct")


def nothing_kept(at, trained):
    from mcr_lib.training import d2_filter

    how = {"prompt": "direct", "start": str(trained.folder)}
    d2_filter.kept(trained.backbone, trained.rows[:2], at.tmp, CVO, **how)


def torn_group(at, trained):
    from mcr_lib.training import cvo

    cvo.make_trainer(
        trained.backbone, trained.rows, at.tmp, CVO.model_copy(update={"batch_size": 6}), prompt="direct"
    )


def no_rows(at, trained):
    from mcr_lib.training import loop

    loop.dataset([])


def quantized_in_full(at, trained):
    from mcr_lib.training import loop

    loop.started(str(trained.folder), at.tmp, options.SftOptions(lora_rank=0, quantization="4bit"), "cpu")


def adapter_of(at, **base):
    from mcr_lib.training import adapters

    adapters.locate_base(at.tmp, {"base": {"family": "qwen2.5-vl", "weights": "0" * 12, **base}})


def served(at, vllm, **departures):
    from mcr_lib.training import cvo

    at.bend.setattr(cvo, "find_spec", lambda name: vllm)
    cvo.check_server("mrsi", CVO.model_copy(update={"use_vllm": True, "vllm_server_port": 1, **departures}))


def cut_weights(at, trained):
    from mcr_lib.training import loop

    at.bend.setenv("ACCELERATE_USE_FSDP", "true")
    at.bend.setattr(launch, "check_sharding", lambda: None)
    loop._check_options(False, options.SftOptions(save="merged"))


def cut_otherwise(at, trained):
    at.bend.setenv("ACCELERATE_USE_FSDP", "true")
    at.bend.setenv("FSDP_VERSION", "1")
    launch.check_sharding()


def full_disk(at, trained):
    from mcr_lib.training import loop

    usage = shutil.disk_usage(at.tmp)
    at.bend.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    loop._check_room(at.tmp, trained.backbone.model)


HEAVY = {
    "pixel budget": pixel_budget,
    "nothing to train on": no_rows,
    "no GPU": lambda at, trained: loaded(at, trained, device="cuda"),
    "no 4 bits": no_bitsandbytes,
    "4 bits without GPU": lambda at, trained: loaded(at, trained, device="cpu", quantization="4bit"),
    "4 bits without LoRA": quantized_in_full,
    "adapter, another base": lambda at, trained: adapter_of(at, name="tiny-base"),
    "adapter, another architecture": lambda at, trained: adapter_of(at, name="tiny-base", family="qwen3-vl"),
    "adapter, base gone": lambda at, trained: adapter_of(at, folder="nowhere"),
    "loss and vLLM": lambda at, trained: served(at, "here", loss_type="vespo"),
    "no vLLM": lambda at, trained: served(at, None),
    "no vLLM server": lambda at, trained: served(at, "here"),
    "weights in parts": cut_weights,
    "another way of cutting": cut_otherwise,
    "saved model changed": changed_model,
    "weights too large": weights_too_large,
    "out of memory": full_gpu,
    "tokens and features": other_processor,
    "token boundary": merging_tokenizer,
    "too long": short_model,
    "answer cut": gold_checked,
    "all rewards equal": groups_checked,
    "nothing kept": nothing_kept,
    "groups and batch": torn_group,
    "no room": full_disk,
    "damaged part": damaged_part,
}


@pytest.mark.canary
@pytest.mark.parametrize("what", HEAVY)
def test_the_sentence_about_a_model_is_said(what, at, trained):
    at.bend.setattr("torch.cuda.is_available", lambda: False)
    assert_said(what, lambda: HEAVY[what](at, trained))


def test_every_sentence_of_the_page_is_provoked_and_explained():
    assert set(SENTENCES) == {*LIGHT, *HEAVY}
    rows = [
        line.strip("|").split(" | ")
        for line in PAGE.split("\n")
        if any(line.startswith(f"| {what} | `") for what in SENTENCES)
    ]
    assert len(rows) == len(SENTENCES)
    assert all(len(row) == 4 and all(cell.strip() for cell in row) for row in rows)


# --- numbers that look wrong
# -------------------------------------------------------------------------------------------------------


def test_boxes_read_in_another_space_earn_no_grounding_and_everything_else():
    box = (300, 200, 700, 600)
    tweet = Example(
        "1",
        "demo",
        "train",
        ("Ada",),
        (Entity("Ada", 0, 1, "PER", (box,)),),
        ("PER",),
        image_size_px=(1000, 800),
    )
    thousandths = rewards.written_gold(tweet, "norm1000")
    parsed = parse_answer(write_answer(yardsticks.perfect(thousandths)), labels=("PER",))
    found = rewards.rewards(parsed, rewards.written_gold(tweet, "model_px", model_size=(504, 392)))
    assert (found.count, found.span, found.type, found.entailment, found.grounding) == (1, 1, 1, 1, 0)


def test_an_answer_that_is_cut_before_it_is_closed_cannot_be_read():
    tweet = Example("1", "demo", "train", ("Ada",), (Entity("Ada", 0, 1, "PER", ()),), ("PER",))
    whole = write_answer(yardsticks.perfect(rewards.written_gold(tweet, "norm1000")), think="Ada is a name.")
    reasons = [parse_answer(whole[:length], labels=("PER",)).reason for length in range(len(whole) + 1)]
    assert (reasons.pop(), None in reasons) == (None, False)


def test_pixels_of_the_resized_image_taken_for_the_originals_are_shifted_by_one_factor():
    box = (300, 200, 700, 600)
    written = boxes.written_box(box, "model_px", image_size=(1000, 800), model_size=(500, 400))
    assert written == (150, 100, 350, 300)
    assert boxes.iou(written, box) < 0.1
