"""Which of how many processes this is, as torchrun says, and waiting for the others."""

import atexit
import os
from datetime import timedelta

import torch
from torch import distributed

PATIENCE = timedelta(days=7)
"""How long processes wait for one that does a stage alone: k-means, or the probes."""


def processes() -> tuple[int, int]:
    """Return this process's number and how many there are; (0, 1) where torchrun started none."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def processes_here() -> int:
    """Return how many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def join_processes() -> None:
    """Make the group of torchrun's processes; nothing where there is one, or the group exists."""
    if processes()[1] == 1 or distributed.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(leave_processes)


def leave_processes() -> None:
    """Take the group apart."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Wait until every process is here; nothing where there is one."""
    if distributed.is_initialized():
        # A tensor on the host: a barrier of NCCL would keep a GPU busy while one works alone.
        distributed.all_reduce(torch.zeros(1))
