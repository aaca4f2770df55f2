"""What a setting is: a model trained from another one in one stage, and the prompt it is evaluated with. An
ablation is a longer list of settings.

base: {prompt: direct}                                            the backbone as it is
sft:  {stage: sft, rows: answers, prompt: direct}                 plain fine-tuning, on all training tweets
mrsi: {stage: sft, prompt: mcr}                                   chains of D1
mcr:  {stage: cvo, start: mrsi, prompt: mcr}                      GRPO on D2
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcr_lib import prompts
from mcr_lib.data.modality import Modality
from mcr_lib.data.mrsi import known_styles
from mcr_lib.errors import UserError
from mcr_lib.training.options import Options, options_of

BACKBONE = "backbone"
"""The start of a setting that starts from no other setting: the backbone of the profile."""

Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Name of a setting, and so of its folder and files."""

OptionsWithOrigins = tuple[Options, dict[str, str]]
"""The options of a setting, and for those that differ from their default: option -> origin."""


class Setting(BaseModel):
    """One setting: what its model is trained on (`rows` to `share`), and the prompt and modality it is
    trained and evaluated with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str = Field(BACKBONE, description="the setting whose model it starts from")
    stage: Literal["none", "sft", "cvo"] = Field("none", description="how that model is trained")
    rows: Literal["answers", "chains"] = Field("chains", description="completions of SFT")
    styles: tuple[str, ...] = Field((), description="styles of chains; empty = those of the profile")
    wordings: int | None = Field(
        None, ge=1, description="how many wordings of each style of template chains are used; null = all"
    )
    chains: str = Field("template", description="template, or the name of a file in the run's chains/")
    data: Literal["train", "d1", "d2"] | None = Field(
        None, description="tweets; null = train for answers, d1 for chains, d2 for cvo"
    )
    share: float = Field(1.0, gt=0, le=1, description="share of these tweets, by a hash of (seed, id)")
    prompt: prompts.Kind = Field("direct", description="prompt, in training and evaluation")
    modality: Modality = Field(
        "full", description="input, in training and evaluation: full, text (a grey picture), image (no text)"
    )
    options: dict[str, Any] = Field({}, description="options of its stage, over those of the profile")

    @property
    def tweets(self) -> str:
        """The name of the tweets it is trained on.

        Example:
            >>> Setting(stage="sft").tweets, Setting(stage="sft", rows="answers").tweets
            ('d1', 'train')
        """
        return self.data or ("d2" if self.stage == "cvo" else "d1" if self.rows == "chains" else "train")


def check(
    settings: Mapping[str, Setting],
    options_of_profile: Mapping[str, Mapping[str, Any]],
    where: str,
    of_run: Mapping[str, Any] | None = None,
) -> dict[str, OptionsWithOrigins]:
    """Check all settings; returns the options of each setting that is trained.

    Args:
        options_of_profile: stage -> options.
        where: names the profile in an error.
        of_run: options that the run gives to every stage.

    Raises:
        UserError: an unknown start, style or option, a circle of starts, or a value that is not allowed.

    Example:
        >>> check({"a": Setting(start="b"), "b": Setting(start="a")}, {}, "x.yaml")
        Traceback (most recent call last):
        ...
        mcr_lib.errors.UserError: x.yaml: settings a, b, a start from each other in a circle
    """
    for stage, given in options_of_profile.items():
        options_of(stage, given, f"{where}: {stage}")
    options = {}
    for name, setting in settings.items():
        start, label = setting.start, f"{where}: setting {name}"
        if start != BACKBONE and start not in settings:
            known = ", ".join([BACKBONE, *settings])
            raise UserError(f"{label} starts from {start!r}, which is none; choose {known}")
        if setting.stage != "none":
            of_profile = options_of_profile.get(setting.stage, {})
            options[name] = stage_options(setting, of_profile, name=name, of_run=of_run or {}, where=where)
        elif setting.options:
            raise UserError(f"{label} has options and no stage that would take them")
        if setting.stage != "none" and setting.prompt == "cot-3shot":
            raise UserError(f"{label} is trained with cot-3shot, which is a prompt for models as they are")
        known_styles(setting.styles)
        lineage(settings, name, where)
    return options


def lineage(settings: Mapping[str, Setting], name: str, where: str = "settings") -> list[str]:
    """The setting and those it starts from, the first one first.

    Raises:
        UserError: an unknown setting, or a circle.

    Example:
        >>> lineage({"mcr": Setting(start="mrsi", stage="cvo"), "mrsi": Setting(stage="sft")}, "mcr")
        ['mrsi', 'mcr']
    """
    if name not in settings:
        raise UserError(f"unknown setting {name!r}; {where} has {', '.join(settings) or 'none'}")
    names = [name]
    while (start := settings[names[-1]].start) != BACKBONE:
        if start in names:
            circle = ", ".join([*names, start])
            raise UserError(f"{where}: settings {circle} start from each other in a circle")
        names.append(start)
    return names[::-1]


def stage_options(
    setting: Setting, of_profile: Mapping[str, Any], *, name: str, of_run: Mapping[str, Any], where: str = ""
) -> OptionsWithOrigins:
    """The options of a setting. Its own come before those of the profile, of the run, and the defaults.

    Args:
        of_profile: the profile's options of its stage.
        of_run: options that the run gives to every stage.
        where: names the profile in an error.
    """
    origins = dict.fromkeys(of_run, "run") | dict.fromkeys(of_profile, "profile")
    origins |= dict.fromkeys(setting.options, f"setting {name}")
    given = {**of_run, **of_profile, **setting.options}
    return options_of(setting.stage, given, f"{where}: setting {name}".removeprefix(": ")), origins
