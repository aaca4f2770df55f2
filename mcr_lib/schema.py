"""The task: an Example is a tweet with its image and gold entities; a PredictedEntity is what a model says.

Source: task definition of GMNER (Yu et al., ACL 2023); the field names are ours (paper silent). Boxes of gold
are always in pixels of the ORIGINAL image as the source wrote them (1-based in Twitter-GMNER, no shift);
other coordinate spaces exist in `boxes` only.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from mcr_lib.boxes import Box

FORMAT_VERSION = 1
"""Version of every JSONL row and manifest that this package writes; raised when a reader of the old form
would misread the new.
"""

CONSTRAINTS = ("span", "type", "groundable", "box")
"""The four constraints by name (C_s, C_t, C_e, C_u of the paper). A task is the subset that its source
annotates.
"""


@dataclass(frozen=True, slots=True)
class Entity:
    """A gold entity of the text.

    Args:
        text: its tokens joined by one space.
        start: first token, counted from 0.
        end: one past the last token (half-open); `start < end`.
        type: a label of the source's label set, or `None` where the source annotates no types.
        boxes_xyxy_px: `None` = not annotated, `()` = annotated as not in the image, else one or more boxes
            (x1, y1, x2, y2) in pixels of the original image.

    Example:
        >>> Entity("Oracle Arena", 4, 6, "LOC", ()).is_groundable
        False
    """

    text: str
    start: int
    end: int
    type: str | None
    boxes_xyxy_px: tuple[Box, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(
                f"entity {self.text!r}: token span [{self.start}, {self.end}) is empty or negative"
            )

    @property
    def span(self) -> tuple[int, int]:
        """The half-open token span (start, end)."""
        return (self.start, self.end)

    @property
    def is_groundable(self) -> bool | None:
        """Whether the image shows it: `None` where the source annotates no boxes."""
        return None if self.boxes_xyxy_px is None else bool(self.boxes_xyxy_px)


@dataclass(frozen=True, slots=True)
class ImageOnly:
    """Bait: something that the image shows and the text does not name (known on the testbed only).

    Args:
        text: its name, which does not occur in the text.
        type: a label of the source's label set.
        boxes_xyxy_px: one or more boxes in pixels of the original image.
    """

    text: str
    type: str
    boxes_xyxy_px: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A tweet with its image(s) and its gold entities.

    Args:
        id: unique within the source; safe as a file name.
        source: name and version of the data, e.g. "twitter-gmner-v2".
        split: "train", "dev" or "test"; on the testbed also one of another distribution, e.g. "test_unseen".
        tokens: as the source split them.
        entities: gold, in the order of the text, not overlapping.
        labels: the label set of the source, in its own order.
        constraints: which of `CONSTRAINTS` the source annotates.
        images: paths of the image files, possibly none.
        image_size_px: (width, height) of the first image as annotated, or `None` where unknown.
        image_only: bait; `None` = unknown, `()` = known to be none.

    Raises:
        ValueError: an entity lies outside the tokens or before the end of the one before it, its text is not
            its tokens, or its type is not in `labels`.

    Example:
        >>> tweet = Example("1", "demo", "test", ("Go", "Kevin", "Durant"), (Entity("Kevin Durant", 1, 3, "PER", ()),), ("PER", "LOC"))
        >>> tweet.text
        'Go Kevin Durant'
        >>> Example.from_row(tweet.to_row()) == tweet
        True
    """

    id: str
    source: str
    split: str
    tokens: tuple[str, ...]
    entities: tuple[Entity, ...]
    labels: tuple[str, ...]
    constraints: tuple[str, ...] = CONSTRAINTS
    images: tuple[str, ...] = ()
    image_size_px: tuple[int, int] | None = None
    image_only: tuple[ImageOnly, ...] | None = None

    def __post_init__(self) -> None:
        for entity in self.entities:
            if (
                entity.end > len(self.tokens)
                or " ".join(self.tokens[entity.start : entity.end]) != entity.text
            ):
                raise ValueError(
                    f"example {self.id}: entity {entity.text!r} is not the tokens [{entity.start}, {entity.end})"
                )
            if entity.type is not None and entity.type not in self.labels:
                raise ValueError(
                    f"example {self.id}: type {entity.type!r} is not one of {', '.join(self.labels)}"
                )
        if tangled := next((b for a, b in pairwise(self.entities) if b.start < a.end), None):
            raise ValueError(
                f"example {self.id}: entity {tangled.text!r} begins before the end of the one before it"
            )
        if unknown := set(self.constraints) - set(CONSTRAINTS):
            raise ValueError(
                f"example {self.id}: unknown constraint {sorted(unknown)[0]!r}; known: {', '.join(CONSTRAINTS)}"
            )

    @property
    def text(self) -> str:
        """The tokens joined by one space."""
        return " ".join(self.tokens)

    def to_row(self) -> dict[str, Any]:
        """The example as a JSON-ready dict; `from_row` gives an equal example back."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Example":
        """The example of a row that `to_row` made, before or after JSON.

        Raises:
            ValueError: a field is missing, unknown or contradicts another.
        """
        try:
            fields = dict(row)
            fields["entities"] = tuple(
                Entity(**{**e, "boxes_xyxy_px": _boxes(e.get("boxes_xyxy_px"))}) for e in row["entities"]
            )
            if row.get("image_only") is not None:
                fields["image_only"] = tuple(
                    ImageOnly(**{**b, "boxes_xyxy_px": _boxes(b["boxes_xyxy_px"])}) for b in row["image_only"]
                )
            for name in ("tokens", "labels", "constraints", "images", "image_size_px"):
                if fields.get(name) is not None:
                    fields[name] = tuple(fields[name])
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a row of an example: {error}") from error


@dataclass(frozen=True, slots=True)
class PredictedEntity:
    """An entity that a model says is there.

    Args:
        text: the name as the model wrote it.
        type: the type as the model wrote it, or `None` where the task has no types.
        boxes_xyxy: `()` = "not in the image"; else boxes in the space that the context names (original pixels
            once scored). A well-formed answer has at most one; more are kept so that a scorer may say how it
            treats them.
    """

    text: str
    type: str | None
    boxes_xyxy: tuple[Box, ...] = ()

    @property
    def box_xyxy(self) -> Box | None:
        """The first box, or `None` for "not in the image"."""
        return self.boxes_xyxy[0] if self.boxes_xyxy else None


def _boxes(value: Any) -> tuple[Box, ...] | None:
    return None if value is None else tuple(tuple(box) for box in value)


def checksum(examples: Iterable[Example]) -> str:
    """A short fingerprint of gold annotation: the first 12 hex digits of a SHA-256 over ids, tokens and
    entities.

    Image paths do not count, so the same annotation has the same checksum on every machine; the order of the
    examples does not count either.

    Example:
        >>> checksum([]) == checksum(iter(()))
        True
    """
    digest = hashlib.sha256()
    for example in sorted(examples, key=lambda e: e.id):
        row = [example.id, example.tokens, [asdict(entity) for entity in example.entities]]
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:12]
