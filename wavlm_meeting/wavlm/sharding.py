"""Parameters sharded over processes: each layer is gathered for as long as it is computed."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def shard_layers(
    model: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh, half: torch.dtype | None
) -> None:
    """Shard `model` in place over `mesh`, `layers` each by itself and what is left as one (FSDP2).

    With `half`, what is gathered and computed with is in that dtype; weights, gradients and what
    the optimiser keeps are float32.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=half,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,  # samples span more than a half holds
    )
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
