"""mcr preflight: a truthful table for every profile, and a line for each thing that would go wrong."""

import importlib.metadata
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mcr_lib.schema import Example
from mcr_lib.study.commands import cli
from mcr_lib.study.commands import preflight as command
from mcr_lib.study.runs import config, memory, preflight
from mcr_lib.study.runs.preflight import Context, Gpu
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.canary

PROFILES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((REPOSITORY / "notebooks" / "profiles").glob("*.yaml"))
}
ON_GPU = [name for name, told in PROFILES.items() if told.get("device") == "cuda"]
ON_TESTBED = [name for name, told in PROFILES.items() if told.get("source", "testbed") == "testbed"]
OTHERS = ["twitter-gmner-data"]


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def context(tmp_path, profile="nano", **overrides):
    return Context(config.load(profile, tmp_path / "out", overrides), tmp_path / "scratch")


def marked(lines, mark):
    return {line.check for line in lines if line.mark == mark}


def only(lines):
    (line,) = lines
    return line


@pytest.mark.parametrize("profile", ON_TESTBED)
def test_profiles_on_the_testbed_would_go_through(profile, tmp_path):
    lines = command.lines(config.load(profile, tmp_path))
    assert {line.mark for line in lines} == {"✓"}, lines
    assert marked(lines, "✓") == {
        "versions",
        "backbone",
        "GPU",
        "data",
        "rows",
        "pixels",
        "batch",
        "memory",
        "disk",
        *(["joint"] if "joint" in PROFILES[profile] else []),
    }
    assert not list(tmp_path.iterdir()), "nothing is written into the run folder"


@pytest.mark.parametrize("profile", ON_GPU)
def test_profiles_for_gpus_say_what_is_missing_on_a_machine_without_any(profile, tmp_path, monkeypatch):
    real = preflight.installed_version
    monkeypatch.setattr(
        preflight, "installed_version", lambda name: None if name == "bitsandbytes" else real(name)
    )
    lines = command.lines(config.load(profile, tmp_path, {"data_dir": str(tmp_path / "no data")}))
    by_check = {line.check: line for line in lines}
    is_4bit = PROFILES[profile].get("quantization") == "4bit"
    more = {"bitsandbytes": is_4bit, "joint": "joint" in PROFILES[profile]}
    assert marked(lines, "✗") == {"backbone", "GPU", "data", *(name for name in more if more[name])}
    assert marked(lines, "–") == {"rows", "pixels", "memory"}
    assert all("estimated: " in line.result for line in lines if line.check == "memory")
    assert f"hf download {PROFILES[profile]['backbone']}" in by_check["backbone"].result
    assert by_check["GPU"].result == f"{PROFILES[profile]['n_processes']} needed, none that torch sees"
    assert "no data" in by_check["data"].result
    assert not is_4bit or by_check["bitsandbytes"].todo == "pip install bitsandbytes"
    assert all(line.result and "\n" not in line.result for line in lines)


@pytest.mark.parametrize("profile", ON_GPU)
def test_the_head_of_a_profile_tells_its_memory_and_that_it_is_an_estimate(profile, tmp_path):
    head = (REPOSITORY / "notebooks" / "profiles" / f"{profile}.yaml").read_text()
    told = [float(gb) for gb in re.findall(r"Memory, ESTIMATED: (\d+) GB", head)]
    lines = command.lines(config.load(profile, tmp_path, {"data_dir": str(tmp_path)}))
    found = [
        float(re.search(r"estimated: ([\d.]+) GB", line.result)[1])
        for line in lines
        if line.check == "memory"
    ]
    assert len(found) == sum("stage" in setting for setting in PROFILES[profile]["settings"].values()) + 1
    assert told == [pytest.approx(max(found), abs=0.7)]
    assert "NOT RUN" in head
    assert f"mcr preflight --profile {profile}" in head
    assert f"mcr run --profile {profile}" in head
    gpu_gb = {"colab-t4": 15, "1x24g": 24, "1x80g": 80}.get(profile, 48)
    assert told[0] < gpu_gb


