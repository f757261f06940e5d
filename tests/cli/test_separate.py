"""`wavlm-meeting separate` as typed: two tracks, a track for each person, tracks that grow."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import COMMAND, Command, assert_refused
from small_separation import RATE, two_tones, write_small_separator
from wavlm_meeting.formats import read_rttm
from wavlm_meeting.tracks import separate


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that separates by pitch."""
    return write_small_separator(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give one who hums and one who whistles, in stereo of 24 bits at 22.05 kHz."""
    path = tmp_path_factory.mktemp("audio") / "tones.flac"
    samples = two_tones(6.0, 22_050)
    soundfile.write(path, np.stack([samples.sum(axis=0)] * 2, axis=1), 22_050, "PCM_24")
    return path


def names_in(folder: Path) -> list[str]:
    """Return the names of all that lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_two_tracks(command: Command, model: Path, tones: Path) -> None:
    """Two tracks like the recording in the folder of --out, which is made; a line names them."""
    answer = command("separate", tones, "--model", model, "--out", "new/folder")
    assert (answer.returncode, answer.stderr) == (0, "")
    out = command.folder / "new/folder"
    assert names_in(out) == ["tones_1.flac", "tones_2.flac"]
    (line,) = answer.stdout.splitlines()
    assert line == f"{tones}: 6.0 s on new/folder/tones_1.flac and new/folder/tones_2.flac"
    for name in names_in(out):
        found = soundfile.info(out / name)
        assert (found.samplerate, found.subtype, found.channels) == (22_050, "PCM_24", 1)
        assert found.frames == soundfile.info(tones).frames


def test_a_track_for_each_person(command: Command, model: Path, conversation: Path) -> None:
    """Tracks and RTTM of each, an RTTM of all that is the one of `diarize`, and a row each."""
    expected = command("diarize", conversation, "--model", model, "--num-speakers", "2", "--quiet")
    assert expected.returncode == 0
    words = ("--by-speaker", "--num-speakers", "2", "--format", "wav", "--out", "out")
    answer = command("separate", conversation, "--model", model, *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    stems = [f"conversation_SPEAKER_0{number}" for number in (0, 1)]
    files = {"conversation.rttm", *(f"{stem}.{end}" for stem in stems for end in ("rttm", "wav"))}
    assert set(names_in(command.folder / "out")) == files
    written = (command.folder / "out/conversation.rttm").read_text()
    assert written == (command.folder / "conversation.rttm").read_text()
    for stem in stems:
        speakers = read_rttm(command.folder / f"out/{stem}.rttm")[stem].labels()
        assert speakers == [stem.removeprefix("conversation_")]
        assert f"out/{stem}.wav" in answer.stdout
    assert answer.stdout.startswith(f"{conversation}: 30.0 s, speakers: 2\n")


def test_one_bad_file_stops_no_other(
    command: Command, model: Path, tones: Path, silence: Path
) -> None:
    """Bad files are a line each and status 2; the good ones, in folders too, have their tracks."""
    folder = command.folder / "many"
    folder.mkdir()
    shutil.copy(tones, folder)
    (folder / "broken.mp3").write_bytes(b"\x00\x01 no sound")
    answer = command("separate", "gone.wav", folder, silence, "--model", model)
    assert answer.returncode == 2
    assert [line.split(":")[0] for line in answer.stderr.splitlines()] == ["error", "error"]
    tracks = ["silence_1.wav", "silence_2.wav", "tones_1.flac", "tones_2.flac"]
    assert names_in(command.folder) == ["many", *tracks]
    lines = answer.stdout.splitlines()
    done = [str(folder / "tones.flac"), str(silence)]
    assert [line.partition(":")[0] for line in lines[:2]] == done
    assert lines[2].startswith("done: 2, 0.00 hours of audio in ")
    assert lines[3] == "failed: 2"


def test_tracks_are_no_recordings(command: Command, silence: Path) -> None:
    """A second run over a folder that its tracks lie in is refused before they are replaced."""
    for name in ("call.wav", "call_1.wav"):
        shutil.copy(silence, command.folder / name)
    answer = command("separate", ".")
    assert_refused(answer, "call_1.wav could be replaced", "call.wav", "--out")
    assert names_in(command.folder) == ["call.wav", "call_1.wav"]


def test_numbers_of_recordings_are_no_tracks(command: Command, model: Path, silence: Path) -> None:
    """Only what a track could replace is refused: the third part of a call is separated."""
    for name in ("call.wav", "call_3.wav"):
        shutil.copy(silence, command.folder / name)
    answer = command("separate", ".", "--model", model, "--quiet")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    stems = ("call", "call_1", "call_2", "call_3", "call_3_1", "call_3_2")
    assert names_in(command.folder) == sorted(f"{stem}.wav" for stem in stems)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone.wav"], "no such file"),
        (["gone.wav", "--out", "new"], "no such file"),
        (["x.wav", "--num-speakers", "2"], "--num-speakers is about speakers; add --by-speaker"),
        (["x.wav", "--min-turn", "1"], "--min-turn is about speakers"),
        (["x.wav", "--faint", "20"], "--faint is about speakers"),
        (["x.wav", "--by-speaker", "--num-speakers", "2", "--max-speakers", "3"], "leave out"),
        (["x.wav", "--by-speaker", "--live"], "leave out --by-speaker"),
        (["x.wav", "--latency", "1"], "add --live"),
        (["x.wav", "y.wav", "--live"], "one source, not 2"),
        (["x.wav", "--live", "--format", "flac"], "--format"),
        (["gone.wav", "--live"], "no such file"),
        (["-", "--live", "--channel", "0"], "--channel"),
        (["x.wav", "--format", "mp3"], "--format"),
    ],
)
def test_mistakes_name_their_cure(words: list[str], says: str, command: Command) -> None:
    """Each mistake is one line and status 2, before a model is loaded, and writes nothing."""
    assert_refused(command("separate", *words), says)
    assert names_in(command.folder) == []


