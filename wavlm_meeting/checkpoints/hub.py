"""Models on the Hugging Face hub: which are known to load, and how they come here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import (
    HfApi,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from wavlm_meeting.checkpoints.folders import (
    CARD,
    CONFIG,
    EMBEDDING_MODEL,
    HYPERPARAMS,
    PICKLED_WEIGHTS,
    PREPROCESSOR,
    WEIGHTS,
)
from wavlm_meeting.errors import CheckpointError

MICROSOFT_LICENCE = "CC BY-SA 3.0 or MIT, unclear"
MICROSOFT_LICENCE_NOTE = (
    "the model cards of Microsoft's WavLM point to UniSpeech's licence (CC BY-SA 3.0), the code's "
    "repository is under MIT, and which one holds for the weights is an open question: "
    "github.com/microsoft/unilm/issues/1757"
)


@dataclass(frozen=True)
class HubModel:
    """A model on the hub that is known to load here."""

    name: str
    """Its id: owner/name."""
    use: str
    """What it is for, and what it was trained on."""
    licence: str
    """Licence of its weights, as far as it is clear."""


KNOWN = (
    HubModel("microsoft/wavlm-base", "encoder; LibriSpeech 960 h", MICROSOFT_LICENCE),
    HubModel("microsoft/wavlm-base-plus", "encoder; 94,000 h of English", MICROSOFT_LICENCE),
    HubModel("microsoft/wavlm-large", "encoder; 94,000 h of English", MICROSOFT_LICENCE),
    HubModel("microsoft/wavlm-base-plus-sv", "speaker verification (x-vectors)", MICROSOFT_LICENCE),
    HubModel(
        "microsoft/wavlm-base-plus-sd", "speaker diarization (two speakers)", MICROSOFT_LICENCE
    ),
    HubModel(
        "speechbrain/spkrec-ecapa-voxceleb",
        "speaker verification (ECAPA-TDNN on filterbanks); VoxCeleb 1 and 2",
        "Apache-2.0",
    ),
)

_WEIGHTS = (WEIGHTS, PICKLED_WEIGHTS, EMBEDDING_MODEL)
"""Files of parameters, the preferred one first."""

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_id(source: str) -> bool:
    """Tell whether a text has the form owner/name."""
    return _ID.fullmatch(source) is not None


def is_cached(name: str) -> bool:
    """Tell whether a model's weights are in the local cache."""
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in _WEIGHTS)


def fetch(name: str) -> Path:
    """Bring a model of the hub into the local cache, if it is not there, and return its folder.

    Only the files that loading needs are fetched. HF_HOME and HF_HUB_OFFLINE are honoured.

    Raises:
        CheckpointError: There is no such model, it is not open to this user, it holds no
            parameters, or it is not in the cache and the hub cannot be reached.
    """
    with one_line(name):
        small = [CARD, CONFIG, PREPROCESSOR, HYPERPARAMS]
        folder = Path(snapshot_download(name, allow_patterns=small))
        if _weights(folder) is None:
            # From the same revision, even if the model changes meanwhile.
            revision = folder.name
            files = HfApi().list_repo_files(name, revision=revision)
            for file in [file for file in _WEIGHTS if file in files][:1]:
                hf_hub_download(name, file, revision=revision)
    if _weights(folder) is None:
        raise CheckpointError(f"{name}: holds neither {' nor '.join(_WEIGHTS)}; is it a WavLM?")
    return folder


def _weights(folder: Path) -> Path | None:
    return next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    try:
        yield
    except GatedRepoError:
        raise CheckpointError(
            f"{name}: its owner asks for consent: give it on its page, then 'hf auth login'."
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{name}: no such model on the Hugging Face hub, or it is private: check the name, or "
            "'hf auth login'."
        ) from None
    except HFValidationError as error:
        raise CheckpointError(f"{name}: not a name that the hub allows: {error}") from None
    except OfflineModeIsEnabled:
        raise _offline(name) from None
    except Exception as error:  # noqa: BLE001 - whichever HTTP library the client is built on
        if HF_HUB_OFFLINE:
            raise _offline(name) from None
        raise CheckpointError(
            f"{name}: not in the local cache, and the hub cannot be reached "
            f"({type(error).__name__}); check the connection."
        ) from None


def _offline(name: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: not in the local cache, and HF_HUB_OFFLINE forbids fetching it; unset it, or "
        "fetch the model before going offline."
    )
