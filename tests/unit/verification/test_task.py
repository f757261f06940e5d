"""Training steps of a speaker model: what moves, how fast, with which margin, and what stops."""

from typing import Any

import lightning
import pytest
import torch

from wavlm_meeting.errors import TrainingError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.heads.ecapa import EcapaConfig
from wavlm_meeting.verification.model import SpeakerConfig, SpeakerModel, build_speaker_model
from wavlm_meeting.verification.task import SpeakerBatch, SpeakerTask, TaskSettings

CONFIG = WavLMConfig(
    conv_layers=((16, 10, 5), (16, 8, 8), (16, 8, 8)), width=32, layers=2, heads=2, ffn=32,
    position_kernel=16, position_groups=2,
)  # fmt: skip
HEAD = EcapaConfig(channels=16, aggregated=24, scale=2, squeezed=8, attention=8, embedding=12)
SETTINGS = TaskSettings(
    steps=20, learning_rate=5e-3, warmup=0.1, sub_centres=2, top_k=1, margin_rise=(0.1, 0.5)
)
SPEAKERS = 4


def small_model() -> SpeakerModel:
    """Build an encoder and a head, seeded, and frozen as after loading."""
    torch.manual_seed(0)
    model = build_speaker_model(WavLM(CONFIG), SpeakerConfig(ecapa=HEAD))
    return model.requires_grad_(requires_grad=False)


def task_of(teacher_size: int = 0, **values: Any) -> SpeakerTask:
    """Build a task with some settings changed."""
    settings = TaskSettings.model_validate(SETTINGS.model_dump() | values)
    return SpeakerTask(small_model(), SPEAKERS, settings, teacher_size)


def tones(number: int, size: int = 8) -> SpeakerBatch:
    """Give speakers that are tones of their own; batch n is always the same."""
    generator = torch.Generator().manual_seed(number)
    classes = torch.randint(SPEAKERS, (size,), generator=generator)
    time = torch.arange(8000) / 16_000
    pitch = 150.0 * 2.0 ** classes[:, None]
    waves = torch.sin(2 * torch.pi * pitch * time)
    waves += 0.1 * torch.randn(size, 8000, generator=generator)
    return SpeakerBatch(0.1 * waves, classes, torch.zeros(size, 0))


def run(task: SpeakerTask, batches: list[SpeakerBatch]) -> list[dict[str, float]]:
    """Train on some batches; return what was logged at each step."""

    class Kept(lightning.Callback):
        logged: list[dict[str, float]] = []  # noqa: RUF012 - one run, one list

        def on_train_batch_end(self, trainer: lightning.Trainer, *_args: object) -> None:
            own = trainer.callback_metrics
            self.logged.append({name: float(value) for name, value in own.items()})

    trainer = lightning.Trainer(
        max_steps=len(batches), accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Kept()],
    )  # fmt: skip
    trainer.fit(task, torch.utils.data.DataLoader(batches, batch_size=None))
    return Kept.logged


def moved(task: SpeakerTask, steps: int = 2) -> set[str]:
    """Train and return the names of the parameters and statistics that have changed."""
    before = {name: value.clone() for name, value in task.state_dict().items()}
    run(task, [tones(number) for number in range(steps)])
    return {name for name, value in task.state_dict().items() if not value.equal(before[name])}


def test_it_learns() -> None:
    """Twenty steps on four tones: nearly all are told apart, and were not before."""
    logged = run(task_of(), [tones(number, 16) for number in range(20)])
    accuracy = [line["loss/accuracy"] for line in logged]
    assert sum(accuracy[-4:]) / 4 > 0.9
    assert sum(accuracy[:2]) / 2 < 0.7


def test_a_frozen_encoder_stays_as_it_is() -> None:
    """Its weights do not move and it drops nothing; all the head and the classes learn."""
    task = task_of(freeze_encoder=True)
    encoder = task.model.features
    own = {id(parameter) for parameter in encoder.parameters()}
    changed = moved(task)
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for name, parameter in task.named_parameters():
        assert (name in changed) == (id(parameter) not in own), name
    first, second = (encoder(tones(0).waveforms).hidden_states[-1] for _ in range(2))
    assert first.equal(second)


def test_all_or_all_but_the_frontend_learns() -> None:
    """Everything moves but what nothing is masked with; with freeze_frontend its weights stay."""
    changed = moved(task_of(freeze_encoder=False))
    still = {name for name, _ in task_of().named_parameters()} - changed
    assert {name.rpartition(".")[2] for name in still} == {"mask_embedding"}
    changed = moved(task_of(freeze_encoder=False, freeze_frontend=True))
    assert not [name for name in changed if ".frontend." in name]
    assert [name for name in changed if ".layers." in name]


