"""Profile nano: chance weights, eight tweets, every stage. Stopped, killed, resumed, in two processes;
numbers must not notice.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from mcr_lib.answer import parse_answer
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.study.commands import cli
from mcr_lib.study.runs import config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import backbones, d2_filter, loop, parts
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.nano, pytest.mark.slow]

LINE = ("sft", "mcr", "sft-lora", "mcr-lora")
"""SFT and CVO, full and LoRA, each from the one before."""

WAIT_S = 240
"""The longest that a test waits for a process: on a busy machine torch alone takes a minute to load."""


def study(folder, **overrides):
    return Study(config.load("nano", folder, overrides))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run folder in which all four were trained in this process, without a stop."""
    made = study(tmp_path_factory.mktemp("unbroken"))
    made.train("mcr-lora")
    return made


def log(run, name):
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in loop.read_log(run.setting(name))
    ]


def judged(run, name):
    rows = read_jsonl(run.setting(name) / "filter.jsonl", kind="filter")[1]
    return [{key: value for key, value in row.items() if key != "seconds"} for _, row in rows]


def start(arguments, folder):
    """`mcr ...` as a process of its own, forked from one that has imported everything; what it says goes into
    a file.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mcr_lib.training.sft", "mcr_lib.training.cvo", "mcr_lib.study.runs.settings"]
    )
    process = context.Process(
        target=command, args=([str(argument) for argument in arguments], str(folder / "said"))
    )
    process.start()
    return process


def command(arguments, said):
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell that runs the tests in the background has it ignored
    sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: PTH123, SIM115
    sys.exit(cli.main(arguments))


def wait_for(process, path, n_lines):
    """Until a log has so many rows beside its header."""
    deadline = time.monotonic() + WAIT_S
    while not path.is_file() or path.read_text().count("\n") <= n_lines:
        assert process.is_running() if isinstance(process, psutil.Process) else process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


STOPS = (
    ("sft", 13, signal.SIGKILL),
    ("mcr", 1, signal.SIGKILL, "filter.jsonl.part"),
    ("mcr", 3, signal.SIGKILL),
    ("sft-lora", 1, signal.SIGINT),
    ("sft-lora", 3, signal.SIGKILL),
    ("mcr-lora", 1, signal.SIGKILL),
)
"""In which setting, after how many rows of its log, or of another file, and how."""


def test_a_run_that_is_killed_in_every_stage_ends_as_one_that_is_not(unbroken, tmp_path):
    run = RunFolder(tmp_path / "run")
    arguments = ("cvo", "--profile", "nano", "--setting", "mcr-lora", "--out", run.path)
    for name, n_rows, how, *file in STOPS:
        process = start(arguments, tmp_path)
        wait_for(process, run.setting(name) / (file or ["log.jsonl"])[0], n_rows)
        if name == "sft":
            with pytest.raises(UserError, match=f"in use by process {process.pid}"), run.locked():
                pass
        os.kill(process.pid, how)
        process.join(60)
        assert process.exitcode == (130 if how == signal.SIGINT else -signal.SIGKILL), (
            tmp_path / "said"
        ).read_text()
        assert json.loads((run.setting(name) / "fingerprint.json").read_text())["status"] == "begun"
        assert not (run.setting(name) / "model").exists()
        before = LINE[: LINE.index(name)]
        assert all(
            json.loads((run.setting(done) / "fingerprint.json").read_text())["status"] == "done"
            for done in before
        )
    process = start(arguments, tmp_path)
    process.join(100)
    assert process.exitcode == 0
    assert "mcr-lora: 4 updates" in (tmp_path / "said").read_text()
    for name in LINE:
        assert log(run, name) == log(unbroken.run, name), name
        weights = "adapter_model.safetensors" if "lora" in name else "model.safetensors"
        files = [f"model/{weights}", *(["rollouts.parquet"] if "mcr" in name else [])]
        assert [(run.setting(name) / f).read_bytes() for f in files] == [
            (unbroken.run.setting(name) / f).read_bytes() for f in files
        ]
        if "mcr" in name:
            assert judged(run, name) == judged(unbroken.run, name)


def test_a_stage_on_an_adapter_goes_on_as_if_it_had_not_stopped(unbroken, tmp_path):
    made = with_again(unbroken, tmp_path / "a")
    made.train("again")
    model, whole = made.run.setting("again"), log(made.run, "again")
    weights = (model / "model" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(model / "model")
    shutil.rmtree(model / "checkpoints" / "checkpoint-2")
    facts = json.loads((model / "fingerprint.json").read_text())
    (model / "fingerprint.json").write_text(json.dumps({**facts, "status": "begun"}))
    told = []
    resumed = Study(made.loaded, lambda what, done, of, figures: told.append(done))
    resumed.train("again")
    assert told == [2]
    assert log(made.run, "again") == whole
    assert (model / "model" / "adapter_model.safetensors").read_bytes() == weights
    tokenizer = (model / "model" / "tokenizer.json").read_bytes()
    shutil.rmtree(model / "model")
    (model / "fingerprint.json").write_text(json.dumps({**facts, "status": "begun"}))
    Study(made.loaded).train("again")  # killed after the last update: nothing is left to be padded
    assert (model / "model" / "tokenizer.json").read_bytes() == tokenizer
    card = (model / "model" / "README.md").read_text()
    assert "| stage | sft on answers, from sft-lora |" in card
    assert "| lora_rank | 4 | setting again |" in card
    assert "| boxes in | model_px |" in card
    assert "| scored by | `scorer=definition" in card


def test_rollouts_of_a_run_that_was_killed_after_its_last_update_are_complete(unbroken, tmp_path):
    shutil.copytree(unbroken.run.path, tmp_path / "run")
    made = study(tmp_path / "run")
    model = made.run.setting("mcr")
    whole = (model / "rollouts.parquet").read_bytes()
    facts = json.loads((model / "fingerprint.json").read_text())
    (model / "fingerprint.json").write_text(json.dumps({**facts, "status": "begun"}))
    made.train("mcr")
    assert (model / "rollouts.parquet").read_bytes() == whole


def with_again(unbroken, folder):
    """A run with a further setting, in which the adapter of another one is trained further."""
    shutil.copytree(unbroken.run.path, folder)
    settings = {name: setting.model_dump(mode="json") for name, setting in unbroken.settings.items()}
    options = {"lora_rank": 4, "max_steps": 2, "save_steps": 1}
    again = {"stage": "sft", "start": "sft-lora", "rows": "answers", "options": options}
    return study(folder, settings={**settings, "again": again})


def of_rank(rank):
    """The process of a rank below this one."""
    below = psutil.Process().children(recursive=True)
    return next(one for one in below if one.environ().get("RANK") == str(rank) and "mcr_lib" in one.cmdline())


def launch_two(arguments, log):
    """`mcr ...` in two processes by torchrun; their output goes into a file."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mcr_lib"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command, how = [sys.executable, *torchrun, *arguments], {"cwd": REPOSITORY, "env": environment}
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **how)


