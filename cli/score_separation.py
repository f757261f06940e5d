"""`wavlm-meeting score separation`: tracks against references, or against who speaks when."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavlm_meeting.cli.annotations import read_all
from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_note, show_table
from wavlm_meeting.errors import AudioError, FormatError, SettingsError

if TYPE_CHECKING:
    from pyannote.core import Annotation as Turns

    from wavlm_meeting.scoring.separation import Leakage, Quality, Samples, SeparationScore

_FIGURES = {
    "si_sdr": ("SI-SDR dB", 2),
    "si_sdr_improvement": ("improvement dB", 2),
    "sdr": ("SDR dB", 2),
    "pesq": ("PESQ", 2),
    "stoi": ("STOI", 3),
}
"""Figures of a score, their columns and their digits."""

_PERCEPTUAL = ("pesq", "pystoi")
"""Packages that PESQ and STOI come from."""


@dataclass(frozen=True)
class _Signals:
    """Files of one recording."""

    tracks: list[Path]
    references: list[Path]
    mixture: Path | None


def separation(
    tracks: Annotated[
        Path, typer.Argument(metavar="TRACKS", help="Folder of tracks: <name>_1.wav, <name>_2.wav.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="What each talker says alone: <name>_1.wav, <name>_2.wav."
        ),
    ] = None,
    mixture: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What was separated, <name>.wav, for the improvement."),
    ] = None,
    rttm: Annotated[
        str | None,
        typer.Option(
            metavar="RTTM", help="Who speaks when, for the leakage: a file, or a folder of them."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Signal-to-distortion ratios, PESQ and STOI with --reference; leakage with --rttm.

    Real recordings have no references: leakage is the share of the energy, in dB, that is on the
    wrong track while one person speaks alone. PESQ and STOI are there if their packages are.
    """
    if reference is None and rttm is None:
        raise SettingsError("say what to compare with: --reference DIR, --rttm RTTM, or both.")
    if mixture is not None and reference is None:
        raise SettingsError("--mixture says what is gained, by --reference DIR; name that too.")
    found: dict[str, Any] = {}
    left_over: set[str] = set()
    if reference is not None:
        found["scores"], unused = _scores(tracks, reference, mixture)
        left_over |= unused
    if rttm is not None:
        found["leakage"] = _leakages(tracks, rttm)
    if as_json:
        show_json({**_plain(found), "unscored": sorted(left_over)})
        return
    if "scores" in found:
        _show_scores(found["scores"])
        if lacking := _lacking():
            show_note(f"no PESQ and STOI; for them: pip install {' '.join(lacking)}")
    if "leakage" in found:
        _show_leakages(found["leakage"])
    if left_over:
        show_note(f"not in the reference, not scored: {', '.join(sorted(left_over))}.")


def _scores(
    folder: Path, reference: Path, mixture: Path | None
) -> tuple[dict[str, "SeparationScore"], set[str]]:
    """Score the recordings that there are references of; name the tracks that are left over."""
    from wavlm_meeting.audio.folders import recordings_below
    from wavlm_meeting.scoring.separation import score_separation

    references = _by_name(recordings_below(reference))
    tracks = recordings_below(folder)
    mixtures = {} if mixture is None else {each.stem: each for each in recordings_below(mixture)}
    own = _of_names(tracks, references)
    quality = _quality()
    scores = {}
    for name, parts in references.items():
        _refuse_lack(name, own[name], folder, f"{name}_1.wav")
        if mixture is not None and name not in mixtures:
            _refuse_lack(name, [], mixture, f"{name}.wav")
        signals = _Signals(own[name], parts, mixtures.get(name))
        try:
            scores[name] = score_separation(*_read(signals), quality)
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from None
    used = {path for paths in own.values() for path in paths}
    return scores, {path.name for path in tracks if path not in used}


def _leakages(folder: Path, rttm: str) -> dict[str, "Leakage"]:
    """Count the leakage of the recordings that an RTTM is of."""
    from wavlm_meeting.audio.folders import recordings_below
    from wavlm_meeting.formats import read_rttm
    from wavlm_meeting.scoring.separation import leakage

    turns: Mapping[str, Turns] = read_all(rttm, ".rttm", read_rttm)
    if not turns:
        raise FormatError(f"{rttm}: holds no turns, so that nothing can be scored; name another.")
    own = _of_names(recordings_below(folder), turns)
    counts = {}
    for name, annotation in turns.items():
        _refuse_lack(name, own[name], folder, f"{name}_1.wav")
        counts[name] = leakage(_alike(own[name]), annotation)
    return counts


