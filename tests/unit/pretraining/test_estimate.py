"""What a plan says is what real modules and real passes take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.activations import count_activations
from wavlm_meeting.pretraining.estimate import choose_strategy, estimate, masked_share
from wavlm_meeting.pretraining.masking import MaskSettings, draw_masks
from wavlm_meeting.pretraining.objective import MaskedPrediction, ObjectiveSettings
from wavlm_meeting.pretraining.settings import PretrainingSettings, named_settings
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.attention import Context
from wavlm_meeting.wavlm.config import PRESETS, WavLMConfig
from wavlm_meeting.wavlm.flops import encoder_flops
from wavlm_meeting.wavlm.frontend import Frontend
from wavlm_meeting.wavlm.model import WavLM
from wavlm_meeting.wavlm.position import toeplitz_table

CROPS, SAMPLES, CLASSES = 2, 2 * SAMPLE_RATE, (500,)
STILL: dict[str, Any] = {
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0
}  # fmt: skip
TINY = named_settings("tiny")
LONG = WavLMConfig(
    conv_layers=((16, 6, 6), (16, 4, 4)), width=128, layers=2, heads=4, ffn=256, position_groups=8
)
"""667 frames a second: two seconds are more than a GPU takes the written-out bias for."""
NO_BIAS = LONG.model_copy(update={"position_bias": "none"})


@pytest.fixture(autouse=True)
def plain_frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute the frontend as a GPU does: the CPU's own way keeps less, and is not counted."""
    monkeypatch.setattr(Frontend, "folds", lambda _: False)


class Kept:
    """Counts the bytes of what autograd keeps, each storage once and the known ones not at all."""

    def __init__(self, known: list[Tensor]) -> None:
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._storages: dict[int, Any] = {}

    def keep(self, tensor: Tensor) -> Tensor:
        """Note a tensor that is kept."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._storages[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        """How many there are."""
        return sum(storage.nbytes() for storage in self._storages.values())


def kept(module: nn.Module, run: Callable[[], Any], *known: Tensor) -> int:
    """Count the bytes that a run keeps for its gradients, without the module's weights."""
    found = Kept([*module.parameters(), *known])
    with torch.autograd.graph.saved_tensors_hooks(found.keep, lambda tensor: tensor):
        output = run()  # alive while it is counted
    count = found.bytes
    del output
    return count


def gpu_kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, p: float) -> Tensor:
    """Attend by the kernel that a GPU takes for a bias with gradients, aligned as PyTorch does."""
    mask = F.pad(mask, (0, -mask.shape[3] % 16))[..., : mask.shape[3]]
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    output: Tensor = attend(q, k, v, mask, compute_log_sumexp=True, dropout_p=p)[0]
    return output


@contextmanager
def pretended_gpu(half: int) -> Iterator[None]:
    """Compute shapes and dtypes alone, as on a GPU, under autocast if `half` is 2 bytes."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.device("cuda"),
        mock.patch.object(F, "scaled_dot_product_attention", gpu_kernel),
    ):
        try:
            torch.set_autocast_enabled("cuda", half == 2)
            torch.set_autocast_dtype("cuda", torch.bfloat16)
            yield
        finally:
            torch.set_autocast_enabled("cuda", before[0])
            torch.set_autocast_dtype("cuda", before[1])
            torch.clear_autocast_cache()


def matrices(module: nn.Module, half: int) -> int:
    """Count the bytes of weights that are kept in the form that products take them.

    The first convolution's is not kept: the waveform needs no gradient.
    """
    return half * sum(
        weight.numel()
        for name, weight in module.named_parameters()
        if weight.ndim > 1 and not name.endswith("layers.0.conv.weight")
    )


@pytest.mark.parametrize("half", [2, 4], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("size", ["tiny", "base", "large"])
def test_activations_of_a_gpu(size: str, half: int) -> None:
    """Within 1 %, frontend and layer keep what is counted, in the dtypes of a GPU's autocast."""
    config = named_settings(size).encoder
    frames = config.frame_count(SAMPLES)
    with pretended_gpu(half):
        model = WavLM(config, attention="dense").train()
        lengths = torch.full((CROPS,), frames)
        waveforms = torch.randn(CROPS, SAMPLES)

        def below() -> Tensor:
            features = model.frontend(waveforms, torch.full((CROPS,), SAMPLES))
            projected: Tensor = model.projection(features)
            return projected

        frontend = kept(model, below, waveforms, lengths)
        # No leaf, whose casts autocast would keep once for all of its uses.
        x = torch.randn(CROPS, frames, config.width, requires_grad=True) * 1
        table = toeplitz_table(model.bias_table.weight, frames, config.bias_max_distance)
        context = Context(table, lengths, [frames] * CROPS, padded=True, method="dense")
        layer = kept(model, lambda: model.layers[0](x, context), table, lengths)
        frontend -= matrices(model.frontend, half)
        if half == 2:  # the copies that autocast makes
            frontend -= matrices(model.projection, half)
            layer -= matrices(model.layers[0], half)
    ours = count_activations(config, ObjectiveSettings(), CLASSES, CROPS, SAMPLES, 0.5, half)
    assert ours.frontend == pytest.approx(frontend, rel=0.01)
    assert ours.layer == pytest.approx(layer, rel=0.01)


