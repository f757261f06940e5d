"""What a frozen encoder knows: speakers, speech and overlap, words, read through weighted sums."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wavlm_meeting.config import Settings
from wavlm_meeting.formats.trials import read_trials
from wavlm_meeting.recipes.tiny_pretrain.probe_activity import Detection, probe_activity
from wavlm_meeting.recipes.tiny_pretrain.probe_data import (
    SPLITS,
    ProbeDataSettings,
    ProbeSet,
    load_set,
    prepare_sets,
)
from wavlm_meeting.recipes.tiny_pretrain.probe_features import FrameFeatures, encoder_features
from wavlm_meeting.recipes.tiny_pretrain.probe_heads import HeadSettings
from wavlm_meeting.recipes.tiny_pretrain.probe_speaker import SpeakerProbeSettings, probe_speakers
from wavlm_meeting.recipes.tiny_pretrain.probe_words import probe_words
from wavlm_meeting.wavlm.model import WavLM

log = logging.getLogger(__name__)


class ProbeSettings(Settings):
    """Every choice of the probes."""

    seed: int = 1
    """Seed of the heads' weights and batches."""
    data: ProbeDataSettings = ProbeDataSettings()
    """Recordings."""
    speaker: SpeakerProbeSettings = SpeakerProbeSettings()
    """The speaker probe."""
    activity: HeadSettings = HeadSettings(batch=1024)
    """The probe of speech and overlap; examples are frames."""
    words: HeadSettings = HeadSettings()
    """The word probe; examples are words."""


@dataclass(frozen=True)
class ProbeScores:
    """What the probes found; all figures from 0 to 1."""

    eer: dict[str, float]
    """Equal error rate of each trial list."""
    speech: Detection
    """Frames in which someone speaks."""
    overlap: Detection
    """Frames in which more than one speaker talks."""
    word_accuracy: float
    """Share of the test speakers' words that are right."""
    word_accuracy_dev: float
    """The same of dev speakers."""
    layer_shares: dict[str, tuple[float, ...]]
    """Weight of each hidden state in the sum that a probe reads, together 1."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON takes them."""
        return asdict(self)


def prepare_probes(corpus: Path, work: Path, settings: ProbeSettings) -> None:
    """Make the recordings of all probes once, for all encoders; errors as in `prepare_sets`."""
    prepare_sets(corpus, work, settings.data)


def run_probes(encoder: WavLM, corpus: Path, work: Path, settings: ProbeSettings) -> ProbeScores:
    """Train the probes on a frozen encoder's hidden states and score them.

    What `prepare_probes` makes is made if it is not in `work`. The same encoder and seed give the
    same scores. Raises the errors of `prepare_probes`, and TrainingError for hidden states that are
    not finite.
    """
    training = encoder.training
    encoder.eval()
    try:
        return probe_features(encoder_features(encoder), corpus, work, settings)
    finally:
        encoder.train(training)


def probe_features(
    features: FrameFeatures, corpus: Path, work: Path, settings: ProbeSettings
) -> ProbeScores:
    """Do what `run_probes` does with any features of frames."""
    prepare_probes(corpus, work, settings)
    eer, of_speaker = probe_speakers(
        features,
        load_set(work, "speakers_train"),
        load_set(work, "speakers_trials"),
        {Path(name).stem: read_trials(corpus / name) for name in settings.data.trials},
        settings.speaker,
        settings.seed,
    )
    log.info("speakers: EER %s", ", ".join(f"{name} {100 * r:.1f} %" for name, r in eer.items()))
    speech, overlap, of_activity = probe_activity(
        features, _splits(work, "conversations"), settings.activity, settings.seed
    )
    log.info("speech: F1 %.3f, overlap: F1 %.3f", speech.f1, overlap.f1)
    words, of_words = probe_words(features, _splits(work, "words"), settings.words, settings.seed)
    log.info("words: %.1f %% right", 100 * words["test"])
    return ProbeScores(
        eer=eer,
        speech=speech,
        overlap=overlap,
        word_accuracy=words["test"],
        word_accuracy_dev=words["dev"],
        layer_shares={"speaker": of_speaker, "activity": of_activity, "words": of_words},
    )


def _splits(work: Path, name: str) -> dict[str, ProbeSet]:
    return {split: load_set(work, f"{name}_{split}") for split in SPLITS}
