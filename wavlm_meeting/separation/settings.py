"""Sizes of the separation head, and how a recording is cut into windows."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings


class SeparationSettings(Settings):
    """What a bundle's card says under `[heads.separation]`.

    Defaults are those of the WavLM paper (arXiv 2110.13900, section V-C) and its released code.
    """

    features: bool = True
    """Whether the head reads the encoder's hidden states beside the spectrum; without them no
    encoder is run."""
    fft: int = Field(512, ge=4, multiple_of=2)
    """Samples in a frame of the spectrum."""
    hop: int = Field(256, ge=1)
    """Samples from one frame of the spectrum to the next."""
    subsampling: int = Field(1, ge=1)
    """Frames of the spectrum that are one of the Conformer's; 2 halves what it costs."""
    layers: int = Field(16, ge=1)
    """Conformer blocks."""
    width: int = Field(256, ge=1)
    """Channels of these blocks."""
    heads: int = Field(4, ge=1)
    """Their attention heads."""
    ffn: int = Field(1024, ge=1)
    """Width of their feed-forward parts."""
    kernel: int = Field(33, ge=1)
    """Frames that their convolutions see; an odd number."""
    beam: Literal["wiener", "mvdr"] = "wiener"
    """What several microphones form: the mean of masks and beams of the least error, or
    minimum variance without distortion, as in Chen et al. (arXiv 2008.05773)."""
    window_s: float = Field(2.4, gt=0)
    """Length of a window."""
    history_s: float = Field(1.2, ge=0)
    """Part of a window that was given out before: by it the tracks of windows are put in order."""
    future_s: float = Field(0.4, ge=0)
    """Part of a window that is looked at and not given out yet."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.current_s <= 0:
            message = (
                f"window_s {self.window_s:g} must exceed history_s and future_s together, "
                f"{self.history_s + self.future_s:g}"
            )
            raise ValueError(message)
        if self.width % self.heads:
            message = f"width {self.width} is not a multiple of heads {self.heads}"
            raise ValueError(message)
        if self.kernel % 2 == 0:
            message = f"kernel {self.kernel} is even; make it odd, so that it has a middle"
            raise ValueError(message)
        if 2 * self.hop > self.fft:
            message = f"hop {self.hop} leaves less than half of fft {self.fft} to overlap"
            raise ValueError(message)
        return self

    @property
    def current_s(self) -> float:
        """Return the part of a window that is given out: the hop from one window to the next."""
        return self.window_s - self.history_s - self.future_s

    def head_sizes(self) -> dict[str, Any]:
        """Return the sizes that the head is built from, but for the encoder's."""
        return {
            "fft": self.fft,
            "hop": self.hop,
            "subsampling": self.subsampling,
            "conformer_layers": self.layers,
            "hidden": self.width,
            "attention_heads": self.heads,
            "ffn": self.ffn,
            "kernel": self.kernel,
        }
