"""One tweet: what a model says of it, in pixels of the image, and a picture of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcr_lib import prompts
from mcr_lib.boxes import MAX_RATIO
from mcr_lib.data.files import written_whole
from mcr_lib.data.images import open_image
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.errors import UserError
from mcr_lib.schema import Example
from mcr_lib.study.runs.config import Config

PIXELS = tuple(Config.model_fields[key].default for key in ("min_pixels", "max_pixels"))
"""Of an image of a released model, as profiles have it; other models have their own."""


def predict(
    model: str,
    text: str,
    *,
    image: str | None = None,
    prompt: prompts.Kind | None = None,
    max_new_tokens: int = 512,
    device: str | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """What a model says of a tweet, greedily.

    Args:
        model: a backbone by name or folder, also one of an adapter.
        base: of an adapter, where it is not where it was.
        image: a file; turned upright as its EXIF data say.
        prompt: `None` = the one that the model was trained to be asked.

    Returns:
        `entities` (entity, type, bbox_2d in whole pixels of the upright image or `None`), the raw `answer`,
        its `reasoning`, `parse` (the reason why it could not be read, what had to be mended),
        `image_size_px`, `prompt`.

    Raises:
        UserError: an empty text, an image that cannot be read or is too thin, or a model that cannot be
            loaded.
    """
    from mcr_lib.training import backbones
    from mcr_lib.training.generate import answer_batch

    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}; an answer has at least one token")
    if not text.split():
        raise UserError("the tweet is empty; --text takes its words")
    picture = None if image is None else open_image(image, upright=True)
    if picture is not None and max(picture.size) > MAX_RATIO * min(picture.size):
        raise UserError(
            f"{image}: {picture.size[0]} x {picture.size[1]} pixels is too thin; models take sides up to {MAX_RATIO} : 1"
        )
    backbone = backbones.load(
        model, device=device, base=base, dtype=backbones.usual_dtype(model, device), pixels=PIXELS
    )
    images, size = ((), None) if picture is None else ((str(image),), picture.size)
    example = Example(
        "tweet", "given", "given", tuple(text.split()), (), LABELS, images=images, image_size_px=size
    )
    chat = prompts.messages(example, prompt or backbone.prompt, wording=backbone.wording)
    (answer,), (sizes,) = answer_batch(
        backbone, [chat], [[] if picture is None else [picture]], max_new_tokens=max_new_tokens
    )
    seen = {"coordinate_space": backbone.space, "model_size": sizes[0]} if sizes else {}
    parsed, entities = parse_prediction(
        Prediction("tweet", answer, image_size_px=size, **seen), example, "lenient"
    )
    return {
        "entities": [{"entity": e.text, "type": e.type, "bbox_2d": _whole(e.box_xyxy, size)} for e in entities],
        "answer": answer, "reasoning": parsed.think, "parse": {"reason": parsed.reason, "repairs": list(parsed.repairs)},
        "image_size_px": size and list(size), "prompt": prompt or backbone.prompt,
    }  # fmt: skip


def draw(said: Mapping[str, Any], image: str | None, out: str | Path) -> None:
    """Write the image with the boxes of an answer, in the colour of their type, each with its name.

    Raises:
        UserError: there is no image, or the file cannot be written.
    """
    if image is None:
        raise UserError("--draw needs --image: there is nothing to draw boxes on")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from mcr_lib.study.figures import boxes, palette

    picture = open_image(image, upright=True)
    with mpl.rc_context():
        palette.use_style()
        mpl.rcParams["savefig.bbox"] = "standard"  # the image to its edges, no margin
        width = 6.0
        figure = Figure(
            figsize=(width, max(1.0, width * picture.height / picture.width)), dpi=150, layout="none"
        )
        ax = figure.add_axes((0, 0, 1, 1))
        ax.imshow(picture, extent=(0, picture.width, picture.height, 0), aspect="auto")
        ax.set(xlim=(0, picture.width), ylim=(picture.height, 0))
        ax.set_axis_off()
        for entity in said["entities"]:
            if entity["bbox_2d"]:
                colour = palette.entity_type(entity["type"])
                boxes.draw_box(ax, entity["bbox_2d"], colour, "solid", entity["entity"])
        with written_whole(out, "wb") as file:
            figure.savefig(file, format="png")


def summary(said: Mapping[str, Any]) -> str:
    """The answer to one tweet, a line per entity."""
    lines = [f"{e['type'] or '–':6} {e['entity']}: {_where(e['bbox_2d'])}" for e in said["entities"]]
    if said["parse"]["reason"]:
        return f"the answer could not be read ({said['parse']['reason']}): {said['answer'][:300]}"
    mended = [f"(mended: {', '.join(said['parse']['repairs'])})"] if said["parse"]["repairs"] else []
    return "\n".join([*(lines or ["no entity"]), *mended])


def _where(box: Any) -> str:
    return "not in the image" if box is None else f"at {box[0]}, {box[1]} to {box[2]}, {box[3]}"


def _whole(box: Any, size: tuple[int, int] | None) -> list[int] | None:
    """A box in whole pixels within the image."""
    if box is None or size is None:
        return None
    return [min(max(round(value), 0), size[k % 2]) for k, value in enumerate(box)]
