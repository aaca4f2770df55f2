"""What each setting answered to each tweet of a run: counts that lead to their tweets, differences with a
verdict, and everything that the report's browser shows. Read from the files of the run folder alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mcr_lib import bias, metrics, statistics
from mcr_lib.boxes import Box, box_format
from mcr_lib.data import probes
from mcr_lib.data.mrsi import Target
from mcr_lib.data.predictions import Prediction, parse_prediction, scale
from mcr_lib.rewards import NAMES
from mcr_lib.schema import Example
from mcr_lib.statistics import Ratio
from mcr_lib.study.catalogue import CATALOGUE
from mcr_lib.study.runs import prepare
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Config, Loaded
from mcr_lib.study.tables import bias as bias_tables
from mcr_lib.study.tables import comparison, scoring
from mcr_lib.study.tables.scoring import ScoredFile
from mcr_lib.verify import BOX

Row = dict[str, Any]
Kinds = tuple[list[str], dict[int, str]]  # `comparison.kinds`
KINDS = (*comparison.GOLD_KINDS, *comparison.EXTRA_KINDS)
MAX_GROUPS = 120  # of rollouts that are shown, evenly over the updates
MAX_TEXT = 6000  # characters of an answer that are shown


@dataclass(frozen=True)
class Answered:
    """The answers of settings to the tweets of a split, or to a probe of it."""

    split: str
    probe: str  # "" = the tweets as they are
    examples: list[Example]
    files: dict[str, ScoredFile]  # setting -> its answers, in the order of the profile
    config: Config = field(repr=False)

    @cached_property
    def kinds(self) -> dict[str, list[Kinds]]:
        """Setting -> per tweet the `comparison.kinds` of its answer."""
        return {name: [*map(comparison.kinds, file.judged)] for name, file in self.files.items()}

    @cached_property
    def flaws(self) -> dict[str, list[str | None]]:
        """Setting with reasoning -> per tweet why it does not state the answer (`bias.flaws`)."""
        every = {name: bias_tables.flaws(file) for name, file in self.files.items()}
        return {name: flaws for name, flaws in every.items() if flaws}

    @cached_property
    def task(self) -> str:
        """The main task: GMNER, or what the source's annotation allows of it."""
        return metrics.scored_tasks(self.examples[0].constraints)[0]

    def ratio(self, name: str, metric: str, probed: Sequence["Answered"] = ()) -> Ratio | None:
        """A metric of a setting (a key of the catalogue) as a ratio over tweets; `None` if it has none."""
        if name not in self.files:
            return None
        judged = self.files[name].judged
        if metric == "consistency":
            counted = [p for p in probed if p.probe not in bias_tables.CONTROLS]
            if not all(name in p.files for p in counted):  # fewer probes are easier to pass
                return None
            after = bias_tables.first_faults({p.probe: p.files[name].faults for p in counted})
            return bias.consistency([self.files[name].faults[id] for id in after], [*after.values()])
        if metric == f"{self.task}_f1":
            outcomes = (metrics.outcome(j, self.task, self.config.scorer) for j in judged)
            return metrics.ratios(metrics.totals([*outcomes]))["f1"]
        if metric == "faithful":
            flaws = self.flaws.get(name)
            return flaws and bias_tables.share([flaw is None for flaw in flaws])
        return (bias.textual_bias(judged) | bias.visual_bias(judged)).get(metric)