def test_the_paper_s_numbers_are_those_of_its_profiles():
    facts = yaml.safe_load((REPOSITORY / "data" / "paper_facts.yaml").read_text())["facts"]
    for profile, backbone in (("qwen2.5-vl-7b", "Qwen2.5-VL-7B"), ("mimo-vl-7b", "MiMo-VL-7B")):
        study = Context(config.load(profile), REPOSITORY).study
        sft, cvo = study.options("mrsi")[0], study.options("mcr")[0]
        of = {name: fact.get("value") for name, fact in facts.items()}
        of |= {"mrsi_epochs": of["mrsi_epochs"][backbone]}
        assert {
            "mrsi_epochs": sft.num_train_epochs, "mrsi_batch": sft.batch_size,
            "mrsi_learning_rate": sft.learning_rate, "mrsi_schedule": sft.lr_scheduler_type,
            "cvo_epochs": cvo.num_train_epochs, "cvo_batch": cvo.batch_size,
            "cvo_learning_rate": cvo.learning_rate, "cvo_warmup": cvo.warmup_steps,
            "cvo_generations": cvo.num_generations, "cvo_clip": [cvo.epsilon, cvo.epsilon_high],
            "cvo_sampling": {name: getattr(cvo, name) for name in ("temperature", "top_k", "top_p")},
            "cvo_beta": cvo.beta, "sigma": cvo.sigma,
            "lambda_1": cvo.reward_weights[0], "lambda_5": cvo.reward_weights[4],
        }.items() <= of.items()  # fmt: skip
        least, most = {"min_std": cvo.filter_std, "min_max": cvo.filter_max}, [*cvo.filter_median]
        assert (cvo.filter_d2, {**least, "median": most}) == (True, of["filter"])
        assert (cvo.rewards, cvo.loss_type, cvo.scale_rewards) == ("paper", "grpo", "group")
        assert min(sft.lora_rank, cvo.lora_rank) > 0
        assert (sft.weights, sft.quantization, sft.pixels) == ("bfloat16", "none", (3136, 1_003_520))


@pytest.mark.parametrize("profile", ON_GPU)
def test_profiles_for_gpus_score_answer_and_reward_as_the_paper_does(profile):
    c = (loaded := config.load(profile)).config
    assert (c.scorer, c.answer_form) == ("paper", "paper")
    assert (c.n_styles, c.chain_styles, c.split_by) == (2, (), "pairs")
    cvo = loaded.options["mcr"][0]
    assert (cvo.rewards, cvo.sigma, cvo.reward_weights) == ("paper", 0.3, (0.3, 0.3, 0.3, 0.3, 0.2))
    assert (cvo.temperature, cvo.top_k, cvo.top_p, cvo.beta) == (1.5, 200, 0.95, 0.005)


def test_every_profile_is_tried_here():
    assert sorted([*ON_GPU, *ON_TESTBED, *OTHERS]) == sorted(PROFILES)


def test_a_profile_that_trains_nothing_needs_the_data_alone(tmp_path, gmner_dir):
    lines = command.lines(config.load(*OTHERS, tmp_path, {"data_dir": str(tmp_path)}))
    assert (marked(lines, "✗"), marked(lines, "–")) == ({"data"}, set())
    lines = command.lines(config.load(*OTHERS, tmp_path, {"data_dir": str(gmner_dir), "splits": ["test"]}))
    assert {line.mark for line in lines} == {"✓"}
    assert any(
        line.result.endswith("of 1,500 tweets have one; nothing is trained, scores need none")
        for line in lines
    )


def test_real_data_are_counted(gmner_dir, tmp_path):
    lines = list(preflight.data(context(tmp_path, "1x80g", data_dir=str(gmner_dir), splits=["test"])))
    assert (lines[0].mark, lines[0].result) == ("✓", "test 1,500 tweets")
    assert (lines[1].mark, lines[1].check) == ("✗", "images")
    assert re.fullmatch(r"[0-3] of 1,500 tweets have one", lines[1].result)
    assert "--set images_dir=DIR" in lines[1].todo