@pytest.mark.server
def test_two_processes_train_and_answer_as_one_and_go_on_after_the_death_of_one(unbroken, tmp_path):
    # accelerate launch --cpu would start one process without a word
    given = {"sft.max_steps": 8, "cvo.max_steps": 1, "cvo.check_groups": 0, "n_processes": 2}
    given |= {"answer_batch_size": 2, "answer_temperature": 0.7}
    made, run, log_file = study(tmp_path / "run", **given), RunFolder(tmp_path / "run"), tmp_path / "said"
    command = "torchrun --nproc_per_node 2 -m mcr_lib {} --setting mcr{} --profile nano --set 'sft="
    with pytest.raises(UserError, match=re.escape(command.format("cvo", ""))):
        made.train("mcr")
    with pytest.raises(UserError, match=re.escape(command.format("generate", " --split test"))):
        made.answer("mcr")
    options = ["--setting", "mcr", "--profile", "nano", "--out", str(run.path)]
    options += [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
    process = launch_two(["cvo", *options], log_file)
    wait_for(psutil.Process(process.pid), run.setting("sft") / "log.jsonl", 5)
    of_rank(1).kill()
    assert process.wait(60) != 0, "the others end soon after"
    assert not [one for one in psutil.Process().children(recursive=True) if "RANK" in one.environ()]
    assert launch_two(["cvo", *options], log_file).wait(WAIT_S) == 0, log_file.read_text()
    updates = [line for line in log_file.read_text().splitlines() if line.startswith("sft: sft ")]
    assert updates[0].startswith("sft: sft 4 of 8"), "it went on from the checkpoint after 3 updates"
    assert launch_two(["generate", "--split", "test", *options], log_file).wait(WAIT_S) == 0
    facts = [made.record(name) for name in ("sft", "mcr")]
    assert [fact["n_processes"] for fact in facts] == [2, 2]
    assert len(log(run, "sft")) == 8
    for found, expected in zip(log(run, "sft"), log(unbroken.run, "sft"), strict=False):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], abs=1e-4)
    (row,) = log(run, "mcr")
    assert row["n_steps"] == 1
    import pyarrow.parquet as pq

    rows = pq.read_table(run.setting("mcr") / "rollouts.parquet").to_pylist()
    assert len(rows) == 16
    assert all(len({r["id"] for r in rows if r["group"] == group}) == 1 for group in range(4))
    options, _ = made.options("mcr")
    start = str(run.setting("sft") / "model")
    how = {"prompt": "direct", "start": start}
    alone = RunFolder(tmp_path / "alone")
    alone.setting("mcr").mkdir(parents=True)
    loaded = backbones.load(start, device="cpu")
    d2_filter.kept(loaded, made.rows("mcr"), alone.setting("mcr"), options, **how)
    assert judged(run, "mcr") == judged(alone, "mcr")
    both, examples = made.answer("mcr"), made.examples("test")
    one = made.answer("mcr", examples=examples, stem="mcr.test.one")
    assert both.read_bytes() == one.read_bytes()
    assert [row.id for row in read_predictions(both)[1]] == [example.id for example in examples]


