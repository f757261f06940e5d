"""Stage `prepare`: LibriSpeech, noise and LibriCSS as published -> manifests.

LibriSpeech (https://www.openslr.org/12): `LibriSpeech/<part>/<speaker>/<chapter>/*.flac`. LibriCSS
(https://github.com/chenzhuo1011/libri_css): `for_release/<condition>/<session>/`, in it
`record/raw_recording.wav` and `transcription/meeting_info.txt`; Lhotse reads it. Noise: MUSAN and
the DNS challenge, as `recipes/sounds.py` says.
"""

import gzip
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import CutSet, MultiCut
from lhotse.recipes.libricss import prepare_libricss

from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.errors import AudioError, FormatError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import parse_seconds, read_text
from wavlm_meeting.recipes.diarization import Prepared, prepare_material, speech_in
from wavlm_meeting.recipes.finding import SUFFIXES, find_folder
from wavlm_meeting.recipes.libricss.sessions import CONDITIONS
from wavlm_meeting.recipes.manifests import write_manifest
from wavlm_meeting.recipes.reading import Found
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.training.diarization_recordings import write_conversations
from wavlm_meeting.training.sources import files_below
from wavlm_meeting.units import SAMPLE_RATE

RELEASE = "for_release"
"""Folder of LibriCSS, as it is unpacked."""
CHANNELS = 7
RECORDING, TRANSCRIPT = "record/raw_recording.wav", "transcription/meeting_info.txt"
DEV_SESSION = "session0"
"""The session of each condition that is for choices; the others are tested on, as published."""
TEST_SPEECH = "LibriSpeech/test-clean"
"""Speech of the talkers that simulated tests are made of."""
HELD_OUT = 10
"""Each noise of so many is kept for tests."""
COLOURS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Exponents of the power spectra 1 / f^x of noise that is made where there is none."""
COLOURED = 20
"""Recordings of such noise."""
COLOURED_S = 20.0
"""Length of each."""
LOWEST_HZ = 20.0
"""Below it, noise is no louder."""
FIELDS = 5
"""Columns of a transcript."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifests:
    """The folder of manifests."""

    folder: Path

    @property
    def training(self) -> Prepared:
        """Speech and noise to train on."""
        return Prepared(self.folder)

    @property
    def speech(self) -> Path:
        """Speech to train on."""
        return self.folder / "speech.jsonl.gz"

    @property
    def noise(self) -> Path:
        """Noise to train with."""
        return self.folder / "noise.jsonl.gz"

    @property
    def test_speech(self) -> Path:
        """Speech of other talkers; not there without LibriSpeech's test part."""
        return self.folder / "test-speech.jsonl.gz"

    @property
    def test_noise(self) -> Path:
        """Noise that was held out."""
        return self.folder / "test-noise.jsonl.gz"

    @property
    def dev(self) -> Path:
        """Sessions of LibriCSS for choices."""
        return self.folder / "libricss-dev.jsonl.gz"

    @property
    def test(self) -> Path:
        """Sessions of LibriCSS for figures."""
        return self.folder / "libricss-test.jsonl.gz"


def prepare(data: Path, manifests: Manifests, workers: int) -> None:
    """Write the manifests.

    Raises SettingsError where a part of the corpus is missing, FormatError for a broken transcript,
    AudioError for a recording that cannot be read.
    """
    _write_libricss(libricss_of(data), manifests)
    prepare_material(data, manifests.training, speech=True, workers=workers)
    if not manifests.noise.is_file():
        _write_coloured_noise(manifests)
    _hold_out_noise(manifests)
    _write_test_speech(data, manifests, workers)


def libricss_of(data: Path) -> Path:
    """Return the folder of LibriCSS; raises SettingsError if it, or a condition, is not there."""
    found = find_folder(data, RELEASE)
    if found is None:
        raise SettingsError(
            f"{data}: no {RELEASE} here or up to two levels down; name the folder that holds it, "
            "as recipes/libricss/README.md says."
        )
    missing = [name for name in CONDITIONS if not (found / name).is_dir()]
    if missing:
        raise SettingsError(f"{found}: no {', '.join(missing)}; unpack for_release.zip again.")
    return found


