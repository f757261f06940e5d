"""Embeddings of speakers who are known, drawn for tests of clustering."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Voices:
    """M local speakers, two in each window."""

    embeddings: np.ndarray
    """(M, D) of unit length."""
    windows: np.ndarray
    """(M,) where each is heard."""
    seconds: np.ndarray
    """(M,) for how long."""
    truth: np.ndarray
    """(M,) who it is."""

    @property
    def heard(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give what clustering is told."""
        return self.embeddings, self.windows, self.seconds


def draw_voices(speakers: int, windows: int, noise: float = 0.3, seed: int = 0) -> Voices:
    """Draw two different speakers a window, in 64 dimensions; noise 1 is as long as a voice."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.standard_normal((64, 64)))[0][:speakers]
    truth = np.concatenate([rng.permutation(speakers)[:2] for _ in range(windows)])
    embeddings = centres[truth] + noise * rng.standard_normal((2 * windows, 64)) / 8
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    seconds = rng.uniform(0.2, 5, 2 * windows)
    return Voices(embeddings, np.repeat(np.arange(windows), 2), seconds, truth)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two labelings (M,) group alike."""
    pairs = np.unique(np.stack([a, b]), axis=1).shape[1]
    return pairs == len(np.unique(a)) == len(np.unique(b))
