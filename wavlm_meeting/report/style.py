"""What all pictures share: colours, inks and the formats they are written in."""

from pathlib import Path

from wavlm_meeting.errors import FormatError

COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"),
    *("#8c6bb1", "#737373", "#b8860b", "#1b7837"),
)
"""Six of Okabe and Ito's colours, which the colour-blind tell apart, then four more."""

INK, QUIET_INK, LINE = "#1f2328", "#59636e", "#d8dee4"


def picture_format(path: str | Path, what: str) -> str:
    """Return png, svg or pdf by the suffix; raises FormatError for another, naming `what`."""
    suffix = Path(path).suffix.lower()
    if suffix not in {".png", ".svg", ".pdf"}:
        raise FormatError(f"{path}: a {what} is written as .png, .svg or .pdf; change the suffix.")
    return suffix[1:]
