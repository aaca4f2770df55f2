"""What a setting is: a model trained from another one in one stage, and the prompt it is evaluated with.

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
from mcr_lib.data.validation import did_you_mean
from mcr_lib.errors import UserError
from mcr_lib.training.options import Options, options_of

BACKBONE = "backbone"  # the start of a setting that starts from no other one: the backbone of the profile
APART = {"start", "options", "test_style"}  # fields that are compared by themselves, or make no model
BUILT = ("template", "teacher")  # chains that are made here; others stand in a file
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]  # of a setting, its folder and its files
Settings = Mapping[str, "Setting"]
Departures = Mapping[str, Any]  # option -> a value other than its default
OptionsWithOrigins = tuple[Options, dict[str, str]]  # origins of those that differ from their default


class Setting(BaseModel):
    """What a model is trained on (`rows` to `share`), and prompt and modality of training and evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str = BACKBONE  # the setting whose model it starts from
    stage: Literal["none", "sft", "cvo"] = "none"  # how that model is trained
    rows: Literal["answers", "chains"] = "chains"  # completions of SFT
    styles: tuple[str, ...] = ()  # of D_R; empty = those of the setting it starts from, else of the profile
    wordings: int | None = Field(None, ge=1)  # used of each style of template chains; None = all
    chains: str = "template"  # or "teacher": the simulated one writes distill chains; or a file in chains/
    data: Literal["train", "d1", "d2"] | None = None  # None = train for answers, d1 for chains, d2 for cvo
    kept_by: str | None = None  # of D2 only what the filter of this setting kept (ours: a control)
    joint: bool = True  # trained on the joint sources of the profile too; else on its own source alone
    share: float = Field(1.0, gt=0, le=1)  # of the tweets, by a hash of (seed, id)
    prompt: prompts.Kind = "direct"
    test_style: str | None = None  # whose instruction the prompt mcr gives at test; None = the profile's
    modality: Modality = "full"  # or text (with a grey picture) or image (without the text)
    options: dict[str, Any] = {}  # of its stage, over those of the profile

    @property
    def part(self) -> str:
        """The part of D_R it is trained on: all of it (train), D1 or D2."""
        is_d2 = self.stage == "cvo" or self.kept_by is not None
        return self.data or ("d2" if is_d2 else "d1" if self.rows == "chains" else "train")


def check(
    settings: Settings, of_profile: Mapping[str, Departures], where: str, of_run: Departures | None = None
) -> dict[str, OptionsWithOrigins]:
    """Check all settings of the profile `where`; returns the options of those that are trained."""
    for stage, given in of_profile.items():
        options_of(stage, given, f"{where}: {stage}")
    options = {}
    for name, one in settings.items():
        label = f"{where}: setting {name}"
        if one.start != BACKBONE and one.start not in settings:
            known = ", ".join([BACKBONE, *settings])
            raise UserError(f"{label} starts from {one.start!r}, which is none; choose {known}")
        if one.stage != "none":
            given = of_profile.get(one.stage, {})
            options[name] = stage_options(one, given, name=name, of_run=of_run or {}, where=where)
        elif one.options:
            hint = did_you_mean(name, [other for other in settings if other != name])
            raise UserError(f"{label} has options and no stage that would take them{hint}")
        filters = [each for each in settings if settings[each].stage == "cvo"]
        if one.kept_by is not None and one.kept_by not in filters:
            known = f"a setting of cvo, whose filter chooses; choose {', '.join(filters) or 'none'}"
            raise UserError(f"{label}: kept_by is {one.kept_by!r}, and should be {known}")
        if one.stage != "none" and one.prompt == "cot-3shot":
            raise UserError(f"{label} is trained with cot-3shot, which is a prompt for models as they are")
        known_styles((*one.styles, *filter(None, [one.test_style])))
        lineage(settings, name, where)
    return options


def lineage(settings: Settings, name: str, where: str = "settings") -> list[str]:
    """The setting and those it starts from, the first one first."""
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
    setting: Setting, of_profile: Departures, *, name: str, of_run: Departures, where: str = ""
) -> OptionsWithOrigins:
    """The options of a setting: its own before those of the profile, of the run, and the defaults."""
    origins = dict.fromkeys(of_run, "run") | dict.fromkeys(of_profile, "profile")
    origins |= dict.fromkeys(setting.options, f"setting {name}")
    given = {**of_run, **of_profile, **setting.options}
    return options_of(setting.stage, given, f"{where}: setting {name}".removeprefix(": ")), origins
