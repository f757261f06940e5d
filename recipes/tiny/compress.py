"""Stage `train` of a round that makes the model before it smaller, on conversations of training.

B batch, N samples.
"""

import logging
from pathlib import Path

import soundfile

from wavlm_meeting.diarization.task import Batch
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.data import WindowBatches
from wavlm_meeting.recipes.tiny.settings import CompressSettings, TinySettings
from wavlm_meeting.training.compression import compress
from wavlm_meeting.units import SAMPLE_RATE

HEARD = "conversations"
"""Folder of what it listens to, within that of the round."""
COMPRESSED = "compression"
"""Folder of the distillations and of the bundle that they leave."""

log = logging.getLogger(__name__)


def compress_round(
    work: Path, folder: Path, settings: TinySettings, chosen: CompressSettings, start: Path
) -> None:
    """Prune the bundle `start` and teach it again; what is done is left as it is.

    Raises what `compress` raises, and SettingsError if the stage `prepare` has not run.
    """
    _render(work, folder / HEARD, settings, chosen.batches)
    found = compress(
        str(start), chosen.share, folder / HEARD, folder / COMPRESSED, chosen.distillation
    )
    log.info("train: compressed to %d of %d parameters", found.after, found.before)


def compressed(folder: Path) -> Path:
    """Return where a round's compressed bundle is, or will be."""
    return folder / COMPRESSED / "model"


def _render(work: Path, heard: Path, settings: TinySettings, batches: int) -> None:
    """Write the windows of each batch as recordings, those in a row as one; they are kept."""
    last = heard / f"{batches - 1:05d}-00000.wav"
    if last.exists():
        return
    collection = load_collection(work, "train")
    drawn = WindowBatches(
        collection,
        settings.data,
        settings.encoder,
        settings.diarization.local_speakers,
        settings.seed,
    )
    heard.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(map(drawn.batch, range(batches))):
        if not isinstance(batch, Batch):
            continue  # only plans for a GPU are something else
        windows = batch.waveforms  # (B, N)
        rows = windows.reshape(len(windows) // settings.data.in_a_row, -1)
        for row, samples in reversed([*enumerate(rows.clamp(-1, 1).numpy())]):
            with atomic_write(heard / f"{number:05d}-{row:05d}.wav") as path:
                soundfile.write(path, samples, SAMPLE_RATE, "PCM_16", format="WAV")
    log.info("train: %d batches of conversations to listen to", batches)
