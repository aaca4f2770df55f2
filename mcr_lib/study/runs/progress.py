"""Progress of training and answering, as lines to read."""

import time
from collections.abc import Callable
from typing import Any, TextIO

Progress = Callable[[str, int, int, dict[str, Any]], None]  # task, how much is done, of how much, figures


def teller(stream: TextIO, *, every_s: float = 10, clear: Callable[..., None] | None = None) -> Progress:
    """Prints progress: on a terminal a line that is rewritten, elsewhere one now and then (`every_s`), which
    `clear` (that of IPython) takes away.
    """
    last_time, last_task = time.monotonic(), ""

    def report(task: str, done: int, of: int, figures: dict[str, Any]) -> None:
        nonlocal last_time, last_task
        is_terminal, now = stream.isatty(), time.monotonic()
        if is_terminal or done == of or task != last_task or now - last_time > every_s:
            last_time, last_task = now, task
            names = ("loss", "reward", "kl", "truncated")
            shown = [f"{name} {figures[name]:.3g}" for name in names if figures.get(name) is not None]
            text = f"{task} {done} of {of} {' '.join(shown)}".ljust(79 * is_terminal)
            print(text, end="\n" if done == of or not is_terminal else "\r", file=stream, flush=True)
            if clear:
                clear(wait=done != of)  # at once, or by the next output

    return report