@pytest.mark.parametrize(
    ("profile", "needed", "gpus", "mark", "found", "todo"),
    [
        ("nano", 0, [], "✓", "none is needed", ""),
        ("1x80g", 1, None, "–", "torch is not installed", "pip install"),
        ("1x80g", 1, [], "✗", "1 needed, none", "profile tiny needs none"),
        ("1x80g", 1, [("H", 80, True)], "✓", "1 × H, 80 GB", ""),
        ("qwen2.5-vl-7b", 4, [("L", 48, True)] * 2, "✗", "4 needed, 2 visible", "--set n_processes=2"),
        ("1x24g", 1, [("T4", 16, False)], "✗", "T4 does not compute in bfloat16", "--set dtype=float16"),
        ("colab-t4", 1, [("T4", 16, False)], "✓", "1 × T4, 16 GB", ""),
    ],
)
def test_gpus_that_are_there_and_that_are_not(tmp_path, profile, needed, gpus, mark, found, todo):
    looked = context(tmp_path, profile)
    looked.__dict__["gpus"] = (
        gpus and [Gpu(name, int(gb * 1e9), has) for name, gb, has in gpus] if gpus is not None else None
    )
    line = only(preflight.gpus(looked))
    assert line.mark == mark
    assert found in line.result
    assert todo in line.todo
    assert looked.n_processes == max(needed, 1)


def test_too_little_memory_is_told_with_what_to_lower(tmp_path):
    looked = context(tmp_path, "1x80g")
    for gb, marks in ((80, {"✓"}), (40, {"✗", "✓"}), (24, {"✗"})):
        looked.__dict__["gpus"] = [Gpu("G", int(gb * 1e9), True)]
        lines = list(preflight.room(looked))
        assert {line.mark for line in lines} == marks
        assert all(f"{gb:.1f} GB there" in line.result for line in lines)
        assert all(line.todo.startswith("too little: ") for line in lines if line.mark == "✗")
    assert [line.result.split(",")[0] for line in lines] == ["sft", "mrsi", "mcr", "answers"]


def test_the_batch_is_that_which_is_stated(tmp_path):
    looked = context(tmp_path, "qwen2.5-vl-7b")
    assert [line.result for line in preflight.batches(looked)] == [
        "sft: 4 processes × 4 × 1 = 16 rows per update",
        "sft-joint: 4 processes × 4 × 1 = 16 rows per update",
        "mrsi: 4 processes × 4 × 1 = 16 rows per update",
        "mcr: 4 processes × 4 × 4 = 64 rows per update: 8 prompts × 8 generations",
    ]
    cvo = PROFILES["qwen2.5-vl-7b"]["cvo"]
    uneven = context(tmp_path, "qwen2.5-vl-7b", cvo={**cvo, "num_generations": 6})
    line = list(preflight.batches(uneven))[-1]
    assert (line.mark, line.todo) == ("✗", "--set cvo.batch_size=60")
    assert "num_generations 6 does not divide" in line.result
    three = preflight.run(context(tmp_path, "nano", n_processes=3))
    assert "batch_size 8 cannot be shared by 3 processes" in next(
        line.result for line in three if line.check == "batch"
    )


def test_a_mistake_in_one_check_leaves_the_others(tmp_path):
    shutil.copytree(REPOSITORY / "data" / "tiny-base", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"cut")
    lines = preflight.run(context(tmp_path, "tiny", backbone=str(tmp_path / "base")))
    assert marked(lines, "✗") == {"backbone"}
    assert {"rows", "pixels"} <= marked(lines, "–")
    assert next(line.result for line in lines if line.check == "rows") == "needs the backbone"
    assert {"data", "batch", "GPU"} <= marked(lines, "✓")


