"""Options that several commands share, each written once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wavlm_meeting.errors import SettingsError

Model = Annotated[
    str,
    typer.Option(metavar="NAME|PATH|HUB-ID", help="Model: an embedded name, a folder or a hub id."),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute; auto takes a GPU if any.")
]
Precision = Annotated[
    Literal["float32", "bfloat16", "int8"],
    typer.Option(
        help="Numbers to compute in: bfloat16 and int8 are faster where the CPU has products."
    ),
]
Channel = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Channel to use, from 1; default: the mean of all."),
]
NumSpeakers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Number of speakers, if known.")
]
MinSpeakers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Number of speakers, at least.")
]
MaxSpeakers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Number of speakers, at most.")
]
Clustering = Annotated[
    Literal["agglomerative", "vbx", "spectral"] | None,
    typer.Option(help="How voices become speakers; default: the model's own way."),
]
Exclusive = Annotated[
    bool, typer.Option("--exclusive", help="One speaker at a time, as transcripts need it.")
]
MinTurn = Annotated[
    float | None,
    typer.Option(
        "--min-turn", min=0, metavar="SECONDS", help="Drop shorter turns; default: the model's."
    ),
]
MinGap = Annotated[
    float | None,
    typer.Option(
        "--min-gap",
        min=0,
        metavar="SECONDS",
        help="Close shorter pauses of a speaker; default: the model's.",
    ),
]
Faint = Annotated[
    float | None,
    typer.Option(
        "--faint",
        metavar="DB",
        help="Leave out who is so much fainter than the loud ones, or with inf nobody; default: "
        "the model's.",
    ),
]
Latency = Annotated[
    float | None,
    typer.Option(
        "--latency",
        metavar="SECONDS",
        help="Seconds from speech to its line while listening, 0.5 to 10; default: 2.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show warnings and errors only.")]
BackendFile = Annotated[
    Path | None,
    typer.Option(
        "--backend",
        metavar="FILE",
        help="Calibration of the model's scores; default: the one beside the model, if any.",
    ),
]
RegisterFile = Annotated[
    Path | None,
    typer.Option(
        "--register",
        metavar="FILE",
        help="Register of voices; default: $WAVLM_MEETING_VOICES, else your own.",
    ),
]
FalseAccepts = Annotated[
    float,
    typer.Option(
        "--false-accepts",
        metavar="RATE",
        help="How often a stranger may be taken for anybody in the register.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="COSINE", help="Cosine from which on it is the same voice, for want of calibration."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def check_speaker_counts(num: int | None, low: int | None, high: int | None) -> None:
    """Refuse speaker counts that contradict each other; raises SettingsError."""
    if num is not None and (low is not None or high is not None):
        raise SettingsError(
            "--num-speakers fixes the count; leave out --min-speakers and --max-speakers."
        )
    if low is not None and high is not None and low > high:
        raise SettingsError(f"--min-speakers {low} is above --max-speakers {high}; swap them.")


def make_folder(path: Path) -> Path:
    """Make the folder of `--out`, with its parents; raises SettingsError where none can be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise SettingsError(f"--out {path}: a file is in the way; name a folder.") from None
    return path
