"""`mcr compare RUN [RUN ...]`: run folders merged over seeds into evidence, scores, figures, and a verdict."""

import argparse
import json
from pathlib import Path
from typing import Any

from mcr_lib.data.files import write_json


def add_commands(commands: Any) -> None:
    """Add the command to the parser of `mcr`."""
    compare = commands.add_parser(
        "compare", help="settings over several seeds, one pair of them tested",
        description="Merges run folders of one profile, one seed each (or several settings of a seed), and writes evidence.json.gz, "
        "scores.json and two figures. What is missing in a run is told and left out.",
    )  # fmt: skip
    compare.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    compare.add_argument(
        "--out", metavar="DIR", help="where the files go (default: outputs/compared/PROFILE)"
    )
    compare.add_argument(
        "--pair",
        nargs=2,
        default=("mcr", "sft"),
        metavar=("A", "B"),
        help="test A minus B (default: mcr sft)",
    )
    compare.add_argument(
        "--resamples", type=int, default=2000, metavar="N", help="bootstrap resamples (default: %(default)s)"
    )
    compare.add_argument("--json", action="store_true", help="print the scores as one JSON object")
    compare.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from mcr_lib.errors import UserError
    from mcr_lib.statistics import MAX_RESAMPLES
    from mcr_lib.study.compare import seeds, seeds_merge, seeds_tables
    from mcr_lib.study.runs.config import repository

    if not 100 <= arguments.resamples <= MAX_RESAMPLES:
        raise UserError(f"--resamples is {arguments.resamples}; choose 100 to {MAX_RESAMPLES:,}")
    evidence = seeds_merge.merge(arguments.runs)
    scores = seeds.summary(evidence, tuple(arguments.pair), n_resamples=arguments.resamples)
    out = Path(arguments.out) if arguments.out else repository() / "outputs" / "compared" / scores["profile"]
    evidence.write(out / "evidence.json.gz")
    write_json(out / "scores.json", scores)
    _draw(scores, out)
    if arguments.json:
        print(json.dumps(scores, indent=2))
        return 0
    for sentence in scores["missing"]:
        print(f"missing: {sentence}")
    if len({run["commit"] for run in scores["runs"]}) > 1:
        print("note: the runs were made at different commits")
    print(f"\n{seeds_tables.settings_table(scores)}\n{seeds_tables.pair_table(scores)}")
    if scores["isolated"]:
        print(seeds_tables.isolated_table(scores))
    print(seeds_tables.verdict(scores))
    print(f"\nwritten to {out}: evidence.json.gz, scores.json, settings.png, differences.png")
    return 0


def _draw(scores: dict[str, Any], out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from mcr_lib.study.compare.seeds_tables import CONTROLLED
    from mcr_lib.study.figures import forest, palette

    with mpl.rc_context():
        note = CONTROLLED if scores["source"] == "testbed" else ""
        show = palette.shower(out, note)
        f1 = [row for row in scores["rows"] if row["metric"] == "gmner_f1"]
        show("settings", forest.over_seeds, scores, values=forest.seed_values(f1))
        show("differences", forest.differences, scores, values=forest.seed_values(scores["comparisons"]))
