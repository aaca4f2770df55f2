"""Several processes for one stage: who is one of them, and how a notebook or a shell starts them and tells
how they fare.

    torchrun --nproc_per_node 4 -m mcr_lib cvo --profile NAME --setting NAME     somebody else starts them
    mcr cvo --profile NAME --setting NAME, or a notebook                         where several GPUs are visible, `run` starts that command

A process that dies ends the others: torchrun sees to it. A process that `run` started ends when whoever
started it is gone.
"""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import mcr_lib
from mcr_lib.errors import UserError

WAIT = timedelta(minutes=30)
"""The longest that a process waits for another; what one does alone (looking at images, merging, writing a
model) must fit into it.
"""

END_S = 45
"""Seconds that processes have to end when they are told to; torchrun kills after 30."""

STARTED = "MCR_STARTED"
"""Set in the environment of what `run` starts."""

_TOLD = "mcr-progress "

Progress = Callable[[str, int, int, dict[str, Any]], None]
"""Called with (what is being done, how much is done, of how much, figures)."""


def is_member() -> bool:
    """Whether a launcher started this process as one of several (or of one)."""
    return "WORLD_SIZE" in os.environ


def is_started() -> bool:
    """Whether `run` started this process."""
    return STARTED in os.environ


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def whose() -> str:
    """What stands before an error where several processes may have one: "rank 1: "; nothing in a single
    process.
    """
    return f"rank {rank()}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""


def require_launcher(n_processes: int, command: str) -> None:
    """Check that a launcher started this process, where several are wanted.

    Args:
        command: of `mcr`, with its options.

    Raises:
        UserError: `n_processes` > 1, and no launcher started this process; how to start them is stated.
    """
    if n_processes > 1 and not is_member():
        start = f"torchrun --nproc_per_node {n_processes} -m mcr_lib {command}"
        raise UserError(f"n_processes is {n_processes}, but this is a single process; start {start}")


def together(device: str) -> Any:
    """The processes that work together, as accelerate's PartialState; one without a launcher.

    Args:
        device: "cpu" or "cuda".
    """
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu", timeout=WAIT)


def n_to_start(n_processes: int, device: str) -> int:
    """How many processes to start for a stage; 0 = this one does it itself.

    Args:
        n_processes: 0 = one per visible GPU. On a CPU as many as are asked for.
        device: "cpu" or "cuda".

    Raises:
        UserError: more than there are visible GPUs.

    Example:
        >>> n_to_start(0, "cpu"), n_to_start(1, "cpu"), n_to_start(2, "cpu")
        (0, 0, 2)
    """
    if is_member():
        return 0
    if device == "cpu":
        return n_processes if n_processes > 1 else 0
    import torch

    n_visible = torch.cuda.device_count()
    if n_visible == 0:
        return 0  # which is told when the model is to be put on one
    if n_processes > n_visible:
        raise UserError(
            f"n_processes is {n_processes}, but {n_visible} GPU{'s are' * (n_visible != 1) or ' is'} visible; 0 takes all of them"
        )
    return (
        (n_processes or n_visible) if n_visible > 1 else 0
    )  # also a single one then: its trainer must not see the other GPUs


def run(arguments: Sequence[str], n: int, *, log: Path, progress: Progress | None = None) -> None:
    """Run `python -m mcr_lib ARGUMENTS` in n processes by torchrun, to its end.

    Args:
        log: file for all that they say beside their progress.
        progress: told what the first of them tells.

    Raises:
        UserError: one of them was killed, or made an error that is a user's; the others have ended too,
            checkpoints are kept.
        RuntimeError: one of them failed otherwise, with the end of what was said.
    """
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(n),
        "-m",
        "mcr_lib",
        *arguments,
    ]
    path = os.pathsep.join(
        filter(None, [str(Path(mcr_lib.__file__).parents[1]), os.environ.get("PYTHONPATH")])
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    free()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, STARTED: "1", "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip
    threading.Thread(target=_release, args=(process,), daemon=True).start()
    try:
        with log.open("w", encoding="utf-8") as file:
            for line in process.stdout:
                if line.startswith(_TOLD):
                    if progress:
                        progress(*json.loads(line[len(_TOLD) :]))
                else:
                    file.write(line)
                    file.flush()
    finally:
        _end(process)
    if process.returncode:
        raise failure(log.read_text(encoding="utf-8"), n, log)


def free() -> None:
    """Give back the memory of the GPUs that this process does not need any more, as of a model that was
    trained: the next one needs it.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _release(process: subprocess.Popen) -> None:
    """Let the processes go once their launcher has ended, however it ended: they read the end of their input."""
    process.wait()
    process.stdin.close()


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    process.stdout.close()


def failure(said: str, n: int, log: Path) -> Exception:
    r"""What ended n processes, from what torchrun and they themselves said: the one that was killed, else the
    one that failed first.

    Example:
        >>> said = "mcr: rank 1: the disk is full\nRoot Cause:\n  rank : 1 (local_rank: 1)\n  exitcode : 2 (pid: 7)"
        >>> failure(said, 2, Path("launched.log"))
        UserError('rank 1 of 2: the disk is full')
    """
    summary = said[said.rfind("Failures:") if "Failures:" in said else said.rfind("Root Cause") :]
    ended = [
        (int(rank), int(code))
        for rank, code in re.findall(r"rank\s*: (\d+).*\n\s*exitcode\s*: (-?\d+)", summary)
    ]
    killed = [
        (rank, code) for rank, code in ended if code < 0 and -code != signal.SIGTERM
    ]  # SIGTERM is how the others are ended
    rank, code = (killed or ended[-1:] or [(0, 1)])[0]
    kept = "checkpoints are kept, and the same command goes on from the newest"
    if code < 0:
        often = ", most often for want of memory" if -code == signal.SIGKILL else ""
        return UserError(
            f"rank {rank} of {n} was killed by {signal.Signals(-code).name}{often}; the others were ended, {kept}"
        )
    if own := re.search(rf"^mcr: rank {rank}: (.*)$", said, re.MULTILINE) or re.search(
        r"^mcr: (?:rank \d+: )?(.*)$", said, re.MULTILINE
    ):
        return UserError(f"rank {rank} of {n}: {own[1]}")
    own_words = (
        said.partition("torch/distributed/elastic/")[0].splitlines()[:-1] or said.splitlines()
    )  # torchrun's own come last
    last = "\n".join(own_words[-30:])
    return RuntimeError(
        f"rank {rank} of {n} failed (exit code {code}); {kept}; all that was said lies in {log}\n{last}"
    )


def tell(what: str, done: int, of: int, figures: dict[str, Any]) -> None:
    """Progress of a process that `run` started, for `run` to read."""
    print(_TOLD + json.dumps([what, done, of, figures]), flush=True)  # noqa: T201


def heed() -> None:
    """End this process at once when whoever started it is gone: then nobody holds the other end of its input."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
