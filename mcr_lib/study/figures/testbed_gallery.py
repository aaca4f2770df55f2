"""The testbed to look at: pictures of each named distribution, and what each is made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from mcr_lib import testbed
from mcr_lib.errors import UserError
from mcr_lib.study.figures import plots
from mcr_lib.testbed.drawing import draw
from mcr_lib.testbed.folder import set_name

MOST = 12
"""Tweets of a distribution in a gallery."""


def gallery(
    n_each: int,
    *,
    distributions: Sequence[str] = tuple(testbed.DISTRIBUTIONS),
    split: str = "test",
    seed: int = 0,
    knobs: Mapping[str, Any] | None = None,
) -> tuple[Figure, list[dict[str, Any]]]:
    """The first examples of each distribution, a row per distribution: gold boxes solid, bait dotted; and
    their ids.

    Args:
        n_each: examples per distribution.
        seed: of the world.
        knobs: departures from the knobs of each distribution.

    Raises:
        UserError: an unknown distribution, split or knob, knobs that cannot be met, or a number out of range.
    """
    if not 1 <= n_each <= MOST or seed < 0:
        raise UserError(
            f"gallery: n is {n_each} and the seed {seed}; expected 1 to {MOST} tweets and a seed of 0 or more"
        )
    made, rows = [], []
    for distribution in distributions:
        turned = testbed.altered(testbed.find(distribution), knobs or {})
        made += [testbed.make(distribution, split, index, seed=seed, knobs=turned) for index in range(n_each)]
        rows += [
            {"set": set_name(distribution, split), "id": m.example.id, "text": m.example.text}
            for m in made[-n_each:]
        ]
    return plots.gallery([m.example for m in made], [draw(m.scene) for m in made], n_columns=n_each), rows


def knob_rows(knobs: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """One row per knob: its value in each named distribution after the departures."""
    turned = {name: testbed.altered(of, knobs or {}).to_json() for name, of in testbed.DISTRIBUTIONS.items()}
    names = next(iter(turned.values()))
    return [
        {"knob": name, **{distribution: _told(values[name]) for distribution, values in turned.items()}}
        for name in names
    ]


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {share:g}" for key, share in value.items())
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
