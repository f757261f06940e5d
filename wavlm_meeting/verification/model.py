"""From waveforms to speaker embeddings: what a model listens with, and what pools it.

B batch, N samples, T frames, D embedding size.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.heads.speaker import (
    SpeakerConfig,
    SpeakerHead,
    WholeVoice,
    build_speaker_head,
)
from wavlm_meeting.heads.xvector import XVector
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.fbank import Fbank
from wavlm_meeting.wavlm.model import WavLM

__all__ = ["LONGEST_S", "SHORTEST_S", "SpeakerConfig", "SpeakerModel", "build_speaker_model"]

LONGEST_S = 30.0
"""What is longer is embedded in equal pieces: attention and memory grow with the length."""
SHORTEST_S = 0.1
"""Less is no speech, and too little for some frontends."""


class WholeXVector(nn.Module):
    """An x-vector head as a pooling."""

    def __init__(self, head: XVector) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None) -> Tensor:
        """Embed tensors (B, T, C): (B, D). Raises AudioError for too few frames."""
        batch, frames, _ = hidden_states[-1].shape
        if frame_lengths is None:
            frame_lengths = torch.full((batch,), frames, device=hidden_states[-1].device)
        embeddings: Tensor = self.head(hidden_states, frame_lengths).embeddings
        return embeddings


class SpeakerModel(nn.Module):
    """A model that says what a voice is like."""

    def __init__(
        self,
        features: WavLM | Fbank,
        pooling: SpeakerHead | WholeXVector | WholeVoice,
        size: int,
        *,
        config: SpeakerConfig | None = None,
        name: str = "",
        sha256: str = "",
    ) -> None:
        super().__init__()
        self.features, self.pooling, self.size = features, pooling, size
        self.config, self.name, self.sha256 = config, name, sha256

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms (B, N), float32 at 16 kHz, zero padded after `lengths` (B,) samples.

        Without `lengths` every sample counts. Features that are frozen are computed without
        gradients. Returns (B, D), not of unit length: the length says how clear the voice is.
        Raises AudioError for too few samples.
        """
        learns = any(parameter.requires_grad for parameter in self.features.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            heard = self.features(waveforms, lengths)
        frame_lengths = None if lengths is None else heard.frame_lengths
        embeddings: Tensor = self.pooling(heard.hidden_states, frame_lengths)
        return embeddings

    @torch.inference_mode()
    def embed(self, waveform: NDArray[np.floating] | Tensor) -> Tensor:
        """Embed one recording (N,) at 16 kHz, 0.1 s or more: (D,) on the CPU, in float32.

        What exceeds `LONGEST_S` is cut into equal pieces, whose embeddings are averaged. Raises
        AudioError for too few samples or such as are no numbers, SettingsError for another shape.
        """
        samples = torch.as_tensor(waveform, dtype=torch.float32)
        if samples.ndim != 1:
            raise SettingsError(
                f"waveform has the shape {tuple(samples.shape)}: give mono samples (N,)."
            )
        if len(samples) < SHORTEST_S * SAMPLE_RATE:
            raise AudioError(
                f"{len(samples) / SAMPLE_RATE:.2f} s are too short for a voice: give at least "
                f"{SHORTEST_S:g} s, and rather several seconds."
            )
        if not samples.isfinite().all():
            raise AudioError("the waveform holds NaN or infinity: read or make it again.")
        device = next(self.parameters()).device
        pieces = samples.tensor_split(math.ceil(len(samples) / (LONGEST_S * SAMPLE_RATE)))
        embeddings = [self(piece[None].to(device))[0].float().cpu() for piece in pieces]
        return torch.stack(embeddings).mean(dim=0)


def build_speaker_model(encoder: WavLM | None, config: SpeakerConfig) -> SpeakerModel:
    """Put a new network on an encoder, or on filterbanks.

    Raises SettingsError if the encoder is missing, or given where `config` asks for filterbanks.
    """
    if (encoder is None) != (config.features == "fbank"):
        raise SettingsError(
            f"features is '{config.features}', and there is {'no' if encoder is None else 'an'} "
            "encoder: give one for 'wavlm', none for 'fbank'."
        )
    if encoder is None:
        head = build_speaker_head(config, 1, config.bands)
        return SpeakerModel(filterbanks(config), head, config.size, config=config)
    head = build_speaker_head(config, encoder.config.layers + 1, encoder.config.width)
    return SpeakerModel(encoder, head, config.size, config=config)


def filterbanks(config: SpeakerConfig) -> Fbank:
    """Return what a model on filterbanks listens with."""
    return Fbank(config.mels, config.stacked, config.centred)
