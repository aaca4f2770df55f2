"""Tables of notebook 04: rewards and advantages of hand-made rollouts, and the rollouts of a training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from mcr_lib import metrics, rewards
from mcr_lib.answer import parse_answer, write_answer
from mcr_lib.boxes import box_format
from mcr_lib.data.predictions import Prediction, parse_prediction
from mcr_lib.metrics import Judged
from mcr_lib.schema import Example
from mcr_lib.study.runs.settings import Study
from mcr_lib.study.tables import cases
from mcr_lib.study.tables.injection import by_column, case_rewards

Rows = list[dict[str, Any]]

HAND_MADE = ("perfect", "box not wanted (textual bias)", "name not in the text (visual bias)", "malformed")
"""Four rollouts of one prompt: a right answer, both shortcuts, and text that is no answer."""

EPSILON = 1e-4
"""Added to the standard deviation of a group, as in TRL."""

_ROUNDING = 1e-2
"""Tolerance of an advantage: a mean of up to 5 in single precision is off by up to 5e-7, and the standard
deviation of a group of equal rewards is EPSILON alone.
"""

_ANSWER_IN_WORDS = '"Kevin Durant" : PER , {} ; "Oracle Arena" : LOC , not shown , no box ;'
REASONING = {
    "states the answer": _ANSWER_IN_WORDS.format("shown at [52, 31, 188, 240]"),
    "states it, the box a little off": _ANSWER_IN_WORDS.format("shown at [50, 30, 190, 235]"),
    "says another thing": _ANSWER_IN_WORDS.format("not shown , no box"),
    "says nothing of it": "A tweet with names .",
    "none": None,
}
"""What a model may write before the perfect answer to `cases.TWEET`."""


def advantages(totals: Sequence[float]) -> list[float]:
    """The advantage of each answer of a group: (R - mean) / (sample standard deviation + 1e-4), as in TRL.

    Example:
        >>> [round(a, 2) for a in advantages([5, 3, 4, 4])]
        [1.22, -1.22, 0.0, 0.0]
        >>> advantages([3, 3])
        [0.0, 0.0]
    """
    values = np.asarray(totals, dtype=float)
    return ((values - values.mean()) / (values.std(ddof=1) + EPSILON)).tolist()


def hand_made_rows(names: Sequence[str] = HAND_MADE, *, weights: Sequence[float] = (1, 1, 1, 1, 1)) -> Rows:
    """Answers to `cases.TWEET` as one group: the five rewards of each, their sum R and the advantage.

    Args:
        names: keys of `cases.ANSWERS`, or "malformed".
        weights: λ1..λ5.
    """
    earned = [case_rewards(name) for name in names]
    totals = [five.total(weights) for five in earned]
    rows = []
    for name, five, total, advantage in zip(names, earned, totals, advantages(totals), strict=True):
        sums = {"R": round(total, 4), "advantage": round(advantage, 4)}
        rows.append({"rollout": name, **by_column(five), **sums})
    return rows


def reasoning_rows() -> Rows:
    """R of the perfect answer after different reasoning, under each demand on reasoning, and its flaw under
    the strictest.
    """
    demands, tweet = get_args(rewards.Reasoning), cases.TWEET
    rows = []
    for name, think in REASONING.items():
        parsed = parse_answer(write_answer(cases.ANSWERS["perfect"], think=think), labels=tweet.labels)
        totals = {demand: rewards.rewards(parsed, tweet, reasoning=demand).total() for demand in demands}
        flaw = rewards.worthless(parsed, tweet, reasoning=demands[-1]) or ""
        rows.append({"reasoning": name, **totals, "flaw": flaw})
    return rows


def read(study: Study, names: Sequence[str]) -> pd.DataFrame:
    """The rollouts of several settings in one table (columns: `cvo.write_rollouts`, and setting)."""
    paths = {name: study.run.setting(name) / "rollouts.parquet" for name in names}
    frames = [pd.read_parquet(path).assign(setting=name) for name, path in paths.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _by_setting(frame: pd.DataFrame) -> Any:
    return frame.groupby("setting", sort=False) if len(frame) else ()


def health_rows(frame: pd.DataFrame, curves: Sequence[Mapping[str, Any]]) -> Rows:
    """Per setting and update, in percent: groups with equal rewards, answers cut off, worthless answers."""
    worthless = {}
    if len(frame):
        flags = frame["worthless"] != ""
        worthless = flags.groupby([frame["setting"], frame["step"]]).mean().to_dict()
    rows = []
    for curve in curves:
        head = {"setting": curve["setting"], "step": curve["step"]}
        share = worthless.get(tuple(head.values()))
        shares = {"equal groups": 100 * curve["equal_groups"], "cut off": 100 * curve["truncated"]}
        rows.append(head | shares | {"worthless": None if share is None else 100 * share})
    return rows


def reason_rows(frame: pd.DataFrame) -> Rows:
    """Why rollouts are worthless: how many per setting and reason in the first and the last third of updates.

    A reason is a defect of the answer, or a flaw of its reasoning where that counts (`rewards.worthless`).
    """
    rows = []
    for name, part in _by_setting(frame):
        n_steps = int(part["step"].max())
        third = max(1, n_steps // 3)
        first = Counter(part["worthless"][part["step"] <= third])
        last = Counter(part["worthless"][part["step"] > n_steps - third])
        for reason in dict.fromkeys([*first, *last]):
            counts = {"first third": first[reason], "last third": last[reason]}
            rows.append({"setting": name, "reason": reason or "may earn", **counts})
    return rows


@dataclass(frozen=True)
class Group:
    """The answers sampled for one prompt in one update (`step`, from 1), the best first.

    `judged` has each answer with its tweet, boxes in pixels of the original image (an answer that cannot be
    parsed has no entity); `rows` has its rollout (columns of `read`).
    """

    setting: str
    step: int
    judged: tuple[Judged, ...]
    rows: tuple[dict[str, Any], ...]


def group(study: Study, frame: pd.DataFrame, setting: str, step: int, number: int) -> Group:
    """A group of the rollouts of a setting, the best answer first."""
    part = frame[(frame["setting"] == setting) & (frame["step"] == step) & (frame["group"] == number)]
    rows = part.sort_values("reward", ascending=False, kind="stable").to_dict("records")
    example = next(e for e in study.tweets(setting) if e.id == rows[0]["id"])
    return Group(setting, step, tuple(_judged(study, row["answer"], example) for row in rows), tuple(rows))


def _judged(study: Study, answer: str, example: Example) -> Judged:
    space = box_format(study.target.family).space
    row = Prediction(example.id, answer, False, space, study.target.size(example), example.image_size_px)
    return metrics.judge(example, parse_prediction(row, example, "strict")[1])


def widest_groups(study: Study, frame: pd.DataFrame) -> list[Group]:
    """Per setting the group with the widest spread of R in the first and in the last tenth of the updates,
    preferably of a tweet with an entity in its image.
    """
    widest = []
    for name, part in _by_setting(frame):
        shown = {e.id for e in study.tweets(name) if any(entity.is_groundable for entity in e.entities)}
        groups = part.groupby(["step", "group"]).agg(spread=("reward", "std"), id=("id", "first"))
        groups = groups.reset_index()
        groups["has_box"] = groups["id"].isin(shown) & (groups["spread"] > 0)
        n_steps = int(groups["step"].max())
        edge = max(1, n_steps // 10)
        for some in (groups[groups["step"] <= edge], groups[groups["step"] > n_steps - edge]):
            best = some.sort_values(["has_box", "spread"], ascending=False, kind="stable").iloc[0]
            widest.append(group(study, frame, name, int(best["step"]), int(best["group"])))
    return widest


def group_rows(groups: Sequence[Group]) -> Rows:
    """The rollouts of several groups in one list."""
    return [row for one in groups for row in one.rows]


def groups_text(groups: Sequence[Group], n: int = 3) -> str:
    """Up to n answers of each group, the best and the worst ones, with R and advantage, to read."""
    lines = []
    for one in groups:
        lines.append(f"── {one.setting}, update {one.step}: {one.judged[0].example.text}")
        rows = one.rows
        if len(rows) > n:
            rows = (*rows[: n - n // 2], *rows[len(rows) - n // 2 :])
        lines += [
            f"R {row['reward']:.2f}  advantage {row['advantage']:+.2f}  {row['answer']}" for row in rows
        ]
    return "\n".join(lines)


def advantages_agree(study: Study, frame: pd.DataFrame) -> bool:
    """Whether the advantages used in training are those of their groups, for every setting whose options
    normalize by group.
    """
    for name, part in _by_setting(frame):
        options, _ = study.options(name)
        if (options.scale_rewards, options.multi_objective_aggregation) == ("group", "sum_then_normalize"):
            for _, one in part.groupby(["step", "group"]):
                if not np.allclose(advantages(one["reward"]), one["advantage"], atol=_ROUNDING):
                    return False
    return True
