"""Which batches of an endless stream a process of a DataLoader draws."""

from collections.abc import Iterator
from itertools import count

from torch.utils.data import get_worker_info


def batch_numbers(first: int) -> Iterator[int]:
    """Give the numbers from `first` on; a worker gets its share, in the order of reading."""
    worker = get_worker_info()
    if worker is None:
        return count(first)
    return count(first + worker.id, worker.num_workers)
