"""The bars of the base model, and its measures as a table; no torch, so that documents can be made anywhere."""

from collections.abc import Mapping
from typing import Any

BARS = {"caption mner_f1": 90.0, "caption box_accuracy": 75.0, "gmner false_grounding": 30.0}
"""Measure -> least value in percent that a base must reach."""

_ROWS = {
    "clean captions: MNER F1": ("caption", "mner_f1"),
    "clean captions: box accuracy at IoU 0.5": ("caption", "box_accuracy"),
    "gmner: MNER F1": ("gmner", "mner_f1"),
    "gmner: GMNER F1": ("gmner", "gmner_f1"),
    "gmner: false grounding": ("gmner", "false_grounding"),
    "gmner: missed grounding": ("gmner", "missed_grounding"),
    "tweets with bait in which it is named": ("bait", "named_rate"),
    "the same with a blank picture": ("bait", "named_rate_blank"),
}


def met(measured: Mapping[str, Any]) -> dict[str, bool]:
    """Bar -> whether it is reached; the bar of bait is that it is named at least twice as often with the
    picture as without.

    Args:
        measured: measures of one split, as `measure.measure` gives them.

    Example:
        >>> low = {"caption": {"mner_f1": 99.0, "box_accuracy": 60.0}, "gmner": {"false_grounding": 40.0}}
        >>> met({**low, "bait": {"named_rate": 20.0, "named_rate_blank": 1.0}})["caption box_accuracy"]
        False
    """
    reached = {bar: (measured[bar.split()[0]][bar.split()[1]] or 0.0) >= least for bar, least in BARS.items()}
    rates = measured["bait"]
    return {
        **reached,
        "bait named because of the picture": rates["named_rate"] > max(1.0, 2 * rates["named_rate_blank"]),
    }


def table(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The measures of each split beside the bars, as lines of Markdown.

    Args:
        measured: split -> its measures.
    """
    bars = {tuple(bar.split()): f"≥ {least:g}" for bar, least in BARS.items()} | {
        ("bait", "named_rate"): "clearly above blank"
    }
    lines = [f"| measure, % | bar | {' | '.join(measured)} |", f"|---|---|{'---|' * len(measured)}"]
    for name, (part, key) in _ROWS.items():
        values = (found[part][key] for found in measured.values())
        shown = " | ".join("–" if value is None else f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {bars.get((part, key), '–')} | {shown} |")
    return lines
