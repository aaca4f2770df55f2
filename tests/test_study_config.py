"""Configuration: defaults, profile, overrides, each with its origin; mistakes in one sentence."""

from pathlib import Path

import pytest
import yaml

from mcr_lib.errors import UserError
from mcr_lib.study.runs import config
from tests.conftest import REPOSITORY

PROFILES = sorted((REPOSITORY / "notebooks" / "profiles").glob("*.yaml"))


def test_every_value_knows_where_it_comes_from():
    loaded = config.load("smoke", "outputs/x", {"seed": 3})
    assert (loaded.config.seed, loaded.origins["seed"]) == (3, "override")
    assert (loaded.config.n_resamples, loaded.origins["n_resamples"]) == (100, "profile smoke")
    assert (loaded.config.scorer, loaded.origins["scorer"]) == ("definition", "default")
    assert set(loaded.origins) == set(config.Config.model_fields)
    assert loaded.folder == REPOSITORY / "outputs" / "x"


def test_one_option_is_replaced_beside_those_of_the_profile():
    of_profile = yaml.safe_load((REPOSITORY / "notebooks" / "profiles" / "1x80g.yaml").read_text())
    given = {"cvo.beta": 0.1, "cvo.use_vllm": True, "settings.mcr.options.sigma": 0.3, "seed": 3}
    loaded = config.load("1x80g", "outputs/x", given)
    assert loaded.config.cvo == {**of_profile["cvo"], "beta": 0.1, "use_vllm": True}
    assert loaded.config.settings["mcr"].options == {"sigma": 0.3}
    assert (loaded.config.settings["mcr"].start, sorted(loaded.config.settings)) == (
        "mrsi",
        sorted(of_profile["settings"]),
    )
    assert {key for key, origin in loaded.origins.items() if origin == "override"} == {
        "cvo",
        "settings",
        "seed",
    }
    whole = config.load("1x80g", "outputs/x", {"cvo": {"beta": 0.1}, "cvo.epsilon": 0.3})
    assert whole.config.cvo == {"beta": 0.1, "epsilon": 0.3}
    for key, message in (
        ("cov.beta", "unknown key 'cov'"),
        ("cvo.betta", "unknown option 'betta' of cvo"),
        ("seed.x", "seed is {'x'"),
    ):
        with pytest.raises(UserError, match=message):
            config.load("1x80g", "outputs/x", {key: 1})


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_every_profile_loads_holds_departures_only_and_tells_its_command(path):
    loaded = config.load(path.stem)
    defaults = config.Config()
    for key in yaml.safe_load(path.read_text()):
        assert getattr(loaded.config, key) != getattr(defaults, key), key
    assert path.read_text().startswith("#")
    assert f" --profile {path.stem}" in path.read_text()


def test_a_profile_may_be_a_file_anywhere(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5\n")
    assert config.load(str(path)).config.seed == 5
    assert config.load(str(path)).origins["seed"] == "profile mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sede: 5", r"mine.yaml: unknown key 'sede' \(did you mean seed\?\)"),
        ("seed: many", "mine.yaml: seed is 'many': input should be a valid integer"),
        ("n_resamples: 3", "n_resamples is 3: input should be greater than or equal to 100"),
        ("scorer: official", "scorer is 'official': input should be 'paper', 'definition'"),
        ("splits: []", r"splits is \[\]"),
        ("splits: [tset]", "splits is 'tset': string should match pattern"),
        ("testbed_sizes: {train: 0}", "testbed_sizes is 0: input should be greater than or equal to 1"),
        ("stand_in: 2", "stand_in is 2: input should be less than or equal to 1"),
        ("source: twitter-gmner", "mine.yaml: source twitter-gmner needs data_dir, its folder"),
        ("- a", "mine.yaml: expected key: value lines, found list"),
        ("seed: [", r"mine.yaml, line \d: no YAML"),
    ],
)
def test_a_mistake_in_a_profile_names_file_and_key(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content + "\n")
    with pytest.raises(UserError, match=message) as raised:
        config.load(str(path))
    assert "\n" not in str(raised.value)


def test_unknown_profiles_and_overrides_are_told():
    with pytest.raises(UserError, match=r"unknown profile 'tinny' \(did you mean tiny\?\)"):
        config.load("tinny")
    with pytest.raises(UserError, match=r"overrides: unknown key 'scorrer' \(did you mean scorer\?\)"):
        config.load("tiny", None, {"scorrer": "e2e"})
    with pytest.raises(UserError, match="overrides: seed is -1"):
        config.load("tiny", None, {"seed": -1})


def test_what_is_written_after_defaults_loads_to_the_same_values(tmp_path):
    loaded = config.load("twitter-gmner-data", None, {"data_dir": "a: b #c", "images_dir": None})
    path = tmp_path / "after.yaml"
    path.write_text(config.as_yaml(loaded))
    assert config.load(str(path)).config == loaded.config


def test_relative_paths_count_from_the_repository():
    loaded = config.load("tiny", None, {"data_dir": "data/sample", "images_dir": "/somewhere"})
    assert loaded.path("data_dir") == REPOSITORY / "data" / "sample"
    assert loaded.path("images_dir") == Path("/somewhere")
    assert loaded.path("compare") is None


def test_a_configuration_shows_every_key_safely():
    loaded = config.load("tiny", None, {"data_dir": "<script>"})
    assert "&lt;script&gt;" in loaded._repr_html_()
    assert "<script>" not in loaded._repr_html_()
    assert all(key in repr(loaded) for key in config.Config.model_fields)


def test_overrides_are_read_as_yaml_and_come_back_in_the_options_of_a_command():
    given = ["seed=3", "splits=[dev, test]", "images_dir=null", "data_dir=my data"]
    read = {"seed": 3, "splits": ["dev", "test"], "images_dir": None, "data_dir": "my data"}
    assert config.parse_set(given) == read
    options = config.load("nano", None, {"seed": 3}).command_options()
    assert options.partition(" --out ")[0] == "--profile nano --set seed=3"


@pytest.mark.parametrize("pair", ["seed", "=3", "splits=[dev"])
def test_a_pair_that_is_none_is_told(pair):
    with pytest.raises(UserError, match="--set"):
        config.parse_set([pair])
