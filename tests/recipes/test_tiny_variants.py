"""Variants are the settings with changes; what they have in common is trained once."""

from pathlib import Path

import pytest

from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.checkpoints.trainings import steps_done
from wavlm_meeting.config import parse_settings, read_toml
from wavlm_meeting.errors import SettingsError

pytest.importorskip("lightning", reason="the recipe needs the extra 'train'")

import numpy as np

from tests.small_prepared import Prepared, write_prepared
from wavlm_meeting.recipes.tiny import settings
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.variants import BUNDLE, variants, varied

SECOND = 16_000
VARIANTS = Path(settings.__file__).with_name("variants.toml")
SMALL = {
    "encoder": {
        "conv_layers": [[16, 400, 160], [16, 3, 2]],
        "frontend_norm": "layer",
        "width": 32,
        "layers": 1,
        "heads": 2,
        "ffn": 32,
        "pre_norm": True,
        "position_kernel": 16,
        "position_groups": 2,
    },
    "data": {"window_s": 2.0, "batch": 2, "speaker_shares": [0.5, 0.5]},
    "task": {"steps": 1},
    "diarization": {"window_s": 2.0, "hop_s": 1.0},
    "pretraining": {
        "crops": 2,
        "noises": 0,
        "frames": 500,
        "layer": 1,
        "mfcc": {"clusters": 4, "restarts": 1},
        "units": {"clusters": 4, "restarts": 1},
        "first": {"size": "tiny", "optimizer": {"steps": 1}},
        "second": {"size": "tiny", "optimizer": {"steps": 2}},
    },
    "evaluation": {
        "speakers": [2],
        "conversations": 1,
        "length_s": 8.0,
        "solos": 1,
        "calls": 1,
        "short_s": 6.0,
        "overlap": [0.0, 1.0],
    },
    "variants": {
        "none": {"pretraining": False, "task": {"steps": 2}},
        "hubert": {"pretraining": {"second": {"mixing": {"probability": 0.0}}}},
        "wavlm": {},
    },
}


def test_a_variant_changes_what_it_names_alone() -> None:
    """Tables are laid over each other; false takes away a table that may be missing."""
    shipped = read_toml(VARIANTS, TinySettings)
    same = varied(shipped, "wavlm")
    assert same.model_copy(update={"card": shipped.card, "variants": shipped.variants}) == shipped
    assert same.card.name == "variant-wavlm"
    assert varied(shipped, "none").pretraining is None
    hubert = varied(shipped, "hubert").pretraining
    assert hubert is not None
    assert shipped.pretraining is not None
    assert hubert.second.mixing.probability == 0.0
    assert hubert.second.optimizer == shipped.pretraining.second.optimizer
    assert hubert.first == shipped.pretraining.first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"stepps": 3}}, r"variants.odd: unknown key 'task.stepps': .*'steps'"),
        ({"task": True}, r"variants.odd: task"),
        ({"encoder": {"width": 33}}, r"variants.odd: encoder"),
    ],
)
def test_a_change_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    """The message names the variant and the key."""
    below = parse_settings({**SMALL, "variants": {"odd": changes}}, TinySettings, "small")
    with pytest.raises(SettingsError, match=message):
        varied(below, "odd")


def test_variants_are_trained_side_by_side_and_measured(tmp_path: Path) -> None:
    """A column for each; chains that differ in the second model alone share what is before it."""
    rng = np.random.default_rng(0)
    write_prepared(
        tmp_path / "work",
        [
            Prepared(
                (rng.standard_normal(3 * SECOND) * 2000).astype(np.int16),
                f"{split} {number // 2}",
                "a",
                split,
            )
            for split in ("train", "dev", "test")
            for number in range(6)
        ],
    )
    (tmp_path / "corpus" / "meetings").mkdir(parents=True)
    (tmp_path / "corpus" / "manifest.csv").write_text("path,source,split\n")
    small = parse_settings(SMALL, TinySettings, "small")
    folder = tmp_path / "variants"
    with pytest.raises(SettingsError, match="no variant 'hubbert': there are none, hubert, wavlm"):
        variants(tmp_path / "corpus", tmp_path / "work", folder, small, ["hubbert"])
    text = variants(tmp_path / "corpus", tmp_path / "work", folder, small, workers=1)
    head, _, *rows = text.splitlines()
    assert head == "|  | none | hubert | wavlm |"
    assert [row.split(" | ")[0] for row in rows] == [
        "| DER %, simulated test conversations, no collar",
        "| real-time factor, two cores",
        "| size, MB",
    ]
    assert [steps_done(folder / name) for name in SMALL["variants"]] == [2, 1, 1]  # type: ignore[attr-defined]
    assert steps_done(folder / "pretrain" / "second") == 2
    assert steps_done(folder / "hubert" / "pretrain" / "second") == 2
    assert not (folder / "hubert" / "pretrain" / "first").exists()
    assert not (folder / "wavlm" / "pretrain").exists()
    assert not (folder / "none" / "pretrain").exists()
    written = (folder / "none" / BUNDLE / "card.toml").stat().st_mtime_ns
    card = read_card(folder / "hubert" / BUNDLE)
    assert card.name == "untitled-hubert"
    assert card.figures["size, MB"] > 0
    again = variants(tmp_path / "corpus", tmp_path / "work", folder, small, ["none"], 1)
    assert again.splitlines()[0] == "|  | none |"
    assert (folder / "none" / "log" / "metrics.jsonl").stat().st_mtime_ns < written
