"""Work on files in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

Map: TypeAlias = Callable[..., Iterator[Any]]
"""As `map`: runs a function on each of some jobs and gives the results in their order."""


@contextmanager
def map_of(workers: int) -> Iterator[Map]:
    """Give a `map` that works in so many processes, one a core if 0; 1 stays in this one.

    Each of several has one thread of PyTorch's.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield map
        return
    # Fresh processes: a copy of this one would share the threads of its libraries.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)