def collect(loaded: Loaded) -> tuple[list[Answered], list[str]]:
    """The answers of a run, the scored split first, then others, then probes; and what was refused, and why.

    A configured file of predictions counts as a setting of that name. Splits without an answer are left out.
    """
    c, folder = loaded.config, RunFolder(loaded.folder)
    others = sorted({*comparison.splits(c)} - {c.eval_split}, key=lambda split: (split == "dev", split))
    stand_in = None if c.stand_in is None else folder.predictions(f"degraded-gold.{c.eval_split}")
    answered, refused = [], []
    every = [(split, "") for split in (c.eval_split, *others)]
    for split, probe in every + [(c.eval_split, variant) for variant in probes.variants(c.probes)]:
        end = f"{split}.{probe}" if probe else split
        if not folder.data(end).is_file():
            continue
        results = bias_tables.BiasResults(c, prepare.read_examples(folder, end))
        paths = {name: folder.predictions(f"{name}.{end}") for name in c.settings}
        file = loaded.path("predictions") or stand_in
        if file and split == c.eval_split:
            paths[bias_tables.PREDICTIONS] = file.with_name(f"{file.stem}.{probe}.jsonl") if probe else file
        read = {n: bias_tables.read(results, n, p, results.examples) for n, p in paths.items() if p.is_file()}
        files = {name: file for name, file in read.items() if file is not None}
        refused += results.missing
        if files:
            answered.append(Answered(split, probe, results.examples, files, c))
    return answered, refused


def count_rows(one: Answered) -> list[Row]:
    """Per setting F1 with its interval, how many entities are of each kind, answers, those with a flaw."""
    draw = np.random.default_rng(one.config.seed)
    weights = statistics.resamples(len(one.examples), one.config.n_resamples, draw)
    rows = []
    for name, kinds in one.kinds.items():
        ratio = one.ratio(name, f"{one.task}_f1")
        row = {"setting": name, "f1": ratio.percent or 0.0, "ci95": statistics.interval95(ratio, weights)}
        counts = Counter(kind for of_gold, extras in kinds for kind in (*of_gold, *extras.values()))
        row |= {"counts": {kind: counts[kind] for kind in KINDS}, "answers": len(kinds)}
        if flaws := one.flaws.get(name):
            row["flawed"] = len(flaws) - flaws.count(None)
        rows.append(row)
    return rows


def difference(one: Answered, a: str, b: str, metric: str, probed: Sequence[Answered] = ()) -> Row | None:
    """A paired test of a metric, a minus b: both values, difference, 95 % interval, p, and whether a is
    better (1), worse (-1), or that cannot be told (0); `None` if one of them lacks it. `probed`: the answers
    to probes, for consistency.
    """
    first, second = (one.ratio(name, metric, probed) for name in (a, b))
    if first is None or second is None or None in (first.percent, second.percent):
        return None
    how = {"n_resamples": one.config.n_resamples, "rng": np.random.default_rng(one.config.seed)}
    test = statistics.paired_test(first, second, **how)
    values = {"a": a, "b": b, "split": one.split, "metric": CATALOGUE[metric].label, "p": test.p_value}
    values |= {"first": first.percent, "second": second.percent, "difference": test.difference}
    better = CATALOGUE[metric].better * statistics.sign(test)
    return values | {"low": test.ci95[0], "high": test.ci95[1], "better": better}


def wins(one: Answered, a: str, b: str) -> Row:
    """On how many tweets a and b make fewer mistakes than the other, and the tweet that shows it best: the
    first with a picture on which the one that wins more often has no mistake and the other has some.
    """
    mistakes = [*zip(*(map(scoring.n_mistakes, one.files[n].judged) for n in (a, b)), strict=True)]
    won = {a: sum(x < y for x, y in mistakes), b: sum(y < x for x, y in mistakes)}
    side = int(won[b] > won[a])
    tweets = zip(one.examples, mistakes, strict=True)
    ids = (e.id for e, of_both in tweets if e.images and of_both[side] == 0 < of_both[1 - side])
    return {"split": one.split, "a": a, "b": b, "won": won, "winner": (a, b)[side], "id": next(ids, None)}


def tweet(example: Example) -> Row:
    """A tweet as the browser reads it: text, picture size, gold and bait with boxes in whole pixels."""
    gold = [[e.text, e.type, e.start, e.end, _whole(e.boxes_xyxy_px)] for e in example.entities]
    bait = [[b.text, b.type, _whole(b.boxes_xyxy_px)] for b in example.image_only or ()]
    head = {"id": example.id, "words": example.tokens, "size": example.image_size_px}
    return head | {"gold": gold, "bait": bait}


