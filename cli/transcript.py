"""`wavlm-meeting transcript`: who said what, from a recogniser's words and a diarization."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.output import show_line, show_note
from wavlm_meeting.errors import FormatError, SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.formats import DiarizationDocument
    from wavlm_meeting.formats.words import Word


def transcript(
    words: Annotated[
        Path,
        typer.Argument(
            metavar="WORDS", help="Words with times: any recogniser's JSON, or CTM; see README."
        ),
    ],
    turns: Annotated[
        Path, typer.Argument(metavar="TURNS", help="Turns: RTTM, JSON, CSV, SRT, VTT, TextGrid.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to write: .txt, .json, .srt, .vtt, .seglst.json or .stm."
        ),
    ] = None,
    write_as: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="text|json|srt|vtt|seglst|stm",
            help="Format, where the name of the file does not tell it.",
        ),
    ] = None,
    nearest_s: Annotated[
        float,
        typer.Option(
            "--nearest",
            metavar="SECONDS",
            help="How far a word may be from the nearest turn where nobody speaks.",
        ),
    ] = 1.0,
    change_cost: Annotated[
        float,
        typer.Option(
            "--change-cost",
            metavar="SHARE",
            help="What a change of speakers costs, in words; 0: each word by itself.",
        ),
    ] = 0.3,
    pause_s: Annotated[
        float, typer.Option("--pause", metavar="SECONDS", help="Silence that parts segments.")
    ] = 1.0,
) -> None:
    """Write who said what: every word of WORDS goes to whoever speaks then by TURNS.

    Without --out it is shown as text.
    """
    from wavlm_meeting.formats.transcripts import lines_of, transcript_format

    if out is not None:
        kind = transcript_format(out, write_as)
        if out.exists() and any(out.samefile(each) for each in (words, turns) if each.exists()):
            raise SettingsError(f"--out {out}: is read as well; name another file.")
        if not out.absolute().parent.is_dir():
            raise SettingsError(f"--out {out}: there is no such folder; make it first.")
    elif write_as is not None:
        raise SettingsError("--to says what to write; name the file with --out.")
    uri, said, spoken = _read(words, turns)
    from wavlm_meeting.diarization.transcript import UNKNOWN, transcribe

    found = transcribe(said, spoken.turns, uri, nearest_s, change_cost, pause_s)
    lost = sum(len(segment.words) for segment in found.segments if segment.speaker == UNKNOWN)
    if lost:
        show_note(
            f"{lost} of {len(said)} words are far from every turn: their speaker is {UNKNOWN}."
        )
    if out is None:
        for line in lines_of(found):
            show_line(line)
    else:
        kind.write(found, out)
        speakers = len({segment.speaker for segment in found.segments})
        show_line(f"{out}: {len(found.segments)} segments, {speakers} speakers")


def _read(words: Path, turns: Path) -> "tuple[str, tuple[Word, ...], DiarizationDocument]":
    """Read one recording's name, words and turns; raises FormatError unless it is one.

    A file of one recording's words and a file of one recording's turns belong together whatever
    their names; a file of several has those of the recording that the other file names.
    """
    from wavlm_meeting.formats import read_turns
    from wavlm_meeting.formats.words import read_words

    said, spoken = read_words(words), read_turns(turns)
    if len(said) == 1 and len(spoken) == 1:
        ((_, only),), ((uri, document),) = said.items(), spoken.items()
        return uri, only, document
    if len(both := [uri for uri in said if uri in spoken]) != 1:
        raise FormatError(
            f"{words} has {len(said)} recordings, {turns} has {len(spoken)}, and both have "
            f"{len(both)}; give the words and turns of one."
        )
    return both[0], said[both[0]], spoken[both[0]]
