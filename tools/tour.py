"""Publishes a finished run of the default profile: `python -m tools.tour outputs/tiny` (`make tour`).

    docs/tour/NAME.ipynb    the notebooks as they ran: cells of notebooks/, outputs of the run, figures of at
                            most 256 colours; no path or name of a machine, no progress, no times of cells
    docs/tour/report.html   the report, likewise, its links led to the notebooks and numbers beside it
    docs/tour/thumbs/       a figure per notebook, for the table in README.md
    docs/tour/example.png   README's picture (tools/picture.py)
    docs/tour/tour.json     which run it is: commit, checksums; what README says of the picture
    data/results/tiny/      the evidence: results.csv and manifest.json of the same run

Then it makes the tables of the documents anew (tools/readme.py), so that all of them are of one run.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mcr_lib.data.files import read_text, write_json, write_text, written_whole
from mcr_lib.errors import UserError
from mcr_lib.study.compare.tables import CONTROLLED
from mcr_lib.study.runs import artifacts, config
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import repository
from tools import picture, readme

TOUR, EVIDENCE = "docs/tour", "data/results/tiny"
THUMBNAILS = {  # notebook -> the figure of the run that stands for it
    "01_data_preparation": "01_testbed",
    "02_schema_injection": "02_rewards",
    "03_sft": "03_curves",
    "04_cvo": "04_hand_made",
    "05_evaluation": "05_errors",
    "06_bias_analysis": "06_grounding",
}
MAX_BYTES = 3_000_000  # of the notebooks together
_COLOURS = (256, 128, 64)  # of a figure: fewer only where the notebooks would be too large
_THUMB = (400, 260)  # pixels at most: shown 200 wide
_IMAGES = ("image/png", "image/jpeg")
MACHINE = re.compile(r"(?<![\w.:/!-])/(?!dev/)[A-Za-z]+/[a-z]")  # a path from the root of a machine
_PNG = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")
_BLOB = re.compile(r'(?<=<script type="application/octet-stream" id="data">)([A-Za-z0-9+/=]+)')
_STYLER = re.compile(r"\bT_[0-9a-f]{5}(?=_|\b)")  # pandas names a table by chance
_PROGRESS = re.compile(r"^\S+: (?:sft|cvo|filter of D2|answers to \S+) \d+ of \d+\b.*\n?", re.MULTILINE)
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>|<Figure size [^>]*>|<[\w.]+Styler at 0x[0-9a-f]+>")


def publish(run: str | Path, root: Path) -> list[str]:
    """Write all of the above from a run folder into a repository; returns a line per file.

    Raises:
        UserError: the run is not finished or not of the default profile; a notebook was executed from other
            cells than it has now; a figure of `THUMBNAILS` is not there; a path of a machine would be shown.
    """
    folder, tour = RunFolder(Path(run).absolute()), root / TOUR
    manifest = _finished(folder)
    for colours in _COLOURS:
        texts = {f"{name}.ipynb": _notebook(root, folder, name, colours) for name in THUMBNAILS}
        if sum(len(text.encode()) for text in texts.values()) <= MAX_BYTES:
            break
    page = read_text(folder.report).replace(artifacts.read_manifest(folder)["platform"], manifest["platform"])
    texts["report.html"] = clean(_report(page), folder, root)
    tweet = picture.choose(folder, config.load(str(folder.profile), folder.path).config.eval_split)
    thumbs = {name: _thumbnail(folder.figures / f"{figure}.png") for name, figure in THUMBNAILS.items()}
    for name, text in texts.items():
        if match := MACHINE.search(shown := words(text)):
            raise UserError(f"{name} would show a path of this machine: …{shown[match.start() :][:60]!r}")
    shutil.rmtree(tour, ignore_errors=True)
    for name, text in texts.items():
        write_text(tour / name, text)
    for name, image in thumbs.items():
        _save(image, tour / "thumbs" / f"{name}.png")
    buffer = io.BytesIO()
    picture.draw(tweet, CONTROLLED).savefig(buffer, format="png")
    _save(Image.open(buffer), tour / "example.png")
    (root / EVIDENCE).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder.results, root / EVIDENCE / "results.csv")
    write_json(root / EVIDENCE / "manifest.json", manifest)
    facts = {"commit": manifest["commit"], "results_sha256": checksum(folder.results), "example": tweet.facts}
    write_json(tour / "tour.json", facts)
    readme.main()
    return [f"{p.relative_to(root)}: {p.stat().st_size:,} bytes" for p in sorted(tour.rglob("*.*"))]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _finished(folder: RunFolder) -> dict[str, Any]:
    """The manifest of a whole run of the default profile, without what names its machine."""
    manifest = artifacts.read_manifest(folder)
    entries, profile = manifest["notebooks"], manifest.get("profile")
    missing = [name for name in THUMBNAILS if entries.get(name, {}).get("status") != "done"]
    if missing or profile != "tiny":
        what = f"not done: {', '.join(missing)}" if missing else f"its profile is {profile}"
        raise UserError(f"{folder.path} is no finished run of profile tiny ({what}); make run finishes it")
    return manifest | {"platform": manifest["platform"].split("-")[0]}


def _notebook(root: Path, folder: RunFolder, name: str, colours: int) -> str:
    """The source notebook with the outputs of the executed one."""
    source = json.loads(read_text(root / "notebooks" / f"{name}.ipynb"))
    executed = json.loads(read_text(folder.notebooks / f"{name}.ipynb"))
    cells = [c for c in executed["cells"] if "injected-parameters" not in c["metadata"].get("tags", ())]
    if [text_of(cell) for cell in cells] != [text_of(cell) for cell in source["cells"]]:
        raise UserError(
            f"{name} of {folder.path} was executed from other cells than it has now; run it again"
        )
    numbers = iter(range(1, len(cells) + 1))
    for cell, done in zip(source["cells"], cells, strict=True):
        if cell["cell_type"] == "code":
            cell["execution_count"] = next(numbers)
            cell["outputs"] = published_outputs(done["outputs"], cell["execution_count"], colours)
    return clean(json.dumps(source, indent=1, ensure_ascii=False) + "\n", folder, root)


def text_of(cell: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and text of a cell, without its outputs."""
    return cell["cell_type"], "".join(cell["source"])


