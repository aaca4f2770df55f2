"""The task: an Example is a tweet with its image and gold entities; a PredictedEntity is a model's output.

Source: task definition of GMNER (Yu et al., ACL 2023); the field names are ours (paper silent). Gold boxes
are always in pixels of the ORIGINAL image as the source wrote them (1-based in Twitter-GMNER, not shifted);
other coordinate spaces exist in `boxes` only.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from mcr_lib.boxes import Box

FORMAT_VERSION = 2  # of JSONL rows and manifests; raised when a reader of the old form would misread the new
FORMAT_NEWS = (
    "since then D_R holds pairs of tweet and style, and prompts, rewards and bias are the paper's own"
)

# The four constraints (C_s, C_t, C_e, C_u of the paper). A task is the subset that its source annotates.
CONSTRAINTS = ("span", "type", "groundable", "box")

# Coarse label -> the paper's word for it (Sec. 3); labels that are words (Twitter-FMNERG) stay as they are.
TYPE_WORDS = {
    "PER": "person", "LOC": "location", "ORG": "organization",
    "OTHER": "miscellaneous", "MIS": "miscellaneous", "MISC": "miscellaneous",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entity:
    """A gold entity of the text.

    Its boxes: `None` = not annotated, `()` = annotated as not in the image, else one or more.
    """

    text: str  # its tokens joined by one space
    start: int  # first token, counted from 0
    end: int  # one past the last token (half-open); `start < end`
    type: str | None  # a label of the source's label set, or `None` if the source annotates no types
    boxes_xyxy_px: tuple[Box, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            span = f"token span [{self.start}, {self.end})"
            raise ValueError(f"entity {self.text!r}: {span} is empty or negative")

    @property
    def span(self) -> tuple[int, int]:
        """The half-open token span (start, end)."""
        return (self.start, self.end)

    @property
    def is_groundable(self) -> bool | None:
        """Whether the image shows it; `None` if the source annotates no boxes."""
        return None if self.boxes_xyxy_px is None else bool(self.boxes_xyxy_px)


@dataclass(frozen=True, slots=True)
class ImageOnly:
    """Bait: something that the image shows and the text does not name (known on the testbed only)."""

    text: str
    type: str
    boxes_xyxy_px: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A tweet with its image(s) and its gold entities.

    Raises:
        ValueError: an entity outside the tokens or overlapping the one before it, a text that is not the
            entity's tokens, a type that is not in `labels`, or an unknown constraint.

    Example:
        >>> durant = Entity("Kevin Durant", 1, 3, "PER", ())
        >>> tweet = Example("1", "demo", "test", ("Go", "Kevin", "Durant"), (durant,), ("PER", "LOC"))
        >>> Example.from_row(tweet.to_row()) == tweet
        True
    """

    id: str  # unique within the source; safe as a file name
    source: str  # name and version of the data, e.g. "twitter-gmner-v2"
    split: str  # "train", "dev" or "test"; the testbed also has other distributions, e.g. "test_unseen"
    tokens: tuple[str, ...]  # as split by the source
    entities: tuple[Entity, ...]  # gold, in the order of the text, not overlapping
    labels: tuple[str, ...]  # the label set of the source, in its own order
    constraints: tuple[str, ...] = CONSTRAINTS  # those that the source annotates
    images: tuple[str, ...] = ()  # paths of the image files
    image_size_px: tuple[int, int] | None = None  # (width, height) of the first, `None` if unknown
    image_only: tuple[ImageOnly, ...] | None = None  # bait; `None` = unknown, `()` = known to be none

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ValueError(f"example {self.id}: {problem}")

    def _problem(self) -> str | None:
        for e in self.entities:
            if e.end > len(self.tokens) or " ".join(self.tokens[e.start : e.end]) != e.text:
                return f"entity {e.text!r} is not the tokens [{e.start}, {e.end})"
            if e.type is not None and e.type not in self.labels:
                return f"type {e.type!r} is not one of {', '.join(self.labels)}"
        if tangled := next((b for a, b in pairwise(self.entities) if b.start < a.end), None):
            return f"entity {tangled.text!r} begins before the end of the one before it"
        if unknown := set(self.constraints) - set(CONSTRAINTS):
            return f"unknown constraint {sorted(unknown)[0]!r}; known: {', '.join(CONSTRAINTS)}"
        return None

    @property
    def text(self) -> str:
        """The tokens joined by one space."""
        return " ".join(self.tokens)

    def to_row(self) -> dict[str, Any]:
        """The example as a JSON-ready dict; `from_row` restores it."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Example":
        """The example of a `to_row` row; `ValueError`: a field is missing, unknown or contradicts another."""
        try:
            fields = dict(row)
            gold = ({**e, "boxes_xyxy_px": _boxes(e.get("boxes_xyxy_px"))} for e in row["entities"])
            fields["entities"] = tuple(Entity(**e) for e in gold)
            if row.get("image_only") is not None:
                bait = ({**b, "boxes_xyxy_px": _boxes(b["boxes_xyxy_px"])} for b in row["image_only"])
                fields["image_only"] = tuple(ImageOnly(**b) for b in bait)
            for name in ("tokens", "labels", "constraints", "images", "image_size_px"):
                if fields.get(name) is not None:
                    fields[name] = tuple(fields[name])
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a row of an example: {error}") from error


@dataclass(frozen=True, slots=True)
class PredictedEntity:
    """An entity in a model's answer.

    No box = "not in the image"; else boxes are in the space given by the context (original pixels once
    scored). A well-formed answer has at most one; scorers differ in how they treat more.
    """

    text: str  # the name as the model wrote it
    type: str | None  # as the model wrote it, or `None` if the task has no types
    boxes_xyxy: tuple[Box, ...] = ()

    @property
    def box_xyxy(self) -> Box | None:
        """The first box, or `None` for "not in the image"."""
        return self.boxes_xyxy[0] if self.boxes_xyxy else None


def checksum(examples: Iterable[Example]) -> str:
    """A fingerprint of gold, in any order: 12 hex digits of the SHA-256 of ids, tokens and entities."""
    digest = hashlib.sha256()
    for example in sorted(examples, key=lambda e: e.id):
        gold = [{name: getattr(e, name) for name in Entity.__slots__} for e in example.entities]
        row = [example.id, example.tokens, gold]  # `asdict` would copy every box
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def _boxes(value: Any) -> tuple[Box, ...] | None:
    return None if value is None else tuple(tuple(box) for box in value)