def with_trainer(settings: PretrainingSettings, **values: object) -> PretrainingSettings:
    """Change settings of the trainer."""
    return parse_settings(
        {**settings.model_dump(), "trainer": settings.trainer.model_dump() | values},
        PretrainingSettings,
        "here",
    )


def still_model(config: WavLMConfig, objective: ObjectiveSettings, method: str) -> MaskedPrediction:
    """Build a model without dropout, whose masks a CPU keeps in another form than a GPU."""
    encoder = WavLM(config.model_copy(update=STILL), attention=method)  # type: ignore[arg-type]
    return MaskedPrediction(encoder, CLASSES, objective).train()


def inputs(config: WavLMConfig, samples: int) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Draw waveforms, lengths, masks of every second frame, and labels."""
    frames = config.frame_count(samples)
    masks = (torch.arange(frames) % 2 == 0).expand(CROPS, -1)
    labels = torch.randint(CLASSES[0], (CROPS, frames))
    return torch.randn(CROPS, samples), torch.full((CROPS,), samples), masks, [labels]


def on_cpu_alone(model: MaskedPrediction, x: Tensor) -> int:
    """Count what a CPU keeps in another form: the positional convolution's FFT, and weights."""
    weights = matrices(model.encoder.frontend, 4) + 4 * model.head.label_embeddings.numel()
    return kept(model, lambda: model.encoder.position(x), x) + weights


def direct_convolution(x: Tensor) -> int:
    """Count what the positional convolution keeps on a GPU: its input, and that of its GELU."""
    return 2 * x.nbytes


def one_kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """Attend by the CPU's fused kernel: it keeps what a GPU's does, but knows no bias gradients."""
    real: Callable[..., Tensor] = torch._C._nn.scaled_dot_product_attention
    return real(q, k, v, None if mask is None else mask.detach(), p)


@pytest.mark.parametrize(
    ("config", "objective", "method"),
    [
        (TINY.encoder, TINY.objective, "dense"),
        (PRESETS["base"], ObjectiveSettings(), "dense"),
        (TINY.encoder, ObjectiveSettings(contrastive_weight=0.1), "dense"),
        (LONG, ObjectiveSettings(), "blockwise"),
        (NO_BIAS, ObjectiveSettings(), "dense"),
    ],
    ids=["tiny", "base", "contrastive", "long", "no bias"],
)
def test_activations_of_a_real_pass(
    config: WavLMConfig, objective: ObjectiveSettings, method: str
) -> None:
    """Within 1 %, a whole forward pass in float32 keeps what is counted."""
    torch.manual_seed(0)
    model = still_model(config, objective, method)
    config = model.encoder.config
    batch = inputs(config, SAMPLES)
    frames = config.frame_count(SAMPLES)
    x = torch.randn(CROPS, frames, config.width, requires_grad=True)
    with mock.patch.object(F, "scaled_dot_product_attention", one_kernel):
        found = kept(model, lambda: model(*batch), *batch[:3]) - on_cpu_alone(model, x)
    share = int(batch[2].sum()) / (CROPS * frames)
    ours = count_activations(config, objective, CLASSES, CROPS, SAMPLES, share, 4)
    assert ours.kept(recompute=False) - direct_convolution(x) == pytest.approx(found, rel=0.01)


