"""The converter of E2E-GMNER's teacher's file: what of it becomes chains, and why the rest does not."""

import json
from collections import Counter

import pytest

from contrib import e2e_teacher
from mcr_lib import chains, data
from mcr_lib.data import mrsi
from mcr_lib.schema import Entity, Example
from tests.conftest import REPOSITORY
from tests.test_cli import mcr

SAMPLE = REPOSITORY / "data/sample"
TWEET = Example(
    "7", "demo", "train", ("Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 0, 2, "PER", ((10, 10, 50, 80),)), Entity("Rome", 3, 4, "LOC", ())), ("PER", "LOC"),
    image_size_px=(100, 90),
)  # fmt: skip
THINK = (
    "The tweet names Ada Byron, a person, who is seen at [11, 10, 50, 79]. Rome is a location and the image "
    'does not "show" it.'
)
CASES = {
    "gold": (THINK, None),
    "wrong type": (THINK.replace("location", "person"), "wrong_type"),
    "other box": (THINK.replace("[11, 10, 50, 79]", "[60, 10, 99, 79]"), "foreign_slot"),
    "shown": (THINK.replace("does not", "does"), "missing_negation"),
    "one name": (THINK.split(". ")[0], "missing_name"),
}


@pytest.mark.parametrize("name", CASES)
def test_reasoning_that_states_the_gold_becomes_a_chain_and_else_its_flaw_is_counted(name):
    text, flaw = CASES[name]
    passed, flaws = e2e_teacher.chains_of({"7": text, "8": text}, [TWEET])
    assert flaws == (Counter({flaw: 1}) if flaw else {})
    assert [chain.source for chain in passed] == ([] if flaw else ["mllm"])
    if not flaw:
        assert passed[0].text.startswith('The tweet names "Ada Byron", a person, who is seen at [[box 1]].')
        assert chains.check(passed[0], TWEET) is None


def test_a_name_within_another_and_one_in_quotes_get_one_pair_of_quotes():
    both = (Entity("New York", 0, 2, "LOC", ()), Entity("New York Knicks", 3, 6, "ORG", ()))
    tweet = Example(
        "1", "demo", "train", ("New", "York", "and", "New", "York", "Knicks"), both, ("LOC", "ORG")
    )
    assert e2e_teacher.adopted('In "New York", New York Knicks and Newark', tweet) == (
        'In "New York", "New York Knicks" and Newark'
    )


def test_the_chains_of_the_file_stand_in_the_built_ones(tmp_path, capsys):
    train = data.load_split("twitter-gmner", SAMPLE, split="train")
    rows = [
        {"image_path": f"raw/{e.id}.jpg", key: chains.build(e, "distill", mrsi.np.random.default_rng(k)).text}
        for k, (e, key) in enumerate(zip(train, 4 * ("think", "cot", "reasoning"), strict=False))
    ]
    boxes = {e.id: mrsi.gold_boxes(e) for e in train}
    for row, example in zip(rows, train, strict=True):
        key = [*row][1]
        for k, box in enumerate(boxes[example.id], start=1):
            row[key] = row[key].replace(f"[[box {k}]]", str(list(box)))
    rows += [
        {"image_path": "", "think": "x"},
        {"image_path": "1.jpg"},
        {"image_path": "elsewhere.jpg", "cot": "x"},
    ]
    path, out = tmp_path / "teacher_cot_train.jsonl", tmp_path / "teacher.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert e2e_teacher.main([str(path), "--root", str(SAMPLE), "--out", str(out)]) == 0
    # of a name said twice with one box nobody can tell which slot is meant
    assert capsys.readouterr().out == "9 of 10 chains state the gold; rejected: 1 foreign_slot\n"
    built = mcr(
        "chains",
        "build",
        "--root",
        SAMPLE,
        "--start",
        out,
        "--out",
        tmp_path / "c",
        "--d1-share",
        1,
        "--json",
    )
    facts = json.loads(built.stdout)
    drawn = {e.id for e, style in mrsi.pairs(train, seed=0) if style == "distill"}
    passed = {chain.id for chain in mrsi.read_chains(out, train)}
    assert facts["sources"]["mllm"] == len(drawn & passed) > 0


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            {"image_path": "1.jpg", "answer": "x"},
            'no row has "image_path" and "think" (or "cot", "reasoning") as text',
        ),
        ({"image_path": "1.jpg", "think": "x"}, "no row is of a tweet of train"),
    ],
)
def test_another_file_is_told(row, sentence, tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(row))
    assert e2e_teacher.main([str(path), "--root", str(SAMPLE), "--out", str(tmp_path / "c")]) == 2
    assert sentence in capsys.readouterr().err
