"""Rounds of the embedded models: what one begins with, what is averaged, and what is shipped."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from wavlm_meeting.checkpoints.heads import SPEAKER
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.trainings import checkpoint_path
from wavlm_meeting.compression.settings import parse_share
from wavlm_meeting.config import parse_settings, read_toml
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.heads.speaker import SpeakerConfig
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.wavlm.config import WavLMConfig

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
from wavlm_meeting.diarization.task import Batch, alone, encode
from wavlm_meeting.recipes.tiny import export, rounds, settings, train
from wavlm_meeting.recipes.tiny.teacher_map import fit_teacher_map

SHIPPED = Path(settings.__file__).with_name("tiny.toml")
SHIPPED_ALL = sorted(SHIPPED.parent.glob("*.toml"))
SMALL = parse_settings(
    {
        "encoder": {
            "conv_layers": [[32, 400, 160], [16, 3, 2]],
            "frontend_norm": "layer",
            "width": 32,
            "layers": 1,
            "heads": 2,
            "ffn": 32,
        }
    },
    settings.TinySettings,
    "small",
)


def begun(folder: Path, seed: int, classes: int = 2) -> dict[str, torch.Tensor]:
    """Leave a checkpoint of an untrained model in `folder` and return its weights."""
    task = train.build_task(SMALL.model_copy(update={"seed": seed}), classes)
    path = checkpoint_path(folder, 1)
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": task.state_dict()}, path)
    return task.encoder.state_dict()


@pytest.mark.parametrize("filters", [8, 12])
def test_too_few_filters_are_refused(filters: int) -> None:
    """A start is a number everywhere, or none is made."""
    layers = ((filters, 400, 160), (8, 4, 4))
    encoder = SMALL.encoder.model_copy(update={"conv_layers": layers})
    narrow = SMALL.model_copy(update={"encoder": encoder})
    if filters == 8:
        with pytest.raises(SettingsError, match=r"8 filters are too few .*: give 12"):
            train.build_task(narrow, 1)
    else:
        weights = train.build_task(narrow, 1).state_dict()
        assert all(torch.isfinite(each).all() for each in weights.values())


def test_what_a_round_began_with_has_its_share(tmp_path: Path) -> None:
    """Weights are a mean of the last checkpoint and the start, which has to be given then."""
    shared = SMALL.model_copy(update={"start_share": 0.25})
    states = [begun(tmp_path / name, seed) for seed, name in enumerate(("begun", "done"))]
    mean = export.trained_pipeline(tmp_path / "done", shared, tmp_path / "begun").encoder
    for key, value in mean.state_dict().items():
        assert torch.allclose(value, 0.25 * states[0][key] + 0.75 * states[1][key]), key
    with pytest.raises(SettingsError, match="--start"):
        export.trained_pipeline(tmp_path / "done", shared)


def test_trainings_from_one_start_are_averaged(tmp_path: Path) -> None:
    """Weights are the mean of those of all that are named, which have to be there and alike."""
    states = [begun(tmp_path / name, seed) for seed, name in enumerate("abc")]
    both = SMALL.model_copy(update={"averaged_with": ("b", "c")})
    mean = export.trained_pipeline(tmp_path / "a", both).encoder
    for key, value in mean.state_dict().items():
        assert torch.allclose(value, sum(state[key] for state in states) / 3), key
    begun(tmp_path / "odd", 4, classes=3)
    for name, error in (("odd", SettingsError), ("none", CheckpointError)):
        wrong = SMALL.model_copy(update={"averaged_with": (name,)})
        with pytest.raises(error, match=name):
            export.trained_pipeline(tmp_path / "a", wrong)


def test_the_map_to_the_teacher_is_found_again() -> None:
    """Voices whose teacher is a linear map of them are at its embeddings after the fit.

    Those that are heard too shortly, only together or without a teacher have no say in it.
    """
    shipped = read_toml(SHIPPED.with_stem("mini_fifth"), settings.TinySettings)
    task = train.build_task(shipped, 1)
    assert "to_teacher.weight" in train.begin_with(task, Path("mini"))
    noise = torch.fft.rfft(torch.randn(160, 32_000))
    colours = F.interpolate(3.0 * torch.randn(160, 1, 24), noise.shape[1], mode="linear")
    waveforms = torch.fft.irfft(noise * colours[:, 0].exp())
    frames = (32_000 - shipped.encoder.receptive_field) // shipped.encoder.hop + 1
    activities, half = torch.zeros(160, frames, 4), frames // 2
    activities[:, :half, 0] = activities[:, half:, 1] = 1
    activities[:, :5, 2] = activities[:, :5, 3] = 1  # together, and over the first
    with torch.no_grad():
        states = encode(task.encoder, waveforms, task.settings)
        voices = task.heads.embedding(states, alone(activities))
    teacher = (voices - voices[:, :2].mean(dim=(0, 1))) @ torch.randn(voices.shape[-1], 256)
    teacher[:, 2:] = torch.randn(160, 2, 256)
    teacher[::2, 1] = 0.0
    batch = Batch(
        waveforms,
        activities,
        torch.full((160, 4), -1),
        teacher,
        torch.arange(4).expand(160, 4),
        torch.arange(160),
    )
    assert task.losses(batch)["teacher"] > 0.8
    fit_teacher_map(task, [batch])
    assert task.losses(batch)["teacher"] < 0.1


@pytest.mark.parametrize(
    ("last", "before"),
    [
        ("fourth", ["first", "second", "third"]),
        ("tiny", ["mini", "mini_second", "mini_third", "mini_fourth", "mini_fifth"]),
        ("mini_fourth_linked", ["mini", "mini_second", "mini_third"]),
    ],
)
def test_rounds_of_the_shipped_models_follow_each_other(last: str, before: list[str]) -> None:
    """One command leads through all of them, and the encoder stays of one size."""
    assert [path.stem for path in rounds.rounds_before(SHIPPED.with_stem(last))] == before
    sizes = {
        read_toml(SHIPPED.with_stem(stem), settings.TinySettings).encoder.model_dump_json()
        for stem in (*before, last)
    }
    assert len(sizes) == 1


def test_a_round_before_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Settings based on shipped ones may lie elsewhere, and nothing follows a compression."""
    (tmp_path / "own.toml").write_text(f'base = "{SHIPPED}"\n')
    with pytest.raises(
        SettingsError, match=r'own.toml: after = "mini_fifth.toml" is not there: give .* ""'
    ):
        rounds.rounds_before(tmp_path / "own.toml")
    (tmp_path / "own.toml").write_text(f'base = "{SHIPPED}"\nafter = "{SHIPPED}"\n')
    with pytest.raises(SettingsError, match="makes the model smaller, which nothing can follow"):
        rounds.rounds_before(tmp_path / "own.toml")
    (tmp_path / "own.toml").write_text(f'base = "{SHIPPED}"\nafter = ""\n')
    assert rounds.rounds_before(tmp_path / "own.toml") == []