def _by_name(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Group files by what comes before the number at the end of their names."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        name, line, number = path.stem.rpartition("_")
        if not (name and line and number.isdecimal()):
            raise AudioError(f"{path}: no reference by its name; call it <name>_1{path.suffix}.")
        groups.setdefault(name, []).append(path)
    return groups


def _of_names(paths: Sequence[Path], names: Collection[str]) -> dict[str, list[Path]]:
    """Give each name the files that are called <name>_<anything>; the longest name has them."""
    groups: dict[str, list[Path]] = {name: [] for name in names}
    for path in paths:
        fitting = [name for name in names if path.stem.startswith(f"{name}_")]
        if fitting:
            groups[max(fitting, key=len)].append(path)
    return groups


def _refuse_lack(name: str, paths: Sequence[Path], folder: Path, wanted: str) -> None:
    """Refuse a recording without files; raises AudioError."""
    if not paths:
        raise AudioError(f"{folder}: nothing here is of '{name}'; it should be called {wanted}.")


def _read(signals: _Signals) -> tuple[list["Samples"], list["Samples"], "Samples | None"]:
    """Read references, tracks and the mixture, (N,) each; raises AudioError."""
    mixture = [] if signals.mixture is None else [signals.mixture]
    heard = list(_alike([*signals.references, *signals.tracks, *mixture]))
    people = len(signals.references)
    for path, samples in zip(signals.references, heard[:people], strict=True):
        if not samples.any():
            raise AudioError(f"{path}: this reference is silent; leave it out.")
    mixed = heard.pop() if mixture else None
    return heard[:people], heard[people:], mixed


def _alike(paths: Sequence[Path]) -> Iterator["Samples"]:
    """Read files one by one; raises AudioError for other rates or lengths than the first one's."""
    import numpy as np

    from wavlm_meeting.audio import open_audio
    from wavlm_meeting.units import SAMPLE_RATE

    first: tuple[int, int] | None = None
    for path in paths:
        with open_audio(path) as reader:
            samples = np.concatenate(list(reader.blocks()))
            rate = reader.rate
        wanted_rate, wanted = first = first or (rate, len(samples))
        if rate != wanted_rate:
            raise AudioError(
                f"{path}: {rate} Hz, but {paths[0]} has {wanted_rate} Hz; give both at one rate."
            )
        if len(samples) != wanted:
            length_s, wanted_s = (f"{each / SAMPLE_RATE:.4f} s" for each in (len(samples), wanted))
            raise AudioError(
                f"{path}: {length_s} long, but {paths[0]} has {wanted_s}; cut them alike."
            )
        yield samples


def _lacking() -> list[str]:
    """Return the packages that PESQ and STOI would need."""
    return [name for name in _PERCEPTUAL if find_spec(name) is None]


def _quality() -> "Quality | None":
    """Return what counts PESQ and STOI, if it is installed."""
    if _lacking():
        return None
    from wavlm_meeting.scoring.perceptual import perceptual_figures

    return perceptual_figures


def _show_scores(scores: Mapping[str, "SeparationScore"]) -> None:
    """Show the mean over the talkers of each recording, and over all talkers."""
    from wavlm_meeting.scoring.separation import mean_figures

    mean = mean_figures(scores.values())
    columns = [name for name in _FIGURES if name in mean]
    rows = [
        (name, *_cells(mean_figures([score]), columns), str(len(score.tracks)))
        for name, score in scores.items()
    ]
    talkers = sum(len(score.tracks) for score in scores.values())
    show_table(
        "",
        ("recording", *(_FIGURES[name][0] for name in columns), "talkers"),
        rows,
        total=("mean", *_cells(mean, columns), str(talkers)) if len(rows) > 1 else (),
    )


def _cells(figures: Mapping[str, float | None], columns: Sequence[str]) -> list[str]:
    """Write figures out for people."""
    values = [(figures[name], _FIGURES[name][1]) for name in columns]
    return ["-" if value is None else f"{value:.{digits}f}" for value, digits in values]


def _show_leakages(counts: Mapping[str, "Leakage"]) -> None:
    """Show the leakage of each recording, and that of their energies together."""
    rows = [(name, *_row(each)) for name, each in counts.items()]
    total = ("total", *_row(reduce(add, counts.values()))) if len(rows) > 1 else ()
    show_table("", ("recording", "leakage dB", "of s alone"), rows, total=total)


def _row(count: "Leakage") -> tuple[str, str]:
    return f"{count.decibels:.2f}", f"{count.lone_s:.3f}"


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return scores and leakage as plain data; tracks are counted from 1."""
    from wavlm_meeting.scoring.separation import mean_figures

    plain: dict[str, Any] = {}
    if scores := found.get("scores"):
        plain["recordings"] = {
            name: {
                "tracks": [track + 1 for track in score.tracks],
                **{key: list(map(_rounded, each)) for key, each in score.figures.items()},
            }
            for name, score in scores.items()
        }
        mean = mean_figures(scores.values())
        plain["mean"] = {key: _rounded(value) for key, value in mean.items()}
    if counts := found.get("leakage"):
        plain["leakage"] = {name: _plain_leakage(each) for name, each in counts.items()}
        plain["total_leakage"] = _plain_leakage(reduce(add, counts.values()))
    return plain


def _plain_leakage(count: "Leakage") -> dict[str, float]:
    return {"leakage_db": round(count.decibels, 4), "lone_s": round(count.lone_s, 3)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
