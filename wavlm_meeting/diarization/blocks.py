"""Long recordings: neighbouring local speakers are put together until few enough groups are left.

N groups, K of them in the end.
"""

from collections.abc import Iterator

import numpy as np

from wavlm_meeting.diarization.agglomerative import Groups, Ints, join

SHRINK = 4
"""A block leaves a quarter of its groups at most: all levels together cost 4/3 of the first."""


def condense(groups: Groups, most: int, threshold: float, least: int) -> tuple[Groups, Ints]:
    """Return `most` groups or fewer, and in which of them (N,) each given one is.

    Groups in the order of time are cut into blocks of `most`. Each block's are joined on their own
    up to the distance `threshold`, so that time and memory grow with N and not with its square;
    what is left of all blocks is cut into blocks again while there is too much. Who was heard in
    one window is never joined across blocks either: groups remember all their windows. So few
    groups as `most` stay as they are, and `least` are left in any case.
    """
    members = np.arange(len(groups))
    most = max(most, SHRINK * least)
    while len(groups) > most:
        labels, total = np.zeros(len(groups), np.int64), 0
        parts = list(blocks(len(groups), most))
        for block in parts:
            tree = join(groups.part(block))
            left = min(tree.groups_below(threshold), len(block) // SHRINK)
            left = max(left, -(-least // len(parts)))
            labels[block] = total + tree.cut(left)
            total += left
        groups, members = groups.joined(labels), labels[members]
    return groups, members


def blocks(count: int, most: int) -> Iterator[Ints]:
    """Give the numbers below `count` in as few runs of `most` or fewer as there can be."""
    yield from np.array_split(np.arange(count), -(-count // most))
