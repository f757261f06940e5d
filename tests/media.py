"""Writing audio and video files of all kinds with FFmpeg's libraries, for tests."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

# N samples, C channels

Samples = NDArray[np.float32]

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def write_media(
    path: Path,
    samples: Samples,
    rate: int,
    codec: str,
    *,
    video: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode `samples` (N,) or (N, C), with ten pictures a second where a `video` codec is named.

    `options` are those of the container.
    """
    samples = samples.reshape(len(samples), -1)
    with av.open(str(path), "w", options=options or {}) as container:
        layout = LAYOUTS[samples.shape[1]]
        audio = container.add_stream(codec, rate=rate, layout=layout)
        pictures = container.add_stream(video, rate=10) if video else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        resampler = av.AudioResampler(format=audio.format.name, layout=layout, rate=rate)
        shown = 0
        for start in range(0, len(samples), 1024):
            part = np.ascontiguousarray(samples[start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for converted in resampler.resample(frame):
                container.mux(audio.encode(converted))
            while pictures is not None and shown * rate <= start * 10:
                picture = np.full((48, 64, 3), shown % 255, np.uint8)
                image = av.VideoFrame.from_ndarray(picture, format="rgb24")
                image.pts = shown
                container.mux(pictures.encode(image))
                shown += 1
        for converted in resampler.resample(None):
            container.mux(audio.encode(converted))
        container.mux(audio.encode(None))
        if pictures is not None:
            container.mux(pictures.encode(None))
    return path


def write_silent_film(path: Path) -> Path:
    """Write one second of video without an audio stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            picture = np.zeros((48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_picture(path: Path) -> Path:
    """Write a PNG."""
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        picture = np.zeros((48, 64, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
