"""Knobs: the parameters of a distribution of the testbed, and those of each named distribution."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.data.validation import did_you_mean, first_error
from mcr_lib.errors import UserError

MAX_MENTIONS, MAX_BAIT, MAX_CLUTTER, MAX_SIDE_PX = 6, 12, 1000, 2048
GAP_PX = 2  # least distance between two emblems


@dataclass(frozen=True, slots=True)
class Knobs:
    """Parameters of a distribution; the defaults are those of `gmner`.

    Args:
        counts: share of tweets with 0, 1, 2, ... entities.
        groundable: type -> share of its mentions that the picture shows.
        bait: share of pictures with 0, 1, 2, ... emblems that the tweet does not name.
        same_type_bait: share of bait of the type of a mention that is not shown, if there is one.
        look_alike_bait: share of that bait which differs from the mention's emblem in the mark alone.
        repeated: share of one-entity tweets that name it twice.
        twins: share of shown entities that are drawn twice.
        damaged: share of tweets with entities in which one name is damaged in the text, though it is shown.
        held_out: whether frames and pairs are those reserved for `unseen`.
        side_px: shortest and longest side of a picture.
        scale_px: shortest and longest side of an emblem.
        occlusion: share of emblems with a hidden strip.
        clutter: most lines and blobs in the background.

    Raises:
        UserError: a share outside [0, 1], shares that do not sum to 1, or more emblems than a picture holds.
    """

    counts: tuple[float, ...] = (0.05, 0.43, 0.35, 0.13, 0.04)
    groundable: tuple[tuple[str, float], ...] = (("PER", 0.65), ("LOC", 0.09), ("ORG", 0.28), ("OTHER", 0.26))
    bait: tuple[float, ...] = (0.4, 0.4, 0.2)
    same_type_bait: float = 0.5
    look_alike_bait: float = 0.3
    repeated: float = 0.02
    twins: float = 0.06
    damaged: float = 0.0
    held_out: bool = False
    side_px: tuple[int, int] = (112, 168)
    scale_px: tuple[int, int] = (28, 60)
    occlusion: float = 0.1
    clutter: int = 10

    def __post_init__(self) -> None:
        if set(dict(self.groundable)) != set(LABELS) or len(self.groundable) != len(LABELS):
            raise UserError(f"testbed: groundable must give one share for each of {', '.join(LABELS)}")
        for name, value in self.shares().items():
            if not 0 <= value <= 1:
                raise UserError(f"testbed: {name} is {value}; a share lies in [0, 1]")
        for name, shares, most in (("counts", self.counts, MAX_MENTIONS), ("bait", self.bait, MAX_BAIT)):
            if abs(sum(shares) - 1) > 1e-6:
                raise UserError(f"testbed: {name} must sum to 1, found {sum(shares):g}")
            if len(shares) > most + 1:
                raise UserError(f"testbed: {name} goes up to {len(shares) - 1}; expected at most {most}")
        if not 0 <= self.clutter <= MAX_CLUTTER:
            raise UserError(f"testbed: clutter is {self.clutter}; expected 0 to {MAX_CLUTTER:,}")
        for name, (low, high), least in (("side_px", self.side_px, 8), ("scale_px", self.scale_px, 4)):
            if not least <= low <= high <= MAX_SIDE_PX:
                expected = f"{least} <= shortest <= longest <= {MAX_SIDE_PX:,}"
                raise UserError(f"testbed: {name} is ({low}, {high}); expected {expected}")
        if self.most_emblems > self.room:
            emblems = f"up to {self.most_emblems} emblems of {self.scale_px[0]} pixels and more"
            pictures = f"pictures of {self.side_px[0]} pixels, which hold {self.room}"
            hint = "take fewer or smaller emblems, or larger pictures"
            raise UserError(f"testbed: {emblems} do not fit into {pictures}; {hint}")

    def shares(self) -> dict[str, float]:
        """Return every share by name, those of lists and types one by one."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        named = {name: value for name, value in values.items() if isinstance(value, float)}
        named |= {f"groundable of {type_}": share for type_, share in self.groundable}
        return named | {f"{name}[{k}]": x for name in ("counts", "bait") for k, x in enumerate(values[name])}

    @property
    def most_emblems(self) -> int:
        """Most emblems of a picture, without twins.

        Example:
            >>> Knobs().most_emblems  # four entities and two of bait
            6
        """
        most_named = max((k for k, share in enumerate(self.counts) if share), default=0)
        most_bait = max((k for k, share in enumerate(self.bait) if share), default=0)
        return most_named * any(share for _, share in self.groundable) + most_bait

    @property
    def room(self) -> int:
        """Number of the smallest emblems that the smallest picture holds in rows.

        Example:
            >>> Knobs().room  # three rows of three: 28 + 2 + 28 + 2 + 28 pixels of 112
            9
        """
        return ((self.side_px[0] + GAP_PX) // (self.scale_px[0] + GAP_PX)) ** 2

    def to_json(self) -> dict[str, Any]:
        """Return the knobs by name, JSON-ready, as `altered` accepts them."""
        return {**asdict(self), "groundable": dict(self.groundable)}


_ADAPTER = TypeAdapter(Knobs)
_ALWAYS = tuple((label, 1.0) for label in LABELS)
_MANY = (0.0, 0.45, 0.37, 0.14, 0.04)
DISTRIBUTIONS = {
    "caption": Knobs(counts=(0.0, 0.4, 0.35, 0.2, 0.05), groundable=_ALWAYS, bait=(1.0,), damaged=0.3),
    "gmner": Knobs(),
    "adversarial": Knobs(bait=(0.0, 0.6, 0.4), same_type_bait=0.9, look_alike_bait=0.4, counts=_MANY),
    "unseen": Knobs(held_out=True),
}


def find(distribution: str) -> Knobs:
    """Return the knobs of a named distribution.

    Raises:
        UserError: no such distribution; the message lists the known ones.
    """
    if distribution not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise UserError(f"unknown distribution {distribution!r} of the testbed; choose one of {known}")
    return DISTRIBUTIONS[distribution]


def altered(knobs: Knobs, departures: Mapping[str, Any]) -> Knobs:
    """Return the knobs with some values replaced, as a profile or a command line gives them.

    Args:
        departures: knob -> value; `groundable` as type -> share, where other types keep theirs.

    Raises:
        UserError: an unknown knob, a value of another type, or knobs that cannot be met.

    Example:
        >>> altered(Knobs(), {"bait": [1], "groundable": {"PER": 0.5}}).groundable[0]
        ('PER', 0.5)
    """
    names = [field.name for field in fields(Knobs)]
    for name in departures:
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"unknown knob {name!r} of the testbed{hint}; known: {', '.join(names)}")
    values = {**knobs.to_json(), **departures}
    groundable = values["groundable"]
    if not isinstance(groundable, Mapping):
        expected = f"expected type: share for some of {', '.join(LABELS)}"
        raise UserError(f"testbed: groundable is {groundable!r:.60}; {expected}")
    values["groundable"] = tuple((dict(knobs.groundable) | groundable).items())
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        (name, *_), _, reason = first_error(error)
        raise UserError(f"testbed: {name} is {departures[name]!r:.60}: {reason}") from error
