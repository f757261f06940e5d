"""Embeddings of the recordings of a manifest.

M recordings, N samples.
"""

from collections.abc import Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.audio.simulate import TELEPHONE_BAND_HZ, band_pass, companded
from wavlm_meeting.recipes.manifests import Row
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.backend import Voices
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.verification.recordings import batches, embed_batch
from wavlm_meeting.verification.speech import speech_of

Piece = tuple[float, float]
"""Where a piece of a recording begins, and how long it is, in seconds."""


def embed_rows(
    model: SpeakerModel,
    rows: Sequence[Row],
    pieces: Sequence[Piece] | None = None,
    *,
    telephone: bool = False,
) -> Voices:
    """Embed M recordings, or a piece of each; memory holds one batch of near lengths.

    With `telephone` they are heard through one, ITU-T G.711 in its band. Nothing is too quiet or
    too short: a trial list names what it names.
    """
    pieces = pieces or [(0.0, row.seconds) for row in rows]
    embeddings = np.zeros((len(rows), model.size), np.float32)
    speech_s = np.zeros(len(rows))
    for batch in batches([seconds for _, seconds in pieces]):
        waveforms = [_read(rows[index], pieces[index]) for index in batch]
        if telephone:
            waveforms = [companded(band_pass(wave, *TELEPHONE_BAND_HZ)) for wave in waveforms]
        speech_s[batch] = [speech_of(waveform).seconds for waveform in waveforms]
        embeddings[batch] = embed_batch(model, waveforms)
    return Voices(embeddings, speech_s)


def _read(row: Row, piece: Piece) -> NDArray[np.float32]:
    """Read a piece (N,)."""
    first, samples = (round(value * SAMPLE_RATE) for value in piece)
    waveform: NDArray[np.float32] = soundfile.read(row.path, samples, first, dtype="float32")[0]
    return waveform