def test_another_family_and_room_for_thoughts_are_told(tmp_path, monkeypatch):
    line = only(preflight.backbone(context(tmp_path, "tiny", family="qwen3-vl")))
    assert (line.mark, line.todo) == ("✗", "--set family=qwen2.5-vl")
    monkeypatch.setattr(
        preflight.cards, "card", lambda name: {"family": "mimo-vl", "sha256": {"a.safetensors": ""}}
    )
    lines = list(preflight.backbone(context(tmp_path, "tiny", family="mimo-vl")))
    assert [line.mark for line in lines] == ["✓", "✗"]
    assert lines[1].result == "mimo-vl always reasons first, base gets 256 tokens"


def test_images_past_the_budget_of_pixels_are_told(tmp_path):
    looked = context(tmp_path, "nano")
    Image.new("RGB", (4000, 40)).save(tmp_path / "thin.png")
    thin = Example(
        "7",
        "demo",
        "train",
        ("Go",),
        (),
        ("PER",),
        images=(str(tmp_path / "thin.png"),),
        image_size_px=(4000, 40),
    )
    looked.__dict__["tweets"] = [*looked.tweets, thin]
    line = only(preflight.pixels(looked))
    # 4000 x 40 has 160,000 pixels, most are 28,224: shrunk 2.381 times it would be 1680 x 16.8; a side has at
    # least one unit of 28
    assert (line.mark, line.todo) == ("✗", "--set max_pixels=47040, or leave the tweet out")
    assert line.result == "the image of tweet 7, 4000 x 40, becomes 1680 x 28, past max_pixels 28,224"


def test_tokens_and_features_that_differ_and_rows_too_long_are_told(tmp_path, monkeypatch):
    looked = context(tmp_path, "nano")
    monkeypatch.setattr(looked.outline.config.get_text_config(), "max_position_embeddings", 50)
    line = next(line for line in preflight.run(looked) if line.check == "rows")
    assert (line.mark, "more than the 50 of the model" in line.result) == ("✗", True)
    monkeypatch.setattr(looked.outline.processor.image_processor, "merge_size", 1)
    line = next(line for line in preflight.run(looked) if line.check == "rows")
    assert re.search(r"\d+ image tokens for \d+ image features", line.result)


