"""From a recording to the files of its tracks: two without overlap, or one for each person.

B windows of a batch, J tracks, n samples of a block, K speakers.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.audio.read import AudioReader, open_audio
from wavlm_meeting.audio.spool import TrackSpool
from wavlm_meeting.audio.windows import Window, iter_windows
from wavlm_meeting.audio.write import SUBTYPES, Container, TrackForm, form_of, write_tracks
from wavlm_meeting.diarization.heard import Heard
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import (
    DiarizationPipeline,
    Progress,
    batches,
    speaker_bounds,
)
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.errors import AudioWarning, SettingsError
from wavlm_meeting.separation.load import load_separator
from wavlm_meeting.separation.model import TALKERS
from wavlm_meeting.separation.pipeline import SeparationPipeline
from wavlm_meeting.speaker_tracks import Mix, mix_of

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Tracks:
    """What was written of a recording."""

    files: tuple[Path, ...]
    """A file for each track; by speaker in the order of `diarization.speakers`."""
    duration_s: float
    """Length of the recording, and of each of its tracks."""
    gain: float
    """What all tracks were multiplied by: 1 unless one of them would have been clipped."""
    diarization: Diarization | None
    """Who spoke when, if there is a track for each person."""


class TrackWriter:
    """Models ready to write the tracks of any number of recordings.

    With a diarizer there is a track for each person. If both models are one and cut recordings
    alike, the encoder hears each window once.
    """

    def __init__(
        self, separator: SeparationPipeline, diarizer: DiarizationPipeline | None = None
    ) -> None:
        self.separator, self.diarizer = separator, diarizer

        if self.in_one_pass and diarizer is not None:
            separator.encoder = diarizer.encoder  # one of them in memory is enough

    @property
    def in_one_pass(self) -> bool:
        """Whether the encoder's one pass over each window serves both tasks."""
        one, other = self.separator, self.diarizer
        if other is None or one.sizes() != other.sizes():
            return False
        return not one.settings.features or (one.name, one.sha256) == (other.name, other.sha256)

    def __call__(
        self,
        source: str | Path,
        out: str | Path,
        *,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        channel: int | None = None,
        microphones: bool = False,
        clustering: str | None = None,
        min_turn_s: float | None = None,
        min_gap_s: float | None = None,
        faint_db: float | None = None,
        container: Container | None = None,
        progress: Progress | None = None,
    ) -> Tracks:
        """Separate a recording; parameters and errors are those of `separate`.

        The folder `out` must be there, and holds a nameless file meanwhile, as long as the tracks.
        `progress` is called with the seconds done and the seconds in all, if known.
        """
        lengths = (clustering, min_turn_s, min_gap_s, faint_db)
        counts = (num_speakers, min_speakers, max_speakers)
        if self.diarizer is None and any(value is not None for value in (*lengths, *counts)):
            raise SettingsError("what is said of speakers, turns and gaps needs by_speaker=True.")
        stem, out = Path(source).stem, Path(out)
        with (
            open_audio(source, channel=channel) as reader,
            TrackSpool(TALKERS, out, reader.rate) as spool,
        ):
            form = form_of(reader, container)
            if self.diarizer is None:
                _fill(spool, self._stream(reader, channel, microphones), reader, progress)
                return _write(spool, out, stem, form)
            least, most = speaker_bounds(*counts)
            settings = self.diarizer.asked(*lengths)
            with self.diarizer.open_journal(None, source) as journal:
                heard = Heard(journal, 0)
                if self.in_one_pass and not microphones:
                    windows = self._hear(self.diarizer, reader.blocks(), heard)
                    tracks = self.separator.put_together(windows)
                    _fill(spool, tracks, reader, progress)
                else:
                    tracks = self._stream(reader, channel, microphones)
                    _fill(spool, tracks, reader, _half(progress, 0))
                    with warnings.catch_warnings():
                        # Where the recording is damaged, the first pass has said so.
                        warnings.simplefilter("ignore", AudioWarning)
                        heard = self.diarizer.listen(source, channel, _half(progress, 1), journal)
                found = self.diarizer.assemble(stem, heard, least, most, settings)
            return _write_by_speaker(spool, out, found, form)

    def _stream(
        self, reader: AudioReader, channel: int | None, microphones: bool
    ) -> Iterator[Samples]:
        """Separate what a reader gives: one channel, or all of them as microphones."""
        if not microphones:
            return self.separator.stream(reader.blocks())
        reference = 0 if channel is None else channel - 1
        return self.separator.stream(reader.channel_blocks(), reference)

    def _hear(
        self, diarizer: DiarizationPipeline, blocks: Iterable[Samples], heard: Heard
    ) -> Iterator[tuple[Window, Samples]]:
        """Run the encoder once over each window, and both tasks' heads on its hidden states."""
        for batch in batches(iter_windows(blocks, *diarizer.sizes())):
            encoded = diarizer.encode(batch)
            for local in diarizer.local_speakers(batch, encoded):
                heard.local.append(local)
            heard.samples = batch[-1].start + batch[-1].valid
            yield from zip(batch, self.separator.window_tracks(batch, encoded), strict=True)


def _fill(
    spool: TrackSpool, pieces: Iterable[Samples], reader: AudioReader, progress: Progress | None
) -> None:
    """Spool the tracks of a recording, whose reader has been read to its end by then."""
    for piece in pieces:
        spool.append(piece)
        if progress is not None:
            progress(spool.frames / spool.rate, reader.duration_s)
    spool.finish(reader.frames)


