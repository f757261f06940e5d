"""From the tracks of windows that overlap to those of the recording.

Continuous speech separation as in Chen et al., "Continuous speech separation: dataset and analysis"
(ICASSP 2020, arXiv 2001.11482): the order of a window's tracks is the one that agrees
with what was given out before.

W samples of a window, n samples of a piece, J tracks.
"""

from dataclasses import dataclass
from math import exp
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wavlm_meeting.units import SAMPLE_RATE

FADE_S = 0.02
"""Length of the fade from one window into the next, at least."""
SILENT = 0.003
"""Power, as a share of that of speech, below which two windows have no voice in common (-25 dB)."""
FRAME = round(0.02 * SAMPLE_RATE)
"""Samples over which tracks are compared at once."""
QUIETEST = 1e-4
"""Power of a frame, as a share of the loudest one's, that silence counts as (-40 dB)."""
MEMORY_S = 10.0
"""Time after which the power of speech has faded to 1 / e in memory."""

Tracks = NDArray[np.float32]


@dataclass(frozen=True)
class Cuts:
    """What is given out of each window, in samples; make it with `of`."""

    window: int
    """Length of a window."""
    hop: int
    """From the start of one window to the start of the next."""
    begin: int
    """Where in a window the fade from the one before begins."""
    fade: int
    """Length of the fade."""

    @classmethod
    def of(cls, window: int, hop: int, history: int, fade: int | None = None) -> Self:
        """Place the fades: after the history, or as far before its end as the future is short.

        The future is what history and hop leave of the window; a history that leaves less than
        nothing is cut. Fades that are not given are as long as the future: there, the mean of two
        windows errs less than either, and no track comes later for it. Where windows do not overlap
        there is no fade. Raises ValueError unless 0 < hop <= window.
        """
        if not 0 < hop <= window:
            raise ValueError(f"hop {hop} must be from 1 to the window, {window}.")
        history = min(history, window - hop)
        if fade is None:
            fade = max(round(FADE_S * SAMPLE_RATE), window - hop - history)
        fade = min(fade, window - hop, hop)
        later = min(fade, window - hop - history)
        # What a short history has no room for fades later.
        return cls(window, hop, max(0, history + later - fade), fade)

    @property
    def latency(self) -> int:
        """Return how many samples a track is behind the recording, but for the first window."""
        return self.window - self.begin

    def ramp(self) -> Tracks:
        """Return the weights (fade,) of the next window; the one before has the rest to 1."""
        phase = (np.arange(self.fade) + 0.5) / max(1, self.fade)
        return np.square(np.sin(np.pi / 2 * phase)).astype(np.float32)


class Stitcher:
    """Takes the tracks of one window after the other and gives those of the recording.

    It holds one window's tracks.
    """

    def __init__(self, cuts: Cuts) -> None:
        self.cuts = cuts
        self._ramp = cuts.ramp()
        self._before: Tracks | None = None  # what the next window hears again (J, window - hop)
        self._windows = np.zeros(0, np.float32)  # and how many have heard it (window - hop,)
        self._power = 0.0  # of speech
        self._loudness: NDArray[np.float32] | None = None  # of each track (J,), last heard

    def add(self, tracks: Tracks, valid: int, *, is_last: bool) -> Tracks:
        """Return the next piece (J, n) of the recording's tracks.

        `tracks` (J, W) are those of the next window, in any order. `valid` says how many samples of
        it are the recording's, `is_last` whether that ends there; all that is left comes out then.
        """
        cuts, before = self.cuts, self._before
        begin, end = cuts.begin, valid if is_last else cuts.begin + cuts.hop
        if before is None:
            begin = 0
        else:
            tracks = tracks[self._order(before, tracks)]
        piece = tracks[:, begin:end].copy()
        if before is not None:
            # The window before had this fade one hop later.
            tail = before[:, begin : begin + cuts.fade]
            piece[:, : cuts.fade] = tail + self._ramp * (piece[:, : cuts.fade] - tail)
        self._keep(tracks)
        self._remember(piece)
        return piece

    def _keep(self, tracks: Tracks) -> None:
        """Keep the mean of all windows where the next one listens again."""
        hop, before, windows = self.cuts.hop, self._before, np.ones(tracks.shape[1], np.float32)
        if before is not None:
            heard = before.shape[1]
            windows[:heard] += self._windows
            mean = tracks[:, :heard] + (before - tracks[:, :heard]) * (1 - 1 / windows[:heard])
            tracks = np.concatenate([mean, tracks[:, heard:]], axis=1)
        self._before, self._windows = tracks[:, hop:].copy(), windows[hop:]

    def _order(self, before: Tracks, tracks: Tracks) -> NDArray[np.intp]:
        """Choose which of the new tracks goes on with each old one (J,).

        The one that is most like it where both heard the same. If nobody spoke there, tracks go on
        by their loudness, so that who talks alone stays where they were before a pause.
        """
        if self._loudness is not None and _power(before) < SILENT * self._power:
            order = np.empty(len(tracks), np.intp)
            order[np.argsort(self._loudness)] = np.argsort(_powers(tracks))
            return order
        alike = similarity(before, tracks[:, : before.shape[1]])  # (J, J)
        best: NDArray[np.intp] = linear_sum_assignment(alike, maximize=True)[1]
        return best

    def _remember(self, piece: Tracks) -> None:
        """Keep how loud speech is, and which track carried it."""
        power = _power(piece)
        faded = self._power * exp(-piece.shape[1] / (MEMORY_S * SAMPLE_RATE))
        self._power = max(power, faded)
        if power >= SILENT * self._power:
            self._loudness = _powers(piece)


def similarity(before: Tracks, tracks: Tracks) -> NDArray[np.float32]:
    """Return how alike each two of tracks (J, n) and others of the same time are: (J, J).

    Products of frames count by the roots of their powers: a few loud vowels do not outweigh all
    else.
    """
    spare = -before.shape[1] % FRAME
    first, second = (
        np.pad(each, ((0, 0), (0, spare))).reshape(len(each), -1, FRAME)
        for each in (before, tracks)
    )
    products: NDArray[np.float32] = np.einsum("ifn,jfn->fij", first, second)
    powers = np.square(first).sum(axis=(0, 2)) + np.square(second).sum(axis=(0, 2))
    floor = max(QUIETEST * float(powers.max(initial=0)), float(np.finfo(np.float32).tiny))
    weights = np.sqrt(1 / (powers + floor))
    alike: NDArray[np.float32] = np.einsum("fij,f->ij", products, weights)
    return alike


def _powers(tracks: Tracks) -> NDArray[np.float32]:
    """Return the energy of each track (J,)."""
    energies: NDArray[np.float32] = np.einsum("jn,jn->j", tracks, tracks)
    return energies


def _power(tracks: Tracks) -> float:
    """Return the mean power of all tracks together; 0 where there is nothing."""
    return float(_powers(tracks).sum()) / max(1, tracks.shape[1])
