"""The export for ms-swift: rows and plug-in as its documentation has them, and scripts that are run with a
stand-in for `swift`.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from contrib import ms_swift
from mcr_lib import rewards
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.runs import config
from mcr_lib.study.runs.settings import Study
from mcr_lib.training.options import CvoOptions, SftOptions
from mcr_lib.yardsticks import perfect
from tests.conftest import REPOSITORY

PROFILE = """
source: twitter-gmner
data_dir: {data}
backbone: {backbone}
family: {family}
max_pixels: 200704
n_processes: 2
dtype: bfloat16
settings:
  base: {{}}
  asked: {{start: mrsi, prompt: cot}}
  mrsi: {{stage: sft, styles: [checklist], prompt: mcr}}
  mcr: {{stage: cvo, start: asked, prompt: mcr}}
  full: {{stage: sft, rows: answers, options: {{lora_rank: 0, warmup_steps: 10}}}}
sft: {{per_device_batch_size: 4, bf16: true}}
cvo: {{per_device_batch_size: 8, sigma: 0.4, entropy_coef: 0.5}}
"""

DOCUMENTED = """
    model use_hf model_type template dataset external_plugins output_dir add_version eval_strategy
    save_total_limit logging_steps per_device_train_batch_size gradient_accumulation_steps
    num_train_epochs max_steps learning_rate lr_scheduler_type weight_decay adam_beta1 adam_beta2
    adam_epsilon max_grad_norm optim seed gradient_checkpointing save_steps max_length num_generations
    max_completion_length temperature top_p top_k min_p repetition_penalty beta num_iterations epsilon
    epsilon_high delta importance_sampling_level top_entropy_quantile sync_ref_model warmup_ratio
    tuner_type lora_rank lora_alpha lora_dropout target_regex freeze_vit freeze_aligner torch_dtype
    quant_method quant_bits enable_dft_loss loss_type advantage_estimator kl_in_reward scale_rewards
    dataset_shuffle overlong_filter reward_funcs reward_weights log_completions use_vllm vllm_mode
    vllm_server_base_url vllm_server_group_port vllm_server_timeout rollout_importance_sampling_mode
    rollout_importance_sampling_threshold
    rlhf_type adapters ref_adapters merge_lora""".split()  # noqa: SIM905
"""Flags that stand in ms-swift's page of command-line parameters, read at version 4.6."""
OF_TRANSFORMERS = {"bf16", "fp16", "warmup_steps"}
"""Flags that it takes over from transformers' training arguments, as that page says of all of them."""


@pytest.fixture(scope="module")
def exported(sample_dir, tmp_path_factory):
    """Every setting of a small profile for Qwen2.5-VL-7B, exported from the sample's 24 tweets; nothing of
    the model is here.
    """
    root = tmp_path_factory.mktemp("swift")
    study = opened(root, sample_dir)
    return root / "out", ms_swift.export(study, root / "out")


def opened(root, sample_dir, family="qwen2.5-vl", backbone="Qwen/Qwen2.5-VL-7B-Instruct", **overrides):
    (root / "p.yaml").write_text(PROFILE.format(data=sample_dir, family=family, backbone=backbone))
    return Study(config.load(str(root / "p.yaml"), root / "run", overrides))


def rows_of(out, name):
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().split("\n") if line]


def test_what_is_written_is_told_in_the_order_of_use(exported):
    out, paths = exported
    assert [path.name for path in paths] == [
        "mrsi.jsonl",
        "mrsi.sh",
        "mcr.jsonl",
        "rewards_mcr.py",
        "filter_mcr.py",
        "mcr.sh",
        "full.jsonl",
        "full.sh",
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in paths)


@pytest.mark.parametrize(
    ("name", "roles"), [("mrsi", ["system", "user", "assistant"]), ("mcr", ["system", "user"])]
)
def test_rows_have_the_documented_form(exported, name, roles):
    rows = rows_of(exported[0], name)
    assert len(rows) > 1
    for row in rows:
        assert [message["role"] for message in row["messages"]] == roles
        assert all(
            set(message) == {"role", "content"} and isinstance(message["content"], str)
            for message in row["messages"]
        )
        assert (
            "".join(message["content"] for message in row["messages"]).count("<image>")
            == len(row["images"])
            == 1
        )
        assert row["messages"][1]["content"].startswith("<image>")
        assert all(os.path.isabs(path) and os.path.isfile(path) for path in row["images"])  # noqa: PTH113, PTH117
        assert set(row) - {"messages", "images"} == (
            {"gold", "model_size", "family"} if name == "mcr" else set()
        )


