"""A separation head on another encoder than its own, as a start that knows most of it already.

B batch, N samples, T frames of the spectrum, C channels of the features, D width of the head.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.separation.model import SeparationHead
from wavlm_meeting.wavlm.model import WavLM

RIDGE = 1e-4
"""Weight of the ridge, as a share of the features' mean square."""


@torch.inference_mode()
def take_over(
    head: SeparationHead,
    encoder: WavLM,
    other: SeparationHead,
    its_encoder: WavLM,
    heard: Iterable[Tensor],
) -> float:
    """Copy `other` into `head`, and fit what reads the encoder by least squares.

    On waveforms (B, N) the features of `encoder` come as near as a linear map can to what the other
    head makes of its own encoder's. Returns the share of that which is missed. Raises SettingsError
    where the heads differ in more than their encoders, or one hears no encoder.
    """
    if head.features is None or other.features is None:
        raise SettingsError("head: hears the spectrum alone; name one that hears its encoder.")
    own, new = head.state_dict(), dict(other.state_dict())
    bins = head.subsampling * head.bins
    inputs = {"input.weight", "input.bias"}
    kept = {name for name in own if not name.startswith("features.")} - inputs
    if any(name not in new or new[name].shape != own[name].shape for name in kept):
        raise SettingsError("head: is of other sizes than [separation]; make them alike.")
    products, towards, power = torch.zeros(()), torch.zeros(()), 0.0
    for waveforms in heard:
        ours = _features(head, encoder, waveforms)  # (B * T, C + 1)
        theirs = _features(other, its_encoder, waveforms)[:, :-1] @ new["input.weight"][:, bins:].T
        products, towards = products + ours.T @ ours, towards + ours.T @ theirs
        power += float(theirs.square().sum())
    products = products.double()
    ridged = products + RIDGE * products.diagonal().mean() * torch.eye(len(products))
    fitted = torch.linalg.solve(ridged, towards.double())  # (C + 1, D)
    missed = power - float((fitted * (2 * towards - products @ fitted)).sum())
    weight = torch.cat([new["input.weight"][:, :bins], fitted[:-1].T.float()], dim=1)
    taken = {name: new[name] for name in kept}
    taken |= {"input.weight": weight, "input.bias": new["input.bias"] + fitted[-1].float()}
    head.load_state_dict({**own, **taken})
    return missed / power


def _features(head: SeparationHead, encoder: WavLM, waveforms: Tensor) -> Tensor:
    """Return what a head reads of its encoder in every frame, and a constant (B * T, C + 1)."""
    each = head.subsampling
    steps = torch.arange(waveforms.shape[1] // (head.hop * each))
    centres = (steps * each + (each - 1) / 2) * head.hop
    features = head.features(encoder(waveforms).hidden_states, centres)  # type: ignore[misc]
    return torch.nn.functional.pad(features.flatten(0, 1), (0, 1), value=1.0)