def published_outputs(outputs: list[dict[str, Any]], number: int, colours: int) -> list[dict[str, Any]]:
    """Outputs of a cell: streams joined, progress left out, figures with few colours."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream":
            text = _PROGRESS.sub("", "".join(output["text"]))
            if kept and kept[-1].get("name") == output["name"]:
                text = "".join(kept.pop()["text"]) + text
            if text.strip():
                kept.append({"name": output["name"], "output_type": "stream", "text": _lines(text)})
            continue
        data = {kind: _text(content) for kind, content in output["data"].items()}
        data |= {kind: few_colours(data[kind], colours) for kind in _IMAGES if kind in data}
        if len(data) > 1 and _OBJECT.fullmatch(data.get("text/plain", "")):
            del data["text/plain"]  # says nothing beside the figure or table
        new = {"data": {k: v if k in _IMAGES else _lines(v) for k, v in data.items()}, "metadata": {}}
        if output["output_type"] == "execute_result":
            new["execution_count"] = number
        kept.append(new | {"output_type": output["output_type"]})
    return kept


def _text(content: str | list[str]) -> str:
    return content if isinstance(content, str) else "".join(content)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _report(page: str) -> str:
    """The report with links to what stands beside it here, and figures with few colours."""
    page = re.sub(r"(?<=['\"])notebooks/(\w+)\.html(?=['\"])", r"\1.ipynb", page)
    page = re.sub(r"(?<=['\"])results\.csv(?=['\"])", f"../../{EVIDENCE}/results.csv", page)
    return _PNG.sub(lambda match: few_colours(match[0], _COLOURS[0]), page)


def clean(text: str, folder: RunFolder, root: Path) -> str:
    """Text without the places of run folder and repository, and with tables named by their order."""
    for path, name in ((folder.path, "outputs/tiny"), (root.absolute(), ".")):
        text = text.replace(str(path), name)
    names = {found: f"T_{k:05x}" for k, found in enumerate(dict.fromkeys(_STYLER.findall(text)))}
    return _STYLER.sub(lambda match: names[match[0]], text)


def words(text: str) -> str:
    """All that a notebook or page says: pixels left out, packed tweets unpacked."""
    text = re.sub(r"data:image/[\w+]+;base64,[A-Za-z0-9+/=]+", "", text)
    text = re.sub(r'"image/\w+": "[^"]*"', '"image": ""', text)
    return _BLOB.sub(lambda match: words(_unpacked(match[1])), text)


def tweets_of(page: str) -> dict[str, Any]:
    """What the tweet browser of a report holds; a report without one has no sets."""
    match = _BLOB.search(page)
    return json.loads(_unpacked(match[1])) if match else {"sets": [], "kinds": []}


def _unpacked(packed: str) -> str:
    return gzip.decompress(base64.b64decode(packed)).decode()


def few_colours(encoded: str, colours: int) -> str:
    """A PNG in base64 with at most so many colours; one that has no more comes back as it is."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if image.format != "PNG" or (image.mode == "P" and len(image.getcolors()) <= colours):
        return encoded.strip()
    buffer = io.BytesIO()
    _quantised(image, colours).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _quantised(image: Image.Image, colours: int) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    opaque = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return opaque.quantize(colours, dither=Image.Dither.NONE)


def _thumbnail(path: Path) -> Image.Image:
    if not path.is_file():
        raise UserError(f"{path} is not there; name another figure in THUMBNAILS of tools/tour.py")
    image = Image.open(path).convert("RGB")
    width = _THUMB[0]
    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    return image.crop((0, 0, width, min(image.height, _THUMB[1])))


def _save(image: Image.Image, path: Path) -> None:
    with written_whole(path, "wb") as file:
        _quantised(image, _COLOURS[0]).save(file, format="PNG", optimize=True)


def main() -> None:
    """Publish the run that is named, or that of `make run`."""
    try:
        print("\n".join(publish(*(sys.argv[1:] or ["outputs/tiny"]), root=repository())))
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
