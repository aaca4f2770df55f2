"""Tables of notebook 02: constraints, chains, the verifier, D1 and D2, target boxes, chain files."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mcr_lib import chains, rewards, statements, testbed
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.boxes import box_format
from mcr_lib.data import files, mrsi
from mcr_lib.schema import Example
from mcr_lib.study.runs import artifacts, prepare
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import cases, mistakes
from mcr_lib.styles import STYLES, say
from mcr_lib.testbed import teacher
from mcr_lib.verify import FLAWS, verify
from mcr_lib.yardsticks import perfect

Tweets = Sequence[Example]
Rows = list[dict[str, Any]]
TEMPLATE = "nothing (template)"
SOURCES = {"template": "template", "llm": "language model", "mllm": "simulated teacher"}


def chains_text(built: Iterable[chains.Chain]) -> str:
    """Chains as text to read, each under its style, its source and the form of that style."""
    parts = ((c.style, SOURCES[c.source], STYLES[c.style].form, c.text) for c in built)
    return "\n\n".join("── {}, {}: {}\n{}".format(*part) for part in parts)


def with_teacher() -> tuple[testbed.Generated, list[chains.Chain]]:
    """A tweet of the testbed with a name shown, one not, and bait; its terse chain and the teacher's."""
    made = (testbed.make("gmner", "train", k) for k in range(100))
    both = (one for one in made if len(testbed.contradictions(one.example)) == 2)
    tweet = next(one for one in both if any(entity.is_groundable for entity in one.example.entities))
    pairs = [(tweet.example, style) for style in ("terse", "distill")]
    return tweet, mrsi.build_chains(pairs, seed=0, teacher=teacher.say).chains


def of_teacher(study: Study) -> dict[str, mrsi.Built]:
    """The chains of every setting of a run that asks for the simulated teacher's, under "teacher-SETTING"."""
    settings = {n: one for n, one in study.settings.items() if (one.stage, one.chains) == ("sft", "teacher")}
    how = {n: {"seed": study.config.seed, "n_wordings": one.wordings} for n, one in settings.items()}
    say = prepare.teacher_of(study.loaded)
    return {f"teacher-{n}": mrsi.build_chains(study.pairs(n), teacher=say, **how[n]) for n in how}


def source_rows(built: Mapping[str, mrsi.Built]) -> Rows:
    """How many chains of each style and source each file of chains holds."""
    keys = ((name, c.style, SOURCES[c.source]) for name, one in built.items() for c in one.chains)
    columns = ("file", "style", "source", "chains")
    return [dict(zip(columns, (*key, n), strict=True)) for key, n in Counter(keys).items()]


def rewrite_rows() -> Rows:
    """What `chains.rewrite` does with a rewriter's answers: it keeps a good one, otherwise the template."""
    template = chains.build(cases.TWEET, "distill", np.random.default_rng(0), n_wordings=1)
    text = template.text
    reworded = text.replace("First I read the text.", "Reading along.").replace("Then I look", "Now look")
    shown = text.replace("not visible", "visible").replace("so there is no box for it", "at [[box 2]]")
    answers = {
        "the same facts, other words": reworded, "nothing": None, "a refusal": "I cannot see images.",
        "another tweet's chain": text.replace(cases.TWEET.entities[0].text, "LeBron James"),
        "a changed type": text.replace("a person", "an organization"),
        "a changed slot": text.replace("[[box 1]]", "[[box 2]]"),
        "numbers for the slot": text.replace("[[box 1]]", "[40, 20, 180, 240]"),
        "a box for what is not shown": shown,
    }  # fmt: skip
    rows = []
    for name, answer in answers.items():
        result, rejected = chains.rewrite(template, cases.TWEET, lambda _, answer=answer: answer, n_tries=1)
        row = {"a rewriter that returns": name, "flaw": rejected[0] if rejected else ""}
        rows.append(row | {"meaning": FLAWS.get(row["flaw"], ""), "kept": result.source})
    return rows


def mutation_rows(examples: Sequence[Example], *, seed: int) -> Rows:
    """Per kind of planted error, templates first: chains, how many pass, and the share of each flaw in %."""
    rng = np.random.default_rng(seed)
    flaws: dict[str, Counter] = {kind: Counter() for kind in (TEMPLATE, *mistakes.PLANTED)}
    for example, (kind, count) in product(examples, flaws.items()):
        right = statements.of_example(example)
        wrong = right if kind == TEMPLATE else mistakes.plant(kind, right, example, rng)
        for style in STYLES.values() if wrong is not None else ():
            text = say(style, int(rng.integers(len(style.wordings))), wrong, example.constraints)
            flaw = verify(text, right, labels=example.labels, task=example.constraints)
            count[flaw or "passed"] += 1
    columns = ["passed", *(flaw for flaw in FLAWS if any(count[flaw] for count in flaws.values()))]
    rows = []
    for kind, count in flaws.items():
        row = {"planted": kind, "chains": (n := count.total()), "passing": count["passed"]}
        rows.append(row | {flaw: 100 * count[flaw] / n if n else None for flaw in columns})
    return rows