def test_boxes_are_written_as_the_family_speaks(exported, sample_dir, tmp_path):
    """A chain's answer earns the maximum against its gold in the family's space, and not in another."""
    wide = ms_swift.export(
        opened(tmp_path, sample_dir, "qwen3-vl", "Qwen/Qwen3-VL-8B-Instruct", d1_share=1),
        tmp_path / "o",
        "mrsi",
    )
    narrow = ms_swift.export(opened(tmp_path, sample_dir, d1_share=1), tmp_path / "n", "mrsi")
    study = opened(tmp_path, sample_dir, d1_share=1)
    gold_of = {str(os.path.realpath(example.images[0])): example for example in study.examples("train")}
    n_boxes = 0
    for path, space, other in ((wide[0], "norm1000", "model_px"), (narrow[0], "model_px", "norm1000")):
        for row in map(json.loads, path.read_text().splitlines()):
            example = gold_of[row["images"][0]]
            parsed = parse_answer(row["messages"][-1]["content"], labels=example.labels)
            size = ms_swift.mrsi.Target("qwen2.5-vl", 56 * 56, 200704, "full").size(example)
            scores = [
                rewards.rewards(
                    parsed, rewards.written_gold(example, each, model_size=size), sigma=0.9
                ).grounding
                for each in (space, other)
            ]
            n_boxes += any(entity.is_groundable for entity in example.entities)
            assert scores[0] == 1
            assert scores[1] < 1 or not any(entity.is_groundable for entity in example.entities)
    assert n_boxes > 5


@pytest.fixture(params=["swift.rewards", "swift.plugin"])
def stand_in(request, monkeypatch):
    """ms-swift's documented plug-in interface, of version 4 and of 3."""

    class ORM:
        def __init__(self, args=None, **kwargs):
            self.args = args

        def __call__(self, **kwargs):
            raise NotImplementedError

    module = ModuleType(request.param)
    module.ORM, module.orms = ORM, {}
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def test_the_plug_in_registers_five_rewards_that_are_those_of_training(exported, stand_in):
    out, _ = exported
    runpy.run_path(str(out / "rewards_mcr.py"))
    assert list(stand_in.orms) == ["mcr_count", "mcr_span", "mcr_type", "mcr_grounding", "mcr_entailment"]
    rows = rows_of(out, "mcr")
    columns = {key: [row[key] for row in rows] for key in ("gold", "model_size", "family")}
    written = [
        rewards.written_gold(
            Example.from_row(json.loads(row["gold"])), "model_px", model_size=tuple(row["model_size"])
        )
        for row in rows
    ]
    right = [write_answer(perfect(gold)) for gold in written]
    for name, kind in stand_in.orms.items():
        assert issubclass(kind, stand_in.ORM)
        assert kind.__name__ == name
        reward = kind(args=None)
        assert reward(right, **columns, messages=[], trainer_state=None) == [1.0] * len(rows)
        assert reward(["no answer"] * len(rows), **columns) == [0.0] * len(rows)
    assert 'kind="paper", sigma=0.4' in (out / "rewards_mcr.py").read_text()


def flags_of(arguments):
    found, key = {}, None
    for word in arguments:
        if word.startswith("--"):
            key = word[2:]
            found[key] = []
        elif key:
            found[key].append(word)
    return {key: " ".join(words) for key, words in found.items()}