def _write_libricss(release: Path, manifests: Manifests) -> None:
    for session in (each for name in CONDITIONS for each in sorted((release / name).iterdir())):
        _check_session(session)
    found = prepare_libricss(release)
    cuts = CutSet.from_manifests(found["recordings"], found["supervisions"])
    sessions: dict[Path, list[MultiCut]] = {manifests.dev: [], manifests.test: []}
    for cut in sorted(cuts, key=lambda each: str(each.recording_id)):
        is_dev = cut.recording_id.endswith(f"_{DEV_SESSION}")
        sessions[manifests.dev if is_dev else manifests.test].append(cut)
    for path, own in sessions.items():
        if not own:
            raise SettingsError(f"{release}: no session for {path.name}; unpack its zip again.")
        write_lines(path, [json.dumps(_values(cut)) for cut in own])
        hours = sum(cut.duration for cut in own) / 3600
        log.info("prepare: %s: %d sessions, %.2f hours", path.name, len(own), hours)


def _check_session(session: Path) -> None:
    """Refuse a session that Lhotse would trip over, with a line that says why."""
    if not re.fullmatch(
        r"overlap_ratio_[\d.]+_sil[\d.]+_[\d.]+_session\d+_actual[\d.]+", session.name
    ):
        raise SettingsError(f"{session}: not a session of LibriCSS; move it elsewhere.")
    recording, transcript = session / RECORDING, session / TRANSCRIPT
    try:
        info = soundfile.info(recording)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{recording}: cannot be read ({error}); unpack it again.") from None
    if (info.channels, info.samplerate) != (CHANNELS, SAMPLE_RATE):
        raise AudioError(
            f"{recording}: {info.channels} channels at {info.samplerate} Hz, not {CHANNELS} at "
            f"{SAMPLE_RATE} Hz; unpack it again."
        )
    for number, line in enumerate(read_text(transcript).splitlines()[1:], 2):
        fields = line.split("\t")
        where = f"{transcript}:{number}"
        if len(fields) != FIELDS:
            raise FormatError(
                f"{where}: not start, end, speaker, utterance and words between tabs; unpack it "
                "again."
            )
        for name, text in zip(("start", "end"), fields, strict=False):
            parse_seconds(text, name, where)


def _values(cut: MultiCut) -> dict[str, Any]:
    """Return a line of a manifest: a whole session, its turns with their words."""
    cut = cut.with_id(cut.recording_id)
    for turn in cut.supervisions:
        turn.text = turn.text.strip()  # Lhotse leaves the end of the line
    values: dict[str, Any] = cut.to_dict()
    return values


def _hold_out_noise(manifests: Manifests) -> None:
    """Move each tenth noise, and the first one, to the manifest for tests."""
    with gzip.open(manifests.noise, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    kept = [line for number, line in enumerate(lines) if number % HELD_OUT]
    write_lines(manifests.test_noise, lines[::HELD_OUT])
    write_lines(manifests.noise, kept or lines)


def _write_coloured_noise(manifests: Manifests) -> None:
    """Make noise of several colours, the same each time."""
    log.info("prepare: no noise there; %d recordings of coloured noise are made", COLOURED)
    with write_manifest(manifests.noise) as write:
        for number in range(COLOURED):
            rng = np.random.default_rng(number)
            exponent = COLOURS[number % len(COLOURS)] + rng.uniform(-0.2, 0.2)
            samples = coloured_noise(rng, int(COLOURED_S * SAMPLE_RATE), exponent)
            name = f"coloured/{number:02d}"
            path = manifests.folder / f"{name}.flac"
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path) as temporary:
                soundfile.write(temporary, samples, SAMPLE_RATE)
            write(Found(name, path.resolve(), len(samples)), source="noise")


def coloured_noise(rng: np.random.Generator, length: int, exponent: float) -> Samples:
    """Return noise (N,) whose power falls as 1 / f^exponent, with a level of -26 dB."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    shaped = np.fft.irfft(spectrum * np.maximum(frequency, LOWEST_HZ) ** (-exponent / 2), length)
    return (0.05 * shaped / shaped.std()).clip(-1, 1).astype(np.float32)


def _write_test_speech(data: Path, manifests: Manifests, workers: int) -> None:
    folder = find_folder(data, TEST_SPEECH)
    if folder is None:
        log.info("%s: no %s; there will be no simulated tests", data, TEST_SPEECH)
        return
    decoded = manifests.folder / "decoded" / TEST_SPEECH
    jobs = [(path.relative_to(folder), folder, decoded) for path in files_below(folder, SUFFIXES)]
    with map_of(workers) as work:
        found = [each for each in work(speech_in, jobs) if each is not None]
    write_conversations(found, manifests.test_speech)
    people = {each.said[0].speaker for each in found}
    log.info("prepare: %d recordings of %d speakers for simulated tests", len(found), len(people))


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a manifest from its lines; it is there when all of it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as raw,
        # Without a name and a time in its head, the same lines give the same file.
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        file.write("".join(f"{line}\n" for line in lines).encode())
