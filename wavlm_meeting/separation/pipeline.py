"""From a recording to two tracks: masks over sliding windows, stitched.

B windows of a batch, C microphones, W samples of a window, n samples of a block, N of a recording,
J tracks, T frames, F bins.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_meeting.audio.windows import Window, iter_windows
from wavlm_meeting.errors import AudioError
from wavlm_meeting.separation.beamforming import beamform
from wavlm_meeting.separation.levels import no_louder_than, without_crosstalk
from wavlm_meeting.separation.model import TALKERS, SeparationHead
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.spatial import spatial_masks
from wavlm_meeting.separation.spectra import frame_count, istft, stft
from wavlm_meeting.separation.stitching import Cuts, Stitcher
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.model import EncoderOutput, WavLM

BATCH = 8  # windows in one pass: enough to fill two cores
LOUDEST = 1e6
"""Largest sample, far above integers taken for floats; powers of much larger ones overflow."""

Samples = NDArray[np.float32]


class SeparationPipeline:
    """A model ready to put who talks at the same time on two tracks, for any number of recordings.

    The tracks are heard as one microphone hears them, and as loud; the encoder and the masks listen
    to that one, `reference`, counted from 0. Several microphones form beams. With a head that
    hears the spectrum alone, the encoder is not run.
    """

    def __init__(
        self,
        encoder: WavLM,
        head: SeparationHead,
        settings: SeparationSettings,
        name: str,
        sha256: str,
    ) -> None:
        self.encoder, self.head, self.settings = encoder.eval(), head.eval(), settings
        self.name, self.sha256 = name, sha256

    def separate(self, samples: NDArray[np.floating] | Tensor, reference: int = 0) -> Samples:
        """Return the tracks (J, N) of samples (N,) or (C, N) at 16 kHz.

        Raises AudioError if they are no such samples, or if there is no microphone `reference`.
        """
        heard = _checked(samples)
        pieces = [np.zeros((TALKERS, 0), np.float32), *self.stream([heard], reference)]
        return np.concatenate(pieces, axis=1)

    def stream(
        self, blocks: Iterable[NDArray[np.floating]], reference: int = 0, *, batch: int = BATCH
    ) -> Iterator[Samples]:
        """Yield consecutive pieces (J, n) of the tracks, together as long as the blocks.

        Args:
            blocks: (n,) or (C, n) each, of any length, at 16 kHz.
            reference: The microphone that the tracks are heard with.
            batch: Windows that are run at once. 1 gives each piece as soon as it can be.

        Raises:
            AudioError: A block is no such samples, or beyond all measure, or there is no microphone
                `reference`.
        """
        windows = channel_windows(blocks, *self.sizes())
        groups = iter(lambda: list(islice(windows, batch)), [])
        yield from self.put_together(
            pair
            for group in groups
            for pair in zip(group, self.window_tracks(group, None, reference), strict=True)
        )

    def put_together(self, windows: Iterable[tuple[Window, Samples]]) -> Iterator[Samples]:
        """Yield a piece (J, n) for each window of a recording and its tracks (J, W), in order."""
        stitcher = Stitcher(self._cuts())
        for window, tracks in windows:
            yield stitcher.add(tracks, window.valid, is_last=window.is_last)

    @torch.inference_mode()
    def window_tracks(
        self, windows: Sequence[Window], encoded: EncoderOutput | None = None, reference: int = 0
    ) -> Samples:
        """Return the tracks (B, J, W) of windows, in any order.

        Args:
            windows: Samples (W,) or (C, W) each.
            encoded: What the encoder heard in them, for this task or another; None runs it, if the
                head listens to it.
            reference: The microphone that the tracks are heard with, from 0 on.

        Raises:
            AudioError: There is no microphone `reference`, or samples are beyond all measure.
        """
        device = self.encoder.mask_embedding.device
        stacked = np.stack([item.samples for item in windows])
        if (peak := float(np.abs(stacked).max())) > LOUDEST:
            raise AudioError(
                f"samples are as large as {peak:.1g}: export the recording again, from -1 to 1."
            )
        samples = torch.from_numpy(stacked).to(device)
        samples = samples.reshape(len(windows), -1, samples.shape[-1])  # (B, C, W)
        channels = samples.shape[1]
        if not 0 <= reference < channels:
            raise AudioError(
                f"there is no microphone {reference} among {channels}; count from 0 on."
            )
        valid = [item.valid for item in windows]
        whole = all(count == samples.shape[-1] for count in valid)
        if encoded is None and self.settings.features:
            # A window may end before the encoder's first frame does; it then ends in silence.
            least = self.encoder.config.receptive_field
            lengths = torch.tensor([max(count, least) for count in valid], device=device)
            encoded = self.encoder(samples[:, reference], None if whole else lengths)
        frames = torch.tensor([frame_count(count, self.head.hop) for count in valid], device=device)
        return self._separated(
            samples,
            encoded.hidden_states if encoded is not None else (),
            None if whole else frames,
            reference,
        )

    def sizes(self) -> tuple[int, int]:
        """Return window and hop in samples, the hop a whole number of the encoder's frames."""
        frame = self.encoder.config.hop
        hop = max(1, round(self.settings.current_s * SAMPLE_RATE / frame)) * frame
        return max(hop, int(self.settings.window_s * SAMPLE_RATE)), hop

    @property
    def latency_s(self) -> float:
        """Return how far the tracks are behind the recording, from the second window on."""
        return self._cuts().latency / SAMPLE_RATE

    def _cuts(self) -> Cuts:
        return Cuts.of(*self.sizes(), round(self.settings.history_s * SAMPLE_RATE))

    def _separated(
        self,
        samples: Tensor,
        hidden_states: Sequence[Tensor],
        frame_lengths: Tensor | None,
        reference: int,
    ) -> Samples:
        """Return the tracks (B, J, W) of samples (B, C, W): masked, or beams."""
        fft, hop, length = self.head.fft, self.head.hop, samples.shape[-1]
        spectra = stft(samples, fft, hop)  # (B, C, T, F)
        heard = spectra[:, reference]
        masks: Tensor = self.head(heard, hidden_states, frame_lengths)  # (B, J + 1, T, F)
        if samples.shape[1] > 1:
            masks = spatial_masks(spectra, masks)
        tracks = by_masks = istft(masks[:, :TALKERS] * heard[:, None], length, fft, hop)
        if samples.shape[1] > 1:
            beam = self.settings.beam
            beams = istft(beamform(spectra, masks, reference, beam), length, fft, hop)
            # Wiener's beams and masks aim at the same, and err in unlike ways.
            mean = (beams + by_masks) / 2
            tracks = mean if beam == "wiener" else no_louder_than(beams, by_masks)
        found: Samples = without_crosstalk(tracks, by_masks).cpu().numpy()
        return found


