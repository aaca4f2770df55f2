"""What notebook 04 shows: rewards and advantages of four hand-made rollouts, and the rollouts that training
kept.
"""

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
from mcr_lib.study.tables.injection import REWARD_COLUMNS

Rows = list[dict[str, Any]]

HAND_MADE = ("perfect", "box not wanted (textual bias)", "name not in the text (visual bias)", "malformed")
"""Four rollouts of one prompt: a right answer, both shortcuts, and text that is no answer."""

EPSILON = 1e-4
"""TRL's, added to the spread of a group."""

_ROUNDING = 1e-2
"""Of an advantage: the mean of up to 5 in single precision is off by up to 5e-7, which equals divide by
EPSILON alone.
"""


def advantages(totals: Sequence[float]) -> list[float]:
    """The advantage of each answer of one group: (R - mean) / (spread + 1e-4), the spread with n - 1 (GRPO as
    TRL has it).

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
    found = [_rewards(name) for name in names]
    totals = [five.total(weights) for five in found]
    rows = []
    for name, five, total, advantage in zip(names, found, totals, advantages(totals), strict=True):
        values = (getattr(five, field) for field in rewards.NAMES)
        rows.append(
            {
                "rollout": name,
                **dict(zip(REWARD_COLUMNS, values, strict=True)),
                "R": round(total, 4),
                "advantage": round(advantage, 4),
            }
        )
    return rows


REASONING = {
    "states the answer": '"Kevin Durant" : PER , shown at [52, 31, 188, 240] ; "Oracle Arena" : LOC , not shown , no box ;',
    "states it, the box a little off": '"Kevin Durant" : PER , shown at [50, 30, 190, 235] ; "Oracle Arena" : LOC , not shown , no box ;',
    "says another thing": '"Kevin Durant" : PER , not shown , no box ; "Oracle Arena" : LOC , not shown , no box ;',
    "says nothing of it": "A tweet with names .",
    "none": None,
}
"""What a model may write before the perfect answer to `cases.TWEET`."""


def reasoning_rows() -> Rows:
    """R of one perfect answer behind different reasoning, under each demand on reasoning, and what is wrong
    with it.
    """
    rows = []
    for what, think in REASONING.items():
        parsed = parse_answer(write_answer(cases.ANSWERS["perfect"], think=think), labels=cases.TWEET.labels)
        demands = get_args(rewards.Reasoning)
        earned = {
            demand: rewards.rewards(parsed, cases.TWEET, reasoning=demand).total() for demand in demands
        }
        rows.append(
            {
                "reasoning": what,
                **earned,
                "flaw": rewards.worthless(parsed, cases.TWEET, reasoning=demands[-1]) or "",
            }
        )
    return rows


def _rewards(name: str) -> rewards.Rewards:
    text = "Kevin Durant, left" if name == "malformed" else write_answer(cases.ANSWERS[name])
    return rewards.rewards(parse_answer(text, labels=cases.TWEET.labels), cases.TWEET)


def read(study: Study, names: Sequence[str]) -> pd.DataFrame:
    """The rollouts of some settings in one table (`cvo.write_rollouts` tells the columns), each with its
    setting.
    """
    frames = [
        pd.read_parquet(study.run.setting(name) / "rollouts.parquet").assign(setting=name) for name in names
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def health_rows(frame: pd.DataFrame, curves: Sequence[Mapping[str, Any]]) -> Rows:
    """Per setting and update, in percent: groups without spread, answers cut off, answers that earn nothing
    whatever they name.
    """
    worthless = (
        {}
        if frame.empty
        else (frame["worthless"] != "").groupby([frame["setting"], frame["step"]]).mean().to_dict()
    )
    rows = []
    for row in curves:
        share = worthless.get((row["setting"], row["step"]))
        rows.append(
            {
                "setting": row["setting"], "step": row["step"], "equal groups": 100 * row["equal_groups"],
                "cut off": 100 * row["truncated"], "worthless": None if share is None else 100 * share,
            }
        )  # fmt: skip
    return rows


def reason_rows(frame: pd.DataFrame) -> Rows:
    """Why rollouts earn nothing: per setting and reason how many, in the first and in the last third of the
    updates.

    A reason is a defect of the answer, or a flaw of its reasoning where that counts (`rewards.worthless`).
    """
    rows = []
    for name, part in frame.groupby("setting", sort=False) if len(frame) else ():
        last = int(part["step"].max())
        third = max(1, last // 3)
        first, final = (
            Counter(some["worthless"])
            for some in (part[part["step"] <= third], part[part["step"] > last - third])
        )
        for reason in dict.fromkeys([*first, *final]):
            rows.append(
                {
                    "setting": name,
                    "reason": reason or "may earn",
                    "first third": first[reason],
                    "last third": final[reason],
                }
            )
    return rows


@dataclass(frozen=True)
class Group:
    """The answers sampled to one prompt in one update.

    Args:
        setting: which was trained.
        step: of the update, from 1.
        judged: the tweet with each answer, boxes in pixels of the original image; one that could not be read
            has no entity.
        rows: the rollout of each (rewards, R, advantage, why worthless, text), the best first.
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


