"""VBx: who speaks by a Bayesian hidden Markov model over embeddings in the order of time.

Landini, Profant, Diez and Burget, "Bayesian HMM clustering of x-vector sequences (VBx) in speaker
diarization", 2022: the equations named here are theirs.

N embeddings, D their size, S speakers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

MOST = 40
"""Speakers to start from at most, unless more are wanted: a dozen arrays (N, S) are held."""
ITERATIONS = 40
"""Most rounds."""
TOLERANCE = 1e-6
"""Gain of the bound, as a share of its size, below which the rounds end."""
CERTAINTY = 7.0
"""Log odds of an embedding's own speaker against each other one at the start."""
NOBODY = 1e-6
"""Probability below which a speaker is left out of what follows."""


@dataclass(frozen=True)
class SpeakerModel:
    """How embeddings come about, and how much each of them counts."""

    cosine: float
    """Mean cosine between two embeddings of one speaker."""
    acoustic_factor: float
    """F_A: how much an embedding counts, as neighbours are not independent."""
    speaker_factor: float
    """F_B: how much a speaker costs."""
    stay: float
    """Probability that the next window goes on with the same speaker for want of any choice."""


@dataclass(frozen=True)
class Posterior:
    """What the model says of a sequence."""

    speakers: Floats
    """(N, S) probability of each speaker for each embedding."""
    bounds: tuple[float, ...]
    """Lower bound of the evidence after each round."""

    def labels(self) -> Ints:
        """Return the most probable speaker (N,) of each embedding, numbered from 0."""
        best = self.speakers.argmax(axis=1)
        return np.unique(best, return_inverse=True)[1]


def infer(embeddings: Floats, windows: Ints, labels: Ints, model: SpeakerModel) -> Posterior:
    """Fit the model to embeddings (N, D) of unit length in the order of time.

    A speaker is a vector drawn from N(0, c/D I), and an embedding of theirs is drawn around it from
    N(0, (1 - c)/D I), where c is `model.cosine`: the two covariances of a PLDA, each a scaled
    identity, under which embeddings have unit length and those of one speaker the cosine c on
    average. `windows` (N,) never fall; the first embedding of a window stays with the last speaker
    with probability `model.stay`, and otherwise the speaker is drawn anew. `labels` (N,) is where
    the rounds start; speakers without use lose theirs and vanish.
    """
    observed = embeddings.astype(np.float64)
    observed *= np.sqrt(embeddings.shape[1] / (1 - model.cosine))
    between = model.cosine / (1 - model.cosine)  # Phi, once within speakers all is N(0, I)
    stay = np.where(np.diff(windows, prepend=windows[:1] - 1) > 0, model.stay, 0.0)
    start = np.exp(CERTAINTY * (labels[:, None] == np.arange(labels.max() + 1)))
    speakers = start / start.sum(axis=1, keepdims=True)
    weights = np.full(speakers.shape[1], 1 / speakers.shape[1])
    bounds: list[float] = []
    for _ in range(ITERATIONS):
        likelihoods, divergence = _update_speakers(observed, speakers, between, model)
        speakers, evidence, fresh = forward_backward(likelihoods, weights, stay)
        bounds.append(evidence - divergence)
        weights = fresh / fresh.sum()
        if len(bounds) > 1 and bounds[-1] - bounds[-2] < TOLERANCE * abs(bounds[-1]):
            break
        used = weights > NOBODY
        if not used.all():
            weights = weights[used] / weights[used].sum()
            speakers = speakers[:, used]
    return Posterior(speakers, tuple(bounds))


def _update_speakers(
    observed: Floats, speakers: Floats, between: float, model: SpeakerModel
) -> tuple[Floats, float]:
    """Return log likelihoods (N, S) under the speakers' posteriors, and what these cost."""
    ratio = model.acoustic_factor / model.speaker_factor
    size = observed.shape[1]
    spread = 1 / (1 + ratio * speakers.sum(axis=0) * between)  # (S,) inverse of L: eq. 17
    mean = ratio * np.sqrt(between) * spread[:, None] * (speakers.T @ observed)  # alpha: eq. 16
    power = size * spread + np.sum(mean**2, axis=1)
    likelihoods = model.acoustic_factor * (  # eq. 23
        np.sqrt(between) * (observed @ mean.T)
        - 0.5 * between * power
        - 0.5 * np.einsum("nd,nd->n", observed, observed)[:, None]
        - 0.5 * size * np.log(2 * np.pi)
    )
    divergence = 0.5 * np.sum(power - size * (1 + np.log(spread)))
    return likelihoods, float(model.speaker_factor * divergence)


def forward_backward(
    likelihoods: Floats, weights: Floats, stay: Floats
) -> tuple[Floats, float, Floats]:
    """Return posteriors (N, S), log evidence, and how often each speaker (S,) is drawn.

    `likelihoods` (N, S) are logarithms. Embedding n keeps the speaker before it with probability
    `stay` (N,), and else draws one by `weights` (S,).
    """
    best = likelihoods.max(axis=1, keepdims=True)
    emitted = np.exp(likelihoods - best)
    if not stay.any():  # a mixture, in which no embedding knows of another
        joint = emitted * weights
        sums = joint.sum(axis=1, keepdims=True)
        joint /= sums
        return joint, float(np.sum(np.log(sums) + best)), joint.sum(axis=0)
    forward, backward = np.empty_like(emitted), np.ones_like(emitted)
    scale = np.empty(len(emitted))
    last = weights
    for n, kept in enumerate(stay):
        joint = emitted[n] * (kept * last + (1 - kept) * weights)
        scale[n] = joint.sum()
        last = forward[n] = joint / scale[n]
    for n in range(len(emitted) - 1, 0, -1):
        ahead = emitted[n] * backward[n] / scale[n]
        backward[n - 1] = stay[n] * ahead + (1 - stay[n]) * (weights @ ahead)
    drawn = emitted * backward * ((1 - stay) / scale)[:, None]
    evidence = float(np.sum(np.log(scale)) + best.sum())
    return forward * backward, evidence, weights * drawn.sum(axis=0)
