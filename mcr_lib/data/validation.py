"""Parts of the sentences about a name or a value that a user got wrong."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint " (did you mean seed?)" at the known name that is most like this one; empty if none is."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def first_error(error: ValidationError) -> tuple[tuple[int | str, ...], Any, str]:
    """The first value that pydantic refused: its place as keys from outside in, the value, and the reason."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    reason += ": a list such as [a, b]" * (first["type"] == "tuple_type")
    return first["loc"], first["input"], f"{reason[0].lower()}{reason[1:]}"
