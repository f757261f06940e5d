"""Sizes of the diarization heads and how a recording is cut, clustered and put together."""

from typing import Any, Literal

from pydantic import Field

from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.clustering import ClusteringSettings
from wavlm_meeting.diarization.confidence import ConfidenceSettings


class DiarizationSettings(Settings):
    """What a bundle's card says under `[heads.diarization]`."""

    form: Literal["powerset", "eend-vc"] = "powerset"
    """Classes of who is active at once, and embeddings of their frames; or EEND with vector
    clustering, whose one Transformer gives both."""
    local_speakers: int = Field(4, ge=1)
    """Speakers that can be told apart within one window."""
    at_once: int = Field(2, ge=1)
    """Speakers that can be active in the same frame of a window."""
    segmentation_hidden: int = Field(128, ge=1)
    """Width of the segmentation head."""
    segmentation_layers: int = Field(0, ge=0)
    """Conformer blocks of the segmentation head; 0 is a head without context of its own."""
    segmentation_ffn: int = Field(512, ge=1)
    """Width of their feed-forward parts."""
    embedding_hidden: int = Field(384, ge=1)
    """Width of the frame features that are pooled to an embedding."""
    embedding_size: int = Field(192, ge=1)
    """Size of a speaker embedding."""
    target_width: int = Field(0, ge=0)
    """Width of the target-speaker head, which decides frames anew by the voices; 0 is none."""
    target_layers: int = Field(2, ge=1)
    """Blocks of the target-speaker head."""
    target_stretch_s: float = Field(12.0, gt=0)
    """Length of what that head hears at a time; half of it, it has heard before."""
    target_share: float = Field(0.5, ge=0, le=1)
    """Weight of its probabilities beside those of the windows."""
    transformer_hidden: int = Field(256, ge=1)
    """Width of the Transformer of `eend-vc`."""
    transformer_layers: int = Field(6, ge=1)
    """Its layers."""
    transformer_heads: int = Field(8, ge=1)
    """Its attention heads."""
    transformer_ffn: int = Field(1024, ge=1)
    """Width of its feed-forward parts."""
    subsampling: int = Field(1, ge=1)
    """Frames of the encoder that are one of its; 2 makes WavLM's 20 ms 40."""
    window_s: float = Field(10.0, gt=0)
    """Length of a window."""
    hop_s: float = Field(5.0, gt=0)
    """From the start of one window to the start of the next."""
    clustering: ClusteringSettings = ClusteringSettings()
    """Which local speakers of all windows are one person."""
    confidence: ConfidenceSettings = ConfidenceSettings()
    """How sure turns are."""
    onset: float = Field(0.5, gt=0, lt=1)
    """Expected number of voices from which on there is one; 1 more for two, and so on."""
    faint_db: float = Field(30.0, gt=0)
    """Who is so many dB fainter in a window than the loud speech of the recording is not there:
    people next door. `inf` keeps everybody."""
    gap_s: float = Field(0.2, ge=0)
    """Pauses of one speaker up to this length are closed."""
    turn_s: float = Field(0.1, ge=0)
    """Turns shorter than this are dropped."""

    def head_sizes(self) -> dict[str, Any]:
        """Return the sizes that the heads of this form are built from."""
        if self.form == "eend-vc":
            return {
                "local_speakers": self.local_speakers,
                "hidden": self.transformer_hidden,
                "transformer_layers": self.transformer_layers,
                "attention_heads": self.transformer_heads,
                "ffn": self.transformer_ffn,
                "embedding_size": self.embedding_size,
                "subsampling": self.subsampling,
            }
        return {
            "local_speakers": self.local_speakers,
            "at_once": self.at_once,
            "segmentation_hidden": self.segmentation_hidden,
            "segmentation_layers": self.segmentation_layers,
            "segmentation_ffn": self.segmentation_ffn,
            "embedding_hidden": self.embedding_hidden,
            "embedding_size": self.embedding_size,
            "target_width": self.target_width,
            "target_layers": self.target_layers,
        }