def answer(
    one: metrics.Judged, row: Prediction | None, kinds: Kinds, think: str | None, flaw: str | None = None
) -> Row:
    """An answer as the browser reads it: entities, each with its kind and gold entity, reasoning with the
    boxes that it claims, why it does not state the answer, and mistakes of GMNER.
    """
    of_gold, extras = kinds
    gold_of = dict(one.pairing.matches + one.pairing.touches)
    entities = []
    for i, (_, p) in enumerate(one.effective):
        kind = extras[i] if i in extras else of_gold[gold_of[i]]
        box = _whole(p.boxes_xyxy[:1])
        entities.append([p.text, p.type, box[0] if box else None, KINDS.index(kind), gold_of.get(i, -1)])
    gold = [KINDS.index(kind) for kind in of_gold]
    result: Row = {"entities": entities, "gold": gold, "wrong": scoring.n_mistakes(one)}
    if not one.is_read:
        result["raw"] = row.answer[:MAX_TEXT] if row else ""
    if think:
        names = {e.text for e in one.example.entities} | {p.text for _, p in one.effective}
        result |= {"think": think[:MAX_TEXT], "claims": _claims(think, names, scale(row, one.example))}
    return result | ({"flaw": flaw} if flaw else {})


def _claims(think: str, names: set[str], in_px: Any) -> list[list[Any]]:
    """The boxes that reasoning writes, each with the name that stands last before it."""
    found = []
    for match in BOX.finditer(think):
        numbers = tuple(map(float, match.group()[1:-1].split(",")))
        before = max(names, key=lambda name: think.rfind(name, 0, match.start()), default="")
        is_named = before and think.rfind(before, 0, match.start()) >= 0
        found.append([before if is_named else "", *_whole([in_px(numbers)])])
    return found


def _whole(boxes: Sequence[Box] | None) -> list[list[int]]:
    return [[round(value) for value in box] for box in boxes or ()]


def tweets(one: Answered) -> Iterator[tuple[Example, Row]]:
    """Each tweet of a split or probe with what every setting answered."""
    for k, example in enumerate(one.examples):
        by_setting = {}
        for name, file in one.files.items():
            think = file.parsed[k] and file.parsed[k].think
            flaw = one.flaws[name][k] if name in one.flaws else None
            by_setting[name] = answer(file.judged[k], file.rows[k], one.kinds[name][k], think, flaw)
        yield example, tweet(example) | {"answers": by_setting}


def rollouts(loaded: Loaded, name: str) -> Iterator[tuple[Example, Row]]:
    """Groups of CVO's sampled answers, evenly over the updates, each tweet with its answers, the best first:
    R, advantage, the rewards, and why an answer earns nothing. Boxes only if their space is known.
    """
    folder, c = RunFolder(loaded.folder), loaded.config
    path = folder.setting(name) / "rollouts.parquet"
    if not path.is_file() or not folder.data("train").is_file():
        return
    import pandas as pd

    frame = pd.read_parquet(path)
    examples = {example.id: example for example in prepare.read_examples(folder, "train")}
    groups = [(key, part) for key, part in frame.groupby(["step", "group"]) if part["id"].iloc[0] in examples]
    target, every = Target(c.family, c.min_pixels, c.max_pixels), max(1, -(-len(groups) // MAX_GROUPS))
    for (step, number), part in groups[::every]:
        example, shown = examples[part["id"].iloc[0]], []
        space = False, box_format(c.family).space, target.size(example), example.image_size_px
        for one in part.sort_values("reward", ascending=False, kind="stable").to_dict("records"):
            row = Prediction(example.id, one["answer"], *space)
            parsed, entities = parse_prediction(row, example, "strict")
            judged = replace(metrics.judge(example, entities), is_read=parsed.reason is None)
            value = answer(judged, row, comparison.kinds(judged), parsed.think)
            rewards = [[reward, round(one[reward], 3)] for reward in NAMES if pd.notna(one[reward])]
            totals = {key: round(one[key], 3) for key in ("reward", "advantage")}
            shown.append(value | totals | {"rewards": rewards, "worthless": one["worthless"]})
        head = {"step": int(step), "id": f"{example.id}.{step}.{number}"}
        yield example, tweet(example) | head | {"rollouts": shown}