def widest_groups(study: Study, frame: pd.DataFrame) -> list[Group]:
    """Of each setting the group with the widest spread of R in the first and in the last tenth of the
    updates, of a tweet whose image shows what it names where there is one.
    """
    found = []
    for name, part in frame.groupby("setting", sort=False) if len(frame) else ():
        shown = {e.id for e in study.tweets(name) if any(entity.is_groundable for entity in e.entities)}
        groups = (
            part.groupby(["step", "group"]).agg(spread=("reward", "std"), id=("id", "first")).reset_index()
        )
        groups = groups.assign(has_box=groups["id"].isin(shown) & (groups["spread"] > 0))
        last = int(groups["step"].max())
        edge = max(1, last // 10)
        for some in (groups[groups["step"] <= edge], groups[groups["step"] > last - edge]):
            widest = some.sort_values(["has_box", "spread"], ascending=False, kind="stable").iloc[0]
            found.append(group(study, frame, name, int(widest["step"]), int(widest["group"])))
    return found


def group_rows(groups: Sequence[Group]) -> Rows:
    """The rollouts of some groups as values."""
    return [row for one in groups for row in one.rows]


def advantages_agree(study: Study, frame: pd.DataFrame) -> bool:
    """Whether the advantages that training used are those of their groups, wherever the options say that
    groups are normalized.
    """
    for name, part in frame.groupby("setting") if len(frame) else ():
        options, _ = study.options(name)
        if (options.scale_rewards, options.multi_objective_aggregation) == ("group", "sum_then_normalize"):
            for _, one in part.groupby(["step", "group"]):
                if not np.allclose(advantages(one["reward"]), one["advantage"], atol=_ROUNDING):
                    return False
    return True


def groups_text(groups: Sequence[Group], n: int = 3) -> str:
    """The texts of the best, and of the worst answers of some groups, with R and advantage, to read."""
    lines = []
    for one in groups:
        lines.append(f"── {one.setting}, update {one.step}: {one.judged[0].example.text}")
        half = -(-n // 2)
        shown = (
            one.rows if len(one.rows) <= n else (*one.rows[:half], *one.rows[len(one.rows) - (n - half) :])
        )
        lines += [
            f"R {row['reward']:.2f}  advantage {row['advantage']:+.2f}  {row['answer']}" for row in shown
        ]
    return "\n".join(lines)


def _judged(study: Study, answer: str, example: Example) -> Judged:
    space = box_format(study.target.family).space
    row = Prediction(example.id, answer, False, space, study.target.size(example), example.image_size_px)
    return metrics.judge(example, parse_prediction(row, example, "strict")[1])
