"""Sizes of the diarization heads and how a recording is cut, clustered and put together."""

from pydantic import Field

from wavlm_meeting.config import Settings


class DiarizationSettings(Settings):
    """What a bundle's card says under `[heads.diarization]`."""

    local_speakers: int = Field(4, ge=1)
    """Speakers that can be told apart within one window."""
    at_once: int = Field(2, ge=1)
    """Speakers that can be active in the same frame of a window."""
    segmentation_hidden: int = Field(128, ge=1)
    """Width of the segmentation head."""
    embedding_hidden: int = Field(384, ge=1)
    """Width of the frame features that are pooled to an embedding."""
    embedding_size: int = Field(192, ge=1)
    """Size of a speaker embedding."""
    window_s: float = Field(10.0, gt=0)
    """Length of a window."""
    hop_s: float = Field(5.0, gt=0)
    """From the start of one window to the start of the next."""
    threshold: float = Field(0.6, gt=0, lt=2)
    """Cosine distance, averaged between two groups of voices, up to which they are one speaker."""
    least_s: float = Field(1.0, ge=0)
    """Speech alone that an embedding needs to found a group; the others join the nearest one."""
    least_speaker_s: float = Field(2.0, ge=0)
    """Speech that a group needs to be a speaker, unless a number of speakers was asked for."""
    evident_s: float = Field(0.8, gt=0)
    """Speech alone that a local speaker needs to be evidence of how many speakers there are."""
    evident_share: float = Field(0.1, gt=0, le=1)
    """Share of the windows with speech in which so many local speakers show that there are."""
    evident_threshold: float = Field(0.4, gt=0, lt=2)
    """Distance up to which two groups are one speaker even where the windows show more of them."""
    onset: float = Field(0.5, gt=0, lt=1)
    """Expected number of voices from which on there is one; 1 more for two, and so on."""
    gap_s: float = Field(0.2, ge=0)
    """Pauses of one speaker up to this length are closed."""
    turn_s: float = Field(0.1, ge=0)
    """Turns shorter than this are dropped."""

    def head_sizes(self) -> dict[str, int]:
        """Return the sizes that `DiarizationHeads` is built from."""
        return {
            "local_speakers": self.local_speakers,
            "at_once": self.at_once,
            "segmentation_hidden": self.segmentation_hidden,
            "embedding_hidden": self.embedding_hidden,
            "embedding_size": self.embedding_size,
        }
