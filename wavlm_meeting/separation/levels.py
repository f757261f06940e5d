"""How loud tracks are over time, and what follows from it.

B batch, J tracks, N samples, U units.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_meeting.units import SAMPLE_RATE

UNIT_S = 0.05
"""Time for which one value of a level stands; gains are linear in between."""
AROUND_S = 0.8
"""Time over which levels are means: words and the pauses between them."""
CROSSTALK_DB = -10.0
"""Level of a track beside the loudest one at which all of it is crosstalk."""
TALKER_DB = -6.0
"""Level from which on it is a talker of its own."""

_UNIT = round(UNIT_S * SAMPLE_RATE)


def without_crosstalk(tracks: Tensor, judged: Tensor | None = None) -> Tensor:
    """Put what one talker leaves on the other tracks back onto the loudest; tracks (B, J, N).

    How loud each is, is judged by other tracks of the same talkers, `judged` (B, J, N), if given:
    beams of few microphones let through more of others than masks do.

    Who talks alone is then on one track, whole, and the others are silent. Between the two levels
    above, a part is moved; the sum of all tracks stays what it is. The loudest takes what the
    others lose because it is one talker's: streams of a single talker are merged in Wang and Wang,
    "Count and separate" (ICASSP 2021), where a network counts.
    """
    levels = (
        10
        * local_power(tracks if judged is None else judged)
        .clamp(min=torch.finfo(tracks.dtype).tiny)
        .log10()
    )
    loudest = levels.amax(dim=1, keepdim=True)
    kept = ((levels - loudest - CROSSTALK_DB) / (TALKER_DB - CROSSTALK_DB)).clamp(0, 1)
    takes = F.one_hot(levels.argmax(dim=1), tracks.shape[1]).transpose(1, 2).to(tracks)
    stays = tracks * at_samples(kept, tracks.shape[-1])
    moved = (tracks - stays).sum(dim=1, keepdim=True)
    return stays + moved * at_samples(takes, tracks.shape[-1])


def no_louder_than(tracks: Tensor, limits: Tensor) -> Tensor:
    """Make tracks (B, J, N) quieter where they are louder than others, `limits` (B, J, N).

    A beam towards somebody who is silent lets through whoever talks; what masks leave there says
    how little there should be. Source: the gain adjustment of Yoshioka et al., "Recognizing
    overlapped speech in meetings" (Interspeech 2018, arXiv 1810.03655).
    """
    smallest = torch.finfo(tracks.dtype).tiny
    shares = local_power(limits) / local_power(tracks).clamp(min=smallest)
    return tracks * at_samples(shares.clamp(max=1).sqrt(), tracks.shape[-1])


def local_power(tracks: Tensor) -> Tensor:
    """Return the mean power (B, J, U) around each unit of tracks (B, J, N)."""
    around = round(AROUND_S / UNIT_S / 2)
    padded = F.pad(tracks, (0, -tracks.shape[-1] % _UNIT))
    powers = padded.square().unflatten(-1, (-1, _UNIT)).mean(dim=-1)
    return F.avg_pool1d(powers, 2 * around + 1, stride=1, padding=around, count_include_pad=False)


def at_samples(gains: Tensor, samples: int) -> Tensor:
    """Return gains (B, J, N) at each of `samples`, linear between the units of (B, J, U)."""
    units = gains.shape[-1]
    return F.interpolate(gains, size=units * _UNIT, mode="linear")[..., :samples]
