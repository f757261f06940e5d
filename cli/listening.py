"""Listening to what is not over yet: a file played as if it were heard, a pipe, the microphone."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Self, cast

import typer

from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavlm_meeting.audio.pcm import PcmFormat, Readable

    Blocks = Iterator[NDArray[np.float32]]

PIPE, MICROPHONE = "-", "microphone"

Speed = Annotated[
    float,
    typer.Option(min=0, metavar="FACTOR", help="How fast to play a file; 0 is as fast as it goes."),
]
Rate = Annotated[
    int, typer.Option(min=1000, metavar="HZ", help="Of raw 16-bit samples on standard input.")
]
Channels = Annotated[
    int, typer.Option(min=1, metavar="N", help="Of raw samples on standard input.")
]


class Interrupt:
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


def check_source(source: str, channel: int | None) -> None:
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


def name_of(source: str) -> str:
    """Return the name under which results of a source are written."""
    return "stdin" if source == PIPE else Path(source).stem


def raw_format(rate: int, channels: int) -> "PcmFormat":
    """Return what raw samples on standard input are."""
    from wavlm_meeting.audio.pcm import PcmFormat

    return PcmFormat("int", 16, rate, channels)


def listen(
    source: str, channel: int | None, speed: float, raw: "PcmFormat", stack: ExitStack
) -> "Blocks":
    """Begin to listen; the stack ends it."""
    from wavlm_meeting.audio.live import microphone, piped, played

    if source == PIPE:
        return piped(cast("Readable", sys.stdin.buffer), raw=raw, channel=channel)
    if source == MICROPHONE:
        return stack.enter_context(microphone())
    return played(source, channel=channel, speed=speed)