def test_recomputed_layers_keep_their_input() -> None:
    """Within 1 %, a forward pass keeps each layer's input and what is outside of the layers."""
    model = still_model(TINY.encoder, TINY.objective, "dense")
    model.encoder.recompute = True
    config = model.encoder.config
    batch = inputs(config, SAMPLES)
    x = torch.randn(CROPS, config.frame_count(SAMPLES), config.width, requires_grad=True)
    found = kept(model, lambda: model(*batch), *batch[:3]) - on_cpu_alone(model, x)
    ours = count_activations(config, TINY.objective, CLASSES, CROPS, SAMPLES, 0.5, 4)
    before_backward = ours.kept(recompute=True) - ours.layer
    assert before_backward - direct_convolution(x) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize(("size", "recompute"), [("tiny", False), ("tiny", True), ("base", False)])
def test_operations_of_a_real_step(size: str, recompute: bool) -> None:
    """Forward and backward pass of the whole objective take exactly what is counted."""
    samples = SAMPLE_RATE // 2
    settings = with_trainer(named_settings(size), recompute=recompute)
    batches = settings.batches.model_copy(update={"longest_s": samples / SAMPLE_RATE})
    planned = estimate(settings.model_copy(update={"batches": batches}), CLASSES)
    config = settings.encoder.model_copy(update={"layer_drop": 0.0})
    model = MaskedPrediction(WavLM(config, attention="dense"), CLASSES, settings.objective).train()
    model.encoder.recompute = recompute
    batch = inputs(config, samples)
    with FlopCounterMode(display=False) as forward:
        total = model(*batch).total
    with FlopCounterMode(display=False) as backward:
        total.backward()
    parts = {name: sum(kinds.values()) for name, kinds in forward.get_flop_counts().items()}
    frames = CROPS * config.frame_count(samples)
    # The positional convolution runs by FFT here, with a spectrum that is a product.
    x = torch.randn(CROPS, frames // CROPS, config.width, requires_grad=True)
    with FlopCounterMode(display=False) as by_fft:
        model.encoder.position(x).sum().backward()
    position = 3 * CROPS * encoder_flops(config, samples).position - by_fft.get_total_flops()
    # The batch masks half of the frames.
    more_masked = masked_share(settings.masks) * frames / int(batch[2].sum()) - 1
    head = more_masked * parts["MaskedPrediction.head"]
    found = forward.get_total_flops() + backward.get_total_flops() + position + 3 * head
    assert planned.flops_per_second * CROPS / 2 == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize(
    ("size", "millions"),
    [("base", 94.71), ("base-plus", 94.71), ("large", 316.62), ("1b", 963.89), ("8b", 8200.50)],
)
def test_sizes(size: str, millions: float) -> None:
    """Those of released names hold the released encoder; all have as many weights as they say."""
    settings = named_settings(size)
    if size in PRESETS:
        assert settings.encoder == PRESETS[size]
    parameters = sum(estimate(settings, CLASSES).parameters.values())
    assert round(parameters / 1e6, 2) == millions


def test_parameters_by_part() -> None:
    """Every weight of the real model is counted, in the part that it belongs to."""
    model = MaskedPrediction(WavLM(TINY.encoder), CLASSES, TINY.objective)
    parts = estimate(TINY, CLASSES).parameters
    assert sum(parts.values()) == sum(weight.numel() for weight in model.parameters())
    for name in ("frontend", "projection", "position", "layers", "norm"):
        module = model.encoder.get_submodule(name)
        assert parts[name] == sum(weight.numel() for weight in module.parameters())
    assert parts["head"] == sum(weight.numel() for weight in model.head.parameters())


@pytest.mark.parametrize("masks", [MaskSettings(), MaskSettings(span=5, start_probability=0.16)])
def test_masked_share(masks: MaskSettings) -> None:
    """Within 3 %, as many frames are masked as is planned for."""
    drawn = draw_masks(torch.full((200,), 779), 779, masks, torch.Generator().manual_seed(1))
    assert masked_share(masks) == pytest.approx(float(drawn.float().mean()), rel=0.03)


def test_sharding_divides_and_copying_does_not() -> None:
    """On 8 GPUs a shard is an eighth of weights, gradients and moments; a copy is all of it."""
    alone = estimate(with_trainer(TINY, strategy="ddp")).memory
    copied = estimate(with_trainer(TINY, strategy="ddp"), gpus=8).memory
    sharded = estimate(with_trainer(TINY, strategy="fsdp"), gpus=8).memory
    assert copied == alone
    for part in ("weights", "gradients", "moments"):
        assert getattr(sharded, part) * 8 == pytest.approx(getattr(alone, part), rel=1e-4)
    assert sharded.activations == alone.activations


def test_auto_shards_only_what_does_not_fit() -> None:
    """Auto is ddp with room enough, fsdp without, ddp on one GPU whatever the room."""
    automatic = with_trainer(TINY, strategy="auto")
    needed = estimate(automatic, CLASSES, gpus=4).memory.total
    assert choose_strategy(automatic, CLASSES, 4, int(needed / 0.89)) == "ddp"
    assert choose_strategy(automatic, CLASSES, 4, int(needed / 0.91)) == "fsdp"
    assert choose_strategy(automatic, CLASSES, 1, 1) == "ddp"
    assert choose_strategy(with_trainer(TINY, strategy="ddp"), CLASSES, 4, 1) == "ddp"


def test_the_largest_size_fits_only_sharded() -> None:
    """8 B in copies is more than an H100 holds; in shards it fits on 64, and auto sees that."""
    settings = named_settings("8b")
    assert not estimate(with_trainer(settings, strategy="ddp"), gpus=64).fits
    assert estimate(with_trainer(settings, strategy="fsdp"), gpus=64).fits
    assert estimate(with_trainer(settings, strategy="auto"), gpus=64).strategy == "fsdp"


def test_recomputing_trades_operations_for_memory() -> None:
    """With recomputed layers less is kept and more is computed; both plans show both memories."""
    plain, again = (estimate(with_trainer(TINY, recompute=flag)) for flag in (False, True))
    assert plain.memory.activations == plain.activations_kept > plain.activations_recomputed
    assert again.memory.activations == again.activations_recomputed == plain.activations_recomputed
    assert 1 < again.flops_per_second / plain.flops_per_second < 4 / 3


def test_time_is_work_over_speed() -> None:
    """Days are operations over speed; GPUs and utilisation scale them, accumulation adds work."""
    one = estimate(TINY)
    speed = 0.4 * 989e12
    assert one.days * 86_400 == pytest.approx(one.steps * one.flops_per_step / speed)
    assert one.audio_per_second == pytest.approx(speed / one.flops_per_second)
    assert one.step_s == TINY.batches.seconds
    half = estimate(TINY, utilisation=0.2)
    assert half.days == pytest.approx(2 * one.days)
    four = estimate(with_trainer(TINY, accumulate=3), gpus=4)
    assert four.audio_per_second == pytest.approx(4 * one.audio_per_second)
    assert four.step_s == pytest.approx(12 * one.step_s)
    assert four.days == pytest.approx(3 * one.days)


def test_a_batch_holds_one_crop_at_least() -> None:
    """Batches shorter than a crop are planned as one crop, as they are made."""
    short = TINY.model_copy(update={"batches": TINY.batches.model_copy(update={"seconds": 1.0})})
    assert estimate(short).step_s == TINY.batches.longest_s


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpu": "h1000"}, "no GPU 'h1000': there are a100, h100"),
        ({"gpus": 0}, "gpus is 0"),
        ({"utilisation": 0.0}, "utilisation is 0"),
        ({"utilisation": 40.0}, "utilisation is 40"),
    ],
)
def test_mistakes(wrong: dict[str, Any], said: str) -> None:
    """What cannot be is one line that names it."""
    with pytest.raises(SettingsError, match=said):
        estimate(TINY, **wrong)


def test_a_pruned_encoder_is_not_pretrained() -> None:
    """What pruning leaves comes from a whole encoder that has learned: one line says so."""
    sizes = {"layers": 1, "layer_ffn": [8]}
    with pytest.raises(SettingsError, match="leave out layer_heads and layer_ffn"):
        parse_settings({"encoder": sizes}, PretrainingSettings, "pretrain.toml")
