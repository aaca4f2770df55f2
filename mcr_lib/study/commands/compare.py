"""`mcr compare RUN [RUN ...]`: run folders merged over seeds into evidence, scores, figures and a verdict."""

import json
from argparse import Namespace
from pathlib import Path

import matplotlib as mpl

from mcr_lib.data.files import write_json
from mcr_lib.errors import UserError
from mcr_lib.statistics import MAX_RESAMPLES
from mcr_lib.study.compare import tables
from mcr_lib.study.compare.evidence import summary
from mcr_lib.study.compare.merge import merge
from mcr_lib.study.figures import forest, palette
from mcr_lib.study.runs.config import repository


def command(given: Namespace) -> int:
    """`mcr compare`."""
    if not 100 <= given.resamples <= MAX_RESAMPLES:
        raise UserError(f"--resamples is {given.resamples}; choose 100 to {MAX_RESAMPLES:,}")
    evidence = merge(given.runs)
    scores = summary(evidence, tuple(given.pair), n_resamples=given.resamples)
    out = Path(given.out) if given.out else repository() / "outputs" / "compared" / scores["profile"]
    evidence.write(out / "evidence.json.gz")
    write_json(out / "scores.json", scores)
    mpl.use("Agg")
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
