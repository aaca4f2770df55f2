"""What trainings have spent, in tokens that their loss counts: what is held equal where two ways to train are compared.

    sft   tokens of completions, each time that they are gone through
    cvo   tokens of sampled answers, each time that they serve an update

Prompts and images are read and not learned. A model has also cost what it starts from (ours; paper silent).
"""

from collections.abc import Sequence
from typing import Any

from mcr_lib.errors import UserError
from mcr_lib.sources.files import read_jsonl
from mcr_lib.study import setting
from mcr_lib.study.settings import Study


def token_rows(study: Study, names: Sequence[str]) -> list[dict[str, Any]]:
    """Per setting the tokens that its own training has learned from, and together with those of the settings that it starts from.

    Raises:
        UserError: one that has not been trained to its end.
    """
    lines = {name: setting.lineage(study.settings, name) for name in names}
    own = {one: _learned(study, one) for one in dict.fromkeys(one for line in lines.values() for one in line)}
    return [{"setting": name, "tokens": own[name], "with its start": sum(own[one] for one in line)} for name, line in lines.items()]


def _learned(study: Study, name: str) -> int:
    found, folder = study[name], study.run.setting(name)
    if found.stage == "none":
        return 0
    if not study.is_done(name):
        raise UserError(f"setting {name} has not been trained, so there is nothing to count; mcr run or mcr {found.stage} trains it")
    if found.stage == "cvo":
        import pyarrow.parquet as pq

        rollouts = pq.read_table(folder / "rollouts.parquet", columns=["n_tokens"])
        return sum(rollouts["n_tokens"].to_pylist()) * study.options(name)[0].num_iterations
    from mcr_lib.stages import backbones, preflight

    lengths = preflight.completion_lengths(backbones.outline(study.backbone, pixels=study.pixels), study.rows(name))
    n_epochs = read_jsonl(folder / "log.jsonl", kind="log")[1][-1][1]["epoch"]
    return round(n_epochs * sum(lengths))
