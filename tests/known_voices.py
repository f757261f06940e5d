"""Real people of the corpus, and a calibration of `tiny` from other people."""

from itertools import combinations
from pathlib import Path

import numpy as np

from wavlm_meeting.verification.backend import fit_backend, save_backend
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.recordings import embed_recordings

WOMAN, MAN, STRANGER = "p225", "p227", "p228"
"""Three people of VCTK; the stranger is a woman, too."""


def recordings(shared_dir: Path, person: str, count: int, first: int = 0) -> list[Path]:
    """Return some recordings of one of them."""
    files = sorted((shared_dir / "corpus/speech/vctk" / person).glob("*.opus"))
    return files[first : first + count]


def write_calibration(shared_dir: Path, path: Path) -> Path:
    """Calibrate `tiny` on people of LibriSpeech, four recordings of each."""
    folder = shared_dir / "corpus/speech/librispeech"
    people = ("1688", "174", "1993", "2033", "2035", "2412", "251", "2609", "3005", "3080")
    files = [file for who in people for file in sorted((folder / who).glob("*.opus"))[::3][:4]]
    model = load_speaker_model("tiny")
    voices = embed_recordings(model, files)
    pairs = np.array(list(combinations(range(len(files)), 2)))
    targets = np.array([files[a].parent == files[b].parent for a, b in pairs])
    save_backend(path, fit_backend(model.sha256, None, voices, targets, pairs))
    return path
