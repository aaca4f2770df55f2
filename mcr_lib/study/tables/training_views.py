"""What notebooks 03 and 04 show of settings in training: rows as the model sees them, options, what each
training took, curves.
"""

import copy
import html
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from PIL.Image import Image

from mcr_lib.boxes import Size
from mcr_lib.data.files import read_jsonl, read_text
from mcr_lib.errors import UserError
from mcr_lib.prompts import text_of
from mcr_lib.schema import Example
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.runs.model_card import TESTBED_NOTE
from mcr_lib.study.runs.progress import teller
from mcr_lib.study.runs.setting import BACKBONE, lineage
from mcr_lib.study.runs.settings import Study

Rows = list[dict[str, Any]]

NO_SETTING = "no setting to score: the profile has none"
NOTHING = "nothing to train: the profile has no setting of this stage"


def note(loaded: Loaded) -> str:
    """What must be said beside the numbers of a run; empty where they are of real data."""
    return TESTBED_NOTE if loaded.config.source == "testbed" else ""


def open_study(loaded: Loaded) -> Study:
    """The settings of a run, progress told in lines of the notebook; tqdm, which has nothing to show here,
    says nothing of widgets.
    """
    warnings.filterwarnings("ignore", "IProgress not found")
    return Study(loaded, teller(sys.stdout, every_s=30))


def of_stage(study: Study, *stages: str) -> list[str]:
    """The settings of some stages, in the order of the profile, each after those that it starts from."""
    ordered = dict.fromkeys(name for given in study.settings for name in lineage(study.settings, given))
    return [name for name in ordered if study[name].stage in stages]


def with_starts(study: Study, names: Sequence[str]) -> list[str]:
    """Some settings, each after those that it starts from."""
    return list(dict.fromkeys(one for name in names for one in lineage(study.settings, name)))


def row_table(study: Study, names: Sequence[str]) -> Rows:
    """Per setting: what it starts from, the tweets and rows that it is trained on, their styles, and what it
    is asked.
    """
    table = []
    for name in names:
        setting, rows = study[name], study.rows(name)
        table.append(
            {
                "setting": name,
                "starts from": study.config.backbone if setting.start == BACKBONE else setting.start,
                "tweets": f"{len(study.tweets(name)):,} of {setting.tweets}",
                "rows": len(rows),
                "completions": "sampled" if setting.stage == "cvo" else setting.rows,
                "styles": len({row["style"] for row in rows})
                if setting.stage == "sft" and setting.rows == "chains"
                else "",
                "asked": setting.prompt,
            }
        )
    return table


def describe(names: Sequence[str]) -> str:
    """Which settings are at hand, or that there is none."""
    return f"settings: {', '.join(names)}" if names else NOTHING


def row_in_each(study: Study, names: Sequence[str]) -> dict[str, tuple[Example, dict[str, Any]]]:
    """Per setting a tweet and its row: of a tweet that all are trained on, if there is one with an image and
    both kinds of entity, else of what comes nearest.
    """
    tweets = {name: study.tweets(name) for name in names}
    common = set.intersection(*({e.id for e in some} for some in tweets.values())) if names else set()

    def key(example: Example) -> tuple[bool, bool, bool]:
        return (
            example.id not in common,
            not example.images,
            {e.is_groundable for e in example.entities} != {True, False},
        )

    chosen = {name: min(some, key=key) for name, some in tweets.items()}
    return {
        name: (e, next(row for row in study.rows(name) if row["id"] == e.id)) for name, e in chosen.items()
    }


def rows_text(shown: Mapping[str, tuple[Example, Mapping[str, Any]]]) -> str:
    """The prompt and the completion of a row of each setting, to read."""
    lines = []
    for name, (example, row) in shown.items():
        lines += [
            f"── {name} (tweet {example.id})",
            f"asked:   {text_of(row['prompt'])}",
            f"written: {text_of(row['completion'])}",
            "",
        ]
    return "\n".join(lines)


@dataclass(frozen=True)
class EncodedRow:
    """A training row as it reaches the model.

    Args:
        example: its tweet.
        pieces: (text of a token, whether the loss counts it), image tokens gathered into one piece.
        images: as resized.
        size: (width, height) of the first of them, `None` without an image.
        n_learned: tokens that the loss counts.
        n_tokens: all tokens.
        completion: what is to be written.
    """

    example: Example
    pieces: tuple[tuple[str, bool], ...]
    images: tuple[Image, ...]
    size: Size | None
    n_learned: int
    n_tokens: int
    completion: str

    @property
    def counts_the_completion_alone(self) -> bool:
        """Whether the tokens that the loss counts are the last ones, and are those of the completion."""
        flags = [is_learned for _, is_learned in self.pieces]
        learned = "".join(text for text, is_learned in self.pieces if is_learned)
        return flags == sorted(flags) and not flags[0] and learned.startswith(self.completion)

    def _repr_html_(self) -> str:
        """Grey what is only read, on blue what is learned."""
        learned, read = "background:#d6e8f5;color:#000", "color:#888"
        spans = "".join(
            f"<span style='{learned if is_learned else read}'>{_visible(text)}</span>"
            for text, is_learned in self.pieces
        )
        told = f"{self.n_tokens} tokens; the loss counts {self.n_learned}, on blue"
        return f"<pre style='white-space:pre-wrap;text-align:left'>{spans}</pre><p>{told}</p>"

    def __repr__(self) -> str:
        return f"{self.n_tokens} tokens, of which the loss counts {self.n_learned}: {self.completion}"


