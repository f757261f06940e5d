"""`wavlm-meeting compare`: where the errors of diarization systems come from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavlm_meeting.cli.annotations import read_all
from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_line, show_note, show_table
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.scoring.bootstrap import PairedInterval
    from wavlm_meeting.scoring.breakdown import AtCollars, Comparison, SystemBreakdown

_PARTS = ("talk s", "error %", "DER part %", "missed %", "false alarm %", "confusion %")
"""Columns of a part of the errors; the last four are of all speech, so that they add up to DER."""

_RATES = ("DER %", "missed %", "false alarm %", "confusion %", "of s", "JER %")


def compare(
    reference: Annotated[str, typer.Argument(metavar="REF", help="RTTM file, or folder of them.")],
    hypotheses: Annotated[
        list[str],
        typer.Argument(metavar="HYP...", help="RTTM file, or folder of them, of each system."),
    ],
    uem: Annotated[
        str | None,
        typer.Option(metavar="UEM", help="What to score of each recording: a file, or a folder."),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Bootstraps over recordings for how the first two differ; 0: none.",
        ),
    ] = 1000,
    out: Annotated[
        Path | None, typer.Option(metavar="PNG|SVG|PDF", help="Picture of one recording to write.")
    ] = None,
    recording: Annotated[
        str | None, typer.Option(metavar="NAME", help="Recording to draw, if there are several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """DER and JER of systems side by side, and where their errors come from.

    Every figure stands there without collar and with one of 0.25 s on each side of a boundary. Of
    two systems and two recordings or more, the difference of DER has an interval of 95 %.
    """
    if twice := sorted({name for name in hypotheses if hypotheses.count(name) > 1}):
        raise SettingsError(f"{twice[0]} is named twice; name each system once.")
    if recording is not None and out is None:
        raise SettingsError("--recording says what is drawn; name the picture with --out.")
    from wavlm_meeting.formats import read_rttm, read_uem
    from wavlm_meeting.scoring.breakdown import compare_diarization

    turns = read_all(reference, ".rttm", read_rttm)
    found = {name: read_all(name, ".rttm", read_rttm) for name in hypotheses}
    parts = None if uem is None else read_all(uem, ".uem", read_uem)
    compared = compare_diarization(turns, found, parts, resamples)
    if out is not None:
        from pyannote.core import Annotation as Turns

        from wavlm_meeting.report.comparison import draw_comparison

        short = _short_names(hypotheses)
        drawn = _recording_to_draw(compared, recording)
        draw_comparison(
            turns.get(drawn, Turns(uri=drawn)),
            {short[name]: each.get(drawn, Turns(uri=drawn)) for name, each in found.items()},
            out,
            None if parts is None else parts[drawn],
        )
    if as_json:
        show_json(_plain(compared))
    else:
        _show(compared)


def _short_names(paths: list[str]) -> dict[str, str]:
    """Give each path its last part, without .rttm, if these differ; else the path itself."""
    short = [Path(path).name.removesuffix(".rttm") for path in paths]
    return dict(zip(paths, short if len({*short}) == len(paths) else paths, strict=True))


def _recording_to_draw(compared: "Comparison", wanted: str | None) -> str:
    """Return the only recording, or the one that is wanted; raises SettingsError."""
    names = sorted(next(iter(compared.systems.values())).recordings)
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None:
        raise SettingsError(f"--out draws one of {len(names)} recordings; choose by --recording.")
    if wanted not in names:
        close = get_close_matches(wanted, names, n=1)
        cure = f"did you mean '{close[0]}'?" if close else f"choose one, such as '{names[0]}'."
        raise SettingsError(f"--recording: '{wanted}' is not in the reference; {cure}")
    return wanted


def _show(compared: "Comparison") -> None:
    """Show the parts, the finest first, and the totals last."""
    from wavlm_meeting.scoring.breakdown import COLLARS_S

    short = _short_names(list(compared.systems))
    systems = {short[name]: system for name, system in compared.systems.items()}
    at = f"(collar {' | '.join(f'{collar:g}' for collar in COLLARS_S)} s)"
    _show_speakers(systems, f"speakers; parts are of the recording's speech {at}")
    _show_recordings(systems, f"recordings {at}")
    _show_numbers(systems, f"by number of speakers in the reference {at}")
    whole = {name: system.total for name, system in systems.items()}
    lengths = {name: system.by_length for name, system in systems.items()}
    _show_parts(f"by length of the reference's turns in seconds {at}", "turn", lengths, whole)
    depths = {name: system.by_depth for name, system in systems.items()}
    _show_parts(f"by speakers at once in the reference {at}", "at once", depths, whole)
    show_table(
        f"all recordings {at}",
        ("system", *_RATES, "speakers right", "off by"),
        [
            (
                name,
                *_rates(system.total),
                f"{system.right_numbers} of {len(system.recordings)}",
                f"{system.number_error:.2f}",
            )
            for name, system in systems.items()
        ],
    )
    _show_difference(list(systems), compared.differences)
    for name, system in systems.items():
        if system.unscored:
            show_note(f"{name}: not in the reference, not scored: {', '.join(system.unscored)}.")


def _show_speakers(systems: Mapping[str, "SystemBreakdown"], title: str) -> None:
    """Show each speaker of each recording, and whom a system takes for them."""
    rows: list[tuple[str, ...]] = []
    for uri in next(iter(systems.values())).recordings:
        for name, system in systems.items():
            recording = system.recordings[uri]
            rows += (
                (uri, speaker or "-", name, other or "-", *_part(counts, recording.total))
                for (speaker, other), counts in recording.by_speaker.items()
            )
    show_table(title, ("recording", "speaker", "system", "matched", *_PARTS), rows)


def _show_recordings(systems: Mapping[str, "SystemBreakdown"], title: str) -> None:
    """Show each recording, if there are several."""
    uris = list(next(iter(systems.values())).recordings)
    if len(uris) > 1:
        rows = []
        for uri in uris:
            for name, system in systems.items():
                recording = system.recordings[uri]
                numbers = (str(recording.speakers), str(recording.found))
                rows.append((uri, name, *_rates(recording.total), *numbers))
        show_table(title, ("recording", "system", *_RATES, "speakers", "found"), rows)


def _show_numbers(systems: Mapping[str, "SystemBreakdown"], title: str) -> None:
    """Show recordings by how many speakers they have, and how many are found."""
    rows = []
    for number in next(iter(systems.values())).numbers:
        for name, system in systems.items():
            found = system.numbers[number]
            times = ", ".join(f"{each} in {count}" for each, count in found.items())
            right = f"{found[number]} of {found.total()}"
            rows.append((str(number), name, *_rates(system.by_number[number]), right, times))
    show_table(title, ("speakers", "system", *_RATES, "speakers right", "found"), rows)


def _show_parts(
    title: str,
    key: str,
    parts: Mapping[str, Mapping[str, "AtCollars"]],
    whole: Mapping[str, "AtCollars"],
) -> None:
    """Show one kind of parts, the systems under each other for each part."""
    show_table(
        title,
        (key, "system", *_PARTS),
        [
            (part, name, *_part(each[part], whole[name]))
            for part in next(iter(parts.values()))
            for name, each in parts.items()
        ],
    )


def _show_difference(names: list[str], differences: "Sequence[PairedInterval | None]") -> None:
    """Show how the first two systems differ."""
    cells = [
        "-"
        if each is None
        else f"{100 * each.difference:+.2f} ({100 * each.low:+.2f} to {100 * each.high:+.2f})"
        for each in differences
    ]
    if cells:
        less = f"DER % of {names[0]} less that of {names[1]}"
        show_line(f"{less}, with intervals of 95 %: {_both(cells)}")


def _part(counts: "AtCollars", whole: "AtCollars") -> list[str]:
    """Write a part out; its errors are of its own speech, and then of all that it is a part of."""
    pairs = list(zip(counts, whole, strict=True))
    return [
        _both([f"{each.total_s:.2f}" for each in counts]),
        _both([_percent(each.errors_s, each.total_s) for each in counts]),
        _both([_percent(each.errors_s, total.total_s) for each, total in pairs]),
        _both([_percent(each.missed_s, total.total_s) for each, total in pairs]),
        _both([_percent(each.false_alarm_s, total.total_s) for each, total in pairs]),
        _both([_percent(each.confusion_s, total.total_s) for each, total in pairs]),
    ]


def _rates(counts: "AtCollars") -> list[str]:
    """Write totals out."""
    return [
        _both([f"{100 * each.der:.2f}" for each in counts]),
        _both([_percent(each.missed_s, each.total_s) for each in counts]),
        _both([_percent(each.false_alarm_s, each.total_s) for each in counts]),
        _both([_percent(each.confusion_s, each.total_s) for each in counts]),
        _both([f"{each.total_s:.2f}" for each in counts]),
        _both([f"{100 * each.jer:.2f}" for each in counts]),
    ]


def _percent(value: float, of: float) -> str:
    """Write a share in per cent; there is none of nothing."""
    return f"{100 * value / of:.2f}" if of else "-"


def _both(cells: Sequence[str]) -> str:
    """Put what stands at each collar side by side."""
    return " | ".join(cells)


def _plain(compared: "Comparison") -> dict[str, Any]:
    """Return all of it as plain data; lists of counts have one entry for each collar."""
    from wavlm_meeting.scoring.breakdown import COLLARS_S

    return {
        "collars_s": list(COLLARS_S),
        "systems": {name: _plain_system(system) for name, system in compared.systems.items()},
        "differences": [each and asdict(each) for each in compared.differences],
    }


def _plain_system(system: "SystemBreakdown") -> dict[str, Any]:
    """Return one system's counts as plain data."""
    recordings = {
        uri: {
            "total": _dicts(each.total),
            "speakers": each.speakers,
            "found": each.found,
            "by_speaker": [
                {"speaker": speaker, "matched": other, "counts": _dicts(counts)}
                for (speaker, other), counts in each.by_speaker.items()
            ],
        }
        for uri, each in system.recordings.items()
    }
    numbers = {
        "right": system.right_numbers,
        "recordings": len(system.recordings),
        "mean_error": round(system.number_error, 6),
    }
    return {
        "total": _dicts(system.total),
        "by_depth": {name: _dicts(counts) for name, counts in system.by_depth.items()},
        "by_length": {name: _dicts(counts) for name, counts in system.by_length.items()},
        "by_number": {name: _dicts(counts) for name, counts in system.by_number.items()},
        "numbers": numbers,
        "recordings": recordings,
        "unscored": list(system.unscored),
    }


def _dicts(counts: "AtCollars") -> list[dict[str, float]]:
    """Return counts at each collar as plain data."""
    return [each.as_dict() for each in counts]
