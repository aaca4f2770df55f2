"""Shared by all tests: offline, one thread, and where real data may lie."""

import functools
import gc
import os
import socket
import sys
from collections import defaultdict
from pathlib import Path

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def _loopback_only():
    """Refuse every connection that would leave this machine."""
    real_connect = socket.socket.connect

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise OSError(f"tests are offline: connection to {address[0]} refused")
        return real_connect(self, address)

    socket.socket.connect = connect
    yield
    socket.socket.connect = real_connect


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def _small_numbers_are_kept():
    """Training on a CPU has numbers below the normal range taken for 0, in the whole process; other tests
    need them.
    """
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def gmner_dir() -> Path:
    """The folder of the real Twitter-GMNER annotations, from MCR_DATA_DIR or beside the repository."""
    candidates = [os.environ.get("MCR_DATA_DIR"), REPOSITORY.parent / "shared" / "datasets"]
    for root in (Path(c) for c in candidates if c):
        for folder in (root, root / "twitter-gmner"):
            if (folder / "Twitter10000_v2.0").is_dir():
                return folder
    pytest.skip(
        "real Twitter-GMNER annotations not found: set MCR_DATA_DIR to the folder that holds"
        " Twitter10000_v2.0"
    )


@pytest.fixture(scope="session")
def read_real(gmner_dir):
    """`read_split` of the real annotation, each split read once: (source, split, version) -> tweets and
    quirks.
    """
    from mcr_lib import data

    @functools.cache
    def read(source: str, split: str, version: str = "v2") -> tuple:
        found = data.read_split(source, gmner_dir, split=split, version=version)
        gc.freeze()  # it stays: no later collection need look at it
        return found

    return read


@pytest.fixture(scope="session")
def real(read_real):
    """The real tweets of a split, each split read once: (split, source, version) -> Examples, not to be
    changed.
    """
    return lambda split, source="twitter-gmner", version="v2": read_real(source, split, version)[0]


@pytest.fixture(scope="session")
def sample_dir() -> Path:
    """The embedded sample: 24 invented tweets in Twitter-GMNER's own files."""
    return REPOSITORY / "data" / "sample"


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory) -> Path:
    """A backbone of chance weights as a folder."""
    from mcr_lib.training import nano

    folder = tmp_path_factory.mktemp("nano") / "backbone"
    nano.write(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def nano_tweets(tmp_path_factory) -> list:
    """Eight tweets of the testbed with their pictures."""
    from mcr_lib.data import load_split
    from mcr_lib.testbed import folder

    root = tmp_path_factory.mktemp("testbed")
    folder.write(root, "train", 8)
    return load_split("testbed", root, split="train", images_dir=root)


BUDGETS_S = {"unit": 60, "lint": 20, "server": 60, "canary": 60, "nano": 120, "smoke": 240}
"""Tier of tests -> seconds that it may take; a tier over its budget is a defect. A test with several markers
is of the first tier here.
"""

_seconds: dict[str, float] = defaultdict(float)
_counts: dict[str, int] = defaultdict(int)


def pytest_collection_modifyitems(items):
    """Files with the longest tests come first, so that no process is left alone with one at the end."""
    longest = {}
    for item in items:
        seconds = BUDGETS_S["nano" if "slow" in item.keywords else tier(item.keywords)]
        longest[item.path] = max(seconds, longest.get(item.path, 0))
    items.sort(key=lambda item: -longest[item.path])


def pytest_collection_finish(session):
    """What is imported by now stays to the end; later garbage collections need not look at it."""
    gc.collect()
    gc.freeze()


def tier(keywords) -> str:
    """The tier of a test by its markers; "unit" when it has none."""
    return next((name for name in BUDGETS_S if name in keywords), "unit")


def pytest_runtest_logreport(report):
    """Add the time of a test to its tier."""
    _seconds[tier(report.keywords)] += report.duration
    _counts[tier(report.keywords)] += report.when == "call"


def pytest_terminal_summary(terminalreporter):
    """Tell what each tier took beside its budget."""
    terminalreporter.section("tiers")
    for name, budget in BUDGETS_S.items():
        note = "   OVER BUDGET" if _seconds[name] > budget else ""
        terminalreporter.line(f"{name:8}{_counts[name]:5} tests {_seconds[name]:7.1f} s of {budget} s{note}")
