"""Knobs: the parameters of a distribution of the testbed, and those of each named distribution."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.data.validation import did_you_mean, first_error
from mcr_lib.errors import UserError

_MAX_SIDE_PX = 2048
GAP_PX = 2  # least distance between two emblems
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Knobs:
    """Parameters of a distribution, by default `gmner`; `altered` refuses those that cannot be met."""

    # tweets with 0, 1, 2, ... entities
    counts: Annotated[tuple[Share, ...], Field(max_length=7)] = (0.05, 0.43, 0.35, 0.13, 0.04)
    # share of the mentions of each type that the picture shows
    groundable: tuple[tuple[str, Share], ...] = (("PER", 0.65), ("LOC", 0.09), ("ORG", 0.28), ("OTHER", 0.26))
    # pictures with 0, 1, 2, ... emblems that are not named
    bait: Annotated[tuple[Share, ...], Field(max_length=13)] = (0.4, 0.4, 0.2)
    same_type_bait: Share = 0.5  # bait of the type of a mention that is not shown, if there is one
    look_alike_bait: Share = 0.3  # of that bait: differs from the mention's emblem in the mark alone
    repeated: Share = 0.02  # one-entity tweets that name it twice
    twins: Share = 0.06  # shown entities that are drawn twice
    # share of tweets drawn by these knobs; in the others the picture shows what is named and nothing else
    contradicting: Share = 1.0
    damaged: Share = 0.0  # tweets in which the text damages one name, though it is shown
    held_out: bool = False  # frames and pairs are those reserved for `unseen`
    side_px: tuple[int, int] = (112, 168)  # shortest and longest side of a picture
    scale_px: tuple[int, int] = (28, 60)  # shortest and longest side of an emblem
    occlusion: Share = 0.1  # emblems with a hidden strip
    clutter: Annotated[int, Field(ge=0, le=1000)] = 10  # most lines and blobs in the background

    def __post_init__(self) -> None:
        if sorted(label for label, _ in self.groundable) != sorted(LABELS):
            raise UserError(f"testbed: groundable must give one share for each of {', '.join(LABELS)}")
        for name, shares in (("counts", self.counts), ("bait", self.bait)):
            if abs(sum(shares) - 1) > 1e-6:
                raise UserError(f"testbed: {name} must sum to 1, found {sum(shares):g}")
        for name, (low, high), least in (("side_px", self.side_px, 8), ("scale_px", self.scale_px, 4)):
            if not least <= low <= high <= _MAX_SIDE_PX:
                expected = f"{least} <= shortest <= longest <= {_MAX_SIDE_PX:,}"
                raise UserError(f"testbed: {name} is ({low}, {high}); expected {expected}")
        n_named, n_bait = (max(k for k, share in enumerate(one) if share) for one in (self.counts, self.bait))
        n_emblems = n_named * any(share for _, share in self.groundable) + n_bait
        room = ((self.side_px[0] + GAP_PX) // (self.scale_px[0] + GAP_PX)) ** 2  # smallest ones, in rows
        if n_emblems > room:
            emblems = f"up to {n_emblems} emblems of {self.scale_px[0]} pixels and more"
            pictures = f"pictures of {self.side_px[0]} pixels, which hold {room}"
            hint = "take fewer or smaller emblems, or larger pictures"
            raise UserError(f"testbed: {emblems} do not fit into {pictures}; {hint}")

    def to_json(self) -> dict[str, Any]:
        """Return the knobs by name, JSON-ready, as `altered` accepts them."""
        return {**asdict(self), "groundable": dict(self.groundable)}


ALWAYS = tuple((label, 1.0) for label in LABELS)
_MANY = (0.0, 0.45, 0.37, 0.14, 0.04)
DISTRIBUTIONS = {
    "caption": Knobs(counts=(0.0, 0.4, 0.35, 0.2, 0.05), groundable=ALWAYS, bait=(1.0,), damaged=0.3),
    "gmner": Knobs(),
    "adversarial": Knobs(bait=(0.0, 0.6, 0.4), same_type_bait=0.9, look_alike_bait=0.4, counts=_MANY),
    "unseen": Knobs(held_out=True),
    "shortcut": Knobs(contradicting=0.03),
}


def find(distribution: str) -> Knobs:
    """Return the knobs of a named distribution."""
    if distribution not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise UserError(f"unknown distribution {distribution!r} of the testbed; choose one of {known}")
    return DISTRIBUTIONS[distribution]


def altered(knobs: Knobs, departures: Mapping[str, Any]) -> Knobs:
    """Return the knobs with some values replaced; of `groundable`, types that are not given keep their share.

    Example:
        >>> altered(Knobs(), {"bait": [1], "groundable": {"PER": 0.5}}).groundable[0]
        ('PER', 0.5)
    """
    names = [field.name for field in fields(Knobs)]
    for name in departures:
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"unknown knob {name!r} of the testbed{hint}; known: {', '.join(names)}")
    groundable = departures.get("groundable", {})
    if not isinstance(groundable, Mapping):
        expected = f"expected type: share for some of {', '.join(LABELS)}"
        raise UserError(f"testbed: groundable is {groundable!r:.60}; {expected}")
    shares = dict(knobs.groundable) | groundable
    values = {**knobs.to_json(), **departures, "groundable": tuple(shares.items())}
    try:
        return TypeAdapter(Knobs).validate_python(values)
    except ValidationError as error:
        (name, *_), _, reason = first_error(error)
        raise UserError(f"testbed: {name} is {departures[name]!r:.60}: {reason}") from error
