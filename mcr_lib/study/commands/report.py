"""`report.html`: one page of a run that needs nothing beside it: scores, what training took, figures, answers
drawn, origins.

It is made from the files of the run folder alone, so it can be made again from a folder that was copied
elsewhere.
"""

import base64
import csv
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcr_lib.data.files import read_text, written_whole
from mcr_lib.study.runs import artifacts
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded, written

Rows = Sequence[Mapping[str, Any]]

CAPTIONS = {
    "05_settings": "F1 of every setting, with 95 % bootstrap intervals over tweets.",
    "05_yardsticks": "The same beside answers that are made without a model: a score is worth what it adds to these.",
    "05_grounding": "The textual shortcut: boxes for what is not shown against boxes left out. Rules that treat all entities alike lie on "
    "the dotted line; crosses are rules that look at nothing.",
    "05_errors": "What became of each gold entity, and what was predicted beside them.",
    "05_types": "GMNER F1 by entity type.",
    "05_gallery": "The tweets on which the settings differ most. Gold boxes solid, predicted dashed, bait dotted.",
    "05_scores": "The predictions file that the run was given.",
    "05_answered": "The predictions file on the tweets with the most mistakes: gold boxes solid, predicted ones dashed.",
    "05_answers": "One tweet, one mistake each: which score notices it.",
    "05_scorers": "The same predictions under three scorers.",
    "05_degradation": "How good each decision must be: perfect answers with one decision made worse.",
    "06_cases": "Both shortcuts on hand-made tweets, right of the right answer. Gold boxes solid, predicted ones dashed, bait dotted.",
    "06_n_f1": "The paper's measures of textual bias, above rules that look at nothing: below the best of them a value shows nothing. "
    "If MCR did not help, its dots would lie no further right than those of plain fine-tuning.",
    "06_grounding": "Boxes for what is absent, boxes left out, and both together; hollow: tweets that show one of a type and lack another. "
    "If MCR did not help, false grounding would stay, or fall only as far as missed grounding rises.",
    "06_wrong_boxes": "What boxes show that hit no box of their own entity: another entity and bait are the shortcut's signature. "
    "If MCR did not help, these parts would be as long as in plain fine-tuning.",
    "06_n_rate": "The visual shortcut: names of which the text has no word. "
    "If MCR did not help, there would be as many as in plain fine-tuning.",
    "06_invented": "Where these names come from: what only the image shows, what was trained on, neither. "
    "If MCR did not help, the first part would be as long as in plain fine-tuning.",
    "06_probes": "One tweet as it is and under each probe, with the gold that is right there.",
    "06_consistency": "Of the tweets that were right before, those that stay clean when one modality is changed. "
    "If MCR did not help, its row would be no darker than that of plain fine-tuning.",
    "06_faults": "What goes wrong first where a right answer does not stay clean: red and blue are the shortcuts. "
    "If MCR did not help, they would be as wide as in plain fine-tuning, or be exchanged for what is lost.",
    "06_image_caused": "Names that are not in the text, at the real image and at a blank one: the distance is what the image causes. "
    "If MCR did not help, it would be as long as in plain fine-tuning.",
    "06_renamed": "After an entity was renamed: the old box is textual bias, the old name visual bias. "
    "If MCR did not help, its dots would lie where those of plain fine-tuning lie.",
    "06_faithful": "Answers whose own reasoning states just what they answer. "
    "If rewards did not help, MCR would contradict itself as often as MRSI alone.",
    "06_attention": "Attention at the digits of a box, as multiples of uniform attention. "
    "If MCR did not help, the box's own region would get no more than in plain fine-tuning.",
    "06_attention_cut": "How much less probable the digits of a box become when attention to a part of the image is cut. "
    "If boxes did not come from the right place, cutting it would cost no more than cutting as much elsewhere.",
    "06_attention_overlay": "Where a setting looks when it writes a box. "
    "If MCR did not help, what is warm would lie no nearer to the gold box than in plain fine-tuning.",
    "03_as_seen": "A training row's image as resized for the model, with the boxes that it is taught to write.",
    "03_curves": "Supervised fine-tuning.",
    "03_before_after": "The same dev tweets before and after fine-tuning.",
    "04_hand_made": "Four hand-made answers as one group: rewards and advantages.",
    "04_hand_made_readable": "The same without the malformed one: now both shortcuts are pushed down.",
    "04_rewards": "CVO: each reward of the sampled answers.",
    "04_health": "CVO: groups that teach nothing, answers that are cut off or cannot be read.",
    "04_drift": "CVO: how far the model moves from its start, and what becomes of length and entropy.",
    "04_rollouts": "Rollouts of the first and of the last updates: best answers left, worst right.",
    "04_before_after": "The same dev tweets before and after CVO.",
}
"""Figure -> the sentence below it; others are named by their file."""

