"""One model on several sources: settings, pairs, rows, batches with and without images, filter, scores."""

import pyarrow.parquet as pq
import pytest
from trl import GRPOTrainer

from mcr_lib.rewards import NAMES
from mcr_lib.study.runs import config
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import cvo, loop, sft
from mcr_lib.training.options import CvoOptions, SftOptions

BOTH = {"mner-mi": {}, "grec": {}}
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
    """Two rows of every number of images, and two of GREC."""
    by_number = {}
    for row in rows:
        by_number.setdefault(len(row["images"]), []).append(row)
    assert sorted(by_number) == [0, 1, 2, 3]
    return [row for some in by_number.values() for row in some[:2]] + rows[-2:]


CVO = {
    "max_steps": 1, "batch_size": 20, "num_generations": 2, "max_completion_length": 28, "lora_rank": 0,
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
    at_once, answers = train_cvo(study, rows, tmp_path / "a", 20, True)
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
        train_cvo(study, rows, tmp_path / "a", 20, False)
    monkeypatch.undo()
    monkeypatch.setattr(cvo, "_without_empty", lambda model: model)
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        train_cvo(study, rows, tmp_path / "b", 2, False)


@pytest.mark.canary
def test_sft_trains_on_mixed_batches_as_row_by_row(study, rows, tmp_path):
    of = {}
    for per_device, shared in ((16, True), (2, False)):
        options = SftOptions(max_steps=1, lora_rank=0, per_device_batch_size=per_device, shared_prefix=shared)
        folder = tmp_path / str(per_device)
        sft.train(study.backbone, study.rows("sft"), folder, options, prompt="direct", device="cpu")
        of[per_device] = [row["loss"] for row in loop.read_log(folder)]
    assert of[16] == pytest.approx(of[2], abs=2e-4)
