"""What a setting is: a model made from another one in one stage, and how it is asked. An ablation is a longer
list of settings.

base: {prompt: direct}                                            the backbone as it is
sft:  {stage: sft, rows: answers, prompt: direct}                 plain fine-tuning, on all training tweets
mrsi: {stage: sft, prompt: mcr}                                   chains of D1
mcr:  {stage: cvo, start: mrsi, prompt: mcr}                      GRPO on D2
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcr_lib import prompts
from mcr_lib.data.modality import Modality
from mcr_lib.data.mrsi import known_styles
from mcr_lib.errors import UserError
from mcr_lib.training.options import Options, options_of

BACKBONE = "backbone"
"""The start of a setting that starts from no other: the backbone of the profile."""

Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Of a setting, and so of a folder and of files."""


class Setting(BaseModel):
    """One setting: what its model is trained on (`rows` to `share`), and how it is asked in training and
    later (`prompt`, `modality`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str = Field(BACKBONE, description="the setting whose model it starts from")
    stage: Literal["none", "sft", "cvo"] = Field("none", description="what is done to that model")
    rows: Literal["answers", "chains"] = Field(
        "chains", description="of sft: completions are answers alone, or chains"
    )
    styles: tuple[str, ...] = Field((), description="of chains; empty = those of the profile")
    wordings: int | None = Field(
        None, ge=1, description="of each style that template chains are put in, the first ones; null = all"
    )
    chains: str = Field(
        "template", description="which chains: template, or the name of a file in the run's chains/"
    )
    data: Literal["train", "d1", "d2"] | None = Field(
        None, description="tweets; null = train for answers, d1 for chains, d2 for cvo"
    )
    share: float = Field(1.0, gt=0, le=1, description="of these tweets, by a hash of (seed, id)")
    prompt: prompts.Kind = Field("direct", description="what the model is asked, in training and after")
    modality: Modality = Field(
        "full",
        description="what it is shown, in training and after: full, text (a grey picture), image (no text)",
    )
    options: dict[str, Any] = Field({}, description="of its stage, over those of the profile")

    @property
    def tweets(self) -> str:
        """The name of the tweets that it is trained on.

        Example:
            >>> Setting(stage="sft").tweets, Setting(stage="sft", rows="answers").tweets, Setting(stage="cvo").tweets
            ('d1', 'train', 'd2')
        """
        return self.data or ("d2" if self.stage == "cvo" else "d1" if self.rows == "chains" else "train")


def departures(setting: Setting, of_profile: Mapping[str, Any], of_run: Mapping[str, Any]) -> dict[str, Any]:
    """What a setting's options depart in from the defaults: what holds for the whole run, the profile's
    options of its stage, its own.
    """
    return {**of_run, **of_profile, **setting.options}


def check(
    settings: Mapping[str, Setting], options_of_profile: Mapping[str, Mapping[str, Any]], where: str
) -> None:
    """Whether each setting can be made: its start exists and is not itself, its styles and options exist.

    Args:
        options_of_profile: stage -> options.
        where: names the profile in an error.

    Raises:
        UserError: the first mistake, with the setting that makes it.

    Example:
        >>> check({"a": Setting(start="b"), "b": Setting(start="a")}, {}, "x.yaml")
        Traceback (most recent call last):
        ...
        mcr_lib.errors.UserError: x.yaml: settings a, b, a start from each other in a circle
    """
    for stage, given in options_of_profile.items():
        options_of(stage, given, f"{where}: {stage}")
    for name, setting in settings.items():
        if setting.start != BACKBONE and setting.start not in settings:
            raise UserError(
                f"{where}: setting {name} starts from {setting.start!r}, which is none; choose {_known(settings, BACKBONE)}"
            )
        if setting.stage != "none":
            given = departures(setting, options_of_profile.get(setting.stage, {}), {})
            options_of(setting.stage, given, f"{where}: setting {name}")
        elif setting.options:
            raise UserError(f"{where}: setting {name} has options and no stage that would take them")
        if setting.stage != "none" and setting.prompt == "cot-3shot":
            raise UserError(
                f"{where}: setting {name} is trained with cot-3shot, which is a prompt for models as they are"
            )
        known_styles(setting.styles)
        lineage(settings, name, where)


def lineage(settings: Mapping[str, Setting], name: str, where: str = "settings") -> list[str]:
    """The setting and those that it starts from, the first one first.

    Raises:
        UserError: an unknown setting, or a circle.

    Example:
        >>> lineage({"mcr": Setting(start="mrsi", stage="cvo"), "mrsi": Setting(stage="sft")}, "mcr")
        ['mrsi', 'mcr']
    """
    if name not in settings:
        raise UserError(f"unknown setting {name!r}; {where} has {_known(settings)}")
    found = [name]
    while (start := settings[found[-1]].start) != BACKBONE:
        if start in found:
            raise UserError(
                f"{where}: settings {', '.join([*found, start])} start from each other in a circle"
            )
        found.append(start)
    return found[::-1]


def stage_options(
    setting: Setting, of_profile: Mapping[str, Any], *, name: str, of_run: Mapping[str, Any]
) -> tuple[Options, dict[str, str]]:
    """The options of a setting, and who departed from a default: option -> origin.

    Args:
        of_run: options that the run gives to every stage.
    """
    given = departures(setting, of_profile, of_run)
    origins = (
        dict.fromkeys(of_run, "run")
        | dict.fromkeys(of_profile, "profile")
        | dict.fromkeys(setting.options, f"setting {name}")
    )
    return options_of(setting.stage, given, f"setting {name}"), origins


def _known(settings: Mapping[str, Setting], *others: str) -> str:
    names: Sequence[str] = [*others, *settings]
    return ", ".join(names) or "none"
