"""A small model that separates by pitch, and two people who differ in it, for tests of tracks.

Everything below 1 kHz goes to the first track and the rest to the second, whatever the encoder
hears: what comes out is known exactly, and the tracks add up to the recording.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.separation.load import add_separation
from wavlm_meeting.separation.model import SeparationHead, build_head
from wavlm_meeting.separation.settings import SeparationSettings

RATE = 16_000
BORDER_HZ = 1000.0
SURE = 30.0
"""Logit of a mask that is 1 in float32."""


def small_settings(*, like_diarization: bool = True, **more: float) -> SeparationSettings:
    """Give the settings of a small head that hears the windows of `tiny`'s diarization, or not."""
    own = load_pipeline("tiny", "cpu").settings
    window_s, hop_s = (own.window_s, own.hop_s) if like_diarization else (2.4, 0.8)
    future_s = min(0.4, (window_s - hop_s) / 2)
    sizes = {"layers": 1, "width": 16, "heads": 2, "ffn": 16, "kernel": 3}
    times = {
        "window_s": window_s,
        "history_s": window_s - hop_s - future_s,
        "future_s": future_s,
    }
    return SeparationSettings.model_validate({**sizes, **times, **more})


def head_by_pitch(settings: SeparationSettings) -> SeparationHead:
    """Give a head whose masks are 1 and 0 by frequency, and no noise."""
    encoder = load_pipeline("tiny", "cpu").encoder.config
    torch.manual_seed(0)
    head = build_head(encoder, settings).eval()
    low = torch.arange(head.bins) * RATE / head.fft < BORDER_HZ
    logits = torch.stack([low, ~low, torch.zeros_like(low)]).float() * 2 * SURE - SURE
    with torch.no_grad():
        head.masks.weight.zero_()
        head.masks.bias.copy_(logits.flatten())
    return head


def write_small_separator(folder: Path, *, like_diarization: bool = True) -> Path:
    """Write a bundle of `tiny` with a head that separates by pitch."""
    settings = small_settings(like_diarization=like_diarization)
    add_separation(load_model("tiny"), head_by_pitch(settings), settings, folder)
    return folder


def two_tones(seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """Give one who hums at 300 Hz and one who whistles at 2 kHz, (2, N): both, then one each."""
    time_s = np.arange(round(seconds * rate)) / rate
    low = 0.4 * np.sin(2 * np.pi * 300 * time_s) * (time_s < seconds * 2 / 3)
    high = 0.2 * np.sin(2 * np.pi * 2000 * time_s)
    high *= (time_s < seconds / 3) | (time_s >= seconds * 2 / 3)
    return np.stack([low, high]).astype(np.float32)