def _write(spool: TrackSpool, out: Path, stem: str, form: TrackForm) -> Tracks:
    """Write the tracks as they are."""
    files = tuple(out / f"{stem}_{place + 1}.{form.container}" for place in range(spool.tracks))
    gain = form.gain_for(spool.peak)
    write_tracks(files, spool.blocks(), form, spool.frames, gain)
    return Tracks(files, spool.frames / spool.rate, gain, None)


def _write_by_speaker(spool: TrackSpool, out: Path, found: Diarization, form: TrackForm) -> Tracks:
    """Write a track and the turns of each speaker, and the turns of all."""
    turns = [(turn.start, turn.end, turn.speaker) for turn in found.turns]
    mix = mix_of(turns, found.speakers, spool.blocks(), spool.frames, spool.rate)
    gain = form.gain_for(spool.peak_together)
    if gain < 1:  # as loud as that at most: what it takes is known once the speakers' are mixed
        peaks = (float(np.abs(block).max(initial=0.0)) for block in _mixed(spool, mix))
        gain = form.gain_for(max(peaks, default=0.0))
    names = [f"{found.uri}_{speaker}" for speaker in found.speakers]
    files = tuple(out / f"{name}.{form.container}" for name in names)
    write_tracks(files, _mixed(spool, mix), form, spool.frames, gain)
    for name, speaker in zip(names, found.speakers, strict=True):
        own = tuple(turn for turn in found.turns if turn.speaker == speaker)
        replace(found, uri=name, turns=own).write_rttm(out / f"{name}.rttm")
    found.write_rttm(out / f"{found.uri}.rttm")
    _remove_others(out, found.uri, files)
    return Tracks(files, spool.frames / spool.rate, gain, found)


def _remove_others(out: Path, uri: str, files: tuple[Path, ...]) -> None:
    """Remove speakers' tracks of the same recording that an earlier run left beside `files`.

    Taken for one is what has the name of one, and an RTTM beside it.
    """
    for turns in list(out.iterdir()):
        if re.fullmatch(rf"{re.escape(uri)}_SPEAKER_\d+\.rttm", turns.name) is None:
            continue
        tracks = {turns.with_suffix(f".{container}") for container in SUBTYPES}
        for other in tracks.difference(files):
            other.unlink(missing_ok=True)
        if tracks.isdisjoint(files):
            turns.unlink()


def _mixed(spool: TrackSpool, mix: Mix) -> Iterator[Samples]:
    """Give the speakers' tracks (K, n), block by block."""
    first = 0
    for tracks in spool.blocks():
        yield mix(first, tracks)
        first += tracks.shape[1]


def _half(progress: Progress | None, half: int) -> Progress | None:
    """Return the progress of the first or second pass of two."""
    if progress is None:
        return None

    def report(done_s: float, total_s: float | None) -> None:
        progress(done_s if total_s is None else (done_s + half * total_s) / 2, total_s)

    return report


def load_track_writer(
    model: str = "tiny", device: str = "auto", *, by_speaker: bool = False
) -> TrackWriter:
    """Load a model that separates, and diarizes if there shall be a track for each person.

    Raises CheckpointError if the model is not found or damaged, or has no such heads, DeviceError
    if the device is not there.
    """
    separator = load_separator(model, device)
    return TrackWriter(separator, load_pipeline(model, device) if by_speaker else None)


def separate(
    path: str | Path,
    out: str | Path = Path(),
    model: str = "tiny",
    by_speaker: bool = False,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    channel: int | None = None,
    microphones: bool = False,
    clustering: str | None = None,
    min_turn_s: float | None = None,
    min_gap_s: float | None = None,
    faint_db: float | None = None,
    container: Container | None = None,
    device: str = "auto",
) -> Tracks:
    """Write the tracks of a recording: two without overlap, or one for each person.

    Tracks are as long as the recording, and have its rate, its kind of samples and its loudness;
    what lies above 8 kHz is not in them. They are `<name>_1.wav` and `<name>_2.wav`, or by speaker
    `<name>_SPEAKER_00.wav` and so on, silent where the speaker does not speak, with an RTTM of each
    and `<name>.rttm` of all. Older files are replaced, and tracks of speakers that an earlier call
    found in the recording are removed.

    Args:
        path: A file that soundfile or PyAV reads.
        out: The folder to write to; made if it is not there.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        by_speaker: Whether there is a track for each person; what follows is for that.
        num_speakers: Number of speakers, if known.
        min_speakers: Fewest speakers there can be.
        max_speakers: Most speakers there can be.
        channel: Channel of the file to listen to, from 1 on; None mixes all of them.
        microphones: Whether the channels are microphones of one room, of which beams are formed;
            tracks then sound as in `channel`, or the first.
        clustering: How voices become speakers: agglomerative, vbx or spectral; None is the model's
            own way.
        min_turn_s: Shorter turns are dropped; None is the model's own.
        min_gap_s: Pauses of one speaker up to this length are closed; None is the model's own.
        faint_db: Who is so many dB fainter than the loud speech of the recording is left out,
            infinity keeps everybody; None is the model's own.
        container: Kind of the files, wav or flac; None is the recording's, or else wav.
        device: auto, cpu or cuda.

    Raises:
        AudioError: The recording cannot be read, or the tracks cannot be written.
        CheckpointError: The model cannot be loaded, or lacks the heads for this.
        DeviceError: The device is not there.
        SettingsError: The numbers of speakers contradict each other, or another is out of range.
    """
    writer = load_track_writer(model, device, by_speaker=by_speaker)
    Path(out).mkdir(parents=True, exist_ok=True)
    return writer(
        path,
        out,
        num_speakers=num_speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        channel=channel,
        microphones=microphones,
        clustering=clustering,
        min_turn_s=min_turn_s,
        min_gap_s=min_gap_s,
        faint_db=faint_db,
        container=container,
    )
