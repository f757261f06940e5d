"""`wavlm-meeting diarize` on real recordings, as typed."""

import os
import platform
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import COMMAND, Command, assert_refused
from wavlm_meeting.formats import read_json, read_rttm

NO_NETWORK = """
import os, sys

def forbid(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        sys.stderr.write(f"network: {event} {arguments}\\n")
        sys.stderr.flush()
        os._exit(99)

sys.addaudithook(forbid)
from wavlm_meeting.cli.main import main
main()
"""
"""Runs the command in a Python that ends at the first use of the network."""


def speakers_of(rttm: Path) -> set[str]:
    """Return the speakers that an RTTM file names."""
    return set().union(*(annotation.labels() for annotation in read_rttm(rttm).values()))


def test_files_and_table_agree(command: Command, conversation: Path) -> None:
    """RTTM, JSON and table tell of the same turns; the folder of --out is made."""
    answer = command("diarize", conversation, "--format", "json", "--out", "new/folder")
    assert (answer.returncode, answer.stderr) == (0, "")
    out = command.folder / "new/folder"
    assert {path.name for path in out.iterdir()} == {"conversation.json", "conversation.rttm"}
    document = read_json(out / "conversation.json")
    annotation = read_rttm(out / "conversation.rttm")["conversation"]
    turns = [(turn.start, turn.end, turn.speaker) for turn in document.turns]
    assert turns
    assert sorted(turns) == sorted(
        (round(segment.start, 3), round(segment.end, 3), speaker)
        for segment, _, speaker in annotation.itertracks(yield_label=True)
    )
    rows = [line.split() for line in answer.stdout.splitlines()]
    assert [row[:3] for row in rows if len(row) == 5 and row[0] in annotation.labels()] == [
        [speaker, f"{start:.2f}", f"{end:.2f}"] for start, end, speaker in turns
    ]
    shares = [float(row[2]) for row in rows if len(row) == 3 and row[0] in annotation.labels()]
    assert sum(shares) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_speakers_is_honoured(count: int, command: Command, conversation: Path) -> None:
    """`--num-speakers N` gives N speakers: 30 s of conversation carry up to three."""
    answer = command("diarize", conversation, "--num-speakers", str(count))
    assert answer.returncode == 0, answer.stderr
    assert len(speakers_of(command.folder / "conversation.rttm")) == count


def test_who_is_far_fainter_is_left_out_unless_asked_for(
    command: Command, conversation: Path
) -> None:
    """Talk 45 dB below the recording has turns with `--faint inf` alone; 0 dB is refused."""
    samples, rate = soundfile.read(conversation)
    before = 10 ** (-45 / 20) * samples[: 12 * rate]
    soundfile.write(command.folder / "late.wav", np.concatenate([before, samples]), rate)
    firsts = []
    for options in ((), ("--faint", "inf")):
        assert command("diarize", "late.wav", *options).returncode == 0
        turns = read_rttm(command.folder / "late.rttm")["late"]
        firsts.append(min(turn.start for turn in turns.itersegments()))
    assert firsts[1] < 12 < firsts[0]
    answer = command("diarize", "late.wav", "--faint", "0", "--quiet")
    assert_refused(answer, "faint_db is 0.0: give more than 0 dB")


def test_silence_is_a_result(command: Command, silence: Path) -> None:
    """A silent recording gives an empty RTTM and a warning of one line, with status 0."""
    answer = command("diarize", silence, "--quiet")
    assert answer.returncode == 0
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("warning: ")
    assert (command.folder / "silence.rttm").read_text() == ""


def test_one_bad_file_stops_no_other(command: Command, conversation: Path, silence: Path) -> None:
    """Bad files are a line each and status 2; the good ones, in folders too, are written."""
    folder = command.folder / "many recordings"
    folder.mkdir()
    shutil.copy(conversation, folder / "good one.WAV")
    (folder / "broken.mp3").write_bytes(b"\x00\x01 no sound")
    (folder / "notes.txt").write_text("not a recording, and not named like one")
    answer = command("diarize", "gone.wav", folder, silence, folder / "good one.WAV", "--quiet")
    assert answer.returncode == 2
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "error", "warning"]
    assert "gone.wav" in lines[0]
    assert "broken.mp3" in lines[1]
    written = {path.name for path in command.folder.glob("*.*")}
    assert written == {"good one.rttm", "silence.rttm"}


def test_many_recordings_end_in_a_summary(
    command: Command, conversation: Path, silence: Path
) -> None:
    """A row for each recording, then all together: done, speakers found, failures and reasons."""
    (command.folder / "broken.mp3").write_bytes(b"\x00\x01 no sound")
    answer = command("diarize", conversation, silence, "broken.mp3", "--num-speakers", "2")
    assert answer.returncode == 2
    lines = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    rows = {Path(line.split()[0]).name: line.split()[1:3] for line in lines[2:4]}
    assert rows == {"conversation.wav": ["0.5", "2"], "silence.wav": ["0.1", "0"]}
    assert lines[4].startswith("done: 2, 0.01 hours of audio in ")
    assert lines[5:7] == ["speakers: 0 in 1, 2 in 1", "failed: 1"]
    assert lines[7].startswith("broken.mp3: ")
    assert f"error: {lines[7]}" in answer.stderr.splitlines()