SECTIONS = {
    "Scores": ("05_settings", "05_yardsticks", "05_grounding", "05_errors", "05_types", "05_scores"),
    "Bias": (
        "06_cases",
        "06_n_f1",
        "06_grounding",
        "06_wrong_boxes",
        "06_n_rate",
        "06_invented",
        "06_probes",
        "06_consistency",
        "06_faults",
        "06_image_caused",
        "06_renamed",
        "06_faithful",
        "06_attention",
        "06_attention_cut",
        "06_attention_overlay",
    ),
    "Answers": ("05_gallery", "05_answered"),
    "Training": (
        "03_curves",
        "03_before_after",
        "04_rewards",
        "04_health",
        "04_drift",
        "04_rollouts",
        "04_before_after",
    ),
}
"""Section -> its figures; the others stand folded at the end, by notebook."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #eee; vertical-align: top; white-space: pre-line }
th { border-bottom: 1px solid #999 }
.wide { overflow-x: auto } .note { background: #fff6dd; padding: .5rem .8rem; border-left: 4px solid #e69f00 }
figure { margin: 1.4rem 0 } img { max-width: 100%; height: auto } figcaption { color: #444; font-size: 13px } summary { cursor: pointer }
code { font-size: 12px; overflow-wrap: anywhere } .small { font-size: 12px; color: #555 }
"""


def write(loaded: Loaded) -> Path:
    """Make the report of a run from its folder, whole or not at all, and return its path.

    Raises:
        UserError: the folder cannot be written, or its manifest is of another version.
    """
    folder = RunFolder(loaded.folder)
    whole = page(folder, loaded)
    with written_whole(folder.report) as file:
        file.write(whole)
    return folder.report


