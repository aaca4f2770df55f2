"""The facts about the paper, and the documents made from them: every number of the paper is one of the facts,
every table and figure has a row with a command that the command line and the profile take.
"""

import copy
import re
import shlex

import pytest

from mcr_lib.study.commands import cli, runner
from mcr_lib.study.runs import config
from mcr_lib.study.tables import facts
from tests.conftest import REPOSITORY
from tools import readme

STATUSES = {
    "reproduced", "differs", "mechanism shown on the testbed", "verdicts on the testbed",
    "published by others", "nothing to run", "not run",
}  # fmt: skip
ROWS = readme.reproduction()
COMMANDS = sorted({row["command"] for row in ROWS if row["command"]})
NEEDS = {
    "known": {"value", "where"},
    "our reading": {"value", "where", "why"},
    "silent": {"where", "ours"},
    "contradiction": {"values", "where", "ours"},
}
BEST = str(facts.table("T1")["Qwen2.5-VL-7B MCR"]["GMNER F1"])
ROUNDING = 0.05  # of every printed score, in points
DOCUMENTS_OF_THE_PAPER = {name: (REPOSITORY / name).read_text() for name in readme.DOCUMENTS}


def test_a_fact_is_known_silent_our_reading_or_a_contradiction_and_says_what_that_asks_for():
    for name, fact in facts.all_facts()["facts"].items():
        assert set(fact) - {"unit", "status", "read_by"} == NEEDS[fact["status"]], name
        if fact["status"] == "contradiction":
            assert len(fact["values"]) > 1, name


def test_cells_that_the_text_of_the_paper_repeats_are_those_of_its_tables():
    # typed from the prose of the paper (§5.2 to §5.5, App. E.5), not from its tables
    t1, t3 = facts.table("T1"), facts.table("T3")
    assert t1["Qwen2.5-VL-7B MCR"]["GMNER F1"] - t1["MQSPN"]["GMNER F1"] == pytest.approx(11.87, abs=0.1)
    assert t1["Qwen2.5-VL-7B MCR"]["GMNER F1"] - t1["SCANNER"]["GMNER F1"] == pytest.approx(2.11, abs=0.1)
    assert t1["MiMo-VL-7B MCR"]["GMNER F1"] - t1["MiMo-VL-7B SFT"]["GMNER F1"] == pytest.approx(7.57, abs=0.1)
    assert t1["Qwen2.5-VL-7B MCR"]["EEG F1"] - t1["MQSPN"]["EEG F1"] == pytest.approx(10.97, abs=0.1)
    assert t3["MCR"]["GMNER F1"] - t3["w/o MRSI"]["GMNER F1"] == pytest.approx(18.95, abs=0.1)
    assert t3["MCR"]["GMNER F1"] - t3["w/o Inst"]["GMNER F1"] == pytest.approx(3.9, abs=0.01)
    assert t3["w/o CVO"]["GMNER F1"] - t1["Qwen2.5-VL-7B MRSI"]["GMNER F1"] == pytest.approx(0.2, abs=0.01)
    for model in facts.MODELS:  # T9's gain of CVO is T1's MCR - MRSI; F3's N-F1 rises by "nearly 14"
        gain = t1[f"{model} MCR"]["GMNER F1"] - t1[f"{model} MRSI"]["GMNER F1"]
        assert facts.table("T9")[f"{model} CVO"]["gain"] == pytest.approx(gain, abs=0.01)
    assert facts.table("T6")["MCR"]["training h"] == 8 + 11
    sizes = [row["train"] for row in facts.table("T7").values()]
    assert 2 * sum(sizes) == facts.all_facts()["facts"]["n_training_pairs"]["value"] == 55712


def test_a_row_that_two_tables_show_is_the_same_in_both():
    t1, t3, t11, t4 = (facts.table(name) for name in ("T1", "T3", "T11", "T4"))
    assert t3["MCR"] == t1["Qwen2.5-VL-7B MCR"]
    for name in ("UnCo", "MCR"):
        row = t1[{"MCR": "Qwen2.5-VL-7B MCR"}.get(name, name)]
        assert [t11[name][task] for task in ("GMNER", "MNER", "EEG")] == [
            row[f"{task} F1"] for task in ("GMNER", "MNER", "EEG")
        ]
    for row in ("σ 0.3", "λ1 0.3", "λ5 0.2"):  # the values of the main results
        assert [*facts.table("T10")[row].values()] == [70.5, 70.8, 70.6]
    assert set(t4) < set(t1)
    assert set(facts.table("F3")) - set(t1) == {f"{model} MRSI+MRSI" for model in facts.MODELS}


