"""The teacher's file of E2E-GMNER as a source of MLLM chains: what of it states the gold, as chains.

    python contrib/e2e_teacher.py teacher_cot_train.jsonl --root DIR --out teacher.jsonl
    mcr chains build --root DIR --start teacher.jsonl --out DIR

The file is theirs, and not part of this repository. A row has `image_path`, named after the id of the tweet,
and the reasoning as `think`, `cot` or `reasoning`: the keys that their converter to training data reads. A
gold name gets the quotes of a chain, a box the slot of the gold box that it hits (IoU above .5, in pixels of
the original image); then the verifier decides, and what it rejects is counted by reason.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mcr_lib import chains, statements
from mcr_lib.data import SPLITS, load_split, mrsi
from mcr_lib.data.files import read_jsonl
from mcr_lib.data.predictions import plain_id
from mcr_lib.errors import UserError
from mcr_lib.schema import Example

STYLE = "distill"  # the paper's prompt of free reasoning, for chains of an MLLM


def read(path: str | Path) -> dict[str, str]:
    """Id -> reasoning; `UserError`: no row has both keys."""
    texts = {}
    for _, row in read_jsonl(path, kind="teacher", needs_header=False)[1]:
        image, said = row.get("image_path"), row.get("think") or row.get("cot") or row.get("reasoning")
        if isinstance(image, str) and image.strip() and isinstance(said, str):
            texts[plain_id(image)] = said
    if not texts:
        raise UserError(f'{path}: no row has "image_path" and "think" (or "cot", "reasoning") as text')
    return texts


def adopted(text: str, example: Example) -> str:
    """The reasoning with gold names in quotes, and slots for boxes that hit a gold one."""
    text = chains.with_slots(text.replace('"', ""), statements.gold_boxes(example), min_iou=0.5)
    names = sorted({entity.text for entity in example.entities}, key=len, reverse=True)
    either = "|".join(map(re.escape, names)) or "(?!)"
    return re.sub(rf"(?<!\w)(?:{either})(?!\w)", r'"\g<0>"', text)


def chains_of(texts: Mapping[str, str], examples: list[Example]) -> tuple[list[chains.Chain], Counter[str]]:
    """The chains that pass, and the flaws of the others."""
    passed, flaws = [], Counter()
    for example in (e for e in examples if e.id in texts and not chains.unsayable(e)):
        template = chains.build(example, STYLE, np.random.default_rng(0))
        chain = replace(template, text=adopted(texts[example.id], example).strip(), source="mllm")
        if (flaw := chains.check(chain, example)) is None:
            passed.append(chain)
        else:
            flaws[flaw] += 1
    return passed, flaws


def main(argv: list[str] | None = None) -> int:
    """Write the chains and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="teacher_cot_train.jsonl of E2E-GMNER")
    parser.add_argument("--root", required=True, help="the folder that holds the data set's own folder")
    parser.add_argument("--source", default="twitter-gmner", help="data set (default: %(default)s)")
    parser.add_argument("--version", help="of the annotation (default: the newest)")
    parser.add_argument("--split", default="train", help="default: %(default)s")
    parser.add_argument("--out", required=True, metavar="FILE", help="file of chains, for --start")
    given = parser.parse_args(argv)
    try:
        texts = read(given.file)
        examples = load_split(given.source, given.root, split=given.split, version=given.version)
        passed, flaws = chains_of(texts, examples)
        if not flaws and not passed:
            raise UserError(f"{given.file}: no row is of a tweet of {given.split}; choose from {SPLITS}")
        mrsi.write_chains(given.out, passed, examples)
    except UserError as error:
        print(f"e2e_teacher: {error}", file=sys.stderr)
        return 2
    why = ", ".join(f"{n:,} {flaw}" for flaw, n in flaws.most_common()) or "none"
    print(f"{len(passed):,} of {len(passed) + flaws.total():,} chains state the gold; rejected: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
