"""The word probe: which word each second of speech holds.

W words, S hidden states, C channels.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_meeting.recipes.tiny_pretrain.probe_data import SPLITS, ProbeSet
from wavlm_meeting.recipes.tiny_pretrain.probe_features import FrameFeatures, encode
from wavlm_meeting.recipes.tiny_pretrain.probe_heads import (
    HeadSettings,
    fit_classifier,
    layer_shares,
)
from wavlm_meeting.units import SAMPLE_RATE


def probe_words(
    features: FrameFeatures, sets: dict[str, ProbeSet], settings: HeadSettings, seed: int
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Return the share of words that are right in dev and test, and each hidden state's weight.

    `sets` holds the recordings of each split. A word that train does not have counts as wrong.
    """
    known, classes = np.unique(sets["train"].labels, return_inverse=True)
    states = {split: seconds_of(features, sets[split]) for split in SPLITS}
    targets = torch.from_numpy(classes)
    classifier = fit_classifier(
        states["train"], targets, len(known), F.cross_entropy, settings, seed
    )
    accuracy = {}
    for split in SPLITS[1:]:
        with torch.inference_mode():
            guesses = known[classifier(states[split]).argmax(dim=1).numpy()]
        accuracy[split] = float((guesses == sets[split].labels).mean())
    return accuracy, layer_shares(classifier.mix)


def seconds_of(features: FrameFeatures, recordings: ProbeSet) -> list[Tensor]:
    """Encode recordings of one word a second: the mean over each second, S tensors (W, C)."""
    found: dict[int, Tensor] = {}
    for number, states in encode(features, recordings):
        length = int(recordings.lengths[number])
        second = features.centres(length) // SAMPLE_RATE
        words = [
            states[:, second == word].mean(dim=1) for word in range(round(length / SAMPLE_RATE))
        ]
        found[number] = torch.stack(words, dim=1)  # (S, words, C)
    return list(torch.cat([found[number] for number in range(len(found))], dim=1).unbind(0))