def channel_windows(
    blocks: Iterable[NDArray[np.floating]], window: int, hop: int
) -> Iterator[Window]:
    """Cut blocks (n,) or (C, n) into windows (C, W), as `iter_windows` does.

    Raises AudioError if a block is no samples, or has other channels than the first.
    """
    arrays = map(_checked, blocks)
    first = next(arrays, None)
    if first is None:
        return
    channels = len(first)

    def interleaved() -> Iterator[Samples]:
        yield first.T.reshape(-1)
        for block in arrays:
            if len(block) != channels:
                raise AudioError(
                    f"a block has {len(block)} channels after one of {channels}; give all alike."
                )
            yield block.T.reshape(-1)

    for item in iter_windows(interleaved(), window * channels, hop * channels):
        samples = np.ascontiguousarray(item.samples.reshape(window, channels).T)
        yield Window(item.start // channels, samples, item.valid // channels, item.is_last)


def _checked(samples: NDArray[np.floating] | Tensor) -> Samples:
    """Return samples (N,) or (C, N) as float32 (C, N); raises AudioError if they are none."""
    array = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    if array.ndim not in {1, 2} or (array.ndim == 2 and not len(array)):
        raise AudioError(f"samples have the shape {array.shape}: give (N,) or (C, N) at 16 kHz.")
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"samples are {array.dtype}: give floats from -1 to 1.")
    if not np.isfinite(array).all():
        raise AudioError("samples hold NaN or infinity: repair the recording first.")
    return np.atleast_2d(array).astype(np.float32, copy=False)