def test_resume_does_what_is_left(command: Command, conversation: Path, silence: Path) -> None:
    """What has all its results is skipped, unless the recording is newer; the rest is done."""
    words = ("diarize", conversation, silence, "--format", "csv,json", "--out", "out", "--resume")
    assert command(*words[:2], *words[3:], "--quiet").returncode == 0
    out = command.folder / "out"
    written = out / "conversation.rttm"
    assert {path.suffix for path in out.iterdir()} == {".rttm", ".csv", ".json"}
    before = written.stat().st_mtime_ns
    answer = command(*words)
    assert answer.returncode == 0, answer.stderr
    assert "done: 1, " in answer.stdout
    assert "done before: 1" in answer.stdout
    assert written.stat().st_mtime_ns == before
    assert (out / "silence.rttm").exists()
    (out / "silence.csv").unlink()
    os.utime(written, ns=(0, 0))  # older than its recording
    assert "done: 2, " in command(*words).stdout
    assert command(*words).stdout.split() == ["done", "before:", "2"]
    assert not list(out.glob(".*"))


def test_what_a_killed_run_heard_is_not_lost(tmp_path: Path, conversation: Path) -> None:
    """A run that dies leaves its journal; --resume takes it up and gives the same turns."""
    samples, rate = soundfile.read(conversation, dtype="int16")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(samples, 8), rate)
    journal, words = tmp_path / "out/.long.journal", [COMMAND, "diarize", long, "--quiet", "--out"]
    with subprocess.Popen([*words, tmp_path / "out"], stderr=subprocess.PIPE) as process:
        while not journal.exists() or journal.stat().st_size < 100_000:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert list((tmp_path / "out").iterdir()) == [journal]
    subprocess.run([*words, tmp_path / "out", "--resume"], check=True)
    subprocess.run([*words, tmp_path / "whole"], check=True)
    (found,) = (tmp_path / "out").iterdir()
    assert found.read_text() == (tmp_path / "whole/long.rttm").read_text() != ""


def test_uses_no_network(tmp_path: Path, conversation: Path) -> None:
    """Nothing is sent or looked up, though the hub is not told to stay offline."""
    words = ["diarize", conversation, "--out", tmp_path, "--format", "json"]
    online = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", NO_NETWORK, *words],
        cwd=tmp_path,
        env=online,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "conversation.rttm").stat().st_size > 0


def test_interrupt_leaves_nothing_half_written(tmp_path: Path, conversation: Path) -> None:
    """Ctrl-C in the middle ends the command with status 130 and no result.

    What was heard is kept, and a note says so.
    """
    samples, rate = soundfile.read(conversation, dtype="int16")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(samples, 120), rate)
    out, journal = tmp_path / "out", tmp_path / "out/.long.journal"
    with subprocess.Popen(
        [COMMAND, "diarize", long, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (journal.exists() and journal.stat().st_size > 100_000):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    note, error = stderr.splitlines()
    assert note.startswith(f"note: {journal} keeps what was heard; add --resume")
    assert error.startswith("error: interrupted;")
    assert list(out.iterdir()) == [journal]


def test_bar_on_a_terminal_only(tmp_path: Path, conversation: Path) -> None:
    """A terminal on standard error shows a progress bar; the result stays free of its codes."""
    terminal, inside = pty.openpty()
    answer = subprocess.run(
        [COMMAND, "diarize", conversation],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=inside,
        check=True,
    )
    os.close(inside)
    shown = os.read(terminal, 1 << 16)
    os.close(terminal)
    assert b"%" in shown
    assert b"\x1b" not in answer.stdout


def test_precision_as_typed(command: Command, conversation: Path) -> None:
    """--precision int8 is what the function gives, or one line where the CPU has no such products.

    Without VNNI oneDNN's products of int8 overflow: nobody may get turns from them.
    """
    from wavlm_meeting.checkpoints.precision import int8_is_exact
    from wavlm_meeting.diarization import diarize

    words = ("diarize", conversation, "--device", "cpu", "--precision")
    answer = command(*words, "int4")
    assert answer.returncode == 2
    assert "'int4' is not one of 'float32', 'bfloat16', 'int8'" in answer.stderr
    if not int8_is_exact():
        assert_refused(command(*words, "int8"), "int8", "choose float32")
        return
    answer = command(*words, "int8", "--quiet")
    assert (answer.returncode, answer.stderr) == (0, "")
    (found,) = read_rttm(command.folder / "conversation.rttm").values()
    turns = diarize(conversation, device="cpu", precision="int8").turns
    assert len(turns) == len(list(found.itertracks()))
    if platform.machine() == "x86_64":
        older = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
        assert_refused(command(*words, "int8", **older), "int8", "choose float32")
