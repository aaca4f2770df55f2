"""`mcr data check`, `mcr score` and `mcr chains build`: commands on the files of a data set.

`chains build` writes OUT/chains.jsonl (a chain per line, boxes as slots, after a header), OUT/README.md (a
data card) and OUT/checksums.txt (for sha256sum -c). The same data, styles and seed give the same bytes.
"""

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from mcr_lib.errors import UserError
from mcr_lib.study.commands.arguments import add_data_set, console, group

_SCORE = """\
GMNER, MNER and EEG with 95 % intervals, per type, bias, how the answers were read, and yardsticks. A row of
the file is a JSON object with "id" and either "entities" (boxes in original pixels) or "answer" (raw model
text) with "coordinate_space".
"""

_CARD = Path(__file__).with_name("chains_card.md")


def add_commands(commands: Any) -> None:
    """Add `data check`, `score` and `chains build` to the parser of `mcr`."""
    about = "statistics beside the expected ones, images, quirks; exit 1 on any difference"
    check = group(commands, "data", "look at a data set").add_parser("check", help=about)
    check.add_argument("source", help="twitter-gmner, twitter-fmnerg or testbed")
    add_data_set(check)
    images = "where the images are, at any depth (default: below --root)"
    check.add_argument("--images", metavar="DIR", help=images)

    score = commands.add_parser("score", help="score a predictions file", description=_SCORE)
    add_data_set(score, "test")
    add, scorers, modes = score.add_argument, ("definition", "e2e", "unco-legacy"), ("strict", "lenient")
    add("--predictions", required=True, metavar="FILE", help="JSONL: id and answer, or id and entities")
    add("--scorer", choices=scorers, default="definition", help="default: %(default)s")
    add("--parse", choices=modes, default="strict", help="how answers are read (default: %(default)s)")
    other = "a second predictions file for the same tweets: paired test, verdict"
    add("--compare", metavar="OTHER", help=other)
    add("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)")
    add("--seed", type=int, default=0, help="of bootstrap and test (default: %(default)s)")

    about = "write verified chains of D1 with a data card and checksums"
    build = group(commands, "chains", "reasoning chains").add_parser("build", help=about)
    add_data_set(build, "train")
    add, share = build.add_argument, "share of tweets in D1; 1 = all (default: %(default)s)"
    add("--out", required=True, metavar="DIR", help="where chains.jsonl, README.md and checksums.txt go")
    add("--styles", metavar="NAMES", help="separated by commas (default: all)")
    add("--d1-share", type=float, default=0.5, metavar="SHARE", help=share)
    add("--seed", type=int, default=0, help="of D1 and of the wordings (default: %(default)s)")
    for parser, run in ((check, _check), (score, _score), (build, _build)):
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(run=run)


def _check(given: argparse.Namespace) -> int:
    from mcr_lib.data.check import check
    from mcr_lib.study.tables.terminal import show_check

    report = check(given.source, given.root, version=given.version, images_dir=given.images)
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        show_check(report, console())
    return 1 if report.differences else 0


def _score(given: argparse.Namespace) -> int:
    from mcr_lib.study.tables.scoring import score_file
    from mcr_lib.study.tables.terminal import show_score

    keys = ("source", "root", "version", "split", "predictions", "scorer", "parse", "compare", "seed")
    result = score_file(**{key: getattr(given, key) for key in keys}, n_resamples=given.resamples)
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        show_score(result, console())
    return 0


def _build(given: argparse.Namespace) -> int:
    from mcr_lib.chains import CHAINS_VERSION
    from mcr_lib.data import load_split, mrsi
    from mcr_lib.data.files import read_text, written_whole
    from mcr_lib.schema import checksum
    from mcr_lib.styles import STYLES

    if not 0 <= given.d1_share <= 1:
        raise UserError(f"--d1-share is {given.d1_share}; expected a share in [0, 1]")
    wanted = [name.strip() for name in given.styles.split(",")] if given.styles else ()
    examples = load_split(given.source, given.root, split=given.split, version=given.version)
    d1, d2 = mrsi.split_d1_d2(examples, d1_share=given.d1_share, seed=given.seed)
    built = mrsi.build_chains(d1, wanted, seed=given.seed)
    out, styles = Path(given.out), Counter(chain.style for chain in built.chains)
    digest = mrsi.write_chains(out / "chains.jsonl", built.chains, d1)
    facts = {
        "source": examples[0].source if examples else given.source, "split": given.split,
        "chains_version": CHAINS_VERSION, "seed": given.seed, "d1_share": given.d1_share,
        "privileged": False, "d1": len(d1), "d2": len(d2), "gold_of_d1": checksum(d1),
        "chains": len(built.chains), "styles": dict(styles), "sha256": digest,
    }  # fmt: skip
    entities = [entity for example in d1 for entity in example.entities]
    n_shown = sum(bool(entity.is_groundable) for entity in entities)
    rows = "".join(f"\n| {name} | {STYLES[name].form} | {n:,} |" for name, n in styles.items())
    card = read_text(_CARD).format(**facts, n_entities=len(entities), n_shown=n_shown, rows=rows)
    sums = f"{digest}  chains.jsonl\n{hashlib.sha256(card.encode()).hexdigest()}  README.md\n"
    for name, text in (("README.md", card), ("checksums.txt", sums)):
        with written_whole(out / name) as file:
            file.write(text)
    if given.json:
        print(json.dumps({**facts, "folder": str(out)}, indent=2))
        return 0
    counts = ", ".join(f"{n:,} {name}" for name, n in styles.items())
    print(f"{facts['source']}, {given.split}: {len(d1):,} tweets in D1, {len(d2):,} in D2")
    print(f"{len(built.chains):,} chains, all verified: {counts}\nsha256 {digest}\nread {out}/README.md")
    return 0
