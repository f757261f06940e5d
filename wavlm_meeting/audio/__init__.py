"""Audio in: any file to mono float32 at 16 kHz, streamed in blocks and cut into windows."""

from wavlm_meeting.audio.read import AudioReader, open_audio, read_audio
from wavlm_meeting.audio.windows import Window, iter_windows

__all__ = ["AudioReader", "Window", "iter_windows", "open_audio", "read_audio"]
