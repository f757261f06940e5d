"""Written TOML is read back, by the standard library, as what it was."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavlm_meeting.checkpoints.toml import dumps

# Single surrogates are no text, and no TOML either.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
PLAIN = TEXT | st.booleans() | NUMBERS
VALUES = PLAIN | st.lists(PLAIN | st.lists(PLAIN, max_size=3), max_size=4)
TABLES = st.dictionaries(TEXT, VALUES, max_size=4)
NESTED = st.dictionaries(
    TEXT, VALUES | TABLES | st.lists(TABLES, min_size=1, max_size=3), max_size=4
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(TEXT, VALUES | NESTED, max_size=4))
def test_round_trip(values: dict[str, object]) -> None:
    """Whatever nested tables of plain values are written come back equal."""
    assert tomllib.loads(dumps(values)) == values


def test_none_is_left_out() -> None:
    """TOML has no null: an entry without a value is not written."""
    assert tomllib.loads(dumps({"a": None, "b": {"c": None}})) == {"b": {}}


def test_types_without_a_form_are_refused() -> None:
    """Nothing is written as something that it is not."""
    with pytest.raises(TypeError, match="no form for object"):
        dumps({"a": object()})
