"""Modality: which half of a tweet a model gets; one half alone is a baseline (ours; paper silent).

    full    text and image
    text    the image is replaced by a grey one of the same size
    image   the text is removed

The gold stays that of the whole tweet in training and scoring, so a baseline can guess as well as its half
allows. Grey is one constant colour, since the mean colour of an image would give its content away.
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
    """Return a tweet as a model's input, not to be scored (gold may be gone); `folder` gets grey images."""
    if modality == "image":
        return replace(example, tokens=(), entities=())
    if modality == "full" or not example.images:
        return example
    width, height = example.image_size_px  # of the first; the others are as grey
    path = Path(folder) / f"grey_{width}x{height}.png"
    if not path.is_file():
        with written_whole(path, "wb") as file:
            Image.new("RGB", (width, height), GREY).save(file, format="PNG")
    return replace(example, images=(str(path),) * len(example.images))
