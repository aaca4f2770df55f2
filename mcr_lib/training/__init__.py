"""Models: everything that needs torch, TRL or a network port."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # trainers report to the hub what is trained
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no warning when a process forks
