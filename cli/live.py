"""`wavlm-meeting live`, also `diarize --live`: who speaks, while they do."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.listening import (
    Channels,
    Interrupt,
    Rate,
    Speed,
    check_source,
    listen,
    name_of,
    raw_format,
)
from wavlm_meeting.cli.options import (
    AsJson,
    Channel,
    Device,
    Latency,
    MaxSpeakers,
    Model,
    Precision,
    make_folder,
)
from wavlm_meeting.cli.output import show_line, show_note

if TYPE_CHECKING:
    from wavlm_meeting.cli.listening import Blocks
    from wavlm_meeting.diarization import Turn
    from wavlm_meeting.diarization.streaming import StreamingDiarization

LATENCY_S = 2.0
"""The latency where none is asked for."""
MODEL = "tiny"
"""The model where none is asked for: `mini` hears a window every 2.5 s only."""


def live(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-|microphone",
            help="A file, played at its own speed; - for WAV or raw samples on standard input.",
        ),
    ],
    model: Model = MODEL,
    latency: Latency = None,
    max_speakers: MaxSpeakers = None,
    channel: Channel = None,
    speed: Speed = 1.0,
    rate: Rate = 16_000,
    channels: Channels = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write <name>.rttm at the end, if anywhere."),
    ] = None,
    as_json: AsJson = False,
    device: Device = "auto",
    precision: Precision = "float32",
) -> None:
    """Say who speaks: a line for each piece of a turn, which no later line takes back.

    A line has start and end in seconds, the speaker and how sure that is; with --json it is an
    object. Who speaks on has further lines. Ctrl-C ends the recording: what was heard is shown, and
    written with --out, under the name of the file, stdin or microphone.
    """
    check_source(source, channel)
    if out is not None:
        make_folder(out)
    from wavlm_meeting import load_pipeline
    from wavlm_meeting.diarization.streaming import StreamingDiarization

    # Whatever stops the work is found before anybody speaks.
    stream = StreamingDiarization(
        load_pipeline(model, device, precision),
        latency_s=LATENCY_S if latency is None else latency,
        max_speakers=max_speakers,
    )
    heard, pieces = False, []
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        blocks = listen(source, channel, speed, raw_format(rate, channels), stack)
        for piece in _pieces(stream, interrupt.until_asked(blocks)):
            show_line(_json(piece) if as_json else _words(piece))
            heard = True
            if out is not None:
                pieces.append(piece)
    if not heard:
        show_note(f"{source}: no speech heard.")
    if out is not None:
        name = name_of(source)
        stream.result(name, pieces).write_rttm(out / f"{name}.rttm")


def _pieces(stream: "StreamingDiarization", blocks: "Blocks") -> "Iterator[Turn]":
    """Give what has become final, block by block, and the rest at the end."""
    for block in blocks:
        yield from stream.push(block)
    yield from stream.finish()


def _words(piece: "Turn") -> str:
    return f"{piece.start:9.2f} {piece.end:9.2f}  {piece.speaker}  {piece.confidence:.2f}"


def _json(piece: "Turn") -> str:
    return json.dumps(asdict(piece))
