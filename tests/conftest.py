"""Shared by all tests: offline, one thread, and where real data may lie."""

import os
import socket
from pathlib import Path

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false"
)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def _loopback_only():
    """Refuse every connection that would leave this machine."""
    real_connect = socket.socket.connect

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests are offline: connection to {address[0]} refused")
        return real_connect(self, address)

    socket.socket.connect = connect
    yield
    socket.socket.connect = real_connect


@pytest.fixture(scope="session")
def gmner_dir() -> Path:
    """The folder of the real Twitter-GMNER annotations, from MCR_DATA_DIR or beside the repository."""
    candidates = [os.environ.get("MCR_DATA_DIR"), REPOSITORY.parent / "shared" / "datasets"]
    for root in (Path(c) for c in candidates if c):
        for folder in (root, root / "twitter-gmner"):
            if (folder / "Twitter10000_v2.0").is_dir():
                return folder
    pytest.skip("real Twitter-GMNER annotations not found: set MCR_DATA_DIR to the folder that holds Twitter10000_v2.0")


@pytest.fixture(scope="session")
def sample_dir() -> Path:
    """The embedded sample: 24 invented tweets in Twitter-GMNER's own files."""
    return REPOSITORY / "data" / "sample"