def test_what_is_there_is_not_trained_again_until_it_would_come_out_differently(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken.run.path, folder)
    same = study(folder, sft={**unbroken.config.sft, "save_steps": 7, "per_device_batch_size": 4})
    assert [same.is_done(name) for name in ("base", *LINE)] == [True] * 5
    assert same.train("mcr-lora") == unbroken.record("mcr-lora")
    for change in ({"sft": {**unbroken.config.sft, "learning_rate": 1e-3}}, {"seed": 1}, {"testbed_seed": 1}):
        other = study(folder if "seed" not in change else tmp_path / "other", **change)
        assert not any(other.is_done(name) for name in LINE), change
    changed = study(folder, cvo={**unbroken.config.cvo, "beta": 0.1})
    assert [changed.is_done(name) for name in LINE] == [True, False, False, False]


def test_a_setting_made_from_the_very_same_is_linked_not_trained(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken.run.path, folder)
    dumped = {name: setting.model_dump(mode="json") for name, setting in unbroken.settings.items()}
    twice = study(folder, settings={**dumped, "again": dumped["sft"]})
    facts = twice.train("again")
    assert facts["fingerprint"] == twice.record("sft")["fingerprint"]
    ours, theirs = (twice.run.setting(name) / "model" / "model.safetensors" for name in ("again", "sft"))
    assert ours.stat().st_ino == theirs.stat().st_ino


