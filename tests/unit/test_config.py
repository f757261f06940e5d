"""Settings refuse what they do not know, and say what was meant."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from wavlm_meeting.config import Settings, parse_settings, read_toml
from wavlm_meeting.errors import SettingsError


class Inner(Settings):
    """Settings within settings."""

    width: int = Field(16, gt=0)


class Example(Settings):
    """Settings of a kind that recipes have."""

    learning_rate: float
    name: str = "none"
    encoder: Inner = Inner()
    stages: tuple[Inner, ...] = ()
    maybe: Inner | None = None


def test_a_file_becomes_settings(tmp_path: Path) -> None:
    """Types are checked, defaults filled in, tables nested."""
    path = tmp_path / "a.toml"
    path.write_text("learning_rate = 1e-3\n[encoder]\nwidth = 32\n[[stages]]\nwidth = 8\n")
    assert read_toml(path, Example) == Example(
        learning_rate=1e-3, encoder=Inner(width=32), stages=(Inner(width=8),)
    )


def test_a_file_says_what_differs_from_another(tmp_path: Path) -> None:
    """Tables are laid over those of the base, and of its base; False takes one away."""
    for name, text in {
        "a": "learning_rate = 1\nname = 'a'\nstages = [{}]\nmaybe.width = 5\nencoder.width = 2",
        "b": "base = 'a.toml'\nname = 'b'\nstages = []\nencoder.width = 3",
        "c": "base = '../c/b.toml'\nmaybe = false\nlearning_rate = 2",
    }.items():
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c" / f"{name}.toml").write_text(text)
    found = [read_toml(tmp_path / "c" / f"{name}.toml", Example) for name in "abc"]
    rest = {"learning_rate": 1.0, "maybe": Inner(width=5)}
    assert found[0] == Example(name="a", encoder=Inner(width=2), stages=(Inner(),), **rest)
    assert found[1] == Example(name="b", encoder=Inner(width=3), **rest)
    assert found[2] == Example(name="b", encoder=Inner(width=3), learning_rate=2.0)


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("'none.toml'", "none.toml: no such file"),
        ("3", "a.toml: base is 3: give the name of a TOML file"),
        ("'a.toml'", "a.toml: is based on itself, by way of a.toml"),
        ("'b.toml'", "b.toml: is based on itself, by way of a.toml"),
    ],
)
def test_a_base_that_cannot_be_is_named(tmp_path: Path, base: str, says: str) -> None:
    """Missing, no name, in a circle."""
    (tmp_path / "a.toml").write_text(f"base = {base}\nlearning_rate = 1")
    (tmp_path / "b.toml").write_text("base = 'a.toml'")
    with pytest.raises(SettingsError, match=says):
        read_toml(tmp_path / "a.toml", Example)


def test_settings_are_frozen() -> None:
    """What a run was started with cannot change under it."""
    settings = Example(learning_rate=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        settings.learning_rate = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"learning_rte": 1.0}, "unknown key 'learning_rte': did you mean 'learning_rate'?"),
        ({"encoder": {"widht": 1}}, "unknown key 'encoder.widht': did you mean 'width'?"),
        ({"stages": [{}, {"widht": 1}]}, "unknown key 'stages.1.widht': did you mean 'width'?"),
        ({"maybe": {"widht": 1}}, "unknown key 'maybe.widht': did you mean 'width'?"),
        ({"zzz": 1}, "unknown key 'zzz': known are encoder, learning_rate, maybe, name, stages."),
        ({"learning_rate": "fast"}, "learning_rate: Input should be a valid number"),
        ({"encoder": {"width": 0}}, "encoder.width: Input should be greater than 0"),
    ],
)
def test_a_mistake_is_told_in_one_line(values: dict[str, object], says: str) -> None:
    """Where, which key, and what is meant or allowed."""
    with pytest.raises(SettingsError) as caught:
        parse_settings({"learning_rate": 1.0} | values, Example, "recipe.toml")
    message = str(caught.value)
    assert message.startswith("recipe.toml: ")
    assert says in message
    assert "\n" not in message


def test_a_missing_key_is_named() -> None:
    """What has no default must be given."""
    with pytest.raises(SettingsError, match="learning_rate: Field required"):
        parse_settings({}, Example, "recipe.toml")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Missing, not TOML, not text, not a file."""
    (tmp_path / "broken.toml").write_text("a = = 1")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, says in (
        ("none.toml", "no such file"),
        ("broken.toml", "not valid TOML"),
        ("binary.toml", "not valid TOML"),
        (".", "folder"),
    ):
        with pytest.raises(SettingsError, match=says):
            read_toml(tmp_path / name, Example)
