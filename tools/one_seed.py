"""What claims need of one seed, without notebooks.

    python -m tools.one_seed SEED --out DIR [--claims 1,2,4,A]

Trains and answers the settings of these claims (all of data/claims.yaml if none is named), in their order and
on the splits that they ask for, in a run folder that `mcr compare` reads; what is there already is not made
again, and a killed run resumes. Attention (claim 11) is measured by notebook 06 alone.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import product

from mcr_lib.data.files import write_json, written_whole
from mcr_lib.errors import UserError
from mcr_lib.study.compare.claims import Plan
from mcr_lib.study.runs import artifacts, config, prepare
from mcr_lib.study.runs.progress import teller
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables.bias import make_probes

PROBED = ("image_caused_foreign_rate", "image_caused_foreign_rate_muted", "consistency")
ATTENTION = "attention_on_image"


def wanted(plan: Plan, numbers: Sequence[str] = ()) -> list[tuple[str, str, bool]]:
    """Setting, split, and whether its probes are answered too, in the order of claims (`numbers`; all).

    Raises:
        UserError: a number that is not in the plan.
    """
    known = {claim.number: claim for claim in plan.claims}
    if unknown := [number for number in numbers if number not in known]:
        raise UserError(f"no claim {unknown[0]!r}; the plan has {', '.join(known)}")
    result: dict[tuple[str, str], bool] = {}
    for one in (one for number in numbers or known for one in known[number].contrasts):
        measures = [name for name in one.measures if not name.startswith(ATTENTION)]
        names = [*(one.first or one.values), *filter(None, [one.second])]
        for at in product(names, one.splits) if measures else ():
            result[at] = result.get(at, False) or any(name in PROBED for name in measures)
    return [(*at, is_probed) for at, is_probed in result.items()]


def answer(loaded: config.Loaded, wants: Sequence[tuple[str, str, bool]]) -> None:
    """Make the models and answers of `wants` in the run folder of a profile, with all that is read beside."""
    study = Study(loaded, teller(sys.stderr, every_s=60))
    with study.run.locked():
        with written_whole(study.run.profile) as file:
            file.write(config.as_yaml(loaded))
        manifest = artifacts.read_manifest(study.run) | {"profile": loaded.profile, "seed": study.config.seed}
        write_json(study.run.manifest, manifest | artifacts.environment())
        prepare.write_examples(study.run, {split: study.examples(split) for split in study.config.splits})
        for name, split, is_probed in wants:
            study.answer(name, split)
            for variant, some in (make_probes(study) if is_probed else {}).items():
                tweets = [probe.example for probe in some]
                study.answer(name, examples=tweets, stem=f"{name}.{split}.{variant}")
            print(f"{name}: {split} is answered", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2, with a sentence, for a mistake of the user."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--claims", default="", metavar="1,2,…", help="default: all, in their order")
    given = parser.parse_args(argv)
    try:
        plan = Plan.read()
        wants = wanted(plan, [number for number in given.claims.split(",") if number])
        answer(config.load(plan.profile, given.out, {"seed": given.seed}), wants)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