def test_tracks_that_come_too_late(command: Command, model: Path, silence: Path) -> None:
    """A model whose latency is above the one that is asked for is one line and status 2."""
    late = ("separate", silence, "--model", model, "--live", "--latency", "0.1")
    assert_refused(command(*late), "--latency 0.1", "shorter windows")
    assert names_in(command.folder) == []


def listen(folder: Path, model: Path) -> "subprocess.Popen[bytes]":
    """Begin to separate what is piped in."""
    return subprocess.Popen(
        [COMMAND, "separate", "-", "--live", "--model", model, "--out", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_tracks_grow_while_it_is_said(command: Command, model: Path, tmp_path: Path) -> None:
    """A pipe has tracks before it ends, and at its end those of a file that holds the same."""
    samples = (two_tones(20.0).sum(axis=0) * 32767).astype("<i2")
    soundfile.write(tmp_path / "x.wav", samples, RATE)
    with listen(command.folder, model) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(samples[: 10 * RATE].tobytes())
        process.stdin.flush()
        line = process.stdout.readline().decode()
        assert line.startswith("-: ")
        assert line.endswith(" s behind\n")
        behind_s = float(line.split()[-3])
        path = command.folder / "stdin_1.wav"
        while soundfile.info(path).duration < 10 - behind_s - 2:
            assert process.poll() is None
            time.sleep(0.05)
        assert soundfile.info(path).duration <= 10
        process.stdin.write(samples[10 * RATE :].tobytes())
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert names_in(command.folder) == ["stdin_1.wav", "stdin_2.wav"]
    separate(tmp_path / "x.wav", command.folder, str(model))
    for number in (1, 2):
        live, offline = (
            soundfile.read(command.folder / f"{name}_{number}.wav", dtype="int16")[0]
            for name in ("stdin", "x")
        )
        assert len(live) == len(samples)
        assert np.abs(live.astype(int) - offline).max() <= 2


def test_growing_tracks_can_be_quiet(command: Command, model: Path, tmp_path: Path) -> None:
    """With --quiet nothing is said; a file's tracks are as long as it is."""
    soundfile.write(tmp_path / "x.wav", two_tones(1.0, 8000).sum(axis=0), 8000)
    answer = command("separate", tmp_path / "x.wav", "--live", "--quiet", "--model", model)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert [soundfile.info(command.folder / f"x_{number}.wav").frames for number in (1, 2)] == [
        RATE,
        RATE,
    ]


def test_interrupt_ends_the_recording(command: Command, model: Path) -> None:
    """Ctrl-C ends a live recording: what was heard until then is on the tracks, with status 0."""
    samples = (two_tones(10.0).sum(axis=0) * 32767).astype("<i2")
    with listen(command.folder, model) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(samples.tobytes())
        process.stdin.flush()
        assert process.stdout.readline()
        tracks = [command.folder / f"stdin_{number}.wav" for number in (1, 2)]
        while (before := soundfile.info(tracks[0]).frames) < 5 * RATE:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        process.stdin.close()
    first, second = (soundfile.info(path).frames for path in tracks)
    assert first == second
    assert before < first <= len(samples), "what was held back is written"


def test_interrupt_leaves_nothing_half_written(command: Command, model: Path) -> None:
    """Ctrl-C in the middle of a recording ends the command with status 130 and no track."""
    with soundfile.SoundFile(command.folder / "long.wav", "w", RATE, 1) as file:
        for _ in range(60):
            file.write(two_tones(60.0).sum(axis=0))
    words = [COMMAND, "separate", command.folder / "long.wav", "--model", model]
    out = command.folder / "out"
    with subprocess.Popen([*words, "--out", out], stderr=subprocess.PIPE, text=True) as process:
        while not out.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "error: interrupted; files already written are complete.\n"
    assert names_in(out) == []
