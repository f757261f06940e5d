"""Work on files in several processes."""

import os

from wavlm_meeting.recipes.workers import THREADS, map_of

LIBRARIES = """[__import__(name) for name in ("torch", "scipy.linalg")] and {
    library["filepath"]: library["num_threads"]
    for library in __import__("threadpoolctl").threadpool_info()
}"""
"""What a process says of the threads of its libraries; it cannot import a function from here."""


def test_each_of_several_processes_has_one_thread_of_every_library() -> None:
    """Two threads of OpenBLAS on the cores of two processes took `prepare` twice the time."""
    before = {name: os.environ.get(name) for name in THREADS}
    with map_of(2) as run:
        found: list[dict[str, int]] = list(run(eval, [LIBRARIES, LIBRARIES]))
    for threads in found:
        assert len(threads) >= 2, threads
        assert set(threads.values()) == {1}, threads
    assert {name: os.environ.get(name) for name in THREADS} == before
