"""`mcr predict`: the entities of one tweet, with boxes in pixels of its image, and a picture of them."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from mcr_lib.answer import NO_PLACE
from mcr_lib.data.files import written_whole
from mcr_lib.data.images import image_problem, open_image
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.data.twitter_gmner import LABELS
from mcr_lib.errors import UserError
from mcr_lib.matching import spaced
from mcr_lib.prompts import Kind
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.figures import boxes, palette
from mcr_lib.study.runs.config import Config
from mcr_lib.training import backbones, generate


def command(given: Namespace) -> int:
    """`mcr predict`."""
    options = {key: getattr(given, key) for key in ("image", "prompt", "max_new_tokens", "base")}
    result = predict(given.model, given.text, **options)
    if given.draw:
        draw(result, given.image, given.draw)
    print(json.dumps(result, indent=2, ensure_ascii=False) if given.json else _summary(result))
    return 0


def predict(
    model: str, text: str, *, image: str | None = None, prompt: Kind | None = None, max_new_tokens: int = 512,
    device: str | None = None, base: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The entities that a model finds in a tweet, greedily, with boxes in whole pixels of the upright image,
    not clipped to it (as in scoring); `unreadable_box` marks one that could not be read. `prompt` is by
    default the format it was trained on; `base` is where the base of an adapter is now.
    """
    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}; an answer has at least one token")
    if not (words := tuple(text.split())):
        raise UserError("the tweet is empty; --text takes its words")
    pictures = [] if image is None else [open_image(image, upright=True)]
    paths, size = ((str(image),), pictures[0].size) if pictures else ((), None)
    if size and (problem := image_problem(image)[1]):
        raise UserError(f"{image}: {problem}")
    pixels = tuple(Config.model_fields[key].default for key in ("min_pixels", "max_pixels"))
    how = {"device": device, "base": base, "dtype": backbones.usual_dtype(model, device), "pixels": pixels}
    backbone = backbones.load(model, **how)
    example = Example("tweet", "given", "given", words, (), LABELS, images=paths, image_size_px=size)
    prompt = prompt or backbone.prompt
    chat = backbone.messages(example, prompt)
    (answer,), (sizes,) = generate.answer_batch(backbone, [chat], [pictures], max_new_tokens=max_new_tokens)
    space = {"coordinate_space": backbone.space, "model_size": sizes[0]} if sizes else {}
    prediction = Prediction("tweet", answer, image_size_px=size, **space)
    parsed, read = parse_prediction(prediction, example, "lenient")

    def row(e: PredictedEntity) -> dict[str, Any]:
        lost = {"unreadable_box": True} if e.boxes_xyxy == NO_PLACE else {}
        box = list(map(round, e.box_xyxy)) if size and e.boxes_xyxy and not lost else None
        return {"entity": spaced(e.text), "type": e.type, "bbox_2d": box, **lost}

    return {
        "entities": list(map(row, read)),
        "answer": answer, "reasoning": parsed.think,
        "parse": {"reason": parsed.reason, "repairs": list(parsed.repairs)},
        "image_size_px": size and list(size), "prompt": prompt,
    }  # fmt: skip


def draw(result: dict[str, Any], image: str | None, out: str | Path) -> None:
    """Write the image with the boxes of a result of `predict`, each with type and name."""
    if image is None:
        raise UserError("--draw needs --image: there is nothing to draw boxes on")
    kinds = Figure().canvas.get_supported_filetypes()
    if (kind := Path(out).suffix[1:].lower() or "png") not in kinds:
        raise UserError(f"--draw {out}: no picture can be written as .{kind}; choose from {', '.join(kinds)}")
    picture = open_image(image, upright=True)
    width, height = picture.size
    with mpl.rc_context():
        palette.use_style()
        mpl.rcParams["savefig.bbox"] = "standard"  # the image to its edges, no margin
        figure = Figure(figsize=(6.0, max(1.0, 6.0 * height / width)), dpi=150, layout="none")
        ax = figure.add_axes((0, 0, 1, 1))
        ax.imshow(picture, extent=(0, width, height, 0), aspect="auto")
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.set_axis_off()
        for entity in (entity for entity in result["entities"] if entity["bbox_2d"]):
            label = f"{entity['type'] or ''} {entity['entity']}"
            boxes.draw_box(ax, entity["bbox_2d"], palette.DARK, "solid", label)
        with written_whole(out, "wb") as file:
            figure.savefig(file, format=kind)


def _summary(result: dict[str, Any]) -> str:
    parse, lines = result["parse"], []
    if parse["reason"]:
        return f"the answer could not be read ({parse['reason']}): {result['answer'][:300]}"
    for entity in result["entities"]:
        where = "at {}, {} to {}, {}".format(*entity["bbox_2d"]) if entity["bbox_2d"] else "not in the image"
        where = "its box could not be read" if entity.get("unreadable_box") else where
        lines.append(f"{entity['type'] or '–':6} {entity['entity']}: {where}")
    repairs = [f"(mended: {', '.join(parse['repairs'])})"] if parse["repairs"] else []
    return "\n".join([*(lines or ["no entity"]), *repairs])
