"""What notebook 02 shows: constraints said and checked, styles side by side, what the verifier catches, D1
and D2, the chain file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mcr_lib import chains, constraints, rewards, statements
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.boxes import box_format, to_space
from mcr_lib.chains import Chain
from mcr_lib.data import mrsi
from mcr_lib.data.files import write_json
from mcr_lib.schema import Example, PredictedEntity
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.prepare import write_examples
from mcr_lib.study.tables import cases, mistakes
from mcr_lib.styles import STYLES, order, say, type_in_words
from mcr_lib.verify import FLAWS, verify
from mcr_lib.yardsticks import perfect

TEMPLATE = "nothing (template)"
REWARD_COLUMNS = ("R_c", "R_s", "R_t", "R_u", "R_e")


def claim_rows(tweet: Example = cases.TWEET) -> list[dict[str, Any]]:
    """Per constraint its symbol, its question, and what it claims of each gold entity."""
    return [
        {"constraint": c.name, "symbol": c.symbol, "question": c.question}
        | {e.text: c.claim(e) for e in tweet.entities}
        for c in constraints.of_task(tweet.constraints)
    ]


def reward_rows(tweet: Example = cases.TWEET, *, sigma: float = rewards.SIGMA) -> list[dict[str, Any]]:
    """The five rewards and their sum for each hand-made answer, the malformed one last."""
    rows = []
    for name, answer in [*cases.ANSWERS.items(), ("malformed", None)]:
        text = "Kevin Durant, left" if answer is None else write_answer(answer)
        found = rewards.rewards(parse_answer(text, labels=tweet.labels), tweet, sigma=sigma)
        values = (found.count, found.span, found.type, found.grounding, found.entailment)
        rows.append({"answer": name, **dict(zip(REWARD_COLUMNS, values, strict=True)), "R": found.total()})
    return rows


def filler_rows(n_most: int = 4) -> list[dict[str, Any]]:
    """R_c by the touch rule and by the plain ratio for answers of made-up names alone, to a tweet with two
    entities.
    """
    rows = []
    for n in range(n_most + 1):
        checked = rewards.check([PredictedEntity(f"Nobody {k}", "PER") for k in range(n)], cases.TWEET)
        rows.append(
            {
                "made-up names": n,
                **{rule: rewards.reward_count(checked, rule=rule) for rule in ("touch", "ratio")},
            }
        )
    return rows


def grounding_rows(sigmas: Sequence[float] = (0.3, 0.5, 0.7)) -> list[dict[str, Any]]:
    """R_u of one groundable entity against the IoU of its box, per σ, and at σ = 0.5 with a stray box beside
    it.
    """
    gold = mistakes.WORLD
    stray = PredictedEntity("Rome", "LOC", (mistakes.C,))
    rows = []
    for sigma, is_stray in [*((s, False) for s in sigmas), (rewards.SIGMA, True)]:
        for percent in range(101):
            said = PredictedEntity(
                "Ada Byron", "PER", ((0, 0, 10, percent / 10),)
            )  # of the gold box, 10 x 10, this covers so much
            checked = rewards.check([said, stray] if is_stray else [said], gold)
            r_u = rewards.reward_grounding(checked, sigma=sigma)
            rows.append(
                {
                    "line": f"σ = {sigma}" + (", and a stray box" if is_stray else ""),
                    "iou": percent / 100,
                    "R_u": r_u,
                }
            )
    return rows


def repair_rows(n_most: int = 2) -> list[dict[str, Any]]:
    """Per kind of repair, over all answers to a small tweet and each with a made-up name behind it: how many,
    and how each reward moves.

    Repairs that move the names of other predictions are left out.
    """
    counts: dict[str, Counter] = {kind: Counter() for kind in mistakes.MENDED}
    known: dict[Any, np.ndarray] = {}

    def five(answer: Any) -> np.ndarray:
        if answer not in known:
            found = rewards.rewards(rewards.ParsedAnswer(answer), mistakes.WORLD)
            known[answer] = np.array([found.count, found.span, found.type, found.grounding, found.entailment])
        return known[answer]

    filler = PredictedEntity("Nobody", "PER", (mistakes.C,))
    for answer in (said for small in mistakes.small_answers(n_most) for said in (small, (*small, filler))):
        for repair in mistakes.repairs(answer, mistakes.WORLD):
            count = counts[repair.kind]
            if repair.moves_others:
                continue
            moved = five(repair.answer) - five(answer)
            count["repairs"] += 1
            count["lower some reward"] += bool((moved < -1e-12).any())
            count["raise the sum"] += bool(moved.sum() > 1e-12)
            for name, change in zip(REWARD_COLUMNS, moved, strict=True):
                count[f"raise {name}"] += bool(change > 1e-12)
    columns = ["repairs", *(f"raise {name}" for name in REWARD_COLUMNS), "raise the sum", "lower some reward"]
    return [
        {"mended": kind} | {column: count[column] for column in columns} for kind, count in counts.items()
    ]


def chains_text(built: Iterable[Chain]) -> str:
    """Chains as text to read, each under the name of its style and what is special about it."""
    return "\n\n".join(f"── {chain.style}: {STYLES[chain.style].form}\n{chain.text}" for chain in built)


def every_wording(tweet: Example = cases.TWEET) -> list[Chain]:
    """The chain of a tweet in every style, first wording."""
    said = statements.of_example(tweet)
    texts = {name: say(style, 0, said, tweet.constraints) for name, style in STYLES.items()}
    boxes = statements.gold_boxes(tweet)
    return [
        Chain(tweet.id, n, "template", t, tuple(said), boxes, tweet.image_size_px, tweet.constraints)
        for n, t in texts.items()
    ]


def rewrite_rows(tweet: Example = cases.TWEET) -> list[dict[str, Any]]:
    """What becomes of rewrites: a good one is kept, each bad one is named and its template stays."""
    template = every_wording(tweet)[0]
    text = template.text
    answers = {
        "the same facts, other words": text.replace("The text first.", "Reading along.").replace(
            "Then the picture.", "Now look."
        ),
        "nothing": None,
        "a refusal": "I cannot see images.",
        "another tweet's chain": text.replace(tweet.entities[0].text, "LeBron James"),
        "a changed type": text.replace("PER", "ORG"),
        "a changed slot": text.replace("[[box 1]]", "[[box 2]]"),
        "numbers for the slot": text.replace("[[box 1]]", "[40, 20, 180, 240]"),
        "a box for what is not shown": text.replace("does not show", "shows").replace(
            "so it gets no box", "at [[box 2]]"
        ),
    }
    rows = []
    for name, answered in answers.items():
        kept, rejected = chains.rewrite(
            template, tweet, lambda request, answered=answered: answered, n_tries=1
        )
        flaw = rejected[0] if rejected else ""
        rows.append(
            {
                "a rewriter that returns": name,
                "flaw": flaw,
                "meaning": FLAWS.get(flaw, ""),
                "kept": kept.source,
            }
        )
    return rows


def mutation_rows(examples: Sequence[Example], *, seed: int) -> list[dict[str, Any]]:
    """Per kind of planted error, over all styles: how many chains, how many pass, the share in percent of
    each flaw; templates first.
    """
    rng = np.random.default_rng(seed)
    kinds = (TEMPLATE, *mistakes.PLANTED)
    flaws: dict[str, Counter] = {kind: Counter() for kind in kinds}
    for example in examples:
        said = statements.of_example(example)
        for kind in kinds:
            wrong = said if kind == TEMPLATE else mistakes.plant(kind, said, example, rng)
            for style in STYLES.values() if wrong is not None else ():
                text = say(style, int(rng.integers(len(style.wordings))), wrong, example.constraints)
                flaws[kind][
                    verify(text, said, labels=example.labels, task=example.constraints) or "passed"
                ] += 1
    met = ["passed", *(flaw for flaw in FLAWS if any(flaws[kind][flaw] for kind in kinds))]
    rows = []
    for kind, counts in flaws.items():
        total = counts.total()
        shares = {flaw: 100 * counts[flaw] / total if total else None for flaw in met}
        rows.append({"planted": kind, "chains": total, "passing": counts["passed"], **shares})
    return rows


def order_rows() -> list[dict[str, Any]]:
    """Per style and wording the place, 1 to 4, at which each constraint is said."""
    return [
        {"wording": f"{name} {k + 1}"}
        | {c.symbol: order(style.wordings[k]).index(c.name) + 1 for c in constraints.ALL.values()}
        for name, style in STYLES.items()
        for k in range(len(style.wordings))
    ]


def length_rows(built: Iterable[Chain]) -> list[dict[str, Any]]:
    """Words, numbers and punctuation marks of each chain, a slot counted as the nine of a box in numbers."""
    return [
        {
            "style": chain.style,
            "entities": len(chain.answer),
            "tokens": n_tokens(statements.SLOT.sub("[1, 2, 3, 4]", chain.text)),
        }
        for chain in built
    ]


def n_tokens(text: str) -> int:
    """Words, numbers and punctuation marks: about what a tokenizer with whole words makes of a text.

    Example:
        >>> n_tokens("at [52, 31] ;")
        7
    """
    return len(re.findall(r"\w+|[^\w\s]", text))


def common_4_grams(built: Sequence[Chain]) -> tuple[float, str, str]:
    """The largest share in percent of word 4-grams, values masked, that two styles have in common (of the
    smaller's), and which two.
    """
    grams: dict[str, set] = {style: set() for style in dict.fromkeys(chain.style for chain in built)}
    for chain in built:
        words = re.findall(r"\w+", _masked(chain).lower())
        grams[chain.style].update(zip(*(words[k:] for k in range(4)), strict=False))
    shares = [
        (100 * len(grams[a] & grams[b]) / min(len(grams[a]), len(grams[b])), a, b)
        for a, b in combinations(grams, 2)
        if grams[a] and grams[b]
    ]
    return max(shares, default=(0.0, "", ""))


def _masked(chain: Chain) -> str:
    text = statements.SLOT.sub(" BOX ", chain.text)
    for said in chain.answer:
        kind = type_in_words(said.type or "")
        for value, mask in (
            (said.mention, " NAME "),
            (kind, " TYPE "),
            (kind.capitalize(), " TYPE "),
            (said.type, " TYPE "),
        ):
            text = text.replace(value, mask) if value else text
    return text


def split_table(d1: Sequence[Example], d2: Sequence[Example]) -> pd.DataFrame:
    """Tweets, entities, groundable ones and types of D1 and D2, as counts and as shares in percent."""
    rows = {}
    for name, half in (("D1 (MRSI)", d1), ("D2 (CVO)", d2)):
        entities = [entity for example in half for entity in example.entities]
        counts = {
            "tweets": len(half),
            "without entity": sum(not e.entities for e in half),
            "entities": len(entities),
        }
        counts["in the image"] = sum(bool(e.is_groundable) for e in entities)
        counts |= {
            label: sum(e.type == label for e in entities)
            for label in dict.fromkeys(e.type for e in entities if e.type)
        }
        rows[name] = counts
        of = {"without entity": counts["tweets"], "tweets": len(d1) + len(d2), "entities": 0}
        rows[f"{name}, %"] = {
            k: round(100 * v / whole, 1) if (whole := of.get(k, len(entities))) else None
            for k, v in counts.items()
        }
    return pd.DataFrame(rows)


def target_boxes(example: Example, target: mrsi.Target) -> list[dict[str, Any]]:
    """Per gold box: its entity, the numbers that the backbone is to write, and the same in pixels of the
    resized image.

    Example:
        >>> target_boxes(cases.TWEET, mrsi.Target("qwen3-vl", 3136, 10**6))[0]["written"]
        (130, 103, 470, 800)
    """
    size = target.size(example)
    space = box_format(target.family).space
    gold = rewards.written_gold(example, space, model_size=size)
    rows = []
    for entity, written in zip(example.entities, gold.entities, strict=True):
        for box, numbers in zip(entity.boxes_xyxy_px or (), written.boxes_xyxy_px or (), strict=True):
            drawn = (
                numbers
                if space == "model_px"
                else to_space(numbers, "model_px", image_size=(1000, 1000), model_size=size)
            )
            rows.append(
                {"entity": entity.text, "type": entity.type, "gold": box, "written": numbers, "drawn": drawn}
            )
    return rows


def oddest(examples: Sequence[Example], n: int) -> list[Example]:
    """Up to n tweets with an image and a gold box, those first whose sides are no whole units of 28 and whose
    image is far from square.
    """
    usable = [e for e in examples if e.images and e.image_size_px and statements.gold_boxes(e)]
    return sorted(
        usable,
        key=lambda e: (
            -sum(side % 28 != 0 for side in e.image_size_px),
            -max(e.image_size_px) / min(e.image_size_px),
        ),
    )[:n]


def target_rows(examples: Iterable[Example], target: mrsi.Target) -> list[dict[str, Any]]:
    """`target_boxes` of several tweets, with the size of each image before and after resizing."""
    rows = []
    for example in examples:
        sizes = {"original, px": example.image_size_px, "resized, px": target.size(example)}
        for row in target_boxes(example, target):
            rows.append(
                {
                    "id": example.id,
                    **sizes,
                    "entity": row["entity"],
                    "gold": row["gold"],
                    "written": row["written"],
                }
            )
    return rows


def gold_answers_reach_the_maximum(examples: Iterable[Example], target: mrsi.Target) -> bool:
    """Whether the gold answer of every tweet, rendered for a backbone and parsed again, earns the most that
    its rewards can give.
    """
    space = box_format(target.family).space
    for example in examples:
        gold = rewards.written_gold(example, space, model_size=target.size(example))
        parsed = parse_answer(
            write_answer(perfect(gold), constraints=gold.constraints),
            labels=gold.labels,
            constraints=gold.constraints,
        )
        found = rewards.rewards(parsed, gold)
        if any(
            value not in (1.0, None)
            for value in (found.count, found.span, found.type, found.grounding, found.entailment)
        ):
            return False
    return True


def write_all(
    folder: RunFolder, d1: Sequence[Example], d2: Sequence[Example], built: mrsi.Built
) -> list[str]:
    """Write D1, D2, the chains and what was rejected into the run folder; one line per file."""
    lines = write_examples(folder, {name: half for name, half in (("d1", d1), ("d2", d2)) if half})
    path = folder.chains("template")
    digest = mrsi.write_chains(path, built.chains, d1)
    lines.append(f"{path.name}: {len(built.chains):,} chains, sha256 {digest[:12]}")
    rejects = {
        "chains": len(built.chains), "asked": built.n_asked, "fallen_back": built.n_fallen_back, "rejects": dict(built.rejects)
    }  # fmt: skip
    write_json(path.with_name("rejects.json"), {"template": rejects})
    return [*lines, f"rejects.json: {built.rejects.total():,} rejected"]
