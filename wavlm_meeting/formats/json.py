"""The toolkit's own document of who spoke when, with confidences and the model it came from."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.document import DiarizationDocument
from wavlm_meeting.formats.lines import read_text


def write_json(document: BaseModel, path: str | Path) -> None:
    """Write a document, indented for people."""
    with atomic_write(path) as temporary:
        temporary.write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> DiarizationDocument:
    """Read a document; raises FormatError that names the file and the first faulty entry."""
    try:
        return DiarizationDocument.model_validate_json(read_text(path))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        entry = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise FormatError(f"{path}: {entry + ': ' if entry else ''}{message}.") from None
