"""Each command and its Python function have the same parameters."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import wavlm_meeting
from wavlm_meeting.cli import diarize as diarize_command
from wavlm_meeting.cli import score as score_command
from wavlm_meeting.scoring.diarization import score_diarization

TWINS = {
    "diarize": (
        diarize_command.diarize,
        wavlm_meeting.diarize,
        {"files": "path_or_waveform"},
        {"context", "out", "formats", "quiet"},
    ),
    "score diarization": (score_command.diarization, score_diarization, {}, {"as_json"}),
}
"""Command, function, names that differ, and what the command has for writing and showing."""


def parameters(function: Callable[..., Any]) -> dict[str, object]:
    """Return the names of a function's parameters and their defaults."""
    return {name: item.default for name, item in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("name", TWINS)
def test_command_and_function_agree(name: str) -> None:
    """They have the same parameters with the same defaults, but for writing and showing."""
    command, function, renamed, shown = TWINS[name]
    typed = {
        renamed.get(parameter, parameter): default
        for parameter, default in parameters(command).items()
        if parameter not in shown
    }
    assert typed == parameters(function)
