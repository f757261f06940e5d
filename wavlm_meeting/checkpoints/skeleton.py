"""Modules whose parameters come from a file: made without drawing initial values."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavlm_meeting.checkpoints.names import Shape, check_names
from wavlm_meeting.errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)


class _NoInitialValues(TorchFunctionMode):
    """Leaves new parameters as the memory happens to be; drawing those of Large takes seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def module_shapes(build: Callable[[], nn.Module]) -> dict[str, Shape]:
    """Return the shape of every parameter and persistent buffer of a module."""
    with _NoInitialValues():
        return {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}


def build_filled(build: Callable[[], Module], state: Mapping[str, Tensor], where: str) -> Module:
    """Make a module around given parameters, in eval mode.

    Raises:
        CheckpointError: A parameter is missing, left over, or of another shape; `where` names the
            origin.
    """
    with _NoInitialValues():
        module = build()
    own = module.state_dict()
    check_names(own, state, where)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"{where}: '{name}' has the shape {tuple(tensor.shape)}, but its card needs "
                f"{tuple(own[name].shape)}; weights and card are of different models."
            )
    module.load_state_dict(state, assign=True)
    return module.eval()
