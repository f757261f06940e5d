"""Written TOML is read back, by the standard library, as what it was."""

import random
import tomllib

import pytest

from wavlm_meeting.checkpoints.toml import dumps

TEXTS = [
    "",
    "a",
    "a.b",
    " ",
    '"',
    "'",
    "\\",
    "\n",
    "\t",
    "\x01",
    "\x7f",
    "é",
    "音",
    "😀",
    "#",
    "=",
    "[x]",
]
NUMBERS = [0, -1, 2**63 - 1, -(2**63), 0.0, 1e-300, 1e300, 0.1, float("inf"), -float("inf")]


def plain(rng: random.Random) -> object:
    """Draw a text, a truth value or a number."""
    text = "".join(rng.choices(TEXTS, k=rng.randint(0, 3)))
    return rng.choice([text, rng.random() < 0.5, rng.choice(NUMBERS), rng.random()])


def table(rng: random.Random, depth: int) -> dict[str, object]:
    """Draw a table of plain values, lists, tables and lists of tables."""
    made: dict[str, object] = {}
    for _ in range(rng.randint(0, 4)):
        key = "".join(rng.choices(TEXTS, k=2))
        kind = rng.randint(0, 4 if depth else 2)
        if kind == 0:
            made[key] = plain(rng)
        elif kind == 1:
            made[key] = [plain(rng) for _ in range(rng.randint(0, 4))]
        elif kind == 2:
            made[key] = [[plain(rng) for _ in range(rng.randint(0, 3))] for _ in range(2)]
        elif kind == 3:
            made[key] = table(rng, depth - 1)
        else:
            made[key] = [table(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    return made


@pytest.mark.parametrize("seed", range(100))
def test_round_trip(seed: int) -> None:
    """Whatever nested tables of plain values are written come back equal."""
    values = table(random.Random(seed), 3)
    assert tomllib.loads(dumps(values)) == values


def test_none_is_left_out() -> None:
    """TOML has no null: an entry without a value is not written."""
    assert tomllib.loads(dumps({"a": None, "b": {"c": None}})) == {"b": {}}


def test_types_without_a_form_are_refused() -> None:
    """Nothing is written as something that it is not."""
    with pytest.raises(TypeError, match="no form for object"):
        dumps({"a": object()})
