"""Stage `baselines`: systems that nobody trained here, on the same lists."""

from collections.abc import Callable, Sequence

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from resemblyzer import VoiceEncoder, preprocess_wav
from torchaudio.compliance import kaldi

from wavlm_meeting.recipes.manifests import Row
from wavlm_meeting.recipes.voxceleb.trials import System, cosine_system
from wavlm_meeting.units import SAMPLE_RATE

Samples = NDArray[np.float32]


def baseline_systems(rows: Sequence[Row]) -> dict[str, System]:
    """Return Resemblyzer, and the floor: mean and deviation of 20 MFCC; all by their cosine.

    Resemblyzer hears recordings as its own preprocessing leaves them (speech alone, at one level),
    and as they are. The moments are scaled by their mean and deviation over all recordings that are
    tested.
    """
    voices = VoiceEncoder("cpu", verbose=False)
    preprocessed = _of_each(rows, lambda samples: _preprocessed(voices, samples))
    plain = _of_each(rows, voices.embed_utterance)
    moments = _of_each(rows, _moments)
    scaled = (moments - moments.mean(axis=0)) / moments.std(axis=0).clip(min=1e-6)
    return {
        "Resemblyzer": cosine_system(preprocessed),
        "Resemblyzer without preprocessing": cosine_system(plain),
        "MFCC": cosine_system(scaled),
    }


def _of_each(rows: Sequence[Row], embed: Callable[[Samples], Samples]) -> Samples:
    found = [embed(soundfile.read(row.path, dtype="float32")[0]) for row in rows]
    return np.stack(found).astype(np.float32)


def _preprocessed(voices: VoiceEncoder, samples: Samples) -> Samples:
    """Embed the speech that Resemblyzer hears, or all of a recording where it hears none."""
    speech = preprocess_wav(samples, SAMPLE_RATE)
    embedding: Samples = voices.embed_utterance(speech if len(speech) else samples)
    return embedding


def _moments(samples: Samples) -> Samples:
    features = kaldi.mfcc(
        torch.from_numpy(samples)[None] * 32768, num_ceps=20, num_mel_bins=40, dither=0.0
    )
    moments: Samples = torch.cat([features.mean(dim=0), features.std(dim=0)]).numpy()
    return moments