@pytest.mark.parametrize("stem", ["mini", "mini_second", "mini_third", "mini_fourth", "mini_fifth"])
def test_the_shipped_settings_are_the_shipped_model(stem: str) -> None:
    """The settings describe the encoder that is inside the package, and can go on from it."""
    pipeline = load_pipeline("mini", "cpu")
    shipped = read_toml(SHIPPED.with_stem(stem), settings.TinySettings)
    assert pipeline.encoder.config == WavLMConfig.model_validate(shipped.encoder.model_dump())
    assert pipeline.settings.head_sizes() == shipped.diarization.head_sizes()
    assert shipped.card.name == "mini"
    task = train.build_task(shipped, 1)
    train.begin_with(task, Path("mini"))
    for key, value in pipeline.heads.state_dict().items():
        assert torch.equal(task.heads.state_dict()[key], value), key


def test_tiny_is_mini_made_smaller() -> None:
    """Its heads are those of `mini`, bit by bit, and its encoder has the share that is set."""
    tiny, mini = (load_pipeline(name, "cpu") for name in ("tiny", "mini"))
    shipped = read_toml(SHIPPED, settings.TinySettings)
    assert shipped.compression is not None
    counts = [sum(each.numel() for each in made.encoder.parameters()) for made in (tiny, mini)]
    assert counts[0] / counts[1] == pytest.approx(parse_share(shipped.compression.share), abs=0.02)
    for key, value in mini.heads.state_dict().items():
        assert torch.equal(tiny.heads.state_dict()[key], value), key


def test_the_head_for_voices_is_the_shipped_one() -> None:
    """`tiny` verifies by the head that its settings describe."""
    shipped = read_toml(SHIPPED, settings.TinySettings)
    assert shipped.voices is not None
    expected = shipped.voices.head
    assert expected.beside is not None
    found = load_model("tiny").card.heads[SPEAKER]
    assert SpeakerConfig.model_validate(found) == expected
    assert load_speaker_model("tiny").size == expected.size + expected.beside.size


def test_every_round_can_be_read() -> None:
    """What a file is based on and averaged with lies beside it."""
    rounds = {path.stem: read_toml(path, settings.TinySettings) for path in SHIPPED_ALL}
    for name, own in rounds.items():
        assert name not in own.averaged_with
        for other in own.averaged_with:
            assert rounds[other].encoder == own.encoder
            assert not rounds[other].averaged_with
