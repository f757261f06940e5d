"""Speaker verification trials: reading the lists and their equal error rate.

K trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats.lines import read_fields


@dataclass(frozen=True)
class Trials:
    """Pairs of recordings, each by one speaker or by two."""

    targets: NDArray[np.bool_]
    """(K,): whether both recordings are of one speaker."""
    pairs: tuple[tuple[str, str], ...]
    """K pairs of paths in the corpus folder."""

    @property
    def paths(self) -> set[str]:
        """Return every recording that is named."""
        return {path for pair in self.pairs for path in pair}


def read_trials(path: Path) -> Trials:
    """Read a list with `<1 or 0> <path> <path>` on each line, 1 for one speaker.

    Raises FormatError for a list that is missing, a line of another form, or a list that lacks one
    of the two kinds.
    """
    targets: list[bool] = []
    pairs: list[tuple[str, str]] = []
    for where, fields in read_fields(path):
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise FormatError(f"{where}: not a trial; write '<1 or 0> <path> <path>'.")
        targets.append(fields[0] == "1")
        pairs.append((fields[1], fields[2]))
    if len(set(targets)) < 2:
        raise FormatError(f"{path}: an error rate needs trials of both kinds; add some.")
    return Trials(np.array(targets), tuple(pairs))


def equal_error_rate(targets: Sequence[bool] | NDArray[np.bool_], scores: Sequence[float]) -> float:
    """Return the rate (0 to 1) at which misses equal false alarms, interpolated on the ROC."""
    false_alarms, hits, _ = roc_curve(targets, scores)
    # Rises strictly from -1 to 1 along the curve.
    return float(np.interp(0.0, false_alarms - (1.0 - hits), false_alarms))
