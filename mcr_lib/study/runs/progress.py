"""Progress of training and answering, as lines to read."""

import time
from collections.abc import Callable
from typing import Any, TextIO

TELL_EVERY_S = 10
"""Without a terminal, a line of progress at most this often."""


def teller(
    stream: TextIO, *, every_s: float = TELL_EVERY_S
) -> Callable[[str, int, int, dict[str, Any]], None]:
    """Tells progress: rewriting a line on a terminal, else a line at the start and the end of a thing and now
    and then between.
    """
    last, what_before = time.monotonic(), ""

    def tell(what: str, done: int, of: int, figures: dict[str, Any]) -> None:
        nonlocal last, what_before
        is_terminal, now = stream.isatty(), time.monotonic()
        if is_terminal or done == of or what != what_before or now - last > every_s:
            last, what_before = now, what
            shown = " ".join(
                f"{name} {figures[name]:.3g}"
                for name in ("loss", "reward", "kl", "truncated")
                if figures.get(name) is not None
            )
            end = "\n" if done == of or not is_terminal else "\r"
            print(f"{what} {done} of {of} {shown}".ljust(79 * is_terminal), end=end, file=stream, flush=True)

    return tell
