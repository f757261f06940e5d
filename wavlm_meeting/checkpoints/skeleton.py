"""Modules whose parameters come from a file: made without drawing initial values."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavlm_meeting.checkpoints.names import Shape, check_state

Module = TypeVar("Module", bound=nn.Module)


class NoInitialValues(TorchFunctionMode):
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
    with NoInitialValues():
        return _shapes(build())


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def build_filled(build: Callable[[], Module], state: Mapping[str, Tensor], where: str) -> Module:
    """Make a module around given parameters, in eval mode.

    Raises:
        CheckpointError: A parameter is missing, left over, or of another shape; `where` names the
            origin.
    """
    with NoInitialValues():
        module = build()
    check_state(state, _shapes(module), where)
    module.load_state_dict(state, assign=True)
    return module.eval()
