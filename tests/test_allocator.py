"""Memory given back to the system."""

import sys

import psutil
import pytest

import pretrain


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_is_free_between_what_is_held_goes_back():
    held, free = [], []
    for _ in range(1_000):
        free.append(bytearray(64 * 1024))  # below the size that the system would be asked for apart
        held.append(bytearray(600))
    before = psutil.Process().memory_info().rss
    free.clear()
    assert pretrain.trim_memory()
    assert before - psutil.Process().memory_info().rss > 30 * 2**20
    assert len(held) == 1_000
