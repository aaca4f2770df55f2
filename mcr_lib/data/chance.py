"""Random choices that use `rng.random()` alone, so they are equal in every release of Python."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """Draw one of the items, uniformly."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """Return the items in random order."""
    return [item for _, _, item in sorted((rng.random(), k, item) for k, item in enumerate(items))]
