"""REPRODUCING.md: every table and figure of the paper, with commands that the command line and the profiles
take.
"""

import re
import shlex

import pytest

from mcr_lib.study.commands import cli, runner
from mcr_lib.study.runs import config
from mcr_lib.study.tables.facts import all_facts, reproduction
from tests.conftest import REPOSITORY

STATUSES = {
    "reproduced", "differs", "mechanism shown on the testbed", "published by others",
    "unknown to us", "not run",
}  # fmt: skip
ROWS = reproduction()
COMMANDS = sorted({row["command"] for row in ROWS if row["command"]})


def test_every_table_and_figure_of_the_paper_has_a_row_and_nothing_else_has():
    facts = all_facts()
    assert {row["paper"] for row in ROWS} == {*facts["tables"], *facts["figures"]}
    assert set(facts["tables"]) == {f"T{k}" for k in range(1, 13)}
    assert set(facts["figures"]) == {f"F{k}" for k in range(1, 9)}
    for row in ROWS:
        is_known = {**facts["tables"], **facts["figures"]}[row["paper"]] is not None
        assert is_known == (row["status"] != "unknown to us"), row


def test_a_row_says_how_far_it_has_come_and_what_is_missing():
    for row in ROWS:
        assert row["status"] in STATUSES
        assert ("missing" in row) == (row["status"] == "not run"), row
        assert {"what", "command", "hardware", "hours", "expected"} <= set(row)
        if row["command"] and "tiny" in row["command"]:
            # a run on the testbed says nothing about the paper's rows
            assert row["status"] not in ("reproduced", "differs"), row


def test_the_document_shows_the_rows_with_the_values_of_the_facts():
    text = (REPOSITORY / "REPRODUCING.md").read_text()
    shown = re.findall(r"^\| ([TF]\d+) \|", text, re.MULTILINE)
    assert shown == [row["paper"] for row in ROWS]
    assert f"GMNER F1 {all_facts()['facts']['gmner_f1_best']['value']} in the best row" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken_by_the_command_line_and_the_profile(command, tmp_path):
    mcr, *arguments = shlex.split(command)
    assert mcr == "mcr"
    given = cli._parser().parse_args(arguments)
    loaded = config.load(given.profile, tmp_path, config.parse_set(given.pairs))
    assert loaded.config.settings
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