def encode_row(study: Study, name: str, example: Example, row: Mapping[str, Any]) -> EncodedRow:
    """A row of an SFT setting through the very collator that trains: its tokens, which of them are learned,
    its images as resized.

    Args:
        row: of the tweet, one of `study.rows(name)`.
    """
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from mcr_lib.training import backbones, loop

    options, _ = study.options(name)
    processor = backbones.processor(study.backbone, pixels=study.pixels)
    (opened,) = loop.dataset([dict(row)])[:1]["images"]
    collate = DataCollatorForVisionLanguageModeling(
        processor, options.max_length, completion_only_loss=options.completion_only_loss
    )
    batch = collate([{**copy.deepcopy(dict(row)), "images": list(opened)}])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    image_id = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    patch = processor.image_processor.patch_size
    sizes = [(w * patch, h * patch) for _, h, w in batch["image_grid_thw"].tolist()] if opened else []
    tokens = [
        ("" if id == image_id else processor.tokenizer.decode([id]), label != -100)
        for id, label in zip(ids, labels, strict=True)
    ]
    pieces = []
    for is_image, run in groupby(tokens, key=lambda token: token[0] == ""):
        found = list(run)
        pieces += [(f"⟨{len(found)} image tokens⟩", False)] if is_image else found
    return EncodedRow(
        example, tuple(pieces), tuple(image.resize(size) for image, size in zip(opened, sizes, strict=True)), sizes[0] if sizes else None,
        sum(label != -100 for label in labels), len(ids), text_of(row["completion"]),
    )  # fmt: skip


def encoded_rows(
    study: Study, shown: Mapping[str, tuple[Example, Mapping[str, Any]]]
) -> dict[str, EncodedRow]:
    """`seen` of the rows of `row_in_each`."""
    return {name: encode_row(study, name, example, row) for name, (example, row) in shown.items()}


def encoded_values(rows: Mapping[str, EncodedRow]) -> Rows:
    """What a picture of `seen_in_each` shows, as values."""
    return [
        {
            "setting": name,
            "id": s.example.id,
            "size": s.size,
            "tokens": s.n_tokens,
            "learned": s.n_learned,
            "completion": s.completion,
        }
        for name, s in rows.items()
    ]


def option_rows(study: Study, names: Sequence[str]) -> Rows:
    """Per option its value with its origin in each setting, and why; options that the settings share stand in
    one column.
    """
    told = {
        name: {row["option"]: row for row in study.options(name)[0].describe(study.options(name)[1])}
        for name in names
    }
    rows = []
    for option in dict.fromkeys(option for rows_of in told.values() for option in rows_of):
        cells = {
            name: f"{_short(rows_of[option]['value'])}  ({rows_of[option]['origin']})"
            for name, rows_of in told.items()
        }
        why = next(rows_of[option]["why"] for rows_of in told.values() if option in rows_of)
        same = len(set(cells.values())) == 1
        rows.append(
            {"option": option, **({"all": cells[names[0]]} if same and len(names) > 1 else cells), "why": why}
        )
    columns = [column for column in ("option", "all", *names, "why") if any(column in row for row in rows)]
    return [{column: row.get(column, "") for column in columns} for row in rows]


def train(study: Study, names: Sequence[str]) -> Rows:
    """Make the models of some settings, those that are there left as they are; a row each with what it took."""
    rows = []
    for name in names:
        was_there = study.is_done(name)
        facts = study.train(name)
        rows.append(
            {
                "setting": name, "rows": facts["n_rows"], "updates": facts["n_steps"], "seconds": facts["seconds"],
                "peak memory, MB": facts["peak_memory_mb"], "fingerprint": facts["fingerprint"], "made now": not was_there,
            }
        )  # fmt: skip
    return rows


def check_rows(study: Study, names: Sequence[str]) -> Rows:
    """What was checked before each training (`checks.json`): longest rows in tokens, gold answers, groups
    sampled.
    """
    checks = {name: json.loads(read_text(study.run.setting(name) / "checks.json")) for name in names}
    keys = dict.fromkeys(key for found in checks.values() for key in found)
    return [
        {"setting": name} | {key.replace("_", " "): found.get(key, "") for key in keys}
        for name, found in checks.items()
    ]


def curve_rows(study: Study, names: Sequence[str]) -> Rows:
    """The rows of the logs of some settings, each with its setting."""
    return [
        {"setting": name, **row}
        for name in names
        for _, row in read_jsonl(study.run.setting(name) / "log.jsonl", kind="log")[1]
    ]


def raw_answers(study: Study, names: Sequence[str], split: str, id: str) -> str:
    """What each setting wrote about one tweet, to read.

    Raises:
        UserError: there is no such tweet.
    """
    from mcr_lib.data.predictions import read_predictions

    example = next((example for example in study.examples(split) if example.id == id), None)
    if example is None:
        raise UserError(f"no tweet {id} in {split}")
    said = {name: {row.id: row for row in read_predictions(study.answer(name, split))[1]} for name in names}
    texts = [f"── {name}\n{rows[id].answer.strip() or '(nothing)'}" for name, rows in said.items()]
    return "\n\n".join([f"tweet {id}: {example.text}", *texts])


def written(study: Study, names: Sequence[str]) -> str:
    """What lies in the run folder of some settings, a line each; for the last cell of a notebook."""
    lines = []
    for name in names:
        folder = study.run.setting(name)
        lines.append(
            f"settings/{name}: {', '.join(sorted(p.name for p in folder.iterdir() if p.name != 'checkpoints'))}"
        )
    return "\n".join(lines) or NOTHING


def _visible(text: str) -> str:
    return html.escape(text).replace("\n", "⏎\n")


def _short(value: Any) -> str:
    return (
        "–"
        if value is None
        else ", ".join(map(str, value))
        if isinstance(value, list | tuple)
        else str(value)
    )
