"""What pre-flight looks at: the profile, the machine, the data, a few tweets, the backbone without its
weights. Each is found out once.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mcr_lib.data.images import image_size, usable_images
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.runs.settings import Study
from mcr_lib.training import cards, families, memory

N_TRIED = 24
"""Tweets whose rows are made and looked at: the longest texts, the most entities, the largest images, and
some between.
"""

N_TESTBED = 8
"""Tweets per split of the testbed that is made for trying."""


@dataclass(frozen=True)
class Line:
    """One line of the table: mark, what was checked, what was found, what to do."""

    mark: Literal["✓", "✗", "–"]
    check: str
    found: str
    todo: str = ""


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees."""

    name: str
    n_bytes: int
    has_bfloat16: bool


class Around:
    """What the checks of a profile look at, found out once.

    Args:
        loaded: the configuration.
        scratch: a folder for what has to be made to be tried.
    """

    def __init__(self, loaded: Loaded, scratch: Path) -> None:
        self.loaded, self.config = loaded, loaded.config
        sizes = {name: min(n, N_TESTBED) for name, n in self.config.testbed_sizes.items()}
        trial = replace(
            loaded, config=self.config.model_copy(update={"testbed_sizes": sizes}), folder=scratch
        )
        self.study = Study(
            trial if self.config.data_dir is None or self.config.backbone == "random" else loaded
        )
        self.outlines: dict[str, Any] = {}
        self.lengths: dict[str, tuple[int, int]] = {}

    @property
    def trained(self) -> list[str]:
        """Settings that are trained."""
        return [name for name, setting in self.study.settings.items() if setting.stage != "none"]

    @cached_property
    def gpus(self) -> list[Gpu] | None:
        """The GPUs; `None` without torch."""
        try:
            import torch
        except ImportError:
            return None
        if not torch.cuda.is_available():
            return []
        found = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
        return [Gpu(each.name, each.total_memory, each.major >= 8) for each in found]

    @property
    def needs_gpu(self) -> bool:
        """Whether the profile is made for GPUs."""
        return self.config.device == "cuda" or self.config.quantization == "4bit"

    @property
    def n_processes(self) -> int:
        """How many processes will share an update."""
        return self.config.n_processes or (len(self.gpus or ()) if self.config.device != "cpu" else 0) or 1

    @cached_property
    def splits(self) -> dict[str, list[Example]]:
        """The tweets by split, with the paths of their images."""
        return prepare.load_examples(self.study.loaded)

    @cached_property
    def tweets(self) -> list[Example]:
        """A few training tweets with a usable image."""
        found = [example for example in self.splits.get("train", ()) if example.images]
        by = (lambda e: -len(e.text), lambda e: -len(e.entities), lambda e: -_area(e))
        chosen = [e for order in by for e in sorted(found, key=order)[: N_TRIED // 4]]
        chosen += found[:: max(1, len(found) // N_TRIED)]
        few = list({example.id: example for example in chosen}.values())[:N_TRIED]
        return usable_images(few, on_bad_image="skip")[0]

    @cached_property
    def outline(self) -> Any:
        """The backbone without its weights.

        Raises:
            UserError: it is not here, or not whole.
        """
        from mcr_lib.training import backbones

        return backbones.outline(self.study.backbone, pixels=self.study.pixels)

    @cached_property
    def shape(self) -> memory.Shape | None:
        """What memory depends on: of the backbone's own files, else of the published numbers; `None` where
        neither is known.
        """
        try:
            folder = cards.folder_of(self.study.backbone)
            return memory.Shape.of(cards.config(folder), cards.n_parameters(folder, self.study.backbone))
        except UserError:
            known = families.PUBLISHED.get(self.config.backbone)
            return known and memory.Shape.of(known.config, known.n_parameters)


def _area(example: Example) -> int:
    try:
        width, height = example.image_size_px or image_size(example.images[0])
    except UserError:
        return 0
    return width * height