def test_every_f1_is_that_of_its_precision_and_recall_but_for_one_misprint():
    wrong = []
    for name in facts.all_facts()["tables"]:
        for row, cells in facts.table(name).items():
            for column in (column for column in cells if column.endswith("F1")):
                stem = column.removesuffix("F1")
                precision, recall = ("N-Pre", "N-Rec") if stem == "N-" else (f"{stem}P", f"{stem}R")
                if (p := cells.get(precision)) is None:
                    continue
                r, f1 = cells[recall], cells[column]
                low, high = (2 * (p + e) * (r + e) / (p + r + 2 * e) for e in (-ROUNDING, ROUNDING))
                if not low - ROUNDING - 1e-9 <= f1 <= high + ROUNDING + 1e-9:
                    wrong.append((name, row, column))
    assert wrong == [("T1", "TIGER", "MNER F1")]  # 80.3 of 79.9 and 80.1: among the contradictions


def test_every_table_and_figure_of_the_paper_has_a_row_and_nothing_else_has():
    of = facts.all_facts()
    assert {row["paper"] for row in ROWS} == {*of["tables"], *of["figures"]}
    assert {*of["tables"], *of["figures"]} == {f"T{k}" for k in range(1, 13)} | {f"F{k}" for k in range(1, 9)}


def test_a_row_says_how_far_it_has_come_and_what_is_missing():
    for row in ROWS:
        assert row["status"] in STATUSES
        assert ("missing" in row) == (row["status"] == "not run"), row
        assert {"what", "command", "hardware", "hours", "expected"} <= set(row)
        if row["command"] and "tiny" in row["command"]:
            # a run on the testbed says nothing about the paper's rows
            assert row["status"] not in ("reproduced", "differs"), row
        elif row["command"] and "-7b" in row["command"]:
            assert row["status"] == "not run", row  # nothing has run at 7B


def test_values_of_the_sensitivity_study_are_those_of_the_paper_s_table():
    tried = {"sigma": set(), "λ1": set(), "λ5": set()}
    for row in (row for row in ROWS if row["paper"] == "T10"):
        settings = config.load("qwen2.5-vl-7b", None, {"settings": _settings(row["command"])}).config.settings
        for options in (setting.options for name, setting in settings.items() if name != "mrsi"):
            if "sigma" in options:
                tried["sigma"].add(options["sigma"])
                continue
            l1, *others, l5 = options["reward_weights"]
            assert others == [0.3, 0.3, 0.3]
            tried["λ1" if l5 == 0.2 and "λ1" in row["what"] else "λ5"].add(l1 if "λ1" in row["what"] else l5)
    for symbol, values in tried.items():
        symbol = "σ" if symbol == "sigma" else symbol
        of_table = [name.split()[1] for name in facts.table("T10") if name.startswith(symbol)]
        assert values == {float(value) for value in of_table}


def _settings(command):
    _, *arguments = shlex.split(command)
    return config.parse_set(cli._parser().parse_args(arguments).pairs)["settings"]


def test_the_document_shows_the_rows_with_the_values_of_the_facts():
    text = DOCUMENTS_OF_THE_PAPER["REPRODUCING.md"]
    assert re.findall(r"^\| ([TF]\d+) \|", text, re.MULTILINE) == [row["paper"] for row in ROWS]
    for row in ROWS:  # the paper's numbers are never typed in a row
        typed = re.sub(r"\{[^}]*\}", "", row["expected"])
        assert not set(re.findall(r"\d\d+\.\d", typed)), row


CELLS = (
    ("T1", "Qwen2.5-VL-7B MCR", "GMNER F1"),
    ("T11", "MAKAR", "GMNER"),
    ("F3", "Qwen2.5-VL-7B SFT", "N-Rec"),
)


