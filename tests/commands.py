"""Running `wavlm-meeting` as typed, and what tests ask of every answer."""

import os
import subprocess
import sysconfig
from pathlib import Path

COMMAND = Path(sysconfig.get_path("scripts")) / "wavlm-meeting"
Answer = subprocess.CompletedProcess[str]


class Command:
    """Runs the installed command in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str | Path, **variables: str) -> Answer:
        """Run `wavlm-meeting WORDS`, with environment variables added, and wait for it."""
        return subprocess.run(
            [COMMAND, *words],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def assert_refused(answer: Answer, *says: str) -> None:
    """Check that an answer is one line on standard error that says all this, and status 2."""
    assert answer.returncode == 2, answer
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("error: ")
    for part in says:
        assert part in lines[0]
