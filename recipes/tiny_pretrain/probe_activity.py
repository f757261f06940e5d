"""The probe of speech and overlap: how many speakers talk in each frame of conversations.

M frames of all recordings together, S hidden states, C channels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_curve
from torch import Tensor
from torch.nn import functional as F

from wavlm_meeting.recipes.tiny_pretrain.probe_data import SPLITS, UNIT, ProbeSet
from wavlm_meeting.recipes.tiny_pretrain.probe_features import FrameFeatures, encode
from wavlm_meeting.recipes.tiny_pretrain.probe_heads import (
    HeadSettings,
    fit_classifier,
    layer_shares,
)


@dataclass(frozen=True)
class Detection:
    """How well frames of one kind, with speech or with overlap, are found."""

    f1: float
    """F1 (0 to 1) on conversations of test speakers."""
    f1_dev: float
    """F1 on those of dev speakers, which the threshold is best on."""
    share: float
    """Share p of the test frames that are of the kind: calling all so gives F1 = 2 p / (1 + p)."""


def probe_activity(
    features: FrameFeatures, sets: dict[str, ProbeSet], settings: HeadSettings, seed: int
) -> tuple[Detection, Detection, tuple[float, ...]]:
    """Return the detection of speech and of overlap, and the weight of each hidden state.

    `sets` holds the conversations of each split.
    """
    states, targets = zip(*(frames_of(features, sets[split]) for split in SPLITS), strict=True)
    classifier = fit_classifier(
        states[0], targets[0], 2, F.binary_cross_entropy_with_logits, settings, seed
    )
    with torch.inference_mode():
        dev, test = (classifier(part).numpy() for part in states[1:])
    dev_truth, test_truth = (target.bool().numpy() for target in targets[1:])
    speech, overlap = (
        detection(dev[:, kind], dev_truth[:, kind], test[:, kind], test_truth[:, kind])
        for kind in range(2)
    )
    return speech, overlap, layer_shares(classifier.mix)


def frames_of(features: FrameFeatures, conversations: ProbeSet) -> tuple[list[Tensor], Tensor]:
    """Encode conversations: S tensors (M, C) in float16, to save memory, and targets (M, 2).

    The targets are 1 where at least one and where at least two speakers talk in a frame's middle.
    """
    found: dict[int, Tensor] = {}
    for number, states in encode(features, conversations):
        found[number] = states.half()
    talking = [
        conversations.labels[number, features.centres(int(length)) // UNIT]
        for number, length in enumerate(conversations.lengths)
    ]
    counts = torch.from_numpy(np.concatenate(talking))
    joined = torch.cat([found[number] for number in range(len(found))], dim=1)  # (S, M, C)
    return list(joined.unbind(0)), torch.stack([counts > 0, counts > 1], dim=1).float()


def detection(
    dev_scores: NDArray[np.float32],
    dev_truth: NDArray[np.bool_],
    test_scores: NDArray[np.float32],
    test_truth: NDArray[np.bool_],
) -> Detection:
    """Choose the threshold with the best F1 on dev, and report F1 on test; all arrays (M,)."""
    precision, recall, thresholds = precision_recall_curve(dev_truth, dev_scores)
    # The last point has no threshold: it stands for finding nothing.
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    return Detection(
        f1=float(f1_score(test_truth, test_scores >= thresholds[best])),
        f1_dev=float(f1[best]),
        share=float(test_truth.mean()),
    )
