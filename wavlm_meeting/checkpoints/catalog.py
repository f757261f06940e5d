"""Finding a model: by the name of an embedded one, by path, or by its id on the hub."""

from difflib import get_close_matches
from pathlib import Path

from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.hub import fetch, is_hub_id
from wavlm_meeting.errors import CheckpointError

_ASSETS = Path(__file__).parent.parent / "assets"


def embedded_models() -> dict[str, Path]:
    """Return the bundles inside the package by name."""
    return {card.parent.name: card.parent for card in sorted(_ASSETS.glob(f"*/{CARD}"))}


def resolve(source: str | Path) -> Path:
    """Return where a model lies on this machine.

    Args:
        source: The name of an embedded model, else a path, else an id on the Hugging Face hub;
            only the last may use the network.

    Raises:
        CheckpointError: There is no such model; the nearest name is suggested.
    """
    embedded = embedded_models()
    name = str(source)
    if isinstance(source, str) and name in embedded:
        return embedded[name]
    path = Path(source)
    if name and path.exists():
        return path
    # `folder/model` could be an id; where the folder is here, a path was meant.
    if isinstance(source, str) and is_hub_id(name) and not path.parent.is_dir():
        return fetch(name)
    close = get_close_matches(name, embedded, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"embedded are: {', '.join(embedded)}."
    raise CheckpointError(
        f"{name}: no such model; {hint} Give an embedded name, a path, or owner/name on the "
        "Hugging Face hub."
    )
