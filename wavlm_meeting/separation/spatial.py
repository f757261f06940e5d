"""Several microphones: masks that agree with the directions that sounds come from.

B batch (any leading shape), C microphones, K sources (talkers, and noise last), T frames, F bins,
P = C squared: the real numbers that a Hermitian matrix is made of.
"""

import torch
from torch import Tensor

ROUNDS = 5
"""Steps of expectation and maximisation."""
LOADING = 0.01
"""Added to the diagonal of covariances of trace C: how far a direction is trusted; the recordings
are reverberant, windows short, and single precision is enough."""
LEAST = 1e-3
"""Added to the masks: what they rule out can still be heard."""
SMALLEST = 1e-12
"""Below the power of any sound, where silence would divide by zero."""


def spatial_masks(spectra: Tensor, masks: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Return masks (B, K, T, F) that sum to one, from where sources are and what `masks` say.

    The direction of the vector of all microphones in a frame and bin is drawn from a complex
    angular central Gaussian of its source; `masks` are the prior probabilities of the sources, so
    that bins need not be put in order and noise stays noise. Source: Ito, Araki and Nakatani,
    "Complex angular central Gaussian mixture model for directional statistics in mask-based
    microphone array signal processing" (EUSIPCO 2016); priors from elsewhere guide it as in
    Boeddeker et al., "Front-end processing for the CHiME-5 dinner party scenario" (CHiME 2018).

    Args:
        spectra: (B, C, T, F), complex, of two microphones or more.
        masks: (B, K, T, F) from 0 to 1.
        rounds: Steps of expectation and maximisation.
    """
    microphones = spectra.shape[-3]
    vectors = spectra.movedim(-1, -3)  # (B, F, C, T)
    power = vectors.real.square() + vectors.imag.square()
    vectors = vectors / (power.sum(dim=-2, keepdim=True) + SMALLEST).sqrt()
    outer = hermitian_parts(vectors[..., :, None, :] * vectors[..., None, :, :].conj())
    prior = (masks + LEAST).movedim(-1, -3)  # (B, F, K, T)
    prior = prior / prior.sum(dim=-2, keepdim=True)
    shares, forms = prior, torch.ones_like(prior)
    loading = LOADING * torch.eye(microphones, dtype=spectra.dtype, device=spectra.device)
    for _ in range(rounds):
        weighted = (shares / forms) @ outer.mT  # (B, F, K, P)
        trace = weighted[..., :microphones].sum(dim=-1, keepdim=True)
        shapes = from_hermitian_parts(microphones * weighted / (trace + SMALLEST)) + loading
        volumes = torch.linalg.slogdet(shapes)[1][..., None]  # (B, F, K, 1)
        inverse = torch.linalg.inv(shapes).unsqueeze(-1)
        # v^H A v is the scalar product of A and v v^H: one product of real matrices for all frames.
        forms = (hermitian_parts(inverse).squeeze(-1) @ outer).clamp(min=SMALLEST)
        shares = (prior.log() - volumes - microphones * forms.log()).softmax(dim=-2)
    return shares.movedim(-3, -1)


def hermitian_parts(matrices: Tensor) -> Tensor:
    """Return (..., C, C, T) Hermitian matrices as real vectors (..., P, T) of the same products.

    The diagonal, then real and imaginary parts above it times the root of two: the scalar product
    of two such vectors is the trace of the product of their matrices.
    """
    size = matrices.shape[-2]
    row, column = torch.triu_indices(size, size, 1, device=matrices.device)
    above = 2**0.5 * matrices[..., row, column, :]
    diagonal = matrices.diagonal(dim1=-3, dim2=-2).mT.real
    return torch.cat([diagonal, above.real, above.imag], dim=-2)


def from_hermitian_parts(vectors: Tensor) -> Tensor:
    """Return the Hermitian matrices (..., C, C) that real vectors (..., P) are made of."""
    size = round(vectors.shape[-1] ** 0.5)
    row, column = torch.triu_indices(size, size, 1, device=vectors.device)
    diagonal, real, imaginary = vectors.split([size, len(row), len(row)], dim=-1)
    above = torch.complex(real, imaginary) / 2**0.5
    matrices = torch.diag_embed(diagonal.to(above.dtype))
    matrices[..., row, column], matrices[..., column, row] = above, above.conj()
    return matrices
