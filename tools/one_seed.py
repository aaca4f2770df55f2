"""What claims need of one seed, without notebooks.

    python -m tools.one_seed SEED --out DIR [--claims 1,2,4,A] [--set testbed_contradicting=0.2]

Trains and answers the settings of these claims (all of data/claims.yaml if none is named), in their order and
on the splits that they ask for, in a run folder that `mcr compare` reads; what is there already is not made
again, and a killed run resumes.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from mcr_lib.errors import UserError
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.runs import config, prepare
from mcr_lib.study.runs.progress import teller
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import attention, comparison
from mcr_lib.study.tables.bias import make_probes

BESIDE = {
    "image_caused": "probes",
    "consistency": "probes",
    "attention": "attention",
}  # start of a measure: what
Wanted = Mapping[tuple[str, str], set[str]]  # setting, split -> what is measured beside its answers


def wanted(plan: Plan, numbers: Sequence[str] = ()) -> Wanted:
    """What these claims, or all of the plan, need, in their order; `UserError` for an unknown number."""
    known, result = {claim.number: claim for claim in plan.claims}, {}
    if unknown := [number for number in numbers if number not in known]:
        raise UserError(f"no claim {unknown[0]!r}; the plan has {', '.join(known)}")
    for one in (one for number in numbers or known for one in known[number].contrasts):
        beside = {what for start, what in BESIDE.items() for name in one.measures if name.startswith(start)}
        names = [*(one.first or one.values), *filter(None, [one.second])]
        for at in product(names, one.splits):
            result.setdefault(at, set()).update(beside)
    return result


def answer(loaded: config.Loaded, wants: Wanted) -> list[str]:
    """Make the models and answers of `wants` in the run folder of a profile, with all that is read beside;
    returns a sentence per setting that could not be made: the others are.
    """
    failed = []
    study = Study(loaded, teller(sys.stderr, every_s=60))
    with study.run.locked():
        prepare.begin(loaded)
        prepare.write_examples(study.run, {split: study.examples(split) for split in study.config.splits})
        for (name, split), beside in wants.items():
            try:
                study.answer(name, split)
            except UserError as error:
                failed.append(f"{name}, {split}: {error}")
                print(failed[-1], file=sys.stderr, flush=True)
                continue
            for variant, some in (make_probes(study) if "probes" in beside else {}).items():
                tweets = [probe.example for probe in some]
                study.answer(name, examples=tweets, stem=f"{name}.{split}.{variant}")
            print(f"{name}: {split} is answered", flush=True)
        if looked := [name for (name, _), beside in wants.items() if "attention" in beside]:
            some = {name: study.settings[name] for name in study.with_starts(looked)}
            apart = Study(replace(loaded, config=loaded.config.model_copy(update={"settings": some})))
            shares = attention.share_rows(apart, attention.image_shares(apart))
            comparison.add_results(study.run, attention.result_rows(apart, [], shares))
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2, with a sentence, for a mistake or a setting that could not be made."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--claims", default="", metavar="1,2,…", help="default: all, in their order")
    parser.add_argument("--set", action="append", default=[], dest="pairs", metavar="KEY=VALUE")
    given = parser.parse_args(argv)
    try:
        plan = Plan.read()
        wants = wanted(plan, [number for number in given.claims.split(",") if number])
        overrides = config.parse_set(given.pairs) | {"seed": given.seed}
        return 2 * bool(answer(config.load(plan.profile, given.out, overrides), wants))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
