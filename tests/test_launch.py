"""Several processes for one stage: what takes a launcher, and how answers are shared; what needs real ones is
in test_nano.
"""

import errno
import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from mcr_lib import prompts
from mcr_lib.data import mrsi
from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.commands import cli
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import backbones, generate, launch, loop, parts
from tests import fsdp_on_cpu
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.canary


def test_a_command_without_a_setting_takes_each_of_the_profile(tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(Study, "is_done", lambda study, name: False)
    monkeypatch.setattr(Study, "train", lambda study, name: done.append(name) or {"n_steps": 1, "seconds": 2})
    monkeypatch.setattr(Study, "answer", lambda study, name, split, **_: done.append((name, split)))
    nano = ["--profile", "nano", "--out", str(tmp_path)]
    for command, expected in (
        (["sft"], ["sft", "sft-lora"]),
        (["cvo"], ["mcr", "mcr-lora"]),
        (["cvo", "--setting", "mcr"], ["mcr"]),
        (["generate"], [(name, "test") for name in ("base", "sft", "mcr", "sft-lora", "mcr-lora")]),
        (
            ["generate", "--setting", "mcr", "--split", "dev", "--split", "test"],
            [("mcr", "dev"), ("mcr", "test")],
        ),
    ):
        assert cli.main([*command, *nano]) == 0
        assert done == expected
        done.clear()
    capsys.readouterr()
    assert cli.main(["cvo", *nano, "--set", "settings={base: {}}"]) == 2
    assert capsys.readouterr().err == "mcr: profile nano has no setting of stage cvo; it has base\n"


def test_several_processes_take_a_launcher(monkeypatch):
    launch.require_launcher(0, "sft")
    launch.require_launcher(1, "sft")
    with pytest.raises(UserError, match="start torchrun --nproc_per_node 4 -m mcr_lib sft --setting sft$"):
        launch.require_launcher(4, "sft --setting sft")
    monkeypatch.setenv("WORLD_SIZE", "4")
    launch.require_launcher(4, "sft --setting sft")


@pytest.mark.parametrize(("n_visible", "n_used"), [(0, 0), (1, 1), (4, 1)])
def test_a_single_process_trains_on_one_gpu(tmp_path, n_visible, n_used):
    # stock: DataParallel over all that are visible, and a batch as many times larger
    config = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    config._n_gpu = n_visible
    assert loop.on_one_gpu(config).n_gpu == n_used


def test_configurations_of_accelerate_are_there_and_leave_precision_to_the_profile():
    import importlib.util

    from accelerate.commands.config.config_args import load_config_from_file

    ours = load_config_from_file(str(REPOSITORY / "notebooks" / "profiles" / "accelerate" / "ddp.yaml"))
    assert (ours.distributed_type, ours.num_processes, ours.mixed_precision) == ("MULTI_GPU", 4, "no")
    of_trl = Path(importlib.util.find_spec("trl").origin).parent / "accelerate_configs"
    assert {"zero1.yaml", "zero2.yaml", "zero3.yaml", "fsdp1.yaml", "fsdp2.yaml"} <= {
        path.name for path in of_trl.iterdir()
    }


def launcher_environment(name, prepare):
    """What accelerate launch tells the processes of a configuration."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    path = REPOSITORY / "notebooks" / "profiles" / "accelerate" / f"{name}.yaml"
    args = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    args.deepspeed_fields_from_accelerate_config = ""  # which only a later step of the launcher notes
    made = prepare(_validate_launch_command(args)[0])
    made = made[1] if isinstance(made, tuple) else made
    return {k: v for k, v in made.items() if k.startswith(("FSDP_", "ACCELERATE_"))}


def test_configurations_that_cut_the_weights_are_those_that_are_gathered(monkeypatch):
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    assert not launch.is_sharded()
    launch.check_sharding()
    for name, prepare in (("fsdp2", prepare_multi_gpu_env), ("zero3", prepare_deepspeed_cmd_env)):
        with monkeypatch.context() as bent:
            for key, value in launcher_environment(name, prepare).items():
                bent.setenv(key, value)
            assert launch.is_sharded()
            launch.check_sharding()
            needed = {"fsdp2": "FSDP_STATE_DICT_TYPE", "zero3": "ACCELERATE_DEEPSPEED_ZERO3_INIT"}[name]
            bent.setenv(needed, "other")
            with pytest.raises(UserError, match=f"over the processes need {needed}=.*, not other; take"):
                launch.check_sharding()
            bent.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
            assert launch.is_sharded() == (name == "fsdp2")


@pytest.mark.server
def test_two_processes_with_parts_of_the_weights_train_as_one(nano_folder, nano_tweets, tmp_path):
    # CVO: the answers of one process end long before those of the other
    from accelerate.utils.launch import prepare_multi_gpu_env

    target = backbones.outline(str(nano_folder)).target
    rows = {
        "sft": list(mrsi.answer_rows(nano_tweets, target, prompt="direct")),
        "cvo": list(mrsi.grpo_rows([(e, "terse") for e in nano_tweets], target, prompt="direct")),
    }
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.json").write_text(json.dumps(rows))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    worker = ["-m", "tests.fsdp_on_cpu", str(nano_folder), str(tmp_path / "two")]
    environment = {**os.environ, **launcher_environment("fsdp2", prepare_multi_gpu_env)}
    environment |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    how = {"cwd": REPOSITORY, "env": environment, "capture_output": True, "text": True, "timeout": 400}
    done = subprocess.run([sys.executable, *torchrun, *worker], **how, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "shared_prefix is off: the weights are cut over the processes" in done.stderr
    fsdp_on_cpu.fine_tune(str(nano_folder), tmp_path / "one")
    far = {"full": 1e-4, "continued": 1e-4, "lora": 1e-2}  # an adapter trains in 16 bits
    for stage, tolerance in far.items():
        folders = (tmp_path / "one" / stage.replace("continued", "full"), tmp_path / "two" / stage)
        one, two = map(loop.read_log, folders)
        assert [row["step"] for row in two] == ([3] if stage == "continued" else [1, 2, 3])
        expected = [row["loss"] for row in one][-len(two) :]
        assert [row["loss"] for row in two] == pytest.approx(expected, abs=tolerance)
        loaded = (backbones.load(str(folder / "model"), device="cpu") for folder in folders)
        theirs, ours = (each.model.state_dict() for each in loaded)
        assert ours.keys() == theirs.keys()
        assert max((ours[name] - theirs[name]).abs().max() for name in ours) < tolerance
    assert (tmp_path / "two" / "full" / "checkpoints" / "checkpoint-2" / "pytorch_model_fsdp.bin").is_file()
    adapter = load_file(tmp_path / "two" / "lora" / "model" / "adapter_model.safetensors")
    assert all(value.abs().sum() > 0 for name, value in adapter.items() if "lora_B" in name)
    (row,) = loop.read_log(tmp_path / "two" / "cvo")
    assert row["length"] <= (32 + 1) / 2
    backbones.load(str(tmp_path / "two" / "cvo" / "model"), device="cpu")


def test_a_model_that_is_not_needed_any_more_makes_room_for_the_next_one(nano_folder, monkeypatch):
    was_gone = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: was_gone.append(reference() is None))
    trainer = threading.Event()  # anything that can be referred to weakly
    trainer.model = SimpleNamespace(trainer=trainer)  # trainers hold themselves in circles
    reference = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer
        assert reference() is not None
        backbones.load(str(nano_folder), device="cpu")
    finally:
        gc.enable()
    assert was_gone == [True]


BACKBONE = SimpleNamespace(
    name="b",
    wording="brief",
    style=None,
    form="json",
    space="model_px",
    messages=lambda example, prompt, shots: prompts.messages(example, prompt, wording="brief", shots=shots),
    model=SimpleNamespace(device=torch.device("cpu")),
)
TWEETS = [Example(f"t{k}", "demo", "test", ("word",) * (k % 5 + 1), (), ("PER",)) for k in range(11)]


class Killed(Exception):
    """Stands for a signal."""


def answer(path, monkeypatch, n_processes, *, kill=(0, 99)):
    """Answer in so many processes, here threads; (rank, n): one is killed before its batch n, and then the
    others as torchrun does it.

    Returns:
        Ranks by which batches were answered in this run, and what progress was told.
    """
    own, barrier, answered, told = threading.local(), threading.Barrier(n_processes), [], []

    def answer_batch(backbone, chats, images, **_):
        own.left -= 1
        if own.left < 0:
            raise Killed
        answered.append(own.state.process_index)
        return [f"{chat[-1]['content'][-1]['text'][-9:]} {own.seed}" for chat in chats], [[] for _ in chats]

    def process(rank):
        own.state = SimpleNamespace(
            process_index=rank,
            num_processes=n_processes,
            is_main_process=rank == 0,
            wait_for_everyone=lambda: barrier.wait(20),
        )
        own.left = kill[1] if rank == kill[0] else 99
        try:
            generate.generate(
                BACKBONE,
                TWEETS,
                path,
                max_new_tokens=5,
                batch_size=2,
                seed=3,
                progress=lambda *now: told.append((rank, *now)),
            )
        except (Killed, threading.BrokenBarrierError):
            barrier.abort()

    monkeypatch.setattr(generate, "answer_batch", answer_batch)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: setattr(own, "seed", seed))
    monkeypatch.setattr(launch, "together", lambda device: own.state)
    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(n_processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sorted(answered), told


def test_answers_shared_by_rank_are_those_of_one_process(tmp_path, monkeypatch):
    # 11 tweets in batches of 2: 6 batches, of which three processes take 2 each
    assert answer(tmp_path / "one.jsonl", monkeypatch, 1)[0] == [0] * 6
    ranks, told = answer(tmp_path / "three.jsonl", monkeypatch, 3)
    assert ranks == [0, 0, 1, 1, 2, 2]
    assert (tmp_path / "three.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert [row.id for row in read_predictions(tmp_path / "one.jsonl")[1]] == [
        example.id for example in TWEETS
    ]
    assert {rank for rank, *_ in told} == {0}, "the first one tells of all"
    assert told[-1] == (0, 11, 11)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["one.jsonl", "three.jsonl"]


def test_answers_go_on_in_another_number_of_processes(tmp_path, monkeypatch):
    answer(tmp_path / "one.jsonl", monkeypatch, 1)
    path = tmp_path / "killed.jsonl"
    # of two processes, 3 batches each, the second one is killed before its last; the first one has done its
    # share by then or goes on later
    ranks, _ = answer(path, monkeypatch, 2, kill=(1, 2))
    assert not path.exists()
    assert ranks.count(1) == 2
    cut = tmp_path / "killed.jsonl.1.part"
    cut.write_bytes(cut.read_bytes()[:-5])  # and its last line is cut, so that batch is answered again
    n_left = 6 - (ranks.count(0) + 1)
    ranks, _ = answer(path, monkeypatch, 3)
    assert len(ranks) == n_left
    assert path.read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["killed.jsonl", "one.jsonl"]


def test_parts_of_another_kind_of_run_are_not_taken(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    answer(path, monkeypatch, 2, kill=(1, 2))
    part = tmp_path / "a.jsonl.1.part"
    head, *rows = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(parts.sealed({**parts.unsealed(head[:-1]), "seed": 4}) + b"".join(rows))
    first = tmp_path / "a.jsonl.part"  # not there where the first one was ended before its own first batch
    n_first = first.read_text().count("\n") - 1 if first.is_file() else 0
    ranks, _ = answer(path, monkeypatch, 1)
    assert len(ranks) == 6 - -(-n_first // 2)
    assert {row.answer.split()[-1] for row in read_predictions(path)[1]} == {
        str(3 * 100_003 + number) for number in range(6)
    }


def make_rows(path, monkeypatch, *, fails_at=99):
    """Rows of five items in batches of two by one process; a batch may fail as a kill does."""
    alone = SimpleNamespace(
        process_index=0, num_processes=1, is_main_process=True, wait_for_everyone=lambda: None
    )
    monkeypatch.setattr(launch, "together", lambda device: alone)
    batches = []

    def work(batch):
        batches.append(batch)
        if len(batches) > fails_at:
            raise Killed
        return [{"id": key, "answer": f"{key} {key * 7}"} for key in batch]

    file = parts.Parts(path, "rows", {"seed": 3}, itemgetter("id"))
    how = {"size": 2, "length": lambda key: 0, "seed": 3, "device": "cpu", "progress": None}
    file.make({key: key for key in range(5)}, work, **how)
    return len(batches)


def test_damage_in_a_part_is_told_and_the_same_command_makes_the_rows_anew(tmp_path, monkeypatch):
    make_rows(whole := tmp_path / "whole.jsonl", monkeypatch)
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    with pytest.raises(Killed):
        make_rows(path, monkeypatch, fails_at=2)
    content = part.read_bytes()
    assert content.count(b"\n") == 5
    begin = content.index(b"\n")
    for at in range(len(content) - 1):  # of the last line's end: a kill leaves the same
        part.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(UserError, match=r"a.jsonl.part: \d of its lines were damaged .* makes them anew"):
            make_rows(path, monkeypatch)
        assert make_rows(path, monkeypatch) in ((3,) if at <= begin else (2, 3)), "what is whole is kept"
        assert path.read_bytes() == whole.read_bytes(), at


def test_a_disk_that_is_full_is_told_and_the_answers_that_were_written_stay(tmp_path, monkeypatch):
    path, part = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part"
    with pytest.raises(Killed):
        make_rows(path, monkeypatch, fails_at=1)
    content, sealed = part.read_bytes(), parts.sealed

    def fails(row):
        if row.get("id", 0) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sealed(row)

    monkeypatch.setattr(parts, "sealed", fails)
    with pytest.raises(UserError, match=r"cannot write .*\.part: No space left on device; make room or"):
        make_rows(path, monkeypatch)
    assert part.read_bytes() == content
