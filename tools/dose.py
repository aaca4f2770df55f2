"""Draws how much contradiction each stage needs: `python -m tools.dose DIR DIR ... --out DIR`. Each DIR is of
`mcr compare`, from runs with another share of contradicting tweets (`testbed_contradicting`).
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from mcr_lib.errors import UserError
from mcr_lib.study.catalogue import CATALOGUE
from mcr_lib.study.compare.evidence import Evidence, summary
from mcr_lib.study.compare.tables import CONTROLLED
from mcr_lib.study.figures import forest, palette

SPLITS = ("test", "test_adversarial")
PANELS = [(metric, split) for metric in ("gmner_f1", "false_grounding") for split in SPLITS]
SETTINGS = ("sft", "mrsi", "mcr")


def rows(folders: Sequence[str | Path], *, n_resamples: int = 2000) -> list[dict[str, Any]]:
    """The points of the figure: metric, split, setting, share in percent as `x`, and the values over seeds.

    Raises:
        UserError: two folders of one share, or folders that were tested on other tweets.
    """
    points, of_share, first = [], {}, None
    for folder in folders:
        evidence = Evidence.read(Path(folder) / "evidence.json.gz")
        share, signatures = evidence.head["contradicting"], evidence.head["signatures"]
        tested = [signatures.get(split) for split in SPLITS]
        first = first or (folder, tested)
        if tested != first[1]:
            raise UserError(f"{folder} was tested on other tweets than {first[0]}; name runs of one world")
        if of_share.setdefault(share, folder) != folder:
            raise UserError(f"{folder} and {of_share[share]} both have the share {share:g}; name one of them")
        values = summary(evidence, n_resamples=n_resamples)["rows"]
        points += [
            {"panel": f"{CATALOGUE[metric].label}, {split}", "line": row["setting"], "x": 100 * share, **row}
            for metric, split in PANELS
            for row in values
            if (row["metric"], row["split"]) == (metric, split) and row["setting"] in SETTINGS
        ]
    return sorted(points, key=lambda row: (PANELS.index((row["metric"], row["split"])), row["x"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Write dose.png and dose.csv; 2, with a sentence, for a mistake of the user."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N")
    given = parser.parse_args(argv)
    try:
        points = rows(given.folders, n_resamples=given.resamples)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    mpl.use("Agg")
    with mpl.rc_context():
        title = "How much contradiction does each need? Means over seeds (dots), 95 % intervals"
        how = {"title": title, "xlabel": "training tweets that contradict, %", "scale": "log"}
        values = forest.seed_values(points)
        palette.shower(given.out, CONTROLLED)(forest.curves, points, "dose", values=values, **how)
    print(f"written to {given.out}: dose.png, dose.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
