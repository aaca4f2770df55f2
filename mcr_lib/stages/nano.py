"""A backbone of chance weights: the tiny architecture at its smallest, made in a moment; for tests of everything but quality."""

from pathlib import Path

from mcr_lib.stages import backbones, pretrain_rows, tiny
from mcr_lib.stages.backbones import Backbone


def write(folder: str | Path, *, seed: int) -> None:
    """Make it and write it as a folder that `backbones.load` reads; the same seed gives the same weights."""
    tokenizer = tiny.train_tokenizer(pretrain_rows.texts())
    model = tiny.make_model(tokenizer, seed=seed, hidden=64, n_layers=2)
    backbones.save(Backbone("random", "qwen2.5-vl", "brief", model, tiny.make_processor(tokenizer)), folder)