@pytest.mark.parametrize("cell", CELLS, ids="".join)
def test_a_document_is_stale_once_a_fact_that_it_shows_changes(cell, monkeypatch):
    name, row, column = cell
    changed = copy.deepcopy(facts.all_facts())
    table = changed["tables"][name]
    table["rows"][row][table["columns"].index(column)] += 1.23
    text = DOCUMENTS_OF_THE_PAPER["REPRODUCING.md"]
    assert readme.filled(text) == text
    monkeypatch.setattr(facts, "all_facts", lambda: changed)
    assert readme.filled(text) != text


@pytest.mark.parametrize("name", readme.DOCUMENTS)
def test_no_sentence_about_the_paper_has_a_number_that_is_not_made_from_the_facts(name):
    assert not _typed(DOCUMENTS_OF_THE_PAPER[name])


def test_a_typed_number_of_the_paper_is_noticed():
    assert _typed("The paper's best score is 70.6.") == ["70.6"]
    assert _typed("Ours is 4.8 behind. The paper reports\n8 hours on 1,500 tweets.") == ["8", "1,500"]
    assert not _typed("The paper's <!-- paper: T1[MCR][GMNER F1] -->70.6 is in T1; see Eq. 13 and `0.3`.")


def _typed(text):
    """Numbers in sentences that speak of the paper, outside of generated tables, marked numbers and code."""
    text = re.sub(r"<!-- table: .*?<!-- end -->|```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- paper: .*?-->[\d.,]*\d|`[^`]*`|\]\([^)]*\)|\[arXiv [\d.]*", "", text)
    text = re.sub(r"\b(?:Eq\. |App\. |Figure |Table |[TFDR])\d+|at 7B", "", text)
    sentences = re.split(r"(?<=[.:;!?])\s|\n\n|\n(?=[-|#])", text)
    about = [s for s in sentences if re.search(r"(?<!task )\bpaper\b", s) or BEST in s]
    return [n for sentence in about for n in re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w-])", sentence)]


def test_a_text_is_filled_with_facts_and_cells():
    assert readme.with_facts("{cvo_hours} h, {T1[Qwen2.5-VL-7B SFT][GMNER F1]}") == "11 h, 62.7"


def test_published_scores_name_who_reports_them_the_highest_first():
    rows = readme.published_rows()
    assert [float(row["f1"]) for row in rows] == sorted((float(row["f1"]) for row in rows), reverse=True)
    assert rows[0] == {"system": "MAKAR with web search", "f1": "71.88", "reported_by": "E2E-GMNER"}
    reports = {row["reported_by"]: float(row["f1"]) for row in rows if row["system"] == "RiVEG"}
    assert reports == {"RiVEG": 67.06, "MCR": 64.9, "E2E-GMNER": 63.8}


def test_every_decision_and_every_departure_is_listed_once():
    lines, of = readme.departure_lines(), facts.all_facts()
    n_open = sum(fact["status"] != "known" for fact in of["facts"].values())
    assert len(lines) == n_open + len(of["departures"])
    assert not any("{" in line or "None: " in line for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken_by_the_command_line_and_the_profile(command, tmp_path):
    mcr, *arguments = shlex.split(command)
    assert mcr == "mcr"
    given = cli._parser().parse_args(arguments)
    if arguments[0] == "prompt":  # of a served model, which takes no profile
        assert given.model
        return
    loaded = config.load(given.profile, tmp_path, config.parse_set(given.pairs))
    assert loaded.config.settings or given.profile == "twitter-gmner-data"
    notebooks = runner.find_notebooks(loaded.config.notebooks, given.only, given.start_from)
    assert len(notebooks) == (len(given.only) or 6)


DOCUMENTS = [
    REPOSITORY / "README.md",
    REPOSITORY / "REPRODUCING.md",
    REPOSITORY / "data" / "README.md",
    *(REPOSITORY / "docs").glob("*.md"),
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_are_there(path):
    named = re.findall(
        r"`((?:docs|data|mcr_lib|notebooks|tests|stages|study)/[\w./-]+\.(?:md|py|yaml|txt|png))[`:]",
        path.read_text(),
    )
    for name in named:
        assert (REPOSITORY / name).exists() or (REPOSITORY / "mcr_lib" / name).exists(), name
    assert named or path.name == "families.md"
