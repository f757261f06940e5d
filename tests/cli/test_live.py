"""`wavlm-meeting live` as typed: a file, a pipe, Ctrl-C."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
import soundfile

from commands import COMMAND, Command, assert_refused
from wavlm_meeting.formats import read_rttm

FAST = ("--speed", "0")


def turns_in(rttm: Path) -> list[tuple[float, float, str]]:
    """Return the turns of an RTTM file's only recording by start."""
    (annotation,) = read_rttm(rttm).values()
    return [
        (round(segment.start, 3), round(segment.end, 3), speaker)
        for segment, _, speaker in annotation.itertracks(yield_label=True)
    ]


def test_lines_and_files_agree(command: Command, conversation: Path) -> None:
    """A line for each piece, the same as JSON, and the RTTM holds the time of each speaker."""
    words = command("live", conversation, *FAST)
    assert (words.returncode, words.stderr) == (0, "")
    assert list(command.folder.iterdir()) == []
    answer = command("live", conversation, *FAST, "--json", "--out", "new/folder")
    assert (answer.returncode, answer.stderr) == (0, "")
    pieces = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [line.split()[:3] for line in words.stdout.splitlines()] == [
        [f"{piece['start']:.2f}", f"{piece['end']:.2f}", piece["speaker"]] for piece in pieces
    ]
    turns = turns_in(command.folder / "new/folder/conversation.rttm")
    assert len({speaker for _, _, speaker in turns}) >= 2
    for name in {piece["speaker"] for piece in pieces}:
        said = sum(piece["end"] - piece["start"] for piece in pieces if piece["speaker"] == name)
        written = sum(end - start for start, end, speaker in turns if speaker == name)
        assert written == pytest.approx(said, abs=0.01)


@pytest.mark.parametrize("model", [(), ("--model", "mini")])
def test_diarize_live(command: Command, conversation: Path, model: tuple[str, ...]) -> None:
    """`diarize --live` says what `live` says and writes the same RTTM, and no more."""
    expected = command("live", conversation, *FAST, "--latency", "5", "--out", "live", *model)
    data = conversation.read_bytes()
    answer = subprocess.run(
        [COMMAND, "diarize", "-", "--live", "--latency", "5", "--out", "out", *model],
        cwd=command.folder,
        input=data,
        capture_output=True,
        check=True,
    )
    assert answer.stdout.decode() == expected.stdout
    (written,) = (command.folder / "out").iterdir()
    assert turns_in(written) == turns_in(command.folder / "live/conversation.rttm")


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--live", "--num-speakers", "2"), "--num-speakers: needs the whole recording"),
        (("--live", "--exclusive"), "--exclusive: needs the whole recording"),
        (("--live", "second.wav"), "--live: one source, not 2"),
        (("--latency", "1"), "add --live"),
    ],
)
def test_diarize_live_refuses(
    command: Command, conversation: Path, options: tuple[str, ...], cure: str
) -> None:
    """What needs the whole recording does not go with --live, and is not left out silently."""
    assert_refused(command("diarize", conversation, *options), cure)


def test_a_pipe_says_what_the_file_says(command: Command, conversation: Path) -> None:
    """WAV and raw samples on standard input give the lines of the file, under the name stdin."""
    expected = command("live", conversation, *FAST, "--latency", "5").stdout
    samples, _ = soundfile.read(conversation, dtype="int16")
    assert expected
    for data in (conversation.read_bytes(), samples.tobytes()):
        answer = subprocess.run(
            [COMMAND, "live", "-", "--latency", "5", "--out", "."],
            cwd=command.folder,
            input=data,
            capture_output=True,
            check=True,
        )
        assert answer.stdout.decode() == expected
    assert turns_in(command.folder / "stdin.rttm")


def test_lines_come_while_it_is_said(tmp_path: Path, conversation: Path) -> None:
    """Half of a conversation is answered before the rest is there; Ctrl-C writes it and ends."""
    samples, _ = soundfile.read(conversation, dtype="int16")
    with subprocess.Popen(
        [COMMAND, "live", "-", "--out", tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(samples[: 15 * 16_000].tobytes())
        process.stdin.flush()
        first = process.stdout.readline().decode().split()
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().decode().splitlines()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stdin.close()
    turns = turns_in(tmp_path / "stdin.rttm")
    assert float(first[0]) == pytest.approx(turns[0][0], abs=0.01)
    assert float(rest[-1].split()[1]) == pytest.approx(max(end for _, end, _ in turns), abs=0.01)


def test_silence_is_noted(command: Command, silence: Path) -> None:
    """Nobody speaks: no line, an empty RTTM, and a note that says so."""
    answer = command("live", silence, *FAST, "--out", ".")
    assert (answer.returncode, answer.stdout) == (0, "")
    assert answer.stderr.startswith("note: ")
    assert "no speech" in answer.stderr
    assert (command.folder / "silence.rttm").read_text() == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone.wav"], "gone.wav"),
        (["-", "--latency", "0.2"], "give 0.5 to 10 s"),
        (["microphone", "--channel", "2"], "--channel"),
        (["microphone"], "install one of them"),
        (["-"], "nothing came"),
    ],
)
def test_mistakes_name_their_cure(words: list[str], says: str, command: Command) -> None:
    """What cannot be listened to is one line and status 2."""
    empty = {"PATH": str(command.folder)}
    answer = subprocess.run(
        [COMMAND, "live", *words],
        cwd=command.folder,
        env={**os.environ, **empty},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refused(answer, says)


def test_a_terminal_is_no_pipe(command: Command) -> None:
    """Without a pipe `-` would wait for ever: the line says what to do."""
    terminal, inside = pty.openpty()
    answer = subprocess.run(
        [COMMAND, "live", "-"],
        cwd=command.folder,
        stdin=inside,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(inside)
    os.close(terminal)
    assert_refused(answer, "terminal", "pipe WAV")
