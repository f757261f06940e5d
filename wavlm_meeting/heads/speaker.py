"""The head of speaker verification: an ECAPA-TDNN on mixed hidden states, or on filterbanks.

A small model can do with attentive statistics of the mix alone.

Source: WavLM paper (arXiv 2110.13900), section V-B; released code (github.com/microsoft/UniSpeech,
`downstreams/speaker_verification`). The latter adds 1e-6 before the instance norm, which takes any
constant away again.

B batch, T frames, C channels, D embedding size.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.heads.ecapa import Ecapa, EcapaConfig, frame_shares, weighted_moments
from wavlm_meeting.heads.embedding import EmbeddingHead
from wavlm_meeting.heads.frame_classes import FrameClasses
from wavlm_meeting.heads.layer_mix import LayerMix
from wavlm_meeting.wavlm.frontend import valid_mask

NORM_EPS = 1e-5
"""Added to every variance of the instance norm; the released code's value."""


class SpeechConfig(Settings):
    """Sizes of a head that says in which frames anybody speaks."""

    hidden: int = Field(128, ge=1)
    """Its width."""
    classes: int = Field(11, ge=2)
    """Classes of a frame, the first of them for nobody."""
    conformer_layers: int = Field(0, ge=0)
    """Conformer blocks in it."""
    ffn: int = Field(512, ge=1)
    """Width of their feed-forward parts."""


class AttentiveConfig(Settings):
    """Sizes of attentive statistics without convolutions."""

    hidden: int = Field(384, ge=1)
    """Width of the frame features that are pooled."""
    embedding: int = Field(192, ge=1)
    """Size of the embedding."""
    speech: SpeechConfig | None = None
    """Diarization's head of who speaks, which comes with its embedding head and is not trained: a
    frame counts as much as somebody is likely to speak in it. None: all frames count alike."""


class BesideConfig(Settings):
    """Diarization's voice of an encoder, beside that of filterbanks, as one embedding."""

    size: int = Field(64, ge=1)
    """Directions of it that are kept."""
    weight: float = Field(1.0, gt=0)
    """Its length beside one of 1."""


class SpeakerConfig(Settings):
    """What a speaker model is made of beside its encoder, if it has one."""

    features: Literal["wavlm", "fbank"] = "wavlm"
    """What it listens with: an encoder, or filterbanks."""
    mels: int = Field(80, ge=1)
    """Bands of the filterbanks, which an encoder has no use for."""
    stacked: int = Field(1, ge=1)
    """Their frames of 10 ms that are read as one."""
    centred: Literal["bands", "level"] = "bands"
    """What is taken off them: each band's mean over the utterance, and with it the microphone's
    colour and some of the voice's, or the level alone. That is the mean power: the mean of decibels
    would move with bands that a telephone leaves out."""
    instance_norm: bool = True
    """Whether each channel of the features is brought to zero mean and unit variance over an
    utterance."""
    ecapa: EcapaConfig = EcapaConfig()
    """Sizes of the network."""
    attentive: AttentiveConfig | None = None
    """Attentive statistics of an encoder's mixed states in place of that network: a tenth of its
    size, and what the embedding head of diarization is."""
    beside: BesideConfig | None = None
    """What else is in an embedding of filterbanks, where a bundle has an encoder and its heads of
    diarization, too."""

    @property
    def bands(self) -> int:
        """Return how many numbers a frame of filterbanks has."""
        return self.mels * self.stacked

    @property
    def size(self) -> int:
        """Return the size of an embedding, without what may be beside it."""
        return self.ecapa.embedding if self.attentive is None else self.attentive.embedding


class SpeakerHead(nn.Module):
    """Hidden states -> one embedding for each utterance."""

    def __init__(self, states: int, width: int, *, instance_norm: bool, **ecapa: Any) -> None:
        super().__init__()
        self.mix = LayerMix(states) if states > 1 else None
        self.instance_norm = instance_norm
        self.ecapa = Ecapa(width, **ecapa)

    def forward(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Embed tensors (B, T, C), of which the first `frame_lengths` (B,) frames are valid.

        Without `frame_lengths` all are. Returns (B, D), not of unit length.
        """
        x = self.mix(hidden_states) if self.mix is not None else hidden_states[0]
        if self.instance_norm:
            x = _normalize_over_time(x, frame_lengths)
        embeddings: Tensor = self.ecapa(x.mT, frame_lengths)
        return embeddings


class WholeVoice(nn.Module):
    """Diarization's embedding head on one speaker, who has all frames in which anybody speaks.

    The head is trained on such frames alone. Without `speech` to find them it takes every frame.
    """

    def __init__(self, head: EmbeddingHead, speech: FrameClasses | None = None) -> None:
        super().__init__()
        self.head, self.speech = head, speech

    def forward(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Embed tensors (B, T, C), of which the first `frame_lengths` (B,) frames are valid."""
        return self.head.raw(hidden_states, self._masks(hidden_states, frame_lengths))[:, 0]

    @torch.no_grad()
    def _masks(self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None) -> Tensor:
        """Return how much each frame counts, (B, 1, T)."""
        if self.speech is None:
            masks = hidden_states[-1].new_ones(hidden_states[-1].shape[:2])
        else:
            masks = self.speech.spoken(hidden_states, frame_lengths)
        if frame_lengths is not None:
            masks = masks * valid_mask(frame_lengths, masks.shape[1])
        return masks[:, None]


def build_speaker_head(config: SpeakerConfig, states: int, width: int) -> SpeakerHead | WholeVoice:
    """Make a head for features of `states` tensors that are `width` channels wide."""
    if config.attentive is not None:
        own, speech = config.attentive, None
        if own.speech is not None:
            speech = FrameClasses(states - 1, width, **own.speech.model_dump())
        return WholeVoice(EmbeddingHead(states - 1, width, own.hidden, own.embedding), speech)
    sizes = config.ecapa.model_dump()
    return SpeakerHead(states, width, instance_norm=config.instance_norm, **sizes)


def _normalize_over_time(x: Tensor, lengths: Tensor | None) -> Tensor:
    mean, variance = weighted_moments(x, frame_shares(x, lengths))
    return (x - mean[:, None]) * torch.rsqrt(variance + NORM_EPS)[:, None]
