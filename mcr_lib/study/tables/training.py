"""Tables of notebooks 03 and 04: training rows as the model sees them, options, costs, checks and curves."""

import copy
import html
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mcr_lib.data.predictions import read_predictions
from mcr_lib.errors import UserError
from mcr_lib.prompts import text_of
from mcr_lib.schema import Example
from mcr_lib.study.runs import config, progress
from mcr_lib.study.runs.model_card import TESTBED_NOTE
from mcr_lib.study.runs.setting import BACKBONE
from mcr_lib.study.runs.settings import Study

warnings.filterwarnings("ignore", "IProgress not found")  # tqdm asks for widgets, which it does not need

Rows = list[dict[str, Any]]
ExampleRows = Mapping[str, tuple[Example, Mapping[str, Any]]]  # setting -> a tweet and its training row


def note(loaded: config.Loaded) -> str:
    """The note beside the numbers of a run on the testbed; empty for real data."""
    return TESTBED_NOTE if loaded.config.source == "testbed" else ""


def open_study(loaded: config.Loaded) -> Study:
    """The settings of a run; the notebook shows progress and clears it."""
    from IPython.display import clear_output

    return Study(loaded, progress.teller(sys.stdout, every_s=30, clear=clear_output))


def row_table(study: Study, names: Sequence[str]) -> Rows:
    """Per setting: its start, the number of its tweets and rows, what they are made of, and its prompt."""
    table = []
    for name in names:
        setting, rows = study[name], study.rows(name)
        has_styles = setting.stage == "cvo" or setting.rows == "chains"
        start = study.config.backbone if setting.start == BACKBONE else setting.start
        tweets = f"{len(study.tweets(name)):,} of {setting.part}"
        row = {"setting": name, "starts from": start, "tweets": tweets, "rows": len(rows)}
        row["completions"] = "sampled" if setting.stage == "cvo" else setting.rows
        row["styles"] = len({row["style"] for row in rows}) if has_styles else ""
        table.append(row | {"prompt": setting.prompt})
    return table


def row_in_each(study: Study, names: Sequence[str]) -> dict[str, tuple[Example, dict[str, Any]]]:
    """Per setting a tweet and its row: preferably one of all, with an image and both kinds of entity."""
    tweets = {name: study.tweets(name) for name in names}
    common = set.intersection(*({e.id for e in some} for some in tweets.values())) if names else set()

    def key(e: Example) -> tuple[bool, bool, bool]:
        return e.id not in common, not e.images, {one.is_groundable for one in e.entities} != {True, False}

    chosen = {name: min(some, key=key) for name, some in tweets.items()}
    return {name: (e, next(r for r in study.rows(name) if r["id"] == e.id)) for name, e in chosen.items()}


@dataclass(frozen=True)
class EncodedRow:
    """A training row as it reaches the model."""

    pieces: tuple[tuple[str, bool], ...]  # text of a token or of all of an image; whether the loss counts it
    n_learned: int
    n_tokens: int
    completion: str

    @property
    def counts_the_completion_alone(self) -> bool:
        """Whether the tokens that the loss counts are the last ones and spell the completion."""
        flags = [is_learned for _, is_learned in self.pieces]
        learned = "".join(text for text, is_learned in self.pieces if is_learned)
        return flags == sorted(flags) and not flags[0] and learned.startswith(self.completion)

    def _repr_html_(self) -> str:
        styles = {True: "background:#d6e8f5;color:#000", False: "color:#888"}
        texts = ((styles[is_learned], html.escape(text)) for text, is_learned in self.pieces)
        spans = "".join(f"<span style='{s}'>{text}</span>" for s, text in texts).replace("\n", "⏎\n")
        caption = f"{self.n_tokens} tokens; the loss counts {self.n_learned}, shaded"
        return f"<pre style='white-space:pre-wrap;text-align:left'>{spans}</pre><p>{caption}</p>"

    def __repr__(self) -> str:
        return f"{self.n_tokens} tokens, of which the loss counts {self.n_learned}: {self.completion}"


def encoded_rows(study: Study, chosen: ExampleRows) -> dict[str, EncodedRow]:
    """The rows of `row_in_each` as the model sees them, through the collator that trains."""
    return {name: _encoded(study, name, row) for name, (_, row) in chosen.items()}


def _encoded(study: Study, name: str, row: Mapping[str, Any]) -> EncodedRow:
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from mcr_lib.training import backbones, loop

    options, _ = study.options(name)
    processor = backbones.outline(study.backbone, pixels=study.pixels).processor
    (images,) = loop.dataset([dict(row)])[:1]["images"]
    given = {"max_length": options.max_length, "completion_only_loss": options.completion_only_loss}
    collate = DataCollatorForVisionLanguageModeling(processor, **given)
    batch = collate([{**copy.deepcopy(dict(row)), "images": list(images)}])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    tokenizer = processor.tokenizer
    image_id = tokenizer.convert_tokens_to_ids(processor.image_token)
    pieces = []
    for is_image, run in groupby(zip(ids, labels, strict=True), key=lambda token: token[0] == image_id):
        texts = [(tokenizer.decode([id]), label != -100) for id, label in run]
        pieces += [(f"⟨{len(texts)} image tokens⟩", False)] if is_image else texts
    n_learned = sum(label != -100 for label in labels)
    return EncodedRow(tuple(pieces), n_learned, len(ids), text_of(row["completion"]))


def option_rows(study: Study, names: Sequence[str]) -> Rows:
    """Per option its reason, and its value and origin in each setting, or in "all" if several agree."""
    by_setting = {}
    for name, (options, origins) in ((name, study.options(name)) for name in names):
        by_setting[name] = {row["option"]: row for row in options.describe(origins)}
    rows = []
    for option in dict.fromkeys(option for options in by_setting.values() for option in options):
        given = {name: options[option] for name, options in by_setting.items()}
        values = {name: "–" if row["value"] is None else row["value"] for name, row in given.items()}
        texts = {n: ", ".join(map(str, v if isinstance(v, list | tuple) else [v])) for n, v in values.items()}
        cells = {name: f"{texts[name]}  ({row['origin']})" for name, row in given.items()}
        if len(names) > 1 and len(set(cells.values())) == 1:
            cells = {"all": cells[names[0]]}
        rows.append({"option": option, **cells, "why": given[names[0]]["why"]})
    columns = [column for column in ("option", "all", *names, "why") if any(column in row for row in rows)]
    return [{column: row.get(column, "") for column in columns} for row in rows]


def raw_answers(study: Study, names: Sequence[str], split: str, id: str) -> str:
    """The answer of each setting to one tweet, to read."""
    if (example := next((e for e in study.examples(split) if e.id == id), None)) is None:
        raise UserError(f"no tweet {id} in {split}")
    texts = [f"tweet {id}: {example.text}"]
    for name in names:
        _, predictions = read_predictions(study.answer(name, split))
        answer = next(row.answer for row in predictions if row.id == id).strip()
        texts.append(f"── {name}\n{answer or '(nothing)'}")
    return "\n\n".join(texts)
