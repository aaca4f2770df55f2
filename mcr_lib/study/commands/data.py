"""`mcr data check`, `mcr score` and `mcr chains build`, which writes OUT/chains.jsonl (after a header a chain
per line, boxes as slots), OUT/README.md (a data card) and OUT/checksums.txt (for sha256sum -c).
"""

import hashlib
import json
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

from mcr_lib.chains import CHAINS_VERSION, unsayable
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.files import listed, read_text, written_whole
from mcr_lib.errors import UserError
from mcr_lib.schema import checksum
from mcr_lib.study.check import check as check_data
from mcr_lib.study.commands.arguments import console
from mcr_lib.study.tables.scoring import score_file, unread
from mcr_lib.study.tables.terminal import show_check, show_score
from mcr_lib.styles import STYLES

_CARD = Path(__file__).with_name("chains_card.md")


def check(given: Namespace) -> int:
    """`mcr data check`."""
    report = check_data(given.source, given.root, version=given.version, images_dir=given.images)
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        show_check(report, console())
    return 1 if report.broken else 0


def score(given: Namespace) -> int:
    """`mcr score`."""
    keys = ("source", "root", "version", "split", "predictions", "scorer", "parse", "compare", "seed")
    keys += ("format", "space")
    result = score_file(**{key: getattr(given, key) for key in keys}, n_resamples=given.resamples)
    is_unread = result["parse"]["nothing_read"]
    if given.json:
        print(json.dumps(result, indent=2))
    elif not is_unread:
        show_score(result, console())
    if is_unread:
        print(f"mcr: {unread(result)}", file=sys.stderr)
    return int(is_unread)


def build(given: Namespace) -> int:
    """`mcr chains build`."""
    if not 0 <= given.d1_share <= 1:
        raise UserError(f"--d1-share is {given.d1_share}; expected a share in [0, 1]")
    if given.n_styles < 1:
        raise UserError(f"--n-styles is {given.n_styles}; a tweet has at least one")
    wanted = [name.strip() for name in given.styles.split(",")] if given.styles else ()
    examples = load_split(given.source, given.root, split=given.split, version=given.version)
    drawn = mrsi.pairs(examples, wanted, n_styles=given.n_styles, seed=given.seed)
    left_out = [example.id for example in examples if unsayable(example)]
    d1, d2 = mrsi.split(drawn, d1_share=given.d1_share, seed=given.seed)
    built, tweets = mrsi.build_chains(d1, seed=given.seed), mrsi.tweets_of(d1)
    out, styles = Path(given.out), Counter(chain.style for chain in built.chains)
    digest = mrsi.write_chains(out / "chains.jsonl", built.chains, tweets)
    facts = {
        "source": examples[0].source if examples else given.source, "split": given.split,
        "chains_version": CHAINS_VERSION, "seed": given.seed, "d1_share": given.d1_share, "d1": len(d1),
        "n_styles": given.n_styles, "d2": len(d2), "tweets_of_d1": len(tweets), "left_out": left_out,
        "gold_of_d1": checksum(tweets), "chains": len(built.chains), "styles": dict(styles), "sha256": digest,
    }  # fmt: skip
    entities = [entity for example in tweets for entity in example.entities]
    n_shown = sum(bool(entity.is_groundable) for entity in entities)
    row = "\n| {} | {} | {} | {:,} |".format
    rows = "".join(row(name, STYLES[name].kind, STYLES[name].form, n) for name, n in styles.items())
    card = read_text(_CARD).format(**facts, n_entities=len(entities), n_shown=n_shown, rows=rows)
    sums = f"{digest}  chains.jsonl\n{hashlib.sha256(card.encode()).hexdigest()}  README.md\n"
    for name, text in (("README.md", card), ("checksums.txt", sums)):
        with written_whole(out / name) as file:
            file.write(text)
    if given.json:
        print(json.dumps({**facts, "folder": str(out)}, indent=2))
        return 0
    counts = ", ".join(f"{n:,} {name}" for name, n in styles.items())
    print(f"{facts['source']}, {given.split}: {len(d1):,} pairs in D1, {len(d2):,} in D2")
    if left_out:
        print(f"left out, for a name that reads as a tag, a slot or a box: {listed(left_out)}")
    print(f"{len(built.chains):,} chains, all verified: {counts}\nsha256 {digest}\nread {out}/README.md")
    return 0
