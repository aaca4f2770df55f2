"""The bars a base model must reach, and its measures as a table; without torch, so documents can use it."""

from collections.abc import Mapping
from typing import Any

BARS = {
    "caption mner_f1": 90.0, "caption box_accuracy": 75.0, "gmner false_grounding": 30.0,
    "describe look_f1": 75.0, "judge found": 75.0, "judge missing": 75.0,
}  # fmt: skip
"""Measure -> least value in percent. The 48 emblems have 24 pairs of outline and colour: a description
that has both right and guesses the mark names half of the emblems. 75 lies halfway between that and all."""

_ROWS = {
    "clean captions: MNER F1": ("caption", "mner_f1"),
    "clean captions: box accuracy at IoU 0.5": ("caption", "box_accuracy"),
    "gmner: MNER F1": ("gmner", "mner_f1"),
    "gmner: GMNER F1": ("gmner", "gmner_f1"),
    "gmner: false grounding": ("gmner", "false_grounding"),
    "gmner: missed grounding": ("gmner", "missed_grounding"),
    "tweets with bait in which it is named": ("bait", "named_rate"),
    "the same with a blank picture": ("bait", "named_rate_blank"),
    "descriptions: F1 of emblems by their look": ("describe", "look_f1"),
    "descriptions: F1 of emblems by place and look": ("describe", "look_place_f1"),
    "comparisons of text: right where a look is there": ("compare", "found"),
    "comparisons of text: right where it is missing": ("compare", "missing"),
    "the same after its own description of a picture: there": ("judge", "found"),
    "the same after its own description of a picture: missing": ("judge", "missing"),
    **{
        f"{name}, {style} chain: {label}": (f"{part}_{style}", key)
        for part, name in {"caption": "clean captions", "gmner": "gmner"}.items()
        for style in ("distill", "terse")
        for key, label in {
            "gmner_f1": "GMNER F1",
            "false_grounding": "false grounding",
            "readable": "readable answers",
        }.items()
        if (part, key) != ("caption", "false_grounding")  # everything named is shown
    },
}


def reached(measured: Mapping[str, Any]) -> dict[str, bool]:
    """Return bar -> whether it is reached; bait must be named twice as often with the picture as without.

    Args:
        measured: measures of one split from `measure.measure`.
    """
    values = {bar: measured[bar.split()[0]][bar.split()[1]] or 0.0 for bar in BARS}
    rate, blank = (measured["bait"][key] or 0.0 for key in ("named_rate", "named_rate_blank"))
    result = {bar: values[bar] >= least for bar, least in BARS.items()}
    return {**result, "bait named because of the picture": rate > max(1.0, 2 * blank)}


def table(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the measures of each split beside the bars, as lines of Markdown.

    Args:
        measured: split -> measures.
    """
    bars = {tuple(bar.split()): f"≥ {least:g}" for bar, least in BARS.items()}
    bars["bait", "named_rate"] = "clearly above blank"
    lines = [f"| measure, % | bar | {' | '.join(measured)} |", f"|---|---|{'---|' * len(measured)}"]
    for name, (part, key) in _ROWS.items():
        values = [of_split[part][key] for of_split in measured.values()]
        shown = " | ".join("–" if value is None else f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {bars.get((part, key), '–')} | {shown} |")
    return lines