def test_versions_outside_the_ranges_are_told(tmp_path, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.0.0" if name == "trl" else real(name))
    line = only(preflight.versions(context(tmp_path)))
    assert (line.mark, line.result) == ("✗", "trl 2.0.0 is not <1.17,>=1.16")
    assert line.todo == "pip install '.[train]' in the clone"


def test_vllm_is_asked_for_where_it_is_to_sample(tmp_path, monkeypatch):
    assert list(preflight.extras(context(tmp_path, "qwen2.5-vl-7b"))) == []
    line = only(preflight.extras(context(tmp_path, "qwen2.5-vl-7b", **{"cvo.use_vllm": True})))
    assert (line.mark, line.check, line.todo) == ("✗", "vllm", "pip install -r requirements-vllm.lock")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.31.0")
    line = only(preflight.extras(context(tmp_path, "qwen2.5-vl-7b", **{"cvo.use_vllm": True})))
    assert (line.mark, line.result) == ("✓", "0.31.0, for use_vllm")


def test_a_full_disk_is_told_before_it_is_full(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    lines = list(preflight.disk(context(tmp_path, "1x80g")))
    assert [line.mark for line in lines] == ["✗", "✗"]
    assert "download of Qwen/Qwen2.5-VL-7B-Instruct, estimated: 16.6 GB; 1.0 GB free" in lines[1].result
    assert (lines[0].todo, lines[1].todo) == ("--out DIR on another disk", "HF_HOME=DIR on another disk")


def test_the_command_says_it_all_and_exits_with_2_on_a_mistake(tmp_path, capsys):
    assert cli.main(["preflight", "--profile", "nano", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(" as it should be\n")
    assert cli.main(["preflight", "--profile", "nano", "--out", str(tmp_path), "--set", "n_processes=5"]) == 2
    said = capsys.readouterr().out
    assert "1 to be mended, 1 that cannot be checked here" in said
    assert "cannot be shared by 5 processes" in " ".join(said.split())


def test_notebooks_show_the_table(tmp_path):
    rows = command.rows(config.load("nano", tmp_path))
    assert {row[""] for row in rows} == {"✓"}
    assert rows[-1]["check"] == "in all"


def test_an_estimate_grows_with_what_it_is_made_of():
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "vocab_size": 50_000}
    shape = memory.Shape.of({**text, "num_attention_heads": 16, "num_key_value_heads": 4}, 10**9)

    def total(**more):
        told = {
            "weights": "bfloat16",
            "lora_rank": 8,
            "gradient_checkpointing": True,
            "batch_size": 16,
            "per_device_batch_size": 4,
        }
        given = {"prompt_tokens": 500, "completion_tokens": 200, "n_processes": 1} | {
            k: more.pop(k) for k in list(more) if "tokens" in k
        }
        return memory.of_stage(shape, memory.CvoOptions(**{**told, **more}), **given).total

    plain = total()
    assert total(prompt_tokens=900) > plain
    assert total(completion_tokens=400) > plain
    assert total(batch_size=32) > plain
    assert total(lora_rank=64) > plain
    assert total(weights="float32") > plain
    assert total(lora_rank=0) > plain
    assert total(quantization="4bit") < plain
    assert total(gradient_checkpointing=False, per_device_batch_size=16) > total(per_device_batch_size=16)


@pytest.fixture
def copy(sample_dir, tmp_path):
    return shutil.copytree(sample_dir, tmp_path / "sample")


def of_sample(copy, tmp_path, **overrides):
    given = {"source": "twitter-gmner", "data_dir": str(copy), "splits": ["train", "dev", "test"]}
    return list(preflight.data(context(tmp_path, "nano", **given, **overrides)))


def test_images_are_opened_as_the_run_will_open_them(copy, tmp_path):
    (copy / "images/300401.jpg").write_text("<html>gone</html>")
    Image.new("RGB", (7, 9)).save(copy / "images/100201.jpg")
    lines = of_sample(copy, tmp_path)
    assert [line.mark for line in lines] == ["✓", "✗"]
    assert lines[1].result == "22 of 24 tweets have one"
    assert "100201.jpg: 7 x 9 pixels, annotated as" in lines[1].todo
    assert lines[1].todo.endswith("; or --set bad_images=skip")
    line = of_sample(copy, tmp_path, bad_images="skip")[1]
    assert (line.mark, line.result.split("; ")[1:]) == ("✓", ["the others are left out (bad_images=skip)"])
    for path in filter(Path.is_file, (copy / "images").iterdir()):
        path.unlink()
    assert of_sample(copy, tmp_path, bad_images="skip")[1].mark == "✗", "training needs them"


def test_data_that_are_not_what_they_claim_and_names_that_no_chain_can_say_are_told(copy, tmp_path):
    path = copy / "Twitter10000_v2.0/txt/dev.txt"
    path.write_text(path.read_text().replace("B-LOC", "B-ORG", 1) + "\nIMGID:9\n</think>\tB-ORG\n")
    lines = of_sample(copy, tmp_path)
    assert [line.mark for line in lines] == ["✓", "✗", "✗", "✓"]
    assert lines[1].result == "not as expected: dev: tweets is 7, expected 6"
    assert "no image of 1 tweet: 9" in lines[2].todo
    assert lines[3].result == "none for 1 tweet: 9, whose names no chain can say"


def test_an_exception_inside_a_check_is_a_line_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setitem(preflight.CHECKS, "data", lambda context: 1 / 0)
    lines = preflight.run(context(tmp_path, "nano"))
    line = next(line for line in lines if line.check == "data")
    assert (line.mark, line.result) == ("✗", "ZeroDivisionError: division by zero")
    assert {"rows", "disk"} <= marked(lines, "✓")