def test_a_setting_takes_what_the_filter_of_another_one_kept(unbroken, tmp_path):
    """The filter of another threshold keeps some of the eight rows, and the gold of these is trained on."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken.run.path, folder)
    dumped = {name: setting.model_dump(mode="json") for name, setting in unbroken.settings.items()}
    totals = {row["id"]: max(row["R"]) for row in judged(unbroken.run, "mcr")}
    least = sorted(totals.values())[4]  # five to eight rows reach it
    of_picky = {"filter_max": least, "max_steps": 1}
    picky = {"stage": "cvo", "start": "sft", "data": "train", "options": of_picky}
    gold = {"stage": "sft", "start": "sft", "rows": "answers", "kept_by": "picky", "data": "train"}
    gold["options"] = {"max_steps": 1}
    other = study(folder, settings={**dumped, "picky": picky, "gold": gold})
    assert (other["gold"].part, len(other.rows("gold"))) == ("train", 8)  # nothing is known of them yet
    facts = other.train("gold")
    kept = {id for id, total in totals.items() if total >= least}
    assert other.is_done("picky")
    assert {e.id for e in other.tweets("gold")} == {row["id"] for row in other.rows("gold")} == kept
    assert facts["n_rows"] == len(kept)


def test_a_setting_is_asked_for_a_style_of_its_own_at_test(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken.run.path, folder)
    dumped = {name: setting.model_dump(mode="json") for name, setting in unbroken.settings.items()}
    formal = {"start": "mcr", "prompt": "mcr", "test_style": "formal"}
    other = study(folder, settings={**dumped, "usual": {**formal, "test_style": None}, "formal": formal})
    usual, asked = (read_predictions(other.answer(name))[0] for name in ("usual", "formal"))
    assert (usual["style"], asked["style"]) == ("terse", "formal")
    assert (usual["model"], usual["prompt_version"]) == (asked["model"], asked["prompt_version"])
    styled = study(folder, settings=dumped | {"mcr": {**dumped["mcr"], "test_style": "formal"}})
    assert styled.is_done("mcr")  # the model is the same
    assert not styled.is_answered("mcr")


def test_what_a_setting_was_made_from_and_with_is_told(unbroken):
    facts = unbroken.record("mcr")
    options = {row["option"]: row for row in facts["options"]}
    assert (options["num_iterations"]["value"], options["num_iterations"]["origin"]) == (1, "ms-swift")
    assert (options["batch_size"]["value"], options["batch_size"]["origin"]) == (16, "profile")
    assert {row["option"]: row for row in unbroken.record("mcr-lora")["options"]}["lora_rank"][
        "origin"
    ] == "setting mcr-lora"
    assert (facts["n_steps"], facts["n_rows"], facts["checks"]["gold_answers"]) == (4, 8, 8)
    checks = json.loads((unbroken.run.setting("mcr") / "checks.json").read_text())
    assert checks["equal_groups"] < checks["groups_sampled"] == 4
    assert (checks["filter_rows"], checks["filter_kept"]) == (8, 8)
    assert facts["peak_memory_mb"] > 100


def test_curves_and_rollouts_tell_the_same_story(unbroken):
    import pyarrow.parquet as pq

    rows = pq.read_table(unbroken.run.setting("mcr") / "rollouts.parquet").to_pylist()
    curves = log(unbroken.run, "mcr")
    labels, names = ("PER", "LOC", "ORG", "OTHER"), ("count", "span", "type", "grounding", "entailment")
    assert len(rows) == 16 * len(curves) == 64
    for curve in curves:
        step = [row for row in rows if row["step"] == curve["step"]]
        groups = [[row["reward"] for row in step if row["group"] == k] for k in range(4)]
        assert curve["reward"] == pytest.approx(sum(map(sum, groups)) / 16, abs=1e-5)
        assert curve["equal_groups"] == sum(len(set(group)) == 1 for group in groups) / 4
        assert curve["length"] == pytest.approx(sum(row["n_tokens"] for row in step) / 16)
        for name in names:
            assert curve[f"{name}_mean"] == pytest.approx(sum(row[name] for row in step) / 16, abs=1e-5)
    for row in rows:
        assert row["worthless"] == (parse_answer(row["answer"], labels=labels).reason or "")
        assert row["reward"] == pytest.approx(
            0.3 * sum(row[name] for name in names[:4]) + 0.2 * row[names[4]]
        )
        group = [
            other["reward"]
            for other in rows
            if (other["step"], other["group"]) == (row["step"], row["group"])
        ]
        mean = sum(group) / 4
        spread = (sum((value - mean) ** 2 for value in group) / 3) ** 0.5
        assert row["advantage"] == pytest.approx((row["reward"] - mean) / (spread + 1e-4), abs=1e-3)
    assert max(row["reward"] for row in rows) == pytest.approx(1.4), (
        "nothing to learn from: the test shows nothing"
    )
    assert log(unbroken.run, "sft")[-1]["loss"] < 1 < log(unbroken.run, "sft")[0]["loss"]


def test_answers_are_made_once_and_go_on_where_they_stopped(unbroken, tmp_path):
    asked = study(unbroken.run.path, answer_batch_size=2, answer_temperature=0.7)
    path = asked.answer("mcr", "test")
    header, rows = read_predictions(path)
    assert [row.id for row in rows] == [example.id for example in asked.examples("test")]
    assert (header["setting"], header["prompt"], header["split"]) == ("mcr", "direct", "test")
    whole, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert asked.answer("mcr", "test").stat().st_mtime_ns == stamp
    lines = whole.decode().splitlines()
    by_id = {json.loads(line)["id"]: parts.sealed(json.loads(line)) for line in lines[1:]}
    longest = sorted(asked.examples("test"), key=lambda e: -len(e.text))
    path.unlink()
    head, part = parts.sealed(json.loads(lines[0])), path.with_name(path.name + ".part")
    part.write_bytes(head + b"".join(by_id[e.id] for e in longest[:3]) + by_id[longest[3].id][:20])
    assert asked.answer("mcr", "test").read_bytes() == whole
    assert (
        study(unbroken.run.path, answer_batch_size=2, max_new_tokens=5).answer("mcr", "test").read_bytes()
        != whole
    )


def test_worked_examples_bring_their_images_before_the_tweets_own(unbroken):
    dumped = {name: setting.model_dump(mode="json") for name, setting in unbroken.settings.items()}
    asked = study(
        unbroken.run.path,
        settings={**dumped, "shots": {"prompt": "cot-3shot"}},
        answer_batch_size=4,
        max_new_tokens=3,
    )
    header, rows = read_predictions(asked.answer("shots", "test"))
    assert len(header["shots"]) == 3
    by_id = {example.id: example for example in asked.examples("test")}
    for row in rows:
        assert row.model_size == asked.target.size(by_id[row.id])
        assert row.image_size_px == by_id[row.id].image_size_px


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"settings": {"a": {"start": "b"}}}, "setting a starts from 'b', which is none"),
        ({"settings": {"a": {"stage": "rlhf"}}}, "overrides: settings.a.stage is 'rlhf'"),
        (
            {"settings": {"a": {"prompt": "cot", "stages": 1}}},
            "settings.a.stages is 1: extra inputs are not permitted",
        ),
        ({"settings": {"../a": {}}}, "settings"),
        ({"settings": {"a": {"stage": "sft", "options": {"sgima": 1}}}}, "unknown option 'sgima' of sft"),
        ({"settings": {"a": {"options": {"beta": 1}}}}, "setting a has options and no stage"),
        (
            {"settings": {"a": {"stage": "sft", "prompt": "cot-3shot"}}},
            "cot-3shot, which is a prompt for models as they are",
        ),
        (
            {"settings": {"a": {"stage": "sft"}, "b": {"stage": "sft", "kept_by": "a"}}},
            "setting b: kept_by is 'a', and should be a setting of cvo, whose filter chooses; choose none",
        ),
        ({"settings": {"a": {"test_style": "sonnet"}}}, "unknown style 'sonnet'"),
        ({"cvo": {"num_generations": 1}}, "num_generations of cvo is 1"),
        ({"sft": {"learning_rate": "fast"}}, "learning_rate of sft is 'fast'"),
    ],
)  # fmt: skip
def test_a_mistake_in_settings_is_told_before_anything_runs(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as raised:
        study(tmp_path, **overrides)
    assert "\n" not in str(raised.value)


def test_a_folder_or_a_model_that_is_not_what_it_was_is_told(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(unbroken.run.path, folder)
    made = study(folder)
    with pytest.raises(UserError, match="unknown setting 'mrc'; this run has base, sft"):
        made.train("mrc")
    with pytest.raises(UserError, match="no split 'tset' in this run"):
        made.answer("sft", "tset")
    weights = folder / "settings" / "sft" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    shutil.rmtree(folder / "settings" / "mcr")
    with pytest.raises(UserError, match="model.safetensors is not the file that was saved"):
        made.train("mcr")
    with pytest.raises(UserError, match="is no backbone: backbone.json is not there"):
        study(folder, backbone="no/such/folder").fingerprint("sft")
    facts = folder / "settings" / "sft" / "fingerprint.json"
    facts.write_text(facts.read_text().replace('"format_version": 2', '"format_version": 99'))
    with pytest.raises(UserError, match="not of this release"):
        made.train("sft")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(UserError, match="no room in .* MB needed, 0 MB free"):
        loop._check_room(tmp_path, backbones.load(unbroken.backbone).model)


def test_a_disk_that_fills_up_on_the_way_is_told_and_a_bug_is_not_taken_for_it(
    unbroken, tmp_path, monkeypatch
):
    from transformers import Trainer

    def fails(*arguments, **options):
        raise RuntimeError("PytorchStreamWriter failed writing file data/7")

    made = study(tmp_path)
    made.examples("train")
    monkeypatch.setattr(Trainer, "train", fails)
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        made.train("sft")
    usage = shutil.disk_usage(tmp_path)
    frees = [usage.free]

    def fills(*arguments, **options):
        frees.append(1000)
        fails()

    monkeypatch.setattr(Trainer, "train", fills)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=frees[-1]))
    with pytest.raises(UserError, match="is full; make room, and the same command goes on"):
        made.train("sft")


def test_batches_that_cannot_be_shared_are_told(unbroken, tmp_path):
    options = unbroken.options("mcr")[0]
    with pytest.raises(UserError, match="batch_size 16 cannot be shared by 3 processes"):
        loop.batch_shape(options, 3)
    few = study(
        tmp_path,
        cvo={**unbroken.config.cvo, "batch_size": 64, "check_groups": 0},
        sft={**unbroken.config.sft, "max_steps": 1},
    )
    with pytest.raises(UserError, match="num_generations 4 and 8 prompts"):
        few.train("mcr")
    assert few.is_done("sft"), "what was finished stays"


def test_the_command_names_a_setting_of_another_stage(tmp_path, capsys):
    assert cli.main(["sft", "--profile", "nano", "--setting", "mcr", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "mcr: setting mcr has stage cvo, not sft\n"


def test_a_share_of_the_tweets_is_part_of_a_larger_share(unbroken):
    ids = {}
    for share in (0.3, 0.7, 1.0):
        settings = {"a": {"stage": "sft", "rows": "answers", "share": share}}
        ids[share] = {e.id for e in replaced(unbroken, settings).tweets("a")}
    assert ids[0.3] < ids[0.7] < ids[1.0]


def replaced(made, settings):
    other = study(made.run.path, settings=settings)
    other._examples = {"train": [replace(made.examples("train")[0], id=str(k)) for k in range(100)]}
    return other
