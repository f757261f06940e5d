"""`wavlm-meeting live`, also `diarize --live`: who speaks, while they do."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Self, cast

import typer

from wavlm_meeting.cli.options import AsJson, Channel, Device, MaxSpeakers, Model, make_folder
from wavlm_meeting.cli.output import show_line, show_note
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavlm_meeting.audio.pcm import PcmFormat, Readable
    from wavlm_meeting.diarization import Turn
    from wavlm_meeting.diarization.streaming import StreamingDiarization

    Blocks = Iterator[NDArray[np.float32]]

PIPE, MICROPHONE = "-", "microphone"


def live(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-|microphone",
            help="A file, played at its own speed; - for WAV or raw samples on standard input.",
        ),
    ],
    model: Model = "tiny",
    latency: Annotated[
        float,
        typer.Option(
            "--latency", metavar="SECONDS", help="Seconds from speech to its line, 0.5 to 10."
        ),
    ] = 2.0,
    max_speakers: MaxSpeakers = None,
    channel: Channel = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0, metavar="FACTOR", help="How fast to play a file; 0 is as fast as it goes."
        ),
    ] = 1.0,
    rate: Annotated[
        int,
        typer.Option(min=1000, metavar="HZ", help="Of raw 16-bit samples on standard input."),
    ] = 16_000,
    channels: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of raw samples on standard input.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write <name>.rttm at the end, if anywhere."),
    ] = None,
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Say who speaks: a line for each piece of a turn, which no later line takes back.

    A line has start and end in seconds, the speaker and how sure that is; with --json it is an
    object. Who speaks on has further lines. Ctrl-C ends the recording: what was heard is shown, and
    written with --out, under the name of the file, stdin or microphone.
    """
    _check(source, channel)
    if out is not None:
        make_folder(out)
    from wavlm_meeting import load_pipeline
    from wavlm_meeting.diarization.streaming import StreamingDiarization

    # Whatever stops the work is found before anybody speaks.
    stream = StreamingDiarization(
        load_pipeline(model, device=device), latency_s=latency, max_speakers=max_speakers
    )
    heard, pieces = False, []
    with ExitStack() as stack:
        interrupt = stack.enter_context(_Interrupt())
        blocks = _open(source, channel, speed, _raw(rate, channels), stack)
        for piece in _pieces(stream, interrupt.until_asked(blocks)):
            show_line(_json(piece) if as_json else _words(piece))
            heard = True
            if out is not None:
                pieces.append(piece)
    if not heard:
        show_note(f"{source}: no speech heard.")
    if out is not None:
        name = "stdin" if source == PIPE else Path(source).stem
        stream.result(name, pieces).write_rttm(out / f"{name}.rttm")


class _Interrupt:
    """Ctrl-C ends the listening between two steps; a second one ends the command at once."""

    def __init__(self) -> None:
        self.asked = self.waiting = False

    def __enter__(self) -> Self:
        self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def until_asked(self, blocks: "Blocks") -> "Blocks":
        """Give blocks until Ctrl-C, which is heard at once while none is there."""
        while not self.asked:
            self.waiting = True
            try:
                block = next(blocks)
            except (StopIteration, KeyboardInterrupt):
                return
            finally:
                self.waiting = False
            yield block

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        if self.waiting or self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _pieces(stream: "StreamingDiarization", blocks: "Blocks") -> "Iterator[Turn]":
    """Give what has become final, block by block, and the rest at the end."""
    for block in blocks:
        yield from stream.push(block)
    yield from stream.finish()


def _check(source: str, channel: int | None) -> None:
    """Refuse what cannot be listened to, before the model is loaded."""
    if source == PIPE:
        if sys.stdin.isatty():
            raise SettingsError(
                "-: standard input is a terminal; pipe WAV or raw samples into the command."
            )
    elif source != MICROPHONE:
        from wavlm_meeting.audio import open_audio

        open_audio(source, channel=channel).close()
    elif channel is not None:
        raise SettingsError("--channel: the microphone is recorded with one; leave it out.")


def _raw(rate: int, channels: int) -> "PcmFormat":
    from wavlm_meeting.audio.pcm import PcmFormat

    return PcmFormat("int", 16, rate, channels)


def _open(
    source: str, channel: int | None, speed: float, raw: "PcmFormat", stack: ExitStack
) -> "Blocks":
    """Begin to listen; the stack ends it."""
    from wavlm_meeting.audio.live import microphone, piped, played

    if source == PIPE:
        return piped(cast("Readable", sys.stdin.buffer), raw=raw, channel=channel)
    if source == MICROPHONE:
        return stack.enter_context(microphone())
    return played(source, channel=channel, speed=speed)


def _words(piece: "Turn") -> str:
    return f"{piece.start:9.2f} {piece.end:9.2f}  {piece.speaker}  {piece.confidence:.2f}"


def _json(piece: "Turn") -> str:
    return json.dumps(asdict(piece))
