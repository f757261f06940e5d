"""Stages run once, again when something before them changed, and on from where they stopped."""

from pathlib import Path

import pytest

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.stages import Stage, run_stages


class Kitchen:
    """Three stages that write down when they run."""

    def __init__(self, out: Path) -> None:
        self.out, self.ran, self.fails = out, [], ""

    def __call__(self, wanted: str = "", **settings: int) -> list[str]:
        """Run the stages with these settings and return which ones ran."""
        self.ran = []
        stages = [
            Stage(name, lambda name=name: self._run(name), {"value": settings.get(name, 0)})
            for name in ("shop", "cook", "eat")
        ]
        run_stages(stages, self.out, wanted)
        return self.ran

    def _run(self, name: str) -> None:
        if name == self.fails:
            raise RuntimeError(name)
        self.ran.append(name)


def test_stages_run_once_and_again_after_a_change(tmp_path: Path) -> None:
    """A change runs its stage and all after it; nothing else."""
    kitchen = Kitchen(tmp_path)
    assert kitchen() == ["shop", "cook", "eat"]
    assert kitchen() == []
    assert kitchen(cook=1) == ["cook", "eat"]
    assert kitchen(cook=1, eat=1) == ["eat"]
    assert kitchen(shop=2, cook=1, eat=1) == ["shop", "cook", "eat"]


def test_a_failed_stage_runs_again(tmp_path: Path) -> None:
    """What finished before stays; what failed is not taken for done."""
    kitchen = Kitchen(tmp_path)
    kitchen.fails = "cook"
    with pytest.raises(RuntimeError):
        kitchen()
    kitchen.fails = ""
    assert kitchen() == ["cook", "eat"]


def test_what_was_begun_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    """Half-done work stays for a second try, and goes when the settings change."""
    half = tmp_path / "half"

    def stop() -> None:
        half.mkdir(exist_ok=True)
        with (half / "pieces").open("a") as file:
            file.write("x")
        raise RuntimeError

    for value, pieces in ((1, "x"), (1, "xx"), (2, "x")):
        with pytest.raises(RuntimeError):
            run_stages([Stage("make", stop, {"value": value}, (half,))], tmp_path)
        assert (half / "pieces").read_text() == pieces


def test_ranges(tmp_path: Path) -> None:
    """Single names, open ends, wrong names and wrong order."""
    kitchen = Kitchen(tmp_path)
    assert kitchen("..cook") == ["shop", "cook"]
    assert kitchen("eat") == ["eat"]
    assert kitchen("cook..", cook=3) == ["cook", "eat"]
    with pytest.raises(SettingsError, match="no stage 'bake': there are shop, cook, eat"):
        kitchen("bake")
    with pytest.raises(SettingsError, match="swap"):
        kitchen("eat..shop")
    with pytest.raises(SettingsError, match="shop has not run with these settings"):
        kitchen("eat", shop=9)
