"""From a recording to its turns: one encoder pass over sliding windows feeds both heads.

B windows of a batch, N samples, T frames of a window, S local speakers, D embedding size,
F frames of the recording, K its speakers.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_meeting.audio.read import open_audio
from wavlm_meeting.audio.windows import Window, iter_windows
from wavlm_meeting.checkpoints.precision import Precision
from wavlm_meeting.config import merged, parse_settings
from wavlm_meeting.diarization.assembly import active_voices, blocks_of, decide, parts_of
from wavlm_meeting.diarization.clustering import cluster
from wavlm_meeting.diarization.confidence import calibrated
from wavlm_meeting.diarization.faintness import Audible, speech_levels
from wavlm_meeting.diarization.heard import Heard, LocalSpeakers, Windows
from wavlm_meeting.diarization.journal import Journal, Shape, fingerprint, open_journal
from wavlm_meeting.diarization.model import Heads
from wavlm_meeting.diarization.reconstruction import restore_silent, smooth
from wavlm_meeting.diarization.refinement import (
    blended,
    central_audible,
    central_features,
    refined_blocks,
    speaker_voices,
)
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.diarization.turns import FrameTimes, Likeness, one_at_a_time, turns_of
from wavlm_meeting.errors import AudioError, AudioWarning, SettingsError, SpeakerCountWarning
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.model import EncoderOutput, WavLM

Source = str | Path | NDArray[np.floating] | Tensor
"""A file, or mono samples (N,) at 16 kHz."""
Progress = Callable[[float, float | None], None]
"""Called with the seconds done and the seconds in all, if known."""

BATCH = 8  # windows in one encoder pass: enough to fill two cores, 13 MB of samples and features


class DiarizationPipeline:
    """A model ready to say who spoke when, for any number of recordings."""

    def __init__(
        self,
        encoder: WavLM,
        heads: Heads,
        settings: DiarizationSettings,
        name: str,
        sha256: str,
    ) -> None:
        self.encoder, self.heads, self.settings = encoder.eval(), heads.eval(), settings
        self.name, self.sha256 = name, sha256
        self.precision: Precision = "float32"

    def __call__(
        self,
        source: Source,
        *,
        channel: int | None = None,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        clustering: str | None = None,
        exclusive: bool = False,
        min_turn_s: float | None = None,
        min_gap_s: float | None = None,
        faint_db: float | None = None,
        progress: Progress | None = None,
        journal: Path | None = None,
    ) -> Diarization:
        """Diarize a recording; memory hardly grows with its length.

        Args:
            source: A file, or mono samples (N,) at 16 kHz.
            channel: Channel of the file to listen to, from 1 on; None mixes all of them.
            num_speakers: Number of speakers, if known.
            min_speakers: Fewest speakers there can be.
            max_speakers: Most speakers there can be.
            clustering: How voices become speakers: agglomerative, vbx or spectral; None is the
                model's own way.
            exclusive: Whether to name one speaker at a time, the most probable one.
            min_turn_s: Shorter turns are dropped; None is the model's own.
            min_gap_s: Pauses of one speaker up to this length are closed; None is the model's own.
            faint_db: Who is so many dB fainter than the loud speech of the recording is left out,
                infinity keeps everybody; None is the model's own.
            progress: Called with the seconds done and the seconds in all, if known.
            journal: Where to keep what was heard, so that a call that is cut short can go on from
                there; one that is about something else is begun anew. Yours to remove.

        Raises:
            AudioError: The recording cannot be read or is shorter than 0.1 s.
            SettingsError: The numbers of speakers contradict each other, or another is out of
                range.
        """
        settings = self.asked(clustering, min_turn_s, min_gap_s, faint_db)
        least, most = speaker_bounds(num_speakers, min_speakers, max_speakers)
        uri = Path(source).stem if isinstance(source, str | Path) else "waveform"
        with self.open_journal(journal, source, channel) as windows:
            heard = self.listen(source, channel, progress, windows)
            if not len(windows):
                raise AudioError(f"{uri}: nothing to analyse; give a recording of 0.1 s or more.")
            return self.assemble(uri, heard, least, most, settings, exclusive=exclusive)

    def asked(
        self,
        clustering: str | None = None,
        min_turn_s: float | None = None,
        min_gap_s: float | None = None,
        faint_db: float | None = None,
    ) -> DiarizationSettings:
        """Return the settings with what a call asks for; raises SettingsError if it cannot be."""
        asked = {"turn_s": min_turn_s, "gap_s": min_gap_s}
        for name, value in asked.items():
            if value is not None and not 0 <= value < float("inf"):
                raise SettingsError(f"min_{name} is {value}: give 0 or more seconds.")
        if faint_db is not None and not faint_db > 0:
            raise SettingsError(f"faint_db is {faint_db}: give more than 0 dB.")
        asked["faint_db"] = faint_db
        values = {name: value for name, value in asked.items() if value is not None}
        method = {} if clustering is None else {"clustering": {"method": clustering}}
        above = merged(self.settings.model_dump(), {**values, **method})
        return parse_settings(above, DiarizationSettings, "diarize")

    def analyse(self, windows: Iterable[Window]) -> Iterator[LocalSpeakers]:
        """Run encoder and heads once over each window."""
        for batch in batches(windows):
            yield from self.local_speakers(batch, self.encode(batch))

    @torch.inference_mode()
    def encode(self, batch: Sequence[Window]) -> EncoderOutput:
        """Run the encoder alone on windows, for this task and any other."""
        device = self.encoder.mask_embedding.device
        samples = torch.from_numpy(np.stack([window.samples for window in batch])).to(device)
        valid = torch.tensor([window.valid for window in batch])
        whole = bool((valid == samples.shape[1]).all())
        encoded: EncoderOutput = self.encoder(samples, None if whole else valid.to(device))
        return encoded

    @torch.inference_mode()
    def local_speakers(
        self, batch: Sequence[Window], encoded: EncoderOutput
    ) -> Iterator[LocalSpeakers]:
        """Run the heads alone on windows that `encode` has heard."""
        local = self.heads.local(encoded.hidden_states, encoded.frame_lengths)
        activity, embeddings = _kept(local.activity), _kept(local.embeddings)
        features = None if local.features is None else _kept(local.features)
        lengths = encoded.frame_lengths.tolist()
        masks = local.masks.float().cpu().numpy()
        masked = masks.sum(axis=-1, dtype=np.float64)  # (B, S)
        config = self.encoder.config
        first = (config.receptive_field - config.hop) // 2
        for row, window in enumerate(batch):
            yield LocalSpeakers(
                start=window.start,
                activity=activity[row, : lengths[row]],
                embeddings=embeddings[row],
                speech_s=masked[row] * config.hop / SAMPLE_RATE,
                levels=speech_levels(window.samples, masks[row], config.hop, first),
                features=None if features is None else features[row, : lengths[row]],
            )

    def open_journal(
        self, path: Path | None, source: Source, channel: int | None = None
    ) -> Journal:
        """Open the journal of a recording: at `path`, or one that is gone when closed.

        What this model heard of the recording before is in it, as whole batches.
        """
        window, hop = self.sizes()
        shape = Shape(
            frames=self.encoder.config.frame_count(window),
            speakers=self.settings.local_speakers,
            embedding=self.settings.embedding_size,
            features=self.settings.target_width if self.heads.target is not None else 0,
        )
        about: dict[str, object] = {}
        if path is not None:
            sizes = {"window": window, "hop": hop, "precision": self.precision}
            model = {"model": self.name, "sha256": self.sha256, **sizes}
            known = source if isinstance(source, str | Path) else mono_samples(source)
            about = {**model, "channel": channel, "recording": fingerprint(known)}
        journal = open_journal(path, shape, about)
        journal.keep(len(journal) - len(journal) % BATCH)
        return journal

    def listen(
        self,
        source: Source,
        channel: int | None = None,
        progress: Progress | None = None,
        local: Windows | None = None,
    ) -> Heard:
        """Run the heads over all windows of a source; `local` takes them, None is a new list.

        The windows that `local` has already are read and not heard again. The other parameters are
        those of a call.
        """
        heard = Heard([] if local is None else local, 0)
        if isinstance(source, str | Path):
            with open_audio(source, channel=channel) as reader:
                self._collect(heard, reader.blocks(), reader.duration_s, progress)
            return heard
        if channel is not None:
            raise SettingsError("channel picks one of a file's channels: pass mono samples alone.")
        samples = mono_samples(source)
        self._collect(heard, [samples], len(samples) / SAMPLE_RATE, progress)
        return heard

    def _collect(
        self,
        heard: Heard,
        blocks: Iterable[NDArray[np.float32]],
        total_s: float | None,
        progress: Progress | None,
    ) -> None:
        window, hop = self.sizes()

        def count(windows: Iterable[Window]) -> Iterator[Window]:
            for item in windows:
                heard.samples = item.start + item.valid
                yield item

        windows = count(iter_windows(blocks, window, hop))
        for local in self.analyse(islice(windows, len(heard.local), None)):
            heard.local.append(local)
            if progress is not None:
                progress(min(local.start + window, heard.samples) / SAMPLE_RATE, total_s)

    def sizes(self) -> tuple[int, int]:
        """Return window and hop in samples, the hop a whole number of frames."""
        frame = self.encoder.config.hop
        hop = max(1, round(self.settings.hop_s * SAMPLE_RATE / frame)) * frame
        return max(hop, int(self.settings.window_s * SAMPLE_RATE)), hop

    def assemble(
        self,
        uri: str,
        heard: Heard,
        least: int,
        most: int | None,
        settings: DiarizationSettings | None = None,
        *,
        exclusive: bool = False,
    ) -> Diarization:
        """Cluster the local speakers of all windows and put their turns together.

        `least` and `most` bound the number of speakers; equal ones give it. `settings` are the
        model's own if None. `exclusive` names one speaker at a time.
        """
        settings, frame = settings or self.settings, self.encoder.config.hop
        local, size = Audible(heard.local, settings.faint_db), settings.embedding_size
        voices = active_voices(local, settings.local_speakers, size, frame)
        clusters = cluster(
            voices.embeddings,
            voices.windows,
            voices.speech_s,
            settings.clustering,
            min_speakers=least,
            max_speakers=most,
        )
        count = int(clusters.labels.max(initial=-1)) + 1
        speakers = voices.speakers(clusters.labels, (len(local), settings.local_speakers))
        blocks = blocks_of(parts_of(local, speakers, frame), count)
        if self.heads.target is not None and settings.target_share and count:
            known = speaker_voices(voices.embeddings, clusters.labels, voices.speech_s, count)
            stretch = round(settings.target_stretch_s * SAMPLE_RATE / frame)
            features = central_features(local, frame)
            refined = refined_blocks(self.heads.target, features, known, stretch)
            audible = central_audible(local, frame)
            blocks = blended(blocks, refined, settings.target_share, audible)
        activity, active = decide(blocks, voices.frames, count, settings.onset)
        least_frames = round(settings.turn_s * SAMPLE_RATE / frame)
        decided = smooth(active, round(settings.gap_s * SAMPLE_RATE / frame), least_frames)
        if decided.any(axis=0).sum() < least:
            decided = restore_silent(decided, parts_of(local, speakers, frame))
        shared = decided.sum(axis=1) > 1
        times = FrameTimes(frame, self.encoder.config.receptive_field, heard.samples)
        likeness = Likeness(
            voices.embeddings,
            clusters.labels,
            voices.speech_s,
            voices.first_frames,
            self.encoder.config.frame_count(self.sizes()[0]),
        )
        named = one_at_a_time(activity, decided, least_frames) if exclusive else decided
        turns = turns_of(activity, named, shared, times, likeness)
        _warn_about(uri, len({turn.speaker for turn in turns}), least)
        found = Diarization(
            uri=uri,
            duration_s=heard.samples / SAMPLE_RATE,
            turns=turns,
            overlaps=times.stretches(shared),
            model=self.name,
            model_sha256=self.sha256,
            speaker_counts=clusters.counts,
        )
        return calibrated(found, settings.confidence)


def speaker_bounds(
    num_speakers: int | None, min_speakers: int | None, max_speakers: int | None
) -> tuple[int, int | None]:
    """Return the fewest and the most speakers; raises SettingsError if they contradict."""
    for name, value in (
        ("num_speakers", num_speakers),
        ("min_speakers", min_speakers),
        ("max_speakers", max_speakers),
    ):
        if value is not None and value < 1:
            raise SettingsError(f"{name} is {value}: give 1 or more.")
    if num_speakers is not None:
        if min_speakers is not None or max_speakers is not None:
            raise SettingsError("give either num_speakers or min_speakers and max_speakers.")
        return num_speakers, num_speakers
    least = min_speakers or 1
    if max_speakers is not None and max_speakers < least:
        raise SettingsError(f"min_speakers {least} exceeds max_speakers {max_speakers}: swap them.")
    return least, max_speakers


def _warn_about(uri: str, found: int, least: int) -> None:
    if not found:
        warnings.warn(f"{uri}: no speech found.", AudioWarning, stacklevel=4)
    elif found < least:
        message = f"{uri}: {least} speakers were asked for, the recording carries {found}."
        warnings.warn(message, SpeakerCountWarning, stacklevel=4)


def batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Group windows for one encoder pass."""
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def _kept(values: Tensor) -> NDArray[np.float32]:
    """Return values as a journal keeps them, so that a result does not depend on one."""
    return values.half().cpu().numpy().astype(np.float32)


def mono_samples(samples: NDArray[np.floating] | Tensor) -> NDArray[np.float32]:
    """Check samples (N,) and return them as float32."""
    array = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 1:
        raise AudioError(f"samples have the shape {array.shape}: give mono samples (N,) at 16 kHz.")
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"samples are {array.dtype}: give floats from -1 to 1.")
    if len(array) < SAMPLE_RATE // 10:
        raise AudioError(f"{len(array)} samples are shorter than 0.1 s: give more.")
    if not np.isfinite(array).all():
        raise AudioError("samples hold NaN or infinity: repair the recording first.")
    return array.astype(np.float32)
