"""What a model is shown of a tweet: all of it, or one of its two halves, for floors that no grounded answer
can fall below.

    full    text and image
    text    the image is a grey picture of the same size: what the words and the habits of the training set give
    image   the text is taken out: what the image and the frequency of names give

The gold stays that of the whole tweet, in training as in scoring, so a floor learns to guess as well as its
half allows (paper silent; ours). Grey is one constant colour: the mean colour of an image would still tell
what it shows.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from mcr_lib.data.files import written_whole
from mcr_lib.schema import Example

Modality = Literal["full", "text", "image"]

GREY = (127, 127, 127)


def masked(example: Example, modality: Modality, folder: str | Path) -> Example:
    """A tweet as a model of this modality is asked about it; not to be scored, since its gold may be gone with
    its text.

    Args:
        folder: where grey pictures go, one per size.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> tweet = Example("7", "demo", "test", ("Go", "Rome"), (), ("LOC",), images=("7.jpg",), image_size_px=(60, 45))
        >>> masked(tweet, "image", ".").text, masked(tweet, "image", ".").images
        ('', ('7.jpg',))
    """
    if modality == "image":
        return replace(example, tokens=(), entities=())
    if modality == "text" and example.images:
        width, height = example.image_size_px
        return replace(example, images=(str(_grey(Path(folder), width, height)),))
    return example


def _grey(folder: Path, width: int, height: int) -> Path:
    path = folder / f"grey_{width}x{height}.png"
    if not path.is_file():
        with written_whole(path, "wb") as file:
            Image.new("RGB", (width, height), GREY).save(file, format="PNG")
    return path
