"""What is known of the paper: the one file that everyone may correct, `data/paper_facts.yaml`."""

from functools import cache
from typing import Any

import yaml

from mcr_lib.data.files import read_text
from mcr_lib.study.runs.config import repository


@cache
def all_facts() -> dict[str, Any]:
    """The whole file as a dict."""
    return yaml.safe_load(read_text(repository() / "data" / "paper_facts.yaml"))


@cache
def reproduction() -> list[dict[str, Any]]:
    """How each table and figure of the paper would be reproduced, and how far that has come:
    `data/reproduction.yaml`.
    """
    return yaml.safe_load(read_text(repository() / "data" / "reproduction.yaml"))["rows"]


def value(name: str) -> Any:
    """The value of a fact.

    Raises:
        KeyError: no such fact, or one on which what is public is silent.
    """
    return all_facts()["facts"][name]["value"]
