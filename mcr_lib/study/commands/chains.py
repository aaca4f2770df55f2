"""`mcr chains build`, which writes OUT/chains.jsonl (after a header a chain per line, boxes as slots),
OUT/README.md (a data card) and OUT/checksums.txt (for sha256sum -c).

Chains come from templates or from another call (--start); a served model may write those of some styles
anew, and where the verifier rejects it they stay. OUT/answers.kept has every answer that was paid for.
"""

import hashlib
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mcr_lib import prompts
from mcr_lib.boxes import box_format, written_box
from mcr_lib.chains import CHAINS_VERSION, Chain, reason_request, unsayable
from mcr_lib.data import load_split, mrsi
from mcr_lib.data.files import listed, read_text, write_text
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.study.commands import arguments
from mcr_lib.study.runs.progress import teller
from mcr_lib.styles import STYLES

_CARD = Path(__file__).with_name("chains_card.md")
_KINDS = {"llm": "conclusion", "mllm": "distill"}  # styles that a model writes by default (paper, App. C.1)


def build(given: Namespace) -> int:
    """`mcr chains build`."""
    if not 0 <= given.d1_share <= 1:
        raise UserError(f"--d1-share is {given.d1_share}; expected a share in [0, 1]")
    if given.n_styles < 1:
        raise UserError(f"--n-styles is {given.n_styles}; a tweet has at least one")
    wanted = [name.strip() for name in given.styles.split(",")] if given.styles else ()
    if given.endpoint and given.writer == "mllm":
        examples = arguments.shown(given, given.split)
    else:
        examples = load_split(given.source, given.root, split=given.split, version=given.version)
    if given.n_train is not None:
        examples = mrsi.draw(examples, n=given.n_train, seed=given.seed)
    drawn = mrsi.pairs(examples, wanted, n_styles=given.n_styles, seed=given.seed)
    left_out = [example.id for example in examples if unsayable(example)]
    d1, d2 = mrsi.split(drawn, d1_share=given.d1_share, seed=given.seed)
    out, tweets = Path(given.out), mrsi.tweets_of(d1)
    before = mrsi.read_chains(given.start, examples) if given.start else []
    start = {(chain.id, chain.style): chain for chain in before}
    make, usage = partial(mrsi.build_chains, d1, seed=given.seed, start=start), {}
    if given.endpoint:
        endpoint, requests = arguments.endpoint(given, out / "answers.kept"), []
        if given.dry_run:
            make(**_writer(given, lambda *request: requests.append(request)) | {"n_tries": 1})
            return arguments.tell(endpoint.quote(requests))
        with endpoint:
            each = partial(endpoint.each, progress=teller(sys.stderr))
            built = make(**_writer(given, lambda *request: endpoint.ask(*request).text), each=each)
        usage = endpoint.usage()
    else:
        built = make()
    styles, sources = (Counter(getattr(c, key) for c in built.chains) for key in ("style", "source"))
    digest = mrsi.write_chains(out / "chains.jsonl", built.chains, tweets)
    facts = {
        "source": examples[0].source if examples else given.source, "split": given.split,
        "chains_version": CHAINS_VERSION, "seed": given.seed, "d1_share": given.d1_share, "d1": len(d1),
        "n_styles": given.n_styles, "d2": len(d2), "tweets_of_d1": len(tweets), "left_out": left_out,
        "gold_of_d1": checksum(tweets), "chains": len(built.chains), "styles": dict(styles), "sha256": digest,
        "sources": dict(sources), "asked": built.n_asked, "fallen_back": built.n_fallen_back,
        "rejects": dict(built.rejects.most_common()), "usage": usage,
    }  # fmt: skip
    entities = [entity for example in tweets for entity in example.entities]
    n_shown = sum(bool(entity.is_groundable) for entity in entities)
    row = "\n| {} | {} | {} | {:,} |".format
    rows = "".join(row(name, STYLES[name].kind, STYLES[name].form, n) for name, n in styles.items())
    shown = ", ".join(f"{name} {n:,}" for name, n in sources.items())
    shown += f"; this call asked {given.model}" if usage else ""
    card = read_text(_CARD).format(
        **facts | {"sources": shown}, n_entities=len(entities), n_shown=n_shown, rows=rows
    )
    sums = f"{digest}  chains.jsonl\n{hashlib.sha256(card.encode()).hexdigest()}  README.md\n"
    for name, text in (("README.md", card), ("checksums.txt", sums)):
        write_text(out / name, text)
    if given.json:
        print(json.dumps({**facts, "folder": str(out)}, indent=2))
        return int(usage.get("unanswered", 0) > 0)
    counts = ", ".join(f"{n:,} {name}" for name, n in styles.items())
    print(f"{facts['source']}, {given.split}: {len(d1):,} pairs in D1, {len(d2):,} in D2")
    if left_out:
        print(f"left out, for a name that reads as a tag, a slot or a box: {listed(left_out)}")
    print(f"{len(built.chains):,} chains, all verified: {counts}\nsha256 {digest}\nread {out}/README.md")
    if not usage:
        return 0
    why = ", ".join(f"{n:,} {flaw}" for flaw, n in built.rejects.most_common())
    print(f"{built.n_fallen_back:,} of {built.n_asked:,} stay as they were; tries rejected: {why or 'none'}")
    return arguments.tell(usage)


def _writer(given: Namespace, send: Callable[..., str | None]) -> dict[str, Any]:
    """What `build_chains` needs to ask the served model; `send` takes a chat and pictures."""
    own = [name for name, style in STYLES.items() if style.kind == _KINDS[given.writer]]
    names = [name.strip() for name in given.write.split(",")] if given.write else own
    how = {"source": given.writer, "styles": mrsi.known_styles(names), "n_tries": given.tries}
    if given.writer == "llm":
        return how | {"ask": lambda _, text: send([prompts.message("user", text)], [])}
    target = arguments.target(given)

    def ask(example: Example, text: str) -> str | None:
        pictures = arguments.pictures(example, target)
        chat = [prompts.message("user", text, n_images=len(pictures))]
        return send(chat, pictures) if pictures else None  # without an image nobody can look

    def request(chain: Chain, example: Example) -> str:
        sent = [size for _, size in arguments.pictures(example, target)] or [target.size(example)]
        how = {"space": box_format(target.family).space, "image_size": chain.image_size_px}
        boxes = [written_box(box, model_size=sent[0], **how) for box in chain.boxes_xyxy_px]
        return reason_request(chain, example, boxes)

    return how | {"ask": ask, "request": request}