def page(folder: RunFolder, loaded: Loaded) -> str:
    """The report as HTML."""
    manifest, told = artifacts.read_manifest(folder), _json(folder.score("settings"))
    note = told.get("note", "")
    figures = {path.stem: path for path in sorted(folder.figures.glob("*.png"))}
    parts = [f"<h1>{_e(folder.path.name)}</h1>", f"<p class='small'>{_e(_line(manifest, loaded))}</p>"]
    parts += [f"<p class='note'>{_e(note)}</p>"] if note else []
    for title, names in SECTIONS.items():
        body = [
            *_tables(title, folder, told, note),
            *(_figure(figures.pop(name), note) for name in names if name in figures),
        ]
        parts += [f"<h2>{title}</h2>", *body] if body else []
    parts += ["<h2>Further figures</h2>"] if figures else []
    for number in dict.fromkeys(name.split("_")[0] for name in figures):
        of_notebook = [_figure(path, "") for name, path in figures.items() if name.split("_")[0] == number]
        parts.append(
            f"<details><summary>notebook {_e(number)}: {len(of_notebook)} figures</summary>{''.join(of_notebook)}</details>"
        )
    parts += ["<h2>Where this comes from</h2>", *_origin(manifest, loaded)]
    title = f"{folder.path.name}: report"
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{_e(title)}</title><style>{_STYLE}</style>"
    return (
        f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _tables(title: str, folder: RunFolder, told: Mapping[str, Any], note: str) -> list[str]:
    if title == "Training":
        return [table(rows, note)] if (rows := _trained(folder, told)) else []
    if title != "Scores" or not told.get("scores"):
        return []
    signatures = dict.fromkeys(row["signature"] for row in _csv(folder.results))
    return [
        "<p>Percent, 95 % bootstrap intervals over tweets in brackets; a single run. Choices are made on dev.</p>",
        table(told["scores"], note), table(told["bias"], note),
        *(["<p>Paired tests on the same tweets, GMNER F1:</p>", table(told["pairs"], note)] if told["pairs"] else []),
        f"<details class='small'><summary>{len(signatures)} signatures of scores</summary>",
        *(f"<p class='small'><code>{_e(signature)}</code></p>" for signature in signatures),
        "</details>",
        "<p class='small'>every number: <code>results.csv</code></p>",
    ]  # fmt: skip


def _trained(folder: RunFolder, told: Mapping[str, Any]) -> Rows:
    """What each training took, from `settings/<name>/fingerprint.json`."""
    rows = []
    for name in (row["setting"] for row in told.get("scores", ())):
        facts = _json(folder.setting(name) / "fingerprint.json")
        if facts.get("status") == "done":
            of = facts["setting"]
            rows.append(
                {
                    "setting": name, "starts from": of.get("start", "the backbone"), "stage": of["stage"], "rows": facts["n_rows"],
                    "updates": facts["n_steps"], "seconds": facts["seconds"], "peak memory, MB": facts["peak_memory_mb"],
                    "fingerprint": facts["fingerprint"],
                }
            )  # fmt: skip
    return rows


def _line(manifest: Mapping[str, Any], loaded: Loaded) -> str:
    done = [entry for entry in manifest["notebooks"].values() if entry.get("status") == "done"]
    seconds = sum(entry["seconds"] for entry in done)
    commit = (manifest.get("commit") or "unknown")[:12] + (
        " with changes" if manifest.get("uncommitted_changes") else ""
    )
    return f"profile {loaded.profile} · {len(done)} notebooks in {seconds:,.0f} s · {manifest.get('n_cpus')} CPUs · commit {commit}"


def _origin(manifest: Mapping[str, Any], loaded: Loaded) -> list[str]:
    entries = manifest["notebooks"].items()
    columns = ("status", "started", "seconds")
    notebooks = [
        {"notebook": name, **{key: entry.get(key, "") for key in columns}} for name, entry in entries
    ]
    keys = ("python", "platform", "n_cpus", "memory_gb", "gpu", "threads", "commit", "uncommitted_changes")
    machine = [{"what": key, "value": manifest[key]} for key in keys if manifest.get(key) is not None]
    machine += [{"what": name, "value": version} for name, version in manifest.get("packages", {}).items()]
    values = [
        {"key": key, "value": written(value), "origin": origin, "meaning": why}
        for key, value, origin, why in loaded.rows()
    ]
    folded = (("configuration, with the origin of each value", values), ("versions and hardware", machine))
    return [
        table(notebooks),
        *(
            f"<details><summary>{what}</summary><div class='wide'>{table(rows)}</div></details>"
            for what, rows in folded
        ),
        "<p class='small'>executed notebooks: <code>notebooks/*.html</code>; all of this as data: <code>manifest.json</code>, "
        "<code>profile.yaml</code>, <code>figures/*.csv</code></p>",
    ]


def table(rows: Rows, note: str = "") -> str:
    """Rows as an HTML table, the note below it.

    Example:
        >>> table([{"a": 1, "b": "<x>"}])
        "<div class='wide'><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>&lt;x&gt;</td></tr></table></div>"
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{_e(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_e(row.get(column, ''))}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    below = f"<p class='small'>{_e(note)}</p>" if note else ""
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>{below}"


def _figure(path: Path, note: str) -> str:
    """A picture within the page; pictures have 150 pixels an inch, pages 96."""
    picture = path.read_bytes()
    data, width = base64.b64encode(picture).decode(), int.from_bytes(picture[16:20])  # as a PNG's head tells
    said = CAPTIONS.get(path.stem, path.stem.partition("_")[2].replace("_", " "))
    caption = f"{_e(said)} <span class='small'>{_e(note)}</span>"
    image = f"<img width='{round(width / 1.5)}' src='data:image/png;base64,{data}' alt='{_e(said)}'>"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _json(path: Path) -> dict[str, Any]:
    return json.loads(read_text(path)) if path.is_file() else {}


def _csv(path: Path) -> Iterable[dict[str, str]]:
    return csv.DictReader(read_text(path).splitlines()) if path.is_file() else ()


def _e(value: Any) -> str:
    return html.escape("–" if value is None else str(value))
