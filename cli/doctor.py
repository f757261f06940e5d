"""`wavlm-meeting doctor`: is this environment healthy, and if not, what cures it."""

import typer

from wavlm_meeting.cli.options import AsJson, Device
from wavlm_meeting.cli.output import show_error, show_json, show_line


def doctor(device: Device = "auto", as_json: AsJson = False) -> None:
    """Check the environment: one line if it is healthy, else one for each problem and its cure."""
    from wavlm_meeting.doctor import examine

    health = examine(device)
    if as_json:
        show_json(health.to_dict())
    elif not health.problems:
        show_line(f"healthy: {', '.join(health.facts)}.")
    else:
        for problem in health.problems:
            show_error(f"{problem.what}; cure: {problem.cure}")
    if health.problems:
        raise typer.Exit(2)
