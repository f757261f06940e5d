"""Work on files in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

Map: TypeAlias = Callable[..., Iterator[Any]]
"""As `map`: runs a function on each of some jobs and gives the results in their order."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that libraries take their number of threads from as they are loaded."""


@contextmanager
def map_of(workers: int) -> Iterator[Map]:
    """Give a `map` that works in so many processes, one a core if 0; 1 stays in this one.

    Each of several has one thread, of PyTorch's as of the OpenBLAS that NumPy and SciPy bring:
    threads of a library wait for each other by spinning, on the cores of the other processes.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield map
        return
    # Fresh processes: a copy of this one would share the threads of its libraries.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context)
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # processes start with the jobs they are given
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
