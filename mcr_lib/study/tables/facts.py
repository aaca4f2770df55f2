"""The facts about the paper, `data/paper_facts.yaml`, and how far each table is reproduced."""

from functools import cache
from typing import Any

import yaml

from mcr_lib.data.files import read_text
from mcr_lib.study.runs.config import repository


@cache
def all_facts() -> dict[str, Any]:
    """The whole file as a dict."""
    return yaml.safe_load(read_text(repository() / "data" / "paper_facts.yaml"))


def reproduction() -> list[dict[str, Any]]:
    """How each table and figure of the paper is reproduced, and its status: `data/reproduction.yaml`."""
    return yaml.safe_load(read_text(repository() / "data" / "reproduction.yaml"))["rows"]