def run_script(out, name, *more, **environment):
    """What `swift` is called with, a list per call; it leaves two checkpoints."""
    bin_ = out.parent / "bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "swift").write_text(
        "#!/usr/bin/env bash\nmkdir -p output/{mrsi,mcr,full}/checkpoint-{2,10}\n"
        'printf "%s\\n" "$@" "pixels=$MIN_PIXELS,$MAX_PIXELS" "--"\n'
    )
    (bin_ / "swift").chmod(0o755)
    paths = {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    environment = {**os.environ, **paths, **environment}
    done = subprocess.run([out / f"{name}.sh", *more], capture_output=True, text=True, env=environment)
    return done, [call.strip("\n").split("\n") for call in done.stdout.split("--\n") if call]


def test_scripts_call_swift_with_documented_flags_and_hand_over(exported):
    out, _ = exported
    done, (trained, merged) = run_script(out, "mrsi", "--report_to", "none")
    assert (done.returncode, done.stderr) == (0, "")
    assert trained[:1] == ["sft"]
    assert trained[-1] == "pixels=3136,200704"
    found = flags_of(trained[:-1])
    assert found.pop("report_to") == "none"
    assert set(found) <= {*DOCUMENTED, *OF_TRANSFORMERS}
    expected = {
        "model": "Qwen/Qwen2.5-VL-7B-Instruct", "use_hf": "true", "model_type": "qwen2_5_vl",
        "dataset": "mrsi.jsonl", "tuner_type": "lora",
        "lora_rank": "8", "num_train_epochs": "2", "per_device_train_batch_size": "4",
        "gradient_accumulation_steps": "2",
        "torch_dtype": "bfloat16", "warmup_ratio": "0", "learning_rate": "0.0001",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["target_regex"].startswith(r"^.*language_model\.layers\.\d+\.(self_attn")
    assert (out / "output" / "mrsi-adapter").resolve() == (
        out / "output" / "mrsi" / "checkpoint-10"
    ).resolve()
    assert merged[:-1] == [
        "export",
        "--adapters",
        "output/mrsi/checkpoint-10",
        "--merge_lora",
        "true",
        "--output_dir",
        "output/mrsi-model",
    ]


def answers_to(row, k):
    """To the first row perfect answers alone; to others three perfect ones and five made-up names."""
    size = tuple(row["model_size"])
    gold = rewards.written_gold(Example.from_row(json.loads(row["gold"])), "model_px", model_size=size)
    invented = [PredictedEntity("Nobody Atall", "PER")]
    return [write_answer(perfect(gold) if k == 0 or n < 3 else invented) for n in range(8)]


@pytest.fixture(scope="module")
def sampled(exported):
    """What `swift sample` would leave: a row per answer, the answer as its last message."""
    rows = rows_of(exported[0], "mcr")
    lines = [
        {"messages": [*row["messages"], {"role": "assistant", "content": text}], "images": row["images"]}
        for k, row in enumerate(rows[:-1])
        for text in answers_to(row, k)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (exported[0] / "samples_mcr.jsonl").write_text(text)
    return rows


def test_the_filter_of_d2_runs_on_what_swift_samples_before_the_training(exported, sampled):
    """A made-up name earns .3 · R_c: .3 beside one gold entity, .15 beside two, 0 beside none; perfect 1.4.

    The median is that of the five made-up ones: kept within [.08, .6]. The first row has no spread, the last
    no answers.
    """
    done, (asked, trained, _) = run_script(exported[0], "mcr")
    assert done.returncode == 0, done.stderr
    assert asked[0] == "sample"
    flags = flags_of(asked[:-1])
    expected = {"num_return_sequences": "8", "temperature": "1.5", "top_k": "200", "top_p": "0.95"}
    assert {key: flags[key] for key in expected} == expected
    assert (flags["dataset"], flags["adapters"]) == ("mcr.jsonl", "output/mrsi-adapter")
    n_entities = [len(json.loads(row["gold"])["entities"]) for row in sampled]
    assert rows_of(exported[0], "mcr_kept") == [
        row for row, n in zip(sampled[1:-1], n_entities[1:-1], strict=True) if n
    ]
    assert "1 too even" in done.stderr
    assert "1 without answers" in done.stderr
    assert flags_of(trained[:-1])["dataset"] == "mcr_kept.jsonl"


def test_a_filter_that_keeps_nothing_stops_the_script_with_the_counts(exported, sampled, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    command = [
        sys.executable,
        exported[0] / "filter_mcr.py",
        exported[0] / "mcr.jsonl",
        tmp_path / "none.jsonl",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{len(sampled)} without answers\nthe filter of D2 keeps no row" in done.stderr


def test_grpo_starts_from_what_sft_left_with_rewards_and_their_weights(exported, sampled):
    *_, trained, _ = run_script(exported[0], "mcr")[1]
    assert trained[:3] == ["rlhf", "--rlhf_type", "grpo"]
    found = flags_of(trained[:-1])
    assert set(found) <= {*DOCUMENTED, *OF_TRANSFORMERS}
    assert (found["model"], found["use_hf"]) == ("Qwen/Qwen2.5-VL-7B-Instruct", "true")
    assert (
        found["adapters"] == found["ref_adapters"] == "output/mrsi-adapter"
    )  # `asked`, in between, trains nothing
    assert found["external_plugins"] == "rewards_mcr.py"
    assert found["reward_funcs"] == "mcr_count mcr_span mcr_type mcr_grounding mcr_entailment"
    expected = {
        "reward_weights": "0.3 0.3 0.3 0.3 0.2",
        "num_generations": "8",
        "beta": "0.005",
        "loss_type": "grpo",
        "learning_rate": "5e-06",
        "top_k": "200",
        "top_p": "0.95",
        "temperature": "1.5",
        "epsilon": "0.15",
        "epsilon_high": "0.25",
    }
    assert {key: found[key] for key in expected} == expected
    assert found["gradient_accumulation_steps"] == "4"  # 64 answers, 2 processes of 8
    assert (
        "# Not carried over: entropy_coef=0.5 (it adds no entropy term)\n"
        in (exported[0] / "mcr.sh").read_text()
    )


def test_paths_with_blanks_and_quotes_reach_swift_whole(sample_dir, nano_folder, tmp_path):
    folder = tmp_path / "a model's $(folder)"
    shutil.copytree(nano_folder, folder / "the base")
    study = opened(folder, sample_dir, backbone=str(folder / "the base"))
    ms_swift.export(study, folder / "out", "mcr")
    done, (trained, _) = run_script(folder / "out", "mrsi")
    assert (done.returncode, done.stderr) == (0, "")
    assert trained[trained.index("--model") + 1] == str(folder / "the base")
    _, (sampled, *_) = run_script(folder / "out", "mcr")
    assert sampled[sampled.index("--model") + 1] == str(folder / "the base")


def test_full_fine_tuning_freezes_the_vision_tower_and_hands_its_checkpoint_over(exported):
    out, _ = exported
    _, calls = run_script(out, "full")
    found = flags_of(calls[0][:-1])
    assert (found["tuner_type"], found["freeze_vit"], found["warmup_steps"], len(calls)) == (
        "full",
        "true",
        "10",
        1,
    )
    assert (out / "output" / "full-model").resolve() == (out / "output" / "full" / "checkpoint-10").resolve()


def test_a_batch_that_processes_cannot_share_is_one_sentence(exported):
    done, calls = run_script(exported[0], "mrsi", NPROC_PER_NODE="3")
    assert (done.returncode, calls) == (2, [])
    assert done.stderr == "3 processes of 4 rows do not make up a batch of 16\n"


def test_every_option_is_carried_translated_or_told():
    known = [*ms_swift.SAME, *ms_swift.TRANSLATED, *ms_swift.NOT_CARRIED]
    assert len(known) == len(set(known))
    assert set(known) == set(SftOptions.model_fields) | set(CvoOptions.model_fields)


def test_quantized_dft_and_separately_scaled_rewards_have_flags():
    found = dict(ms_swift.flags(SftOptions(quantization="4bit", loss_type="dft", max_steps=5), "qwen3-vl"))
    assert (found["quant_method"], found["quant_bits"], found["enable_dft_loss"], found["max_steps"]) == (
        "bnb",
        "4",
        "true",
        "5",
    )
    found = dict(
        ms_swift.flags(CvoOptions(multi_objective_aggregation="normalize_then_sum", top_k=20), "qwen3-vl")
    )
    assert (found["scale_rewards"], found["top_k"]) == ("gdpo", "20")
    found = dict(ms_swift.flags(CvoOptions(use_vllm=True, vllm_server_host="node7"), "qwen3-vl"))
    assert (found["vllm_mode"], found["vllm_server_base_url"]) == ("server", "http://node7:8000")
    assert (found["rollout_importance_sampling_mode"], found["rollout_importance_sampling_threshold"]) == (
        "sequence_mask",
        "3",
    )
    assert set(found) <= {*DOCUMENTED, *OF_TRANSFORMERS}


def test_what_cannot_be_exported_is_one_sentence(sample_dir, tmp_path, capsys):
    study = opened(tmp_path, sample_dir)
    with pytest.raises(UserError, match="nothing to export: base trains no model"):
        ms_swift.export(study, tmp_path / "o", "base")
    with pytest.raises(
        UserError, match="setting mcr has no tweet to train on; its tweets are those of d2 that have an image"
    ):
        ms_swift.export(opened(tmp_path, sample_dir, d1_share=1), tmp_path / "o", "mcr")
    with pytest.raises(
        UserError,
        match="family glm-4.5v has no counterpart in ms-swift that is known here; choose one of qwen2.5-vl",
    ):
        ms_swift.export(opened(tmp_path, sample_dir, "glm-4.5v", "some/model"), tmp_path / "o")
    row = {
        "id": "7",
        "images": [],
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "an <image> of"}]}],
    }
    with pytest.raises(
        UserError, match="tweet 7 holds '<image>', which ms-swift would take for a placeholder"
    ):
        ms_swift.swift_row(row)
    assert ms_swift.main(["--out", str(tmp_path)]) == 2
    assert ms_swift.main(["--run", str(tmp_path), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "nothing to export; give --profile NAME, or --run DIR with the folder of a run" in told
    assert "holds no profile.yaml, so no run was made there; give --profile NAME too" in told


def test_the_command_exports_a_run_from_its_own_profile(sample_dir, tmp_path, capsys):
    study = opened(tmp_path, sample_dir)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "profile.yaml").write_text(config.as_yaml(study.loaded))
    assert (
        ms_swift.main(
            [
                "--run",
                str(tmp_path / "run"),
                "--setting",
                "mrsi",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "out" / name) for name in ("mrsi.jsonl", "mrsi.sh")
    ]