def test_rates_and_decay_are_those_of_the_settings() -> None:
    """Head, encoder and first convolution at theirs; vectors do not decay; all are there once."""
    task = task_of(
        freeze_encoder=False, learning_rate=1e-2, encoder_rate=0.1, first_convolution=0.5
    )
    encoder = task.model.features
    made = task.configure_optimizers()
    rates: dict[int, tuple[float, float]] = {}
    for group in made["optimizer"].param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in rates
            rates[id(parameter)] = (group["initial_lr"], group["weight_decay"])
    own = {id(parameter) for parameter in encoder.parameters()}
    first = encoder.frontend.stack()[0].conv.weight
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in rates
            continue
        rate, decay = rates[id(parameter)]
        share = (0.05 if parameter is first else 0.1) if id(parameter) in own else 1.0
        assert rate == pytest.approx(1e-2 * share), name
        assert decay == (0.01 if parameter.ndim > 1 else 0.0), name


def test_the_rate_rises_and_falls() -> None:
    """Linearly over the warm-up, then as a cosine to the last share."""
    task = task_of(steps=1000, warmup=0.1, last_rate=0.2)
    assert task.rate_at(0) == pytest.approx(1 / 101)
    assert task.rate_at(50) == pytest.approx(51 / 101)
    assert task.rate_at(100) == 1.0
    assert task.rate_at(550) == pytest.approx(0.6)
    assert task.rate_at(1000) == pytest.approx(0.2)


def test_the_margin_rises() -> None:
    """None, then linearly to the whole; or whole at once."""
    task = task_of(steps=1000, margin=0.2, margin_rise=(0.1, 0.5))
    assert [task.margin_at(step) for step in (0, 100, 300, 500, 999)] == pytest.approx(
        [0.0, 0.0, 0.1, 0.2, 0.2]
    )
    assert task_of(margin=0.5, margin_rise=(0.0, 0.0)).margin_at(0) == 0.5
    stepped = task_of(steps=1000, margin_rise=(0.1, 0.1))
    assert (stepped.margin_at(99), stepped.margin_at(100)) == (0.0, 0.2)


def test_nobody_knows_the_class_but_the_teacher_something() -> None:
    """Crops of class -1 count for the teacher alone; without a weight a part is not computed."""
    task = task_of(teacher_size=5, pair_weight=1.0).eval()
    batch = tones(0)._replace(teacher=torch.randn(8, 5))
    hidden = batch._replace(classes=torch.where(torch.arange(8) < 5, batch.classes, -1))
    part = SpeakerBatch(batch.waveforms[:5], batch.classes[:5], batch.teacher[:5])
    with torch.no_grad():
        found, expected, whole = (task.losses(each, 0.1) for each in (hidden, part, batch))
    for name in ("classes", "pairs", "accuracy"):
        torch.testing.assert_close(found[name], expected[name])
        assert name == "accuracy" or not found[name].isclose(whole[name])
    torch.testing.assert_close(found["teacher"], whole["teacher"])
    assert set(task_of().losses(tones(0), 0.0)) == {"classes", "accuracy"}


def test_the_objective_is_the_weighted_sum() -> None:
    """What is trained is what is logged, times its weight."""
    weights = {"class_weight": 0.5, "pair_weight": 2.0, "teacher_weight": 3.0}
    task = task_of(teacher_size=5, margin_rise=(0.0, 0.0), **weights)
    batch = tones(0)._replace(teacher=torch.randn(8, 5))
    (line,) = run(task, [batch])
    parts = ("classes", "pairs", "teacher")
    fresh = task_of(teacher_size=5, margin_rise=(0.0, 0.0), **weights)
    fresh.on_train_start()
    expected = fresh.losses(batch, 0.2)
    for name in parts:
        assert line[f"loss/{name}"] == pytest.approx(expected[name].item(), rel=1e-4)
    total = fresh.weighted(expected).item()
    assert total == pytest.approx(
        sum(w * expected[n].item() for w, n in zip(weights.values(), parts, strict=True)), rel=1e-5
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_the_encoder_alone_runs_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, *, frozen: bool
) -> None:
    """Losses are near those of full precision, not equal; gradients reach what learns."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True}, raising=False)
    full, half = (task_of(freeze_encoder=frozen, bfloat16=on).eval() for on in (False, True))
    expected, found = (task.losses(tones(0), 0.2)["classes"] for task in (full, half))
    assert found.dtype == torch.float32
    assert 0 < abs(found.item() - expected.item()) < 0.02 * expected.item()
    found.backward()
    learned = {name for name, p in half.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("features.layers" in name for name in learned) != frozen
    assert any("pooling" in name for name in learned)


def test_a_filterbank_has_nothing_to_freeze() -> None:
    """The same task trains a model without an encoder."""
    torch.manual_seed(0)
    model = build_speaker_model(None, SpeakerConfig(features="fbank", mels=20, ecapa=HEAD))
    task = SpeakerTask(model, SPEAKERS, SETTINGS.model_copy(update={"bfloat16": True}))
    changed = moved(task)
    assert {name for name, _ in task.named_parameters()} <= changed


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    """The weights stay as they were before that step."""
    whole, broken = (tones(n)._replace(teacher=torch.ones(8, 5)) for n in (0, 1))
    broken.teacher[2, 3] = torch.nan
    task = task_of(teacher_size=5, teacher_weight=1.0)
    with pytest.raises(TrainingError, match="loss nan at step 1: lower learning_rate"):
        run(task, [whole, broken])
    assert all(parameter.isfinite().all() for parameter in task.parameters())
