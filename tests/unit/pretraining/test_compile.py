"""Compiled layers give the losses and gradients of the plain ones, those of the bias among them."""

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.config import parse_settings
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingBatch, PretrainingTask

VALUES = {
    "encoder": {
        "conv_layers": [[16, 10, 5], [16, 8, 8], [16, 8, 8]],
        "width": 32, "layers": 2, "heads": 2, "ffn": 48,
        "position_kernel": 16, "position_groups": 2,
        "dropout": 0.0, "attention_dropout": 0.0,
    },
    "objective": {"size": 16},
    "masks": {"span": 4},
    "optimizer": {"bfloat16": False},
}  # fmt: skip


def batch(samples: int) -> PretrainingBatch:
    """Give two utterances, one shorter, with labels."""
    torch.manual_seed(2)
    lengths = torch.tensor([samples, samples // 2])
    waves = torch.randn(2, samples) * (torch.arange(samples) < lengths[:, None])
    frames = parse_settings(VALUES, PretrainingSettings, "here").encoder.frame_count(samples)
    return PretrainingBatch(waves, lengths, [torch.randint(5, (2, frames))], ["a", "b"])


def gradients(task: PretrainingTask, samples: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of a batch and the gradient of every parameter."""
    task.zero_grad()
    torch.manual_seed(3)
    loss = task.losses(batch(samples)).total
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in task.named_parameters()}


def test_compiled_layers_learn_as_plain_ones() -> None:
    """Two lengths, so that the second compiles for varying shapes (PyTorch issue 162228)."""
    plain = PretrainingTask(parse_settings(VALUES, PretrainingSettings, "here"), (5,))
    compiled = PretrainingTask(
        parse_settings({**VALUES, "trainer": {"compile": True}}, PretrainingSettings, "here"), (5,)
    )
    assert compiled.model.encoder.attention == "dense"
    compiled.load_state_dict(plain.state_dict())
    compiled.compile_layers()
    for samples in (16_000, 12_000):
        loss, expected = gradients(plain, samples)
        found_loss, found = gradients(compiled, samples)
        assert found_loss == pytest.approx(loss, rel=1e-5)
        for name, gradient in expected.items():
            assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name
