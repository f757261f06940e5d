"""The objective of joint training asks nothing of a batch that a GPU would be waited for."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.target_speaker import rows_of
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("lightning", reason="training needs the extra 'train'")
from wavlm_meeting.diarization.task import Batch, DiarizationTask, Sizes, TaskSettings

ENCODER = WavLMConfig(
    conv_layers=((8, 400, 160), (8, 4, 4)), frontend_norm="layer", width=32, layers=2, heads=2
)
ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique")
"""Operators whose result, or its size, the host has to know."""


def task(sizes: Sizes | None = None, class_weight: float = 0.0) -> DiarizationTask:
    """Return a small one, with all heads."""
    torch.manual_seed(0)
    heads = DiarizationHeads(2, 32, segmentation_layers=1, segmentation_ffn=32, target_width=16)
    settings = TaskSettings(least_speech=5, linking_weight=1.0, class_weight=class_weight)
    made = DiarizationTask(WavLM(ENCODER, attention="dense"), heads, 4, settings)
    made.sizes = sizes
    return made


def batch() -> Batch:
    """Return two conversations of three windows: two speakers in one, three in the other."""
    drawn = torch.Generator().manual_seed(1)
    frames = ENCODER.frame_count(32_000)
    activities = torch.zeros(6, frames, 4)
    voices = torch.full((6, 4), -1)
    for window in range(6):
        speakers = 2 if window < 3 else 3
        order = torch.randperm(speakers, generator=drawn)
        for slot, voice in enumerate(order.tolist()):
            activities[window, 10 * slot : 10 * slot + 14, slot] = 1
            voices[window, slot] = voice
    return Batch(
        torch.randn(6, 32_000, generator=drawn) * 0.05,
        activities,
        torch.where(voices >= 0, voices, -1),
        torch.randn(6, 4, 256, generator=drawn) * (voices >= 0)[..., None],
        voices,
        torch.arange(6) // 3,
    )


def losses(made: DiarizationTask) -> dict[str, Tensor]:
    """Return all losses on the batch, with equal draws."""
    torch.manual_seed(2)
    return made.losses(batch())


def test_sizes_that_are_given_are_those_that_are_found() -> None:
    """The losses are the same, and so they are without speaker classes but for those."""
    found, given = losses(task()), losses(task(Sizes(3, 3)))
    assert found == given
    classes = losses(task(class_weight=0.1))
    assert classes["classes"] > 0
    assert {**classes, "classes": found["classes"]} == found


class Asked(TorchDispatchMode):
    """Notes operators that a host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        chosen = args[1] if "index" in str(func) and len(args) > 1 else ()
        masks = isinstance(chosen, (list, tuple)) and any(
            isinstance(each, Tensor) and each.dtype == torch.bool for each in chosen
        )
        if masks or any(name in str(func) for name in ASKING):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sizes given, and rows as they are on a GPU, neither pass asks for a value."""
    with Asked() as asked:
        losses(task())
    assert asked.names
    monkeypatch.setattr(
        "wavlm_meeting.diarization.target_speaker.rows_of",
        lambda known, **_: rows_of(known, fixed=True),
    )
    made = task(Sizes(3, 3))
    with Asked() as asked:
        made.weighted(losses(made)).backward()
    assert asked.names == []
