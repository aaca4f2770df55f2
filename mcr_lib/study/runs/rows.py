"""The rows that a setting is trained on, made from tweets and chains."""

from collections.abc import Sequence
from typing import Any

from mcr_lib import chains, prompts
from mcr_lib.data import mrsi
from mcr_lib.data.files import read_text
from mcr_lib.data.modality import masked
from mcr_lib.errors import UserError
from mcr_lib.schema import Example, checksum
from mcr_lib.study.runs import cache
from mcr_lib.study.runs.artifacts import RunFolder
from mcr_lib.study.runs.config import Loaded
from mcr_lib.study.runs.setting import Setting

Tweets = Sequence[Example]


def training_rows(
    setting: Setting, tweets: Tweets, target: mrsi.Target, loaded: Loaded, everyone: Tweets
) -> list[dict[str, Any]]:
    """The rows of a setting in its modality; chains of a file are checked on `everyone`, all of train."""
    prompt, has_chains, seed = setting.prompt, setting.rows == "chains", loaded.config.seed
    if setting.stage == "cvo":
        rows = list(mrsi.grpo_rows(tweets, target, prompt=prompt))
    else:
        by_id = {example.id: example for example in tweets}
        if not has_chains:
            built = mrsi.build_chains(tweets, ["terse"], seed=seed).chains
        elif setting.chains == "template":
            styles = _styles(setting, loaded)
            built = mrsi.build_chains(tweets, styles, seed=seed, n_wordings=setting.wordings).chains
        else:
            path, styles = RunFolder(loaded.folder).chains(setting.chains), _styles(setting, loaded)
            if not path.is_file():
                raise UserError(f"{path} does not exist; 02_schema_injection or mcr chains build writes it")
            built = mrsi.read_chains(path, everyone)
            built = [chain for chain in built if chain.id in by_id and chain.style in styles]
        rows = list(mrsi.sft_rows(built, by_id, target, prompt=prompt, with_reasoning=has_chains))
    if setting.modality == "full":
        return rows
    shown = {example.id: example for example in as_shown(setting, tweets, loaded)}
    messages = {id: prompts.messages(e, prompt, wording=target.wording) for id, e in shown.items()}
    return [row | {"prompt": messages[row["id"]], "images": list(shown[row["id"]].images)} for row in rows]


def as_shown(setting: Setting, tweets: Tweets, loaded: Loaded) -> list[Example]:
    """The tweets in the modality of a setting."""
    return [masked(example, setting.modality, loaded.folder / "data" / "grey") for example in tweets]


def sources(setting: Setting, tweets: Tweets, loaded: Loaded) -> list[Any]:
    """Everything that the rows of a setting are made from, for a fingerprint."""
    of_chains = None
    if setting.stage == "sft" and setting.rows == "chains":
        path = RunFolder(loaded.folder).chains(setting.chains)
        text = read_text(path) if setting.chains != "template" and path.is_file() else None
        of_chains = [_styles(setting, loaded), chains.CHAINS_VERSION, loaded.config.seed, text]
    return [checksum(tweets), cache.of_images(tweets), of_chains, prompts.PROMPT_VERSION]


def _styles(setting: Setting, loaded: Loaded) -> Sequence[str]:
    return setting.styles or mrsi.known_styles(loaded.config.chain_styles)
