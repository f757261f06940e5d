"""Each command and its Python function have the same parameters."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import wavlm_meeting
from wavlm_meeting.cli import compare as compare_command
from wavlm_meeting.cli import diarize as diarize_command
from wavlm_meeting.cli import enroll as enroll_command
from wavlm_meeting.cli import identify as identify_command
from wavlm_meeting.cli import score as score_command
from wavlm_meeting.cli import separate as separate_command
from wavlm_meeting.cli import verify as verify_command
from wavlm_meeting.meeting import enroll
from wavlm_meeting.scoring.breakdown import compare_diarization
from wavlm_meeting.scoring.diarization import score_diarization
from wavlm_meeting.verification.identification import identify, load_identifier
from wavlm_meeting.verification.verify import score_trials, verify

IDENTIFY = {"register", "speaker_model", "backend", "false_accepts", "threshold"}
"""Parameters of `diarize --identify`: what `load_identifier` takes."""

TWINS = {
    "diarize": (
        diarize_command.diarize,
        wavlm_meeting.diarize,
        {"files": "path_or_waveform"},
        {"context", "out", "formats", "quiet", "resume", "live", "latency", "identify", *IDENTIFY},
    ),
    "verify": (
        verify_command.verify,
        verify,
        {},
        {"context", "first", "second", "trials", "root", "out", "as_json", "quiet"},
    ),
    "verify --trials": (
        verify_command.verify,
        score_trials,
        {},
        {"context", "first", "second", "trials", "root", "out", "prior", "progress"}
        | {"as_json", "quiet"},
    ),
    "enroll": (enroll_command.enroll, enroll, {}, {"context", "quiet"}),
    "identify": (
        identify_command.identify,
        identify,
        {},
        {"context", "as_json", "quiet", "failed", "progress"},
    ),
    "separate": (
        separate_command.separate,
        wavlm_meeting.separate,
        {"files": "path"},
        {"context", "live", "latency", "quiet"},
    ),
    "compare": (
        compare_command.compare,
        compare_diarization,
        {},
        {"out", "recording", "as_json", "seed"},
    ),
    "score diarization": (score_command.diarization, score_diarization, {}, {"as_json"}),
}
"""Command, function, names that differ, and what one of them has for reading, writing, showing."""


def parameters(function: Callable[..., Any]) -> dict[str, object]:
    """Return the names of a function's parameters and their defaults."""
    return {name: item.default for name, item in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("name", TWINS)
def test_command_and_function_agree(name: str) -> None:
    """They have the same parameters with the same defaults, but for reading and showing."""
    command, function, renamed, own = TWINS[name]
    typed, called = (
        {
            renamed.get(parameter, parameter): default
            for parameter, default in parameters(twin).items()
            if parameter not in own
        }
        for twin in (command, function)
    )
    assert typed == called


def test_names_on_turns_have_one_set_of_options() -> None:
    """`diarize --identify` takes what `load_identifier` takes, with the same defaults."""
    typed = parameters(diarize_command.diarize)
    called = {
        "speaker_model" if name == "model" else name: default
        for name, default in parameters(load_identifier).items()
        if name != "device"
    }
    assert {name: typed[name] for name in IDENTIFY} == called
