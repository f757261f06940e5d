"""Pieces of rendered recordings of one voice, and what the teacher says of each.

B batch, N samples, T frames, K pieces of a recording, D directions.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from wavlm_meeting.diarization.task import Batch
from wavlm_meeting.recipes.tiny.collection import Collection
from wavlm_meeting.recipes.tiny.data import WindowBatches
from wavlm_meeting.recipes.tiny.settings import DataSettings, VoiceSettings
from wavlm_meeting.recipes.tiny.voice_teacher import Directions, Partials, describe
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig

SLACK_S = 0.1
"""How far beyond a piece a stretch may reach that it is taught by."""


class VoiceBatch(NamedTuple):
    """Recordings of one voice each, and pieces of them, all of one length."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz."""
    begins_s: Tensor
    """(B, K): where each piece begins, in seconds."""
    length_s: Tensor
    """(): how long pieces are."""
    targets: Tensor
    """(B, K, D): what the teacher says of each, of unit length; zeros where it says nothing."""


class VoiceBatches(IterableDataset[VoiceBatch]):
    """An endless stream of batches; batch number n is the same whatever came before it.

    Recordings are rendered as the windows with one voice of a training for diarization are, from
    the sources and with the codecs that `data` has.
    """

    def __init__(
        self,
        collection: Collection,
        data: DataSettings,
        settings: VoiceSettings,
        encoder: WavLMConfig,
        directions: Directions,
        first: int = 0,
    ) -> None:
        whole = {
            "window_s": settings.window_s,
            "voice_window_s": settings.window_s,
            "batch": settings.recordings,
            "conversation_windows": 1,
            "in_a_row": 1,
            "meetings": 0.0,
            "voice_batches": settings.steps,
            "conversation": settings.conversation,
        }
        self.windows = WindowBatches(
            collection, data.model_copy(update=whole), encoder, 1, settings.seed
        )
        self.settings, self.directions, self.first = settings, directions, first

    def __iter__(self) -> Iterator[VoiceBatch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> VoiceBatch:
        """Render batch `number` and ask the teacher about it."""
        settings, rng = self.settings, np.random.default_rng((self.settings.seed, number, 2))
        windows = self.windows.batch(number)
        if not isinstance(windows, Batch):
            raise TypeError("voices are taught on what is rendered, not on plans")
        speech = windows.activities[:, :, 0].numpy() > 0  # (B, T)
        whole_s = windows.waveforms.shape[1] / SAMPLE_RATE
        low, high = np.log(settings.pieces_s)
        length_s = min(whole_s, float(np.exp(rng.uniform(low, high))))
        said = describe(windows.waveforms.numpy(), speech)
        pieces = [
            self._piece(rng, own, length_s, whole_s) for own in said for _ in range(settings.pieces)
        ]
        begins_s, targets = (np.stack(column) for column in zip(*pieces, strict=True))
        shape = len(speech), settings.pieces
        return VoiceBatch(
            windows.waveforms,
            torch.from_numpy(begins_s.reshape(shape)),
            torch.tensor(length_s),
            torch.from_numpy(targets.reshape(*shape, -1)),
        )

    def _piece(
        self, rng: np.random.Generator, said: Partials, length_s: float, whole_s: float
    ) -> tuple[float, NDArray[np.float32]]:
        """Draw where a piece begins, around one of the stretches, and what was said within it."""
        begins, ends = said.spans.T
        fitting = np.flatnonzero(ends - begins <= length_s + 2 * SLACK_S)
        if not len(fitting):
            return 0.0, np.zeros(self.directions.basis.shape[1], np.float32)
        one = fitting[rng.integers(len(fitting))]
        last = min(begins[one] + SLACK_S, whole_s - length_s)
        begin_s = max(0.0, rng.uniform(min(ends[one] - SLACK_S - length_s, last), last))
        inside = (begins >= begin_s - SLACK_S) & (ends <= begin_s + length_s + SLACK_S)
        inside[one] = True  # where it reaches the recording's end
        return begin_s, self.directions(said.embeddings[inside].mean(axis=0))
