"""The Conformer against torchaudio's, and what padding may not change."""

import pytest
import torch
from torch import nn

from wavlm_meeting.heads.conformer import Conformer

# B batch, T frames, C channels


def copied_from(theirs: nn.Module, layers: int) -> Conformer:
    """Return a Conformer with the weights of torchaudio's."""
    ours = Conformer(layers, 16, heads=4, ffn=24, kernel=7)
    state = {}
    for number in range(layers):
        block, own = theirs.conformer_layers[number], f"blocks.{number}"
        for name, step in (("first", block.ffn1), ("second", block.ffn2)):
            for part, index in (("norm", 0), ("hidden", 1), ("output", 4)):
                state |= _under(f"{own}.{name}.{part}", step.sequential[index])
        state |= _under(f"{own}.attention.norm", block.self_attn_layer_norm)
        state |= _under(f"{own}.attention.output", block.self_attn.out_proj)
        weights = block.self_attn.in_proj_weight.chunk(3)
        biases = block.self_attn.in_proj_bias.chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            state[f"{own}.attention.{part}.weight"] = weight
            state[f"{own}.attention.{part}.bias"] = bias
        convolution = block.conv_module
        state |= _under(f"{own}.convolution.norm", convolution.layer_norm)
        for part, index in (("gated", 0), ("depthwise", 2), ("batch_norm", 3), ("output", 5)):
            state |= _under(f"{own}.convolution.{part}", convolution.sequential[index])
        state |= _under(f"{own}.norm", block.final_layer_norm)
    for name in state:
        if name.endswith(("gated.weight", "convolution.output.weight")):
            state[name] = state[name][..., 0]
    ours.load_state_dict(state)
    return ours


def _under(name: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def test_it_is_the_conformer_of_torchaudio() -> None:
    """Equal weights give equal outputs, statistics of the batch norm and lengths included."""
    models = pytest.importorskip("torchaudio.models")
    torch.manual_seed(0)
    theirs = models.Conformer(16, 4, 24, 2, 7)
    x, lengths = torch.randn(3, 20, 16), torch.tensor([20, 20, 20])
    theirs.train()
    theirs(x, lengths)  # moves the running statistics away from 0 and 1
    theirs.eval()
    ours = copied_from(theirs, 2).eval()
    torch.testing.assert_close(ours(x), theirs(x, lengths)[0], rtol=1e-5, atol=1e-5)


def test_a_batch_of_lengths_gives_what_each_gives_alone() -> None:
    """Frames past the end change nothing before it."""
    torch.manual_seed(0)
    model = Conformer(2, 16, ffn=32, kernel=7).eval()
    x, lengths = torch.randn(3, 20, 16), torch.tensor([20, 13, 5])
    together = model(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(x[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :length], alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns() -> None:
    """Each takes part in the output."""
    model = Conformer(2, 16, ffn=32, kernel=7)
    model(torch.randn(2, 10, 16))[..., 3].sum().backward()
    # What is added before a softmax over keys, or before a norm over the batch, cannot show.
    hidden = ("key.bias", "depthwise.bias")
    for name, parameter in model.named_parameters():
        if not name.endswith(hidden):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
