"""Pieces of noise from shards, to mix utterances with.

K noises, M samples of the longest.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.training.shards import read_index, read_shards

POOL = 256
"""Pieces that are drawn from at a time: 120 MB at 15 s each."""


class NoisePool:
    """The pieces of one shard of noise, which the shards of a block of speech are mixed with."""

    def __init__(self, folder: Path, longest: int, rng: np.random.Generator) -> None:
        """Decode up to POOL pieces of a shard that `rng` draws, each `longest` samples at most.

        Raises SettingsError if there is no shard with noise in `folder`.
        """
        shards = [shard.number for shard in read_index(folder) if shard.cuts]
        if not shards:
            raise SettingsError(
                f"{folder}: no noise there; write it with `wavlm-meeting manifest`."
            )
        cuts = read_shards(folder, numbers=[int(rng.choice(shards))])
        self.pieces = [_piece(cut, longest, rng) for cut in islice(cuts, POOL)]

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return `count` pieces (K, M), zero after their lengths, and these (K,)."""
        chosen = [self.pieces[index] for index in rng.integers(len(self.pieces), size=count)]
        lengths = torch.tensor([len(piece) for piece in chosen])
        noises = torch.zeros(count, int(lengths.max()))
        for row, piece in zip(noises, chosen, strict=True):
            row[: len(piece)] = piece.float() / 32768
        return noises, lengths


def _piece(cut: Cut, longest: int, rng: np.random.Generator) -> Tensor:
    """Decode a piece into 16 bits, cropped at a random place."""
    samples = cut.load_audio()[0]
    first = int(rng.integers(max(0, len(samples) - longest) + 1))
    kept = np.clip(samples[first : first + longest] * 32768, -32768, 32767)
    return torch.from_numpy(kept.astype(np.int16))
