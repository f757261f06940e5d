"""Several microphones: a beam towards each talker, from the masks.

B batch (any leading shape), C microphones, J talkers, T frames, F bins.
"""

from typing import Literal

import torch
from torch import Tensor

LOADING = 1e-5
"""Diagonal loading, as a share of the trace: how far the estimates of short windows are trusted."""
FLOOR = 0.03
"""Least interference for MVDR, from everywhere, as a share of the talker: what lies below is mostly
the talker's own sound, and whoever suppresses that has 1/C of it left."""
SMALLEST = 1e-30
"""Added where silence would divide by zero; far below the power of any sound."""


def beamform(
    spectra: Tensor,
    masks: Tensor,
    reference: int,
    beam: Literal["wiener", "mvdr"] = "wiener",
    loading: float = LOADING,
) -> Tensor:
    """Return the spectra (B, J, T, F) of the beams towards J talkers, as `reference` hears them.

    Args:
        spectra: (B, C, T, F), complex.
        masks: (B, J + 1, T, F) from 0 to 1, the last one for noise; what is another's or noise is
            suppressed.
        reference: The microphone whose image of a talker is kept, from 0 on.
        beam: `wiener` has the least error, and leaves alone what has nothing beside it; `mvdr` the
            least of others among those that keep the sound of one direction as it is.
        loading: Share of the trace that is added to the diagonal of what is suppressed.
    """
    talkers = masks[..., :-1, :, :]
    others = masks.sum(dim=-3, keepdim=True) - talkers
    target, interference = covariances(spectra, torch.cat([talkers, others], dim=-3)).chunk(2, -4)
    target = target * talkers.sum(dim=-2)[..., None, None]  # (B, J, F, C, C)
    interference = interference * others.sum(dim=-2)[..., None, None]
    if beam == "mvdr":
        floor = FLOOR * _trace(target).real / target.shape[-1]
        interference = interference + torch.diag_embed(floor[..., None].expand_as(target[..., 0]))
        weights = mvdr_weights(target, interference, reference, loading)  # (B, J, F, C)
    else:
        weights = wiener_weights(target, interference, reference, loading)
    beams: Tensor = torch.einsum("...jfc,...ctf->...jtf", weights.conj(), spectra)
    return beams


def covariances(spectra: Tensor, masks: Tensor) -> Tensor:
    """Return the spatial covariances (B, J, F, C, C) of spectra (B, C, T, F) under each mask.

    Means over time, weighted by the masks (B, J, T, F): sum_t m y y^H / sum_t m.
    """
    vectors = spectra.movedim(-1, -3).contiguous()  # (B, F, C, T)
    shares = (masks / (masks.sum(dim=-2, keepdim=True) + SMALLEST)).movedim(-1, -3).contiguous()
    weighted = shares.unsqueeze(-2) * vectors.unsqueeze(-3)  # (B, F, J, C, T)
    # All masks in one product of matrices: vectors are not copied for each.
    products = weighted.flatten(-3, -2) @ vectors.mH  # (B, F, J C, C)
    found: Tensor = products.unflatten(-2, weighted.shape[-3:-1]).movedim(-3, -4)
    return found


def mvdr_weights(
    target: Tensor, interference: Tensor, reference: int, loading: float = LOADING
) -> Tensor:
    """Return the weights (B, F, C) of minimum variance without distortion, from covariances.

    w = N^-1 S u / tr(N^-1 S): S is that of the `target` and N that of the `interference`, both
    (B, F, C, C), u picks the `reference` microphone. All-zero covariances give weights of zero.
    Source: Souden et al., "On optimal frequency-domain multichannel linear filtering for noise
    reduction" (IEEE TASLP 18(2), 2010).
    """
    # In double precision: N is close to singular where nothing but the target is heard.
    precise = torch.complex128
    target, interference = target.to(precise), interference.to(precise)
    diagonal = loading * _trace(interference).real + SMALLEST
    unit = torch.eye(target.shape[-1], dtype=precise, device=target.device)
    ratio = torch.linalg.solve(interference + diagonal[..., None, None] * unit, target)
    weights = ratio[..., reference] / (_trace(ratio) + SMALLEST)[..., None]
    return weights.to(torch.complex64)


def wiener_weights(
    target: Tensor, interference: Tensor, reference: int, loading: float = LOADING
) -> Tensor:
    """Return the weights (B, F, C) of the least squared error, from covariances.

    w = (S + N)^-1 S u, with S, N and u as for `mvdr_weights`, but sums over time instead of means.
    S may have any rank: reverberation comes from everywhere. Without interference w is u. Source:
    Doclo and Moonen, "GSVD-based optimal filtering for single and multimicrophone speech
    enhancement" (IEEE TSP 50(9), 2002).
    """
    precise = torch.complex128
    target, both = target.to(precise), (target + interference).to(precise)
    diagonal = loading * _trace(both).real + SMALLEST
    unit = torch.eye(target.shape[-1], dtype=precise, device=target.device)
    weights = torch.linalg.solve(both + diagonal[..., None, None] * unit, target[..., [reference]])
    return weights[..., 0].to(torch.complex64)


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
