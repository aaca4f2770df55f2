"""Images of training rows, decoded and resized once for all epochs and for all answers to a prompt.

Kept are the pixels of 8 bits that the processor would resize to: its patches take eight times their bytes.
"""

import shutil
import tempfile
import weakref
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
from accelerate import PartialState
from PIL import Image
from torchvision.transforms.v2 import functional
from transformers import ProcessorMixin
from transformers.image_utils import SizeDict

from mcr_lib.data.images import open_image


class Pictures:
    """Images by path, resized: the latest in `memory`, earlier ones on `disk` below `folder`, in bytes.

    What has no room there is decoded anew. Files go with the object, those of a killed run with the next one.
    """

    def __init__(
        self, processor: ProcessorMixin, folder: Path, *, memory: int = 2**28, disk: int = 2**34
    ) -> None:
        self.processor, mine = processor.image_processor, f"pictures-{PartialState().process_index}-"
        for left in folder.glob(f"{mine}*"):
            shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=mine, dir=folder))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.memory, self.disk = memory, min(disk, shutil.disk_usage(folder).free // 4)  # of which is left
        self.latest: OrderedDict[str, Image.Image] = OrderedDict()
        self.stored: dict[str, Path] = {}

    def __call__(self, path: str) -> Image.Image:
        """The image as the processor would resize it; the same object for as long as it is in memory."""
        if path not in self.latest:
            self.latest[path] = image = self._stored(path) or self._resized(open_image(path))
            self.memory -= _bytes(image)
            while self.memory < 0 and len(self.latest) > 1:
                self._put_away(*self.latest.popitem(last=False))
        self.latest.move_to_end(path)
        return self.latest[path]

    def _put_away(self, path: str, image: Image.Image) -> None:
        self.memory += _bytes(image)
        if path not in self.stored and _bytes(image) <= self.disk:
            with suppress(OSError):
                np.save(file := self.folder / f"{len(self.stored)}.npy", np.asarray(image))
                self.stored[path], self.disk = file, self.disk - _bytes(image)

    def _stored(self, path: str) -> Image.Image | None:
        with suppress(KeyError, OSError):
            return Image.fromarray(np.load(self.stored[path]))

    def _resized(self, image: Image.Image) -> Image.Image:
        to, pixels = self.processor, functional.pil_to_tensor(image)[None]
        how = {"resample": to.resample, "factor": to.patch_size * to.merge_size}
        resized = functional.to_pil_image(to.resize(pixels, size=SizeDict(**dict(to.size)), **how)[0])
        n_patches = to.get_number_of_image_patches(resized.height, resized.width)
        is_final = n_patches * to.patch_size**2 == resized.width * resized.height
        return resized if is_final else image  # a thin one would be resized again


def _bytes(image: Image.Image) -> int:
    return 3 * image.width * image.height
