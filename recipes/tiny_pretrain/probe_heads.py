"""How small heads on frozen hidden states are trained, and the linear one.

M examples, B of them in a batch, S hidden states, C channels, K classes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.heads.layer_mix import LayerMix

LEAST_DEVIATION = 1e-5
"""Of a channel when it is scaled: one that never changes stays 0."""


class HeadSettings(Settings):
    """How a head is trained."""

    steps: int = Field(1000, ge=1)
    """Updates of the weights."""
    batch: int = Field(256, ge=1)
    """Examples in a batch."""
    learning_rate: float = Field(2e-3, gt=0)
    """Learning rate at the start, of AdamW; it falls linearly to 0."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of AdamW."""


class ScaledClassifier(nn.Module):
    """A linear classifier of the weighted sum of hidden states, each channel scaled beforehand.

    Every channel of every state gets mean 0 and deviation 1 on the training examples, so that one
    learning rate suits all encoders.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, examples: Sequence[Tensor], classes: int) -> None:
        """Take the scale from the training examples, S tensors (M, C)."""
        super().__init__()
        spread = [torch.var_mean(state.float(), dim=0, correction=0) for state in examples]
        deviation = torch.stack([variance for variance, _ in spread]).sqrt()
        self.register_buffer("mean", torch.stack([mean for _, mean in spread]))
        self.register_buffer("deviation", deviation.clamp(min=LEAST_DEVIATION))
        self.mix = LayerMix(len(examples))
        self.linear = nn.Linear(examples[0].shape[1], classes)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Return logits (M, K) of S tensors (M, C)."""
        scaled = [
            (state.float() - mean) / deviation
            for state, mean, deviation in zip(states, self.mean, self.deviation, strict=True)
        ]
        logits: Tensor = self.linear(self.mix(scaled))
        return logits


def layer_shares(mix: LayerMix) -> tuple[float, ...]:
    """Return the weight of each hidden state in the sum, together 1."""
    return tuple(mix.weights.detach().softmax(dim=0).tolist())


def fit_classifier(
    examples: Sequence[Tensor],
    targets: Tensor,
    classes: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: HeadSettings,
    seed: int,
) -> ScaledClassifier:
    """Train on S tensors (M, C); `loss` takes logits (B, K) and the rows of `targets`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        classifier = ScaledClassifier(examples, classes)
    rng = np.random.default_rng(seed)
    fit_head(
        classifier,
        lambda chosen: loss(classifier([state[chosen] for state in examples]), targets[chosen]),
        lambda: rng.integers(len(targets), size=settings.batch),
        settings,
    )
    return classifier


def fit_head(
    head: nn.Module,
    loss: Callable[[Tensor], Tensor],
    draw: Callable[[], NDArray[np.int64]],
    settings: HeadSettings,
) -> None:
    """Train a head: `draw` gives the numbers of a batch's examples, `loss` their loss."""
    optimizer = torch.optim.AdamW(
        head.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, settings.steps)
    for _ in range(settings.steps):
        value = loss(torch.from_numpy(draw()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
