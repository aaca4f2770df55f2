"""Merges run folders of one profile, one seed each (or several settings of a seed), and writes
evidence.json.gz, scores.json and two figures. What is missing in a run is reported and left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError


def add_commands(commands: Any) -> None:
    """Add the command to the parser of `mcr`."""
    about = "settings over several seeds, one pair of them tested"
    parser = commands.add_parser("compare", help=about, description=__doc__)
    add, pair = parser.add_argument, ("mcr", "sft")
    add("runs", nargs="+", metavar="RUN", help="a run folder")
    add("--out", metavar="DIR", help="where the files go (default: outputs/compared/PROFILE)")
    add("--pair", nargs=2, default=pair, metavar=("A", "B"), help="test A minus B (default: mcr sft)")
    add("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap (default: %(default)s)")
    add("--json", action="store_true", help="print the scores as one JSON object")
    parser.set_defaults(run=_compare)


def _compare(given: argparse.Namespace) -> int:
    import matplotlib as mpl

    mpl.use("Agg")
    from mcr_lib.data.files import write_json
    from mcr_lib.statistics import MAX_RESAMPLES
    from mcr_lib.study.compare import tables
    from mcr_lib.study.compare.evidence import summary
    from mcr_lib.study.compare.merge import merge
    from mcr_lib.study.figures import forest, palette
    from mcr_lib.study.runs.config import repository

    if not 100 <= given.resamples <= MAX_RESAMPLES:
        raise UserError(f"--resamples is {given.resamples}; choose 100 to {MAX_RESAMPLES:,}")
    evidence = merge(given.runs)
    scores = summary(evidence, tuple(given.pair), n_resamples=given.resamples)
    out = Path(given.out) if given.out else repository() / "outputs" / "compared" / scores["profile"]
    evidence.write(out / "evidence.json.gz")
    write_json(out / "scores.json", scores)
    with mpl.rc_context():
        show = palette.shower(out, tables.CONTROLLED if scores["source"] == "testbed" else "")
        f1 = [row for row in scores["rows"] if row["metric"] == "gmner_f1"]
        show("settings", forest.over_seeds, scores, values=forest.seed_values(f1))
        show("differences", forest.differences, scores, values=forest.seed_values(scores["comparisons"]))
    if given.json:
        print(json.dumps(scores, indent=2))
        return 0
    for sentence in scores["missing"]:
        print(f"missing: {sentence}")
    if len({run["commit"] for run in scores["runs"]}) > 1:
        print("note: the runs were made at different commits")
    print(f"\n{tables.settings_table(scores)}\n{tables.pair_table(scores)}")
    if scores["isolated"]:
        print(tables.isolated_table(scores))
    print(tables.verdict(scores))
    print(f"\nwritten to {out}: evidence.json.gz, scores.json, settings.png, differences.png")
    return 0
