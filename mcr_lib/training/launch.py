"""Several processes for a stage, by a launcher: torchrun --nproc_per_node 4 -m mcr_lib cvo --setting NAME."""

import gc
import os
import sys
from datetime import timedelta
from typing import Any

from mcr_lib.errors import UserError


def is_member() -> bool:
    """Whether a launcher started this process, as one of several or alone."""
    return "WORLD_SIZE" in os.environ


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def whose() -> str:
    """The prefix of an error message: "rank 1: " for one of several processes, else empty."""
    return f"rank {rank()}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""


def require_launcher(n_processes: int, command: str) -> None:
    """Refuses several processes without a launcher, with how to start them; `command` is of `mcr`."""
    if n_processes > 1 and not is_member():
        start = f"torchrun --nproc_per_node {n_processes} -m mcr_lib {command}"
        raise UserError(f"n_processes is {n_processes}, but this is a single process; start {start}")


def is_sharded() -> bool:
    """Whether the launcher cuts the weights over the processes, by FSDP or ZeRO-3, to train larger models."""
    is_fsdp, is_deepspeed = (os.environ.get(f"ACCELERATE_USE_{x}") == "true" for x in ("FSDP", "DEEPSPEED"))
    return is_fsdp or (is_deepspeed and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3")


def check_sharding() -> None:
    """Refuses a way of cutting the weights that leaves parts of them out when models are read or saved."""
    if not is_sharded():
        return
    needs = {"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    needs |= {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}  # else processes other than the first read nothing
    if os.environ.get("ACCELERATE_USE_FSDP") != "true":
        prefix = "ACCELERATE_DEEPSPEED_ZERO3_"
        needs = {f"{prefix}INIT": "false", f"{prefix}SAVE_16BIT_MODEL": "true"}
    for name, needed in needs.items():
        if (value := os.environ.get(name)) != needed:
            remedy = "take notebooks/profiles/accelerate/fsdp2.yaml or zero3.yaml"
            raise UserError(f"weights cut over the processes need {name}={needed}, not {value}; {remedy}")


def together(device: str) -> Any:
    """The processes that work together, as accelerate's PartialState; one without a launcher."""
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu", timeout=timedelta(minutes=30))  # of one that works alone


def free() -> None:
    """Releases GPU memory that this process no longer uses, such as that of the model trained before."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
