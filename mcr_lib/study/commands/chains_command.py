"""`mcr chains build`: reasoning chains of a data set as a file that anyone can use, with a data card and
checksums.

    OUT/chains.jsonl     one chain per line, boxes as slots, after a header line
    OUT/README.md        data card: what it is, from what, how many, how it was checked
    OUT/checksums.txt    for sha256sum -c

The same data, styles and seed give the same bytes in all three.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcr_lib.chains import CHAINS_VERSION
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.files import written_whole
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.styles import STYLES


def build(
    *, source: str, root: str, out: str, version: str | None = None, split: str = "train", styles: Sequence[str] = (),
    d1_share: float = mrsi.D1_SHARE, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Build, verify and write the chains of D1 of a split; returns what was written.

    Args:
        d1_share: share of tweets that are in D1; 1 = chains of all of them.

    Raises:
        UserError: an unknown source, split or style, broken data, a share outside [0, 1], or a folder that
            cannot be written.
    """
    if not 0 <= d1_share <= 1:
        raise UserError(f"--d1-share is {d1_share}; expected a share in [0, 1]")
    examples = load_split(source, root, split=split, version=version)
    d1, d2 = mrsi.split_d1_d2(examples, d1_share=d1_share, seed=seed)
    built = mrsi.build_chains(d1, styles, seed=seed)
    folder = Path(out)
    digest = mrsi.write_chains(folder / "chains.jsonl", built.chains, d1)
    facts = {
        "source": examples[0].source if examples else source, "split": split, "chains_version": CHAINS_VERSION, "seed": seed,
        "d1_share": d1_share, "privileged": False, "d1": len(d1), "d2": len(d2), "gold_of_d1": checksum(d1),
        "chains": len(built.chains), "styles": dict(Counter(chain.style for chain in built.chains)), "sha256": digest,
    }  # fmt: skip
    card = _card(facts, d1)
    with written_whole(folder / "README.md") as file:
        file.write(card)
    with written_whole(folder / "checksums.txt") as file:
        file.write(f"{digest}  chains.jsonl\n{hashlib.sha256(card.encode()).hexdigest()}  README.md\n")
    return {**facts, "folder": str(folder)}


def _card(facts: dict[str, Any], d1: Sequence[Example]) -> str:
    entities = [entity for example in d1 for entity in example.entities]
    n_shown = sum(bool(entity.is_groundable) for entity in entities)
    rows = [f"| {name} | {STYLES[name].form} | {n:,} |" for name, n in facts["styles"].items()]
    lines = [
        f"# Reasoning chains for {facts['source']}, {facts['split']}",
        "",
        f"{facts['chains']:,} chains about {facts['d1']:,} tweets ({len(entities):,} entities, {n_shown:,} of them in the image).",
        "Each says of one tweet, in one style, what its gold annotation claims (span, type, groundable, box); written from templates.",
        "",
        f"- D1, which these are about: a share of {facts['d1_share']:g} of the split by a hash of (seed, id). D2: {facts['d2']:,} tweets.",
        f"- Seed {facts['seed']}, chains_version {facts['chains_version']}, gold of D1 {facts['gold_of_d1']}.",
        "- Every chain passes the verifier: of each name it states the type, the groundability and the box, and nothing else.",
        "- Privileged (names what only the image shows): no.",
        "",
        "| style | form | chains |",
        "|---|---|---|",
        *rows,
        "",
        "A row has id, style, source, text (the reasoning), answer, boxes_xyxy_px and image_size_px. `[[box 1]]` in text and answer stands",
        "for the first box, in pixels of the original image; `mcr_lib.chains.render` writes it for a family of models and an image size.",
        "",
        "The rows hold names and boxes of the data set, not its texts or images; the data set's own terms hold for them.",
        "",
    ]
    return "\n".join(lines)


def summary(facts: dict[str, Any]) -> str:
    """What was built, in a few lines."""
    styles = ", ".join(f"{n:,} {name}" for name, n in facts["styles"].items())
    return "\n".join(
        [
            f"{facts['source']}, {facts['split']}: {facts['d1']:,} tweets in D1, {facts['d2']:,} in D2",
            f"{facts['chains']:,} chains, all verified: {styles}",
            f"sha256 {facts['sha256']}",
            f"read {facts['folder']}/README.md",
        ]
    )
