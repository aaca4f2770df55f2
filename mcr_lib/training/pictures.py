"""Images of training rows, decoded and resized once for all epochs and for all answers to a prompt.

Kept are the pixels of 8 bits that the processor would resize to: its patches take eight times their bytes.
"""

import shutil
import tempfile
import weakref
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np
from accelerate import PartialState
from PIL import Image
from torchvision.transforms.v2 import functional
from transformers import ProcessorMixin
from transformers.image_utils import SizeDict

from mcr_lib.data.images import open_image


class Pictures:
    """Images by path, as the processor would resize them: the latest in memory, others on disk, in pixels.

    What has no room there is decoded anew. Files go with the object, those of a killed run with the next one.
    """

    def __init__(
        self, of: ProcessorMixin, folder: Path, *, memory: int = 10**8, disk: int = 6 * 10**9
    ) -> None:
        self.processor, mine = of.image_processor, f"pictures-{PartialState().process_index}-"
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{mine}*"):
            shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=mine, dir=folder))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.memory, self.disk = memory, min(disk, shutil.disk_usage(folder).free // 30)  # a tenth, left
        self.latest: dict[str, Image.Image] = {}  # the last one used is the last one
        self.stored: dict[str, Path] = {}

    def __call__(self, path: str) -> Image.Image:
        """The image; the same object for as long as it is in memory."""
        if (image := self.latest.pop(path, None)) is None:
            image = self._read(path)
            self.memory -= prod(image.size)
            while self.memory < 0 and self.latest:
                self._put_away(oldest := next(iter(self.latest)), self.latest.pop(oldest))
        self.latest[path] = image
        return image

    def _put_away(self, path: str, image: Image.Image) -> None:
        self.memory += (n_pixels := prod(image.size))
        if path not in self.stored and n_pixels <= self.disk:
            with suppress(OSError):
                np.save(file := self.folder / f"{len(self.stored)}.npy", np.asarray(image))
                self.stored[path], self.disk = file, self.disk - n_pixels

    def _read(self, path: str) -> Image.Image:
        with suppress(KeyError, OSError):
            return Image.fromarray(np.load(self.stored[path]))
        to, image = self.processor, open_image(path)
        how = {"resample": to.resample, "factor": to.patch_size * to.merge_size}
        how["temporal_factor"] = to.temporal_patch_size  # of GLM's; others pass over it
        pixels = to.resize(functional.pil_to_tensor(image)[None], size=SizeDict(**dict(to.size)), **how)[0]
        height, width = pixels.shape[1:]
        is_final = to.get_number_of_image_patches(height, width) * to.patch_size**2 == height * width
        return functional.to_pil_image(pixels) if is_final else image  # a thin one would be resized again
