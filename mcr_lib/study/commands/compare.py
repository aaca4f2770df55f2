"""`mcr compare RUN [RUN ...]`: run folders merged over seeds into evidence, scores, claims and figures."""

import json
from argparse import Namespace
from pathlib import Path

import matplotlib as mpl

from mcr_lib.data.files import write_json
from mcr_lib.errors import UserError
from mcr_lib.statistics import MAX_RESAMPLES
from mcr_lib.study.compare import tables
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.compare.evidence import FILE, summary
from mcr_lib.study.compare.merge import merge
from mcr_lib.study.figures import forest, palette
from mcr_lib.study.runs.config import repository


def command(given: Namespace) -> int:
    """`mcr compare`."""
    if not 100 <= given.resamples <= MAX_RESAMPLES:
        raise UserError(f"--resamples is {given.resamples}; choose 100 to {MAX_RESAMPLES:,}")
    evidence, plan = merge(given.runs), Plan.read()
    if given.pair or evidence.head["profile"] != plan.profile:
        plan = Plan.of_pair(evidence, *(given.pair or ("mcr", "sft")))
    scores = summary(evidence, n_resamples=given.resamples)
    rows = plan.evaluate(evidence, n_resamples=given.resamples)
    sweeps = plan.sweeps(evidence, n_resamples=given.resamples)
    out = Path(given.out) if given.out else repository() / "outputs" / "compared" / scores["profile"]
    evidence.write(out / FILE)
    write_json(out / "scores.json", scores)
    write_json(out / "claims.json", {**scores, "note": tables.note(scores), "rows": rows})
    mpl.use("Agg")
    with mpl.rc_context():
        show = palette.shower(out, tables.CONTROLLED if scores["source"] == "testbed" else "")
        show(forest.claims, rows, "claims", values=forest.seed_values(rows))
        show(forest.curves, sweeps, "sweeps", values=forest.seed_values(sweeps), xlabel="value",
             title="Sweeps: each value over seeds, 95 %; ring: the default")  # fmt: skip
    if given.json:
        print(json.dumps({**scores, "claims": rows}, indent=2))
        return 0
    for sentence in scores["missing"]:
        print(f"missing: {sentence}")
    if len({run["commit"] for run in scores["runs"]}) > 1:
        print("note: the runs were made at different commits")
    nothing = "no split was answered by both settings: nothing is compared"
    compared = tables.claims_table(rows, "number", "claim") if rows else nothing
    print(f"\n{tables.settings_table(scores)}\n{compared}")
    print(f"\nwritten to {out}: evidence.json.gz, scores.json, claims.json, claims.png")
    return 0
