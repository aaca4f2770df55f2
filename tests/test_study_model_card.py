"""README.md of a model, from made-up facts."""

import json

import pytest

from mcr_lib.schema import FORMAT_VERSION
from mcr_lib.study.runs import model_card
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.tables import comparison

FACTS = {
    "fingerprint": "0123456789ab", "n_rows": 3500, "n_steps": 437, "n_processes": 4, "seconds": 3600.4,
    "setting": {"stage": "sft", "rows": "chains"},
    "made_with": {"packages": {"torch": "2.14.1", "numpy": "2.3", "peft": "0.21.2"}},
    "options": [
        {"option": "learning_rate", "value": 1e-4, "origin": "ms-swift"},
        {"option": "seed", "value": 3, "origin": "run"},
        {"option": "lora_rank", "value": 16, "origin": "setting mrsi"},
        {"option": "bf16", "value": True, "origin": "profile"},
    ],
}  # fmt: skip
CARD = {
    "format_version": FORMAT_VERSION, "kind": "adapter", "family": "qwen2.5-vl", "wording": "full",
    "prompt": "mcr", "prompt_version": 1, "coordinate_space": "model_px",
    "base": {"name": "Qwen/Qwen2.5-VL-7B-Instruct", "family": "qwen2.5-vl", "weights": "ba9876543210"},
    "score_signature": "scorer=definition|iou=>0.5|data=d:1|split=dev|parse=strict|scorer_version=1",
    "sha256": {},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path)
    for name in ("mrsi", "other"):
        (run.setting(name) / "model").mkdir(parents=True)
        (run.setting(name) / "model" / "backbone.json").write_text(json.dumps(CARD))
    return run


def written(run, name="mrsi", source="twitter-gmner"):
    model_card.write(run, name, FACTS, backbone="Qwen/Qwen2.5-VL-7B-Instruct", source=source)
    return (run.setting(name) / "model" / "README.md").read_text()


def test_a_card_tells_what_the_model_is_and_what_it_was_made_from(run):
    text = written(run)
    head = text.split("---\n")[1]
    assert "base_model: Qwen/Qwen2.5-VL-7B-Instruct\nlibrary_name: peft\n" in head
    for line in (
        "| what | LoRA adapter of the family qwen2.5-vl |",
        "| base | Qwen/Qwen2.5-VL-7B-Instruct, weights ba9876543210 |",
        "| stage | sft on chains, from the base |", "| data | twitter-gmner: 3,500 rows |",
        "| boxes in | model_px |", "| updates | 437 in 4 process(es), 3,600 s |",
        "| asked | prompt mcr in wording full, version 1 |", "| made from | 0123456789ab |",
        "| scored by | `scorer=definition·iou=>0.5·data=d:1·split=dev·parse=strict·scorer_version=1` |",
        "| made with | torch 2.14.1, peft 0.21.2 |", "| lora_rank | 16 | setting mrsi |",
        "| seed | 3 | run |", "| bf16 | True | profile |",
    ):  # fmt: skip
        assert line in text.splitlines(), line
    assert "| backbone | Qwen/Qwen2.5-VL-7B-Instruct |" in text
    assert "| learning_rate" not in text, "only departures"
    assert model_card.NOT_SCORED in text
    assert model_card.TESTBED_NOTE not in text
    assert model_card.TESTBED_NOTE in written(run, source="testbed")


def test_the_base_of_an_adapter_may_be_another_setting(run):
    base = {"folder": "../../sft/model", "family": "qwen2.5-vl", "weights": "ba9876543210"}
    (run.setting("mrsi") / "model" / "backbone.json").write_text(json.dumps({**CARD, "base": base}))
    assert "| base | ../../sft/model, weights ba9876543210 |" in written(run)
    whole = {
        **{key: value for key, value in CARD.items() if key not in ("base", "coordinate_space")},
        "kind": "backbone",
    }
    (run.setting("mrsi") / "model" / "backbone.json").write_text(json.dumps(whole))
    text = written(run)
    assert "library_name: transformers" in text
    assert "| base | Qwen/Qwen2.5-VL-7B-Instruct |" in text


def test_scores_come_into_the_card_when_they_are_there_and_only_its_own(run):
    written(run)
    written(run, "other")
    head = {
        "split": "dev",
        "seed": 0,
        "ci_low": 60.1,
        "ci_high": 64.0,
        "n": 1500,
        "signature": "scorer=definition|split=dev",
    }
    rows = [
        {**head, "setting": "mrsi", "metric": "gmner_f1", "value": 62.05},
        {**head, "setting": "mrsi", "metric": "gmner_p", "value": 1},
        {**head, "setting": "mrsi", "metric": "n_rate", "value": 2.5, "ci_low": None, "ci_high": None},
        {**head, "setting": "base", "metric": "gmner_f1", "value": 9.0},
    ]  # fmt: skip
    comparison._write_results(run, rows)
    mine, other = ((run.setting(name) / "model" / "README.md").read_text() for name in ("mrsi", "other"))
    told = mine[mine.index(model_card.SCORES) : mine.index(model_card.END)].splitlines()[1:]
    assert told == [
        "| split | score | % | 95 % interval | n | signature |", "|---|---|---|---|---|---|",
        "| dev | GMNER F1 | 62.05 | 60.1 to 64.0 | 1500 | `scorer=definition split=dev` |",
        "| dev | N-Rate | 2.5 |  | 1500 | `scorer=definition split=dev` |",
    ]  # fmt: skip
    assert model_card.NOT_SCORED in other
    comparison._write_results(run, rows[:1])
    again = (run.setting("mrsi") / "model" / "README.md").read_text()
    assert again.count("GMNER F1") == mine.count("GMNER F1") == 1
    assert "N-Rate" not in again
