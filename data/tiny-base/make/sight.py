"""Dense vision: the vision tower learns the emblem and the box of each cell, before any language (ours).

Each visual token (a cell of 28 pixels) predicts the name of the emblem that covers it most, or none, and that
emblem's box as four numbers. Box predictions are compared with the token vectors of numbers, so a visual
token comes to hold them in the form the language model reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from architecture import UNIT_PX, number_ids
from mcr_lib import boxes, testbed
from mcr_lib.testbed import drawing
from mcr_lib.testbed.world import BEINGS
from tasks import BUSY, TARGET, written

_LEAST_COVER = 0.2
"""Least share of a cell that an emblem must cover to count there."""

_NUMBER_OF = {being.name: k + 1 for k, being in enumerate(BEINGS)}


class Heads(nn.Module):
    """Heads of the dense task, discarded afterwards.

    Args:
        hidden: width of a visual token.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.name = nn.Linear(hidden, len(BEINGS) + 1)
        self.box = nn.Linear(hidden, 4 * hidden)


@dataclass(frozen=True, slots=True)
class Cells:
    """A batch of pictures, cell by cell.

    Args:
        pixel_values: from the processor.
        image_grid_thw: (n_pictures, 3).
        names: (n_cells,): 0 = none, else number of the being.
        boxes_xyxy: (n_cells, 4): whole numbers in model pixels; zeros without emblem.
    """

    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor
    names: torch.Tensor
    boxes_xyxy: torch.Tensor


def cells(processor: Qwen2_5_VLProcessor, indices: Sequence[int], *, split: str, seed: int) -> Cells:
    """Draw the pictures of these indices of a crowded `gmner` and label their cells."""
    items = [testbed.make("gmner", split, index, seed=seed, knobs=BUSY) for index in indices]
    inputs = processor.image_processor([drawing.draw(item.scene) for item in items], return_tensors="pt")
    names, targets = zip(*(cell for item in items for cell in _labels(item)), strict=True)
    pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
    return Cells(pixels, grid, torch.tensor(names), torch.tensor(targets))


def number_vectors(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> torch.Tensor:
    """Return the token vectors of 0, 1, 2, ..., scaled to a mean length of 4; shape (n_numbers, hidden)."""
    vectors = model.get_input_embeddings().weight.detach()[number_ids(processor.tokenizer, "{}")]
    return vectors / vectors.norm(dim=1).mean() * 4


def sight(
    model: Qwen2_5_VLForConditionalGeneration, heads: Heads, numbers: torch.Tensor, batch: Cells
) -> dict[str, torch.Tensor]:
    """Return the losses `is_there`, `name` and `box`.

    Args:
        numbers: from `number_vectors`.
    """
    pixels = batch.pixel_values.to(model.dtype)
    features = model.model.visual(pixels, grid_thw=batch.image_grid_thw).pooler_output
    is_covered = batch.names > 0
    logits = heads.name(features).float()
    box_logits = (heads.box(features[is_covered]).view(-1, 4, numbers.shape[1]) @ numbers.T).float()
    is_there = logits[:, 1:].logsumexp(1) - logits[:, 0]
    return {
        "is_there": F.binary_cross_entropy_with_logits(is_there, is_covered.float()),
        "name": F.cross_entropy(logits[is_covered, 1:], batch.names[is_covered] - 1),
        "box": F.cross_entropy(box_logits.flatten(0, 1), batch.boxes_xyxy[is_covered].flatten()),
    }


def _labels(item: testbed.Generated) -> list[tuple[int, tuple[float, ...]]]:
    """Return (name, box) of each cell, row by row."""
    width, height = (side // UNIT_PX for side in TARGET.size(item.example))
    placed = [(_NUMBER_OF[s.name], written(item.example, s.box_xyxy_px)) for s in item.scene.shown]
    labels = []
    for row in range(height):
        for column in range(width):
            x, y = column * UNIT_PX, row * UNIT_PX
            best, name, at = _LEAST_COVER, 0, (0, 0, 0, 0)
            for number, (x1, y1, x2, y2) in placed:
                both = (max(x1, x), max(y1, y), min(x2, x + UNIT_PX), min(y2, y + UNIT_PX))
                cover = boxes.area_px2(both) / UNIT_PX**2
                if cover > best:
                    best, name, at = cover, number, (x1, y1, x2, y2)
            labels.append((name, at))
    return labels
