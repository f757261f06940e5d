"""The speaker probe: utterance embeddings that are trained on train speakers, tried on others.

R recordings, S hidden states, C channels, T frames, B batch, E embedding size, K speakers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.formats.trials import Trials
from wavlm_meeting.heads.layer_mix import LayerMix
from wavlm_meeting.recipes.tiny_pretrain.probe_data import ProbeSet
from wavlm_meeting.recipes.tiny_pretrain.probe_features import FrameFeatures, encode
from wavlm_meeting.recipes.tiny_pretrain.probe_heads import (
    LEAST_DEVIATION,
    HeadSettings,
    fit_head,
    layer_shares,
)
from wavlm_meeting.scoring.verification import equal_error_rate
from wavlm_meeting.verification.normalisation import cosines


class SpeakerProbeSettings(HeadSettings):
    """How the speaker probe is trained; a batch holds one utterance of each drawn speaker."""

    embedding: int = Field(128, ge=1)
    """Size of the embedding."""
    margin: float = Field(0.2, ge=0)
    """Angular margin (AAM-softmax, arXiv 1906.07317)."""
    scale: float = Field(30.0, gt=0)
    """Scale of the cosines."""


@dataclass(frozen=True)
class Moments:
    """What the probe needs of hidden states over time."""

    means: Tensor
    """(R, S, C)"""
    covariances: Tensor
    """(R, S, S, C): of each pair of hidden states, channel by channel."""

    def __getitem__(self, chosen: Tensor) -> "Moments":
        """Return the moments of some recordings."""
        return Moments(self.means[chosen], self.covariances[chosen])


class SpeakerHead(nn.Module):
    """Weighted sum of scaled hidden states -> mean and deviation over time -> linear.

    It works on moments, so that no frames need be kept: the mean of a weighted sum is the weighted
    sum of the means, and its variance that of the covariances, weighted twice. Channels are scaled
    as in `ScaledClassifier`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, examples: Moments, size: int) -> None:
        """Take the scale from the training examples; `size` is that of the embedding."""
        super().__init__()
        _, states, channels = examples.means.shape
        within = examples.covariances.diagonal(dim1=1, dim2=2).permute(0, 2, 1)  # (R, S, C)
        between, mean = torch.var_mean(examples.means, dim=0, correction=0)
        deviation = (within.mean(dim=0) + between).clamp(min=LEAST_DEVIATION**2).sqrt()
        self.register_buffer("mean", mean)  # (S, C)
        self.register_buffer("deviation", deviation)
        self.mix = LayerMix(states)
        self.linear = nn.Linear(2 * channels, size)

    def forward(self, moments: Moments) -> Tensor:
        """Embed recordings: (B, E)."""
        embeddings: Tensor = self.linear(self.pool(moments))
        return embeddings

    def pool(self, moments: Moments) -> Tensor:
        """Return mean and deviation over time of the weighted sum, (B, 2 C)."""
        means = (moments.means - self.mean) / self.deviation
        covariances = moments.covariances / (self.deviation[:, None] * self.deviation)
        variance = self.mix([self.mix(row.unbind(1)) for row in covariances.unbind(1)])
        deviation = variance.clamp(min=LEAST_DEVIATION**2).sqrt()
        return torch.cat([self.mix(means.unbind(1)), deviation], dim=1)


def moments_of(features: FrameFeatures, recordings: ProbeSet) -> Moments:
    """Encode all recordings of a set, and keep means and covariances over time."""
    found = {number: _moments(states) for number, states in encode(features, recordings)}
    means, covariances = zip(*(found[number] for number in range(len(found))), strict=True)
    return Moments(torch.stack(means), torch.stack(covariances))


def _moments(states: Tensor) -> tuple[Tensor, Tensor]:
    """Return means (S, C) and covariances (S, S, C) over the frames of (S, T, C)."""
    means = states.mean(dim=1)
    centred = states - means[:, None]
    return means, torch.einsum("rtc,stc->rsc", centred, centred) / states.shape[1]


def fit_speaker_head(
    examples: Moments, speakers: list[str], settings: SpeakerProbeSettings, seed: int
) -> SpeakerHead:
    """Train the head as a classifier of `speakers` (R), all of them equally often."""
    _, classes = np.unique(speakers, return_inverse=True)
    own = [np.flatnonzero(classes == number) for number in range(classes.max() + 1)]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        head = SpeakerHead(examples, settings.embedding)
        voices = nn.Parameter(torch.randn(len(own), settings.embedding))  # (K, E)
    head.register_parameter("voices", voices)
    targets, rng = torch.from_numpy(classes), np.random.default_rng(seed)
    margin_loss = LogSoftmaxWrapper(AdditiveAngularMargin(settings.margin, settings.scale))

    def loss(chosen: Tensor) -> Tensor:
        cosines = F.normalize(head(examples[chosen])) @ F.normalize(voices).T  # (B, K)
        value: Tensor = margin_loss(cosines[:, None], targets[chosen][:, None])
        return value

    def draw() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        drawn = rng.permutation(len(own))[: settings.batch]
        return np.array([rng.choice(own[number]) for number in drawn])

    fit_head(head, loss, draw, settings)
    return head


@torch.inference_mode()
def score_trials(
    head: SpeakerHead, moments: Moments, paths: list[str], lists: Mapping[str, Trials]
) -> dict[str, float]:
    """Return the equal error rate of each list, scored by the cosine of embeddings.

    `paths` (R) names the recordings of `moments`.
    """
    embeddings = F.normalize(head(moments)).numpy()
    place = {path: number for number, path in enumerate(paths)}
    rates = {}
    for name, trials in lists.items():
        own = embeddings[[place[path] for path in trials.names]]
        rates[name] = equal_error_rate(trials.targets, cosines(own, own, trials.pairs))
    return rates


def probe_speakers(
    features: FrameFeatures,
    train: ProbeSet,
    tried: ProbeSet,
    lists: Mapping[str, Trials],
    settings: SpeakerProbeSettings,
    seed: int,
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Return the equal error rate of each list, and the weight of each hidden state."""
    head = fit_speaker_head(moments_of(features, train), train.labels.tolist(), settings, seed)
    rates = score_trials(head, moments_of(features, tried), tried.labels.tolist(), lists)
    return rates, layer_shares(head.mix)