def length_rows(built: Iterable[chains.Chain]) -> Rows:
    """Words, numbers and punctuation marks of each chain, a slot counted as the nine of a box in numbers."""
    rows = []
    for chain in built:
        tokens = re.findall(r"\w+|[^\w\s]", statements.SLOT.sub("[1, 2, 3, 4]", chain.text))
        rows.append({"style": chain.style, "entities": len(chain.answer), "tokens": len(tokens)})
    return rows


def split_table(d1: Sequence[mrsi.Pair], d2: Sequence[mrsi.Pair]) -> pd.DataFrame:
    """Pairs, tweets, styles, entities and types of D1 and D2, as counts and as shares in percent."""
    columns, ids = {}, [{example.id for example, _ in half} for half in (d1, d2)]
    for name, half, own in (("D1 (MRSI)", d1, ids[0]), ("D2 (CVO)", d2, ids[1])):
        tweets, styles = [example for example, _ in half], Counter(style for _, style in half)
        entities = [entity for example in tweets for entity in example.entities]
        n_empty, n_shown = sum(not e.entities for e in tweets), sum(bool(e.is_groundable) for e in entities)
        counts = {"pairs": len(half), "tweets": len(own), "tweets in both": len(ids[0] & ids[1])}
        counts |= {style: styles[style] for style in STYLES if style in styles}
        counts |= {"without entity": n_empty, "entities": len(entities)}
        counts |= {"in the image": n_shown, **Counter(e.type for e in entities if e.type)}
        n_tweets = len(ids[0] | ids[1])
        wholes = {"pairs": len(d1) + len(d2), "tweets": n_tweets, "tweets in both": n_tweets, "entities": 0}
        wholes |= dict.fromkeys((*STYLES, "without entity"), len(half))
        pairs = {key: (count, wholes.get(key, len(entities))) for key, count in counts.items()}
        shares = {key: round(100 * n / of, 1) if of else None for key, (n, of) in pairs.items()}
        columns |= {name: counts, f"{name}, %": shares}
    return pd.DataFrame(columns)


def target_rows(examples: Iterable[Example], target: mrsi.Target, n: int) -> Rows:
    """Per gold box of the first n tweets that have one: sizes of the image, the box, the numbers to write."""
    rows, space = [], box_format(target.family).space
    for example in [e for e in examples if e.image_size_px and statements.gold_boxes(e)][:n]:
        size = target.size(example)
        gold = rewards.written_gold(example, space, model_size=size)
        head = {"id": example.id, "original, px": example.image_size_px, "resized, px": size}
        for entity, to_write in zip(example.entities, gold.entities, strict=True):
            pairs = zip(entity.boxes_xyxy_px or (), to_write.boxes_xyxy_px or (), strict=True)
            rows += [head | {"entity": entity.text, "gold": box, "written": to} for box, to in pairs]
    return rows


def gold_answers_reach_the_maximum(examples: Iterable[Example], target: mrsi.Target) -> bool:
    """Whether every gold answer, written for a backbone and parsed again, earns the maximum reward."""
    space, earned = box_format(target.family).space, set()
    for example in examples:
        gold = rewards.written_gold(example, space, model_size=target.size(example))
        text = write_answer(perfect(gold), constraints=gold.constraints)
        parsed = parse_answer(text, labels=gold.labels, constraints=gold.constraints)
        earned |= {getattr(rewards.rewards(parsed, gold), name) for name in rewards.NAMES}
    return earned <= {1.0, None}


def write_all(
    folder: artifacts.RunFolder, d1: Sequence[mrsi.Pair], d2: Sequence[mrsi.Pair],
    built: Mapping[str, mrsi.Built],
) -> list[str]:  # fmt: skip
    """Write D1, D2, chains by file and counts of rejects into the run folder; returns a line per file."""
    lines, rejects = [], {}
    for name, half in (("d1", d1), ("d2", d2)):
        rows = ({"id": example.id, "style": style} for example, style in half)
        files.write_jsonl(folder.data(name), rows, kind="pairs", n=len(half))
        lines.append(f"{name}.jsonl: {len(half):,} pairs of tweet and style")
    everyone = mrsi.tweets_of([*d1, *d2])
    for name, one in built.items():
        digest = mrsi.write_chains(path := folder.chains(name), one.chains, everyone)
        lines.append(f"{path.name}: {len(one.chains):,} chains, sha256 {digest[:12]}")
        counts = {"chains": len(one.chains), "asked": one.n_asked, "fallen_back": one.n_fallen_back}
        rejects[name] = {**counts, "rejects": dict(one.rejects)}
    files.write_json(folder.chains("any").with_name("rejects.json"), rejects)
    return [*lines, f"rejects.json: {sum(one.rejects.total() for one in built.values()):,} rejected"]
