"""What tests of several folders share."""

import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import Command

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let commands be interrupted: what a shell starts in its background is told to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Give the folder `shared` beside the checkout: the golden values and the corpus."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder `shared` (golden values, corpus) beside the checkout")
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Give the command `wavlm-meeting`, run in an empty folder of its own (`command.folder`)."""
    folder = tmp_path / "here"
    folder.mkdir()
    return Command(folder)


@pytest.fixture(scope="session")
def conversation(tmp_path_factory: pytest.TempPathFactory, shared_dir: Path) -> Path:
    """Give a real telephone conversation of 30 s between two people, as a WAV file."""
    samples, rate = soundfile.read(shared_dir / "corpus/meetings/pyannote_sample.flac")
    path = tmp_path_factory.mktemp("audio") / "conversation.wav"
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture(scope="session")
def silence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give five seconds in which nothing sounds."""
    path = tmp_path_factory.mktemp("audio") / "silence.wav"
    soundfile.write(path, np.zeros(5 * 16_000, np.int16), 16_000)
    return path


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory, shared_dir: Path) -> Path:
    """Give the file of a calibration of `tiny`, made from real people."""
    from known_voices import write_calibration

    return write_calibration(shared_dir, tmp_path_factory.mktemp("backend") / "tiny.safetensors")


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory, shared_dir: Path, calibration: Path) -> Path:
    """Give a register that knows two people; tests that change it take a copy."""
    from known_voices import MAN, WOMAN, recordings
    from wavlm_meeting.meeting import enroll

    path = tmp_path_factory.mktemp("register") / "voices.db"
    for name, person in (("Anna Bell", WOMAN), ("Max", MAN)):
        enroll(name, recordings(shared_dir, person, 3), register=path, backend=calibration)
    return path
