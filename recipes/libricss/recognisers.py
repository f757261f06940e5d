"""What writes down the words of a stretch of speech.

N samples.
"""

import shlex
import subprocess
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol

import soundfile
import torch
from numpy import float32
from numpy.typing import NDArray

from wavlm_meeting.devices import resolve_device
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.units import SAMPLE_RATE

COMMAND = "command:"
"""What the name of a recogniser begins with that is a program."""

Samples = NDArray[float32]
Recogniser = Callable[[Samples], str]
"""From samples (N,) at 16 kHz to the words in them; nothing was said: an empty text."""


class _Tokens(Protocol):
    """What is used of a tokenizer of transformers."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, group_tokens: bool) -> str:
        """Return a text; with `group_tokens`, one is kept of the same token in a row."""


def open_recogniser(name: str, device: str = "auto") -> Recogniser:
    """Return the recogniser of this name.

    `command: PROGRAM WORDS` is a program that gets the path of a WAV file as its last word and
    prints what is said in it. All else is a model with a CTC layer and its characters, of the
    transformers library: a folder, or an id of the Hugging Face hub. The bundles of this project
    keep such a layer, but no characters; export them by `models export` and put a tokenizer beside.
    Raises SettingsError or CheckpointError where there is no such thing.
    """
    if name.startswith(COMMAND):
        return CommandRecogniser(name.removeprefix(COMMAND))
    return CtcRecogniser(name, device)


class CommandRecogniser:
    """A program that prints the words of a recording."""

    def __init__(self, command: str) -> None:
        """Take the command line, to which the path is added; no shell reads it."""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"recogniser '{command}': {error}; correct the quotes.") from None
        if not self._words:
            raise SettingsError(f"recogniser '{COMMAND}': name a program behind it.")

    def __call__(self, samples: Samples) -> str:
        """Return what the program prints; raises SettingsError if it does not start, or fails."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            soundfile.write(path, samples, SAMPLE_RATE, "FLOAT")
            try:
                answer = subprocess.run(  # noqa: S603 - the user's own program
                    [*self._words, path], capture_output=True, text=True, check=False
                )
            except OSError as error:
                raise SettingsError(
                    f"recogniser {self._words[0]}: {error.strerror}; name a program that is there."
                ) from None
        if answer.returncode:
            said = answer.stderr.strip().splitlines() or ["it says nothing"]
            raise SettingsError(
                f"recogniser {shlex.join(self._words)} ended with status {answer.returncode} "
                f"({said[-1]}); try it on a WAV file."
            )
        return " ".join(answer.stdout.split())


class CtcRecogniser:
    """A CTC model of the transformers library, decoded without a language model."""

    def __init__(self, name: str, device: str = "auto") -> None:
        """Load the model, its tokenizer and how it wants samples scaled."""
        try:
            transformers = import_module("transformers")  # recipes run without it, too
        except ImportError:
            raise SettingsError(
                f"recogniser {name}: needs transformers; pip install transformers."
            ) from None
        self._device = resolve_device(device)
        try:
            self._scale = transformers.AutoFeatureExtractor.from_pretrained(name)
            self._tokens: _Tokens = transformers.AutoTokenizer.from_pretrained(name)
            self._model = transformers.AutoModelForCTC.from_pretrained(name).eval().to(self._device)
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or ["?"])[0]
            raise CheckpointError(
                f"recogniser {name}: not a CTC model with its tokenizer that transformers can "
                f"load ({reason}); name a folder or a hub id of one."
            ) from None
        if self._scale.sampling_rate != SAMPLE_RATE:
            raise CheckpointError(
                f"recogniser {name}: hears {self._scale.sampling_rate} Hz; name one of "
                f"{SAMPLE_RATE} Hz."
            )

    def __call__(self, samples: Samples) -> str:
        """Return the text of the most probable characters."""
        heard = self._scale(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(heard["input_values"].to(self._device)).logits
        path = logits[0].argmax(dim=-1).unique_consecutive().tolist()
        # Told to skip them, the tokenizer drops blanks before it joins repeats: `ll` became `l`.
        kept = [each for each in path if each != self._model.config.pad_token_id]
        text = self._tokens.decode(kept, skip_special_tokens=True, group_tokens=False)
        return " ".join(text.split())
