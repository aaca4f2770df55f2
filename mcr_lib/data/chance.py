"""Random choices that are the same in every release of Python: they use `rng.random()` alone."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of the items, each as likely."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """The items in a random order."""
    return [item for _, _, item in sorted((rng.random(), k, item) for k, item in enumerate(items))]
