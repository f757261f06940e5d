"""From a recording to its turns: one encoder pass over sliding windows feeds both heads.

B windows of a batch, N samples, T frames of a window, S local speakers, D embedding size,
M active local speakers of all windows together, F frames of the recording, K its speakers.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_meeting.audio.read import open_audio
from wavlm_meeting.audio.windows import Window, iter_windows
from wavlm_meeting.diarization.clustering import cluster, evident_speakers
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.reconstruction import (
    most_active,
    overlap_add,
    restore_silent,
    runs_of,
    smooth,
    speaker_activity,
)
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import AudioError, AudioWarning, SettingsError, SpeakerCountWarning
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.model import WavLM

Source = str | Path | NDArray[np.floating] | Tensor
"""A file, or mono samples (N,) at 16 kHz."""
Progress = Callable[[float, float | None], None]
"""Called with the seconds done and the seconds in all, if known."""

BATCH = 8  # windows in one encoder pass: enough to fill two cores, 13 MB of samples and features


@dataclass(frozen=True)
class LocalSpeakers:
    """What the heads say of one window."""

    start: int
    """First sample of the window."""
    activity: NDArray[np.float32]
    """(T, S) probability that each local speaker is active."""
    embeddings: NDArray[np.float32]
    """(S, D) of unit length."""
    speech_s: NDArray[np.float64]
    """(S,) seconds of speech that each embedding rests on, 0 for who is never active."""


@dataclass
class Heard:
    """All windows of a recording, and its length in samples."""

    local: list[LocalSpeakers]
    samples: int


class DiarizationPipeline:
    """A model ready to say who spoke when, for any number of recordings."""

    def __init__(
        self,
        encoder: WavLM,
        heads: DiarizationHeads,
        settings: DiarizationSettings,
        name: str,
        sha256: str,
    ) -> None:
        self.encoder, self.heads, self.settings = encoder.eval(), heads.eval(), settings
        self.name, self.sha256 = name, sha256

    def __call__(
        self,
        source: Source,
        *,
        channel: int | None = None,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        progress: Progress | None = None,
    ) -> Diarization:
        """Diarize a recording.

        Args:
            source: A file, or mono samples (N,) at 16 kHz.
            channel: Channel of the file to listen to, from 1 on; None mixes all of them.
            num_speakers: Number of speakers, if known.
            min_speakers: Fewest speakers there can be.
            max_speakers: Most speakers there can be.
            progress: Called with the seconds done and the seconds in all, if known.

        Raises:
            AudioError: The recording cannot be read or is shorter than 0.1 s.
            SettingsError: The numbers of speakers contradict each other.
        """
        least, most = speaker_bounds(num_speakers, min_speakers, max_speakers)
        uri = Path(source).stem if isinstance(source, str | Path) else "waveform"
        windows = self.listen(source, channel, progress)
        if not windows.local:
            raise AudioError(f"{uri}: no samples to analyse; give a recording of 0.1 s or more.")
        return self.assemble(uri, windows, least, most)

    def analyse(self, windows: Iterable[Window]) -> Iterator[LocalSpeakers]:
        """Run encoder and heads once over each window."""
        for batch in _batches(windows):
            samples = torch.from_numpy(np.stack([window.samples for window in batch]))
            valid = torch.tensor([window.valid for window in batch])
            whole = bool((valid == samples.shape[1]).all())
            yield from self._pass(batch, samples, None if whole else valid)

    @torch.inference_mode()
    def _pass(
        self, batch: list[Window], samples: Tensor, valid: Tensor | None
    ) -> Iterator[LocalSpeakers]:
        device = self.encoder.mask_embedding.device
        encoded = self.encoder(samples.to(device), None if valid is None else valid.to(device))
        segmentation = self.heads.segmentation
        log_probabilities = segmentation(encoded.hidden_states)  # (B, T, K)
        frames = torch.arange(log_probabilities.shape[1], device=device)
        heard = (frames < encoded.frame_lengths[:, None])[..., None]  # (B, T, 1)
        activity = segmentation.activities(log_probabilities) * heard
        active = segmentation.powerset[log_probabilities.argmax(dim=-1)] * heard  # (B, T, S)
        alone = active * (active.sum(dim=-1, keepdim=True) == 1)
        # Who is never heard alone is described by the frames shared with others.
        masks = torch.where(alone.any(dim=1, keepdim=True), alone, active).transpose(1, 2)
        embeddings = self.heads.embedding(encoded.hidden_states, masks)
        hop_s = self.encoder.config.hop / SAMPLE_RATE
        for row, window in enumerate(batch):
            length = int(encoded.frame_lengths[row])
            yield LocalSpeakers(
                start=window.start,
                activity=activity[row, :length].float().cpu().numpy(),
                embeddings=embeddings[row].float().cpu().numpy(),
                speech_s=masks[row].sum(dim=-1).double().cpu().numpy() * hop_s,
            )

    def listen(
        self, source: Source, channel: int | None = None, progress: Progress | None = None
    ) -> Heard:
        """Run the heads over all windows of a source; parameters are those of a call."""
        if isinstance(source, str | Path):
            with open_audio(source, channel=channel) as reader:
                return self._collect(reader.blocks(), reader.duration_s, progress)
        if channel is not None:
            raise SettingsError("channel picks one of a file's channels: pass mono samples alone.")
        samples = _mono(source)
        return self._collect([samples], len(samples) / SAMPLE_RATE, progress)

    def _collect(
        self,
        blocks: Iterable[NDArray[np.float32]],
        total_s: float | None,
        progress: Progress | None,
    ) -> Heard:
        window, hop = self._sizes()
        heard = Heard([], 0)

        def count(windows: Iterable[Window]) -> Iterator[Window]:
            for item in windows:
                heard.samples = item.start + item.valid
                yield item

        for local in self.analyse(count(iter_windows(blocks, window, hop))):
            heard.local.append(local)
            if progress is not None:
                progress(min(local.start + window, heard.samples) / SAMPLE_RATE, total_s)
        return heard

    def _sizes(self) -> tuple[int, int]:
        """Return window and hop in samples, the hop a whole number of frames."""
        frame = self.encoder.config.hop
        hop = max(1, round(self.settings.hop_s * SAMPLE_RATE / frame)) * frame
        return max(hop, int(self.settings.window_s * SAMPLE_RATE)), hop

    def assemble(self, uri: str, heard: Heard, least: int, most: int | None) -> Diarization:
        """Cluster the local speakers of all windows and put their turns together.

        `least` and `most` bound the number of speakers; equal ones give it.
        """
        settings, local = self.settings, heard.local
        speech_s = np.concatenate([item.speech_s for item in local])
        active = speech_s > 0
        windows = np.repeat(np.arange(len(local)), settings.local_speakers)
        wanted = least == most
        evident = evident_speakers(windows, speech_s, settings.evident_s, settings.evident_share)
        labels = np.full(len(speech_s), -1, np.int64)
        labels[active] = cluster(
            np.concatenate([item.embeddings for item in local])[active],
            windows[active],
            speech_s[active],
            threshold=settings.threshold,
            least_s=settings.least_s,
            least_speaker_s=0.0 if wanted else settings.least_speaker_s,
            evident=min(evident, most or evident),
            evident_threshold=settings.evident_threshold,
            min_speakers=least,
            max_speakers=most,
        )
        by_window = labels.reshape(len(local), -1)
        count = int(labels.max(initial=-1)) + 1
        frame = self.encoder.config.hop
        first = [item.start // frame for item in local]
        parts = [item.activity for item in local], first, list(by_window)
        activity = speaker_activity(*parts, count)
        voices = overlap_add([item.activity.sum(axis=1, keepdims=True) for item in local], first)
        decided = smooth(
            most_active(activity, voices[:, 0], settings.onset),
            round(settings.gap_s * SAMPLE_RATE / frame),
            round(settings.turn_s * SAMPLE_RATE / frame),
        )
        if decided.any(axis=0).sum() < least:
            decided = restore_silent(decided, *parts)
        turns = self._turns(activity, decided, heard.samples)
        found = len({turn.speaker for turn in turns})
        _warn_about(uri, found, least)
        return Diarization(
            uri=uri,
            duration_s=heard.samples / SAMPLE_RATE,
            turns=turns,
            overlaps=self._overlaps(decided, heard.samples),
            model=self.name,
            model_sha256=self.sha256,
        )

    def _turns(
        self, activity: NDArray[np.float32], decided: NDArray[np.bool_], samples: int
    ) -> tuple[Turn, ...]:
        """Name the speakers by their first turn and list all turns by start."""
        runs = sorted(
            (start, end, speaker)
            for speaker in range(decided.shape[1])
            for start, end in runs_of(decided[:, speaker])
        )
        order = list(dict.fromkeys(speaker for _, _, speaker in runs))
        names = {speaker: f"SPEAKER_{number:02d}" for number, speaker in enumerate(order)}
        return tuple(
            Turn(
                *self._seconds(start, end, samples),
                names[speaker],
                round(float(activity[start:end, speaker].mean()), 3),
            )
            for start, end, speaker in runs
        )

    def _overlaps(
        self, decided: NDArray[np.bool_], samples: int
    ) -> tuple[tuple[float, float], ...]:
        return tuple(
            self._seconds(start, end, samples) for start, end in runs_of(decided.sum(axis=1) > 1)
        )

    def _seconds(self, start: int, end: int, samples: int) -> tuple[float, float]:
        """Return the times of frames: each stands for the hop around its centre."""
        config = self.encoder.config
        shift = (config.receptive_field - config.hop) / 2
        edges = [(frame * config.hop + shift) / SAMPLE_RATE for frame in (start, end)]
        first = 0.0 if start == 0 else edges[0]
        return round(first, 3), round(min(edges[1], samples / SAMPLE_RATE), 3)


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


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Group windows for one encoder pass."""
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def _mono(samples: NDArray[np.floating] | Tensor) -> NDArray[np.float32]:
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
