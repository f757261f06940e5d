"""What a pretraining run takes before it is started: memory, operations, days.

Parameters are counted on the real modules, built without storage. The rest is arithmetic, checked
against real passes in the tests; only the share of a GPU's peak that is reached is an assumption.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.activations import FULL, Activations, count_activations
from wavlm_meeting.pretraining.masking import MaskSettings
from wavlm_meeting.pretraining.objective import MaskedPrediction
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.flops import encoder_flops
from wavlm_meeting.wavlm.model import WavLM

Strategy = Literal["ddp", "fsdp"]

CLASSES = (500,)
"""Labels of WavLM's second iteration, for a plan that is made before there are any."""
UTILISATION = 0.4
"""Share of a GPU's peak that a plan assumes; an assumption, not a measurement."""
USABLE = 0.9
"""Share of a GPU's memory that a plan may fill: PyTorch, the batch, gaps and what passes within a
step take the rest."""
GATHERED_LAYERS = 2
"""Sharded layers that are whole at a time: the one that is computed and the next one."""
DAY_S = 86_400


@dataclass(frozen=True)
class Gpu:
    """What is published of a GPU."""

    bfloat16: float
    """Operations a second of dense products in bfloat16."""
    float32: float
    """The same in float32, without tensor cores."""
    memory: int
    """Bytes."""


GPUS = {
    "a100": Gpu(312e12, 19.5e12, 80_000_000_000),
    "h100": Gpu(989e12, 67e12, 80_000_000_000),
    "h200": Gpu(989e12, 67e12, 141_000_000_000),
    "b200": Gpu(2250e12, 75e12, 180_000_000_000),
}
"""NVIDIA's data sheets: A100 80 GB, H100 and H200 SXM, and an eighth of HGX B200; where they give
products with sparsity, half of it."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU when a step holds the most."""

    weights: int
    """The float32 weights, or this GPU's shard of them."""
    gradients: int
    """Their gradients."""
    moments: int
    """Adam's two running means."""
    copies: int
    """Weights in the form that products take, which is bfloat16 under autocast; of sharded weights
    what is whole at a time, with its gradients."""
    activations: int
    """What is kept of the forward pass for the gradients."""

    @property
    def total(self) -> int:
        """All of it together."""
        return self.weights + self.gradients + self.moments + self.copies + self.activations


@dataclass(frozen=True)
class Plan:
    """A run, as far as it can be told."""

    gpus: int
    """Number of GPUs."""
    gpu: str
    """Their name in `GPUS`."""
    gpu_memory: int
    """Bytes of each."""
    strategy: Strategy
    """Weights copied to every GPU, or sharded over them."""
    parameters: Mapping[str, int]
    """Number of weights in each part of the encoder, in `head` and, if there is one, `contrast`."""
    memory: Memory
    """Bytes on each GPU with the settings' `trainer.recompute`."""
    activations_kept: int
    """Bytes of activations on each GPU if layers keep theirs."""
    activations_recomputed: int
    """The same if they are computed again."""
    fits: bool
    """Whether `memory` leaves a tenth of the GPU free."""
    flops_per_second: float
    """Operations for a second of audio, gradients included."""
    flops_per_step: float
    """Operations of one update of the weights, on all GPUs together."""
    step_s: float
    """Seconds of audio in one update, on all GPUs together."""
    steps: int
    """Updates."""
    audio_h: float
    """Hours of audio in all updates, however often each is heard."""
    utilisation: float
    """Assumed share of the GPUs' peak."""
    audio_per_second: float
    """Seconds of audio that all GPUs together take in a second, at that utilisation."""
    days: float
    """Days for all updates."""


def estimate(
    settings: PretrainingSettings,
    classes: Sequence[int] = CLASSES,
    gpus: int = 1,
    gpu: str = "h100",
    utilisation: float = UTILISATION,
) -> Plan:
    """Plan a run with `classes` labels in each label set on `gpus` GPUs of the kind `gpu`.

    Every utterance is counted as `batches.longest_s` long, and no layer as dropped: crops that are
    shorter take less. Raises SettingsError for an unknown GPU or a number that cannot be.
    """
    if gpu not in GPUS:
        raise SettingsError(f"no GPU '{gpu}': there are {', '.join(GPUS)}.")
    if gpus < 1:
        raise SettingsError(f"gpus is {gpus}: give at least 1.")
    if not 0 < utilisation <= 1:
        raise SettingsError(f"utilisation is {utilisation:g}: give a share of the peak, 0 to 1.")
    kind = GPUS[gpu]
    parameters = count_parameters(settings, classes)
    strategy = choose_strategy(settings, classes, gpus, kind.memory)
    memory = _memory(settings, classes, gpus, strategy, parameters)
    kept = _activations(settings, classes)
    peak = kind.bfloat16 if settings.optimizer.bfloat16 else kind.float32
    speed = utilisation * peak * gpus
    flops_per_second = _crop_flops(settings, classes) / settings.batches.longest_s
    step_s = _batch_s(settings) * settings.trainer.accumulate * gpus
    steps = settings.optimizer.steps
    return Plan(
        gpus=gpus,
        gpu=gpu,
        gpu_memory=kind.memory,
        strategy=strategy,
        parameters=parameters,
        memory=memory,
        activations_kept=kept.kept(recompute=False),
        activations_recomputed=kept.kept(recompute=True),
        fits=memory.total <= USABLE * kind.memory,
        flops_per_second=flops_per_second,
        flops_per_step=flops_per_second * step_s,
        step_s=step_s,
        steps=steps,
        audio_h=steps * step_s / 3600,
        utilisation=utilisation,
        audio_per_second=speed / flops_per_second,
        days=steps * step_s * flops_per_second / speed / DAY_S,
    )


def choose_strategy(
    settings: PretrainingSettings, classes: Sequence[int], gpus: int, gpu_memory: int
) -> Strategy:
    """Resolve "auto": copies of the weights where they fit into `gpu_memory` bytes, else shards."""
    if settings.trainer.strategy != "auto":
        return settings.trainer.strategy
    parameters = count_parameters(settings, classes)
    copied = _memory(settings, classes, gpus, "ddp", parameters)
    return "ddp" if gpus == 1 or copied.total <= USABLE * gpu_memory else "fsdp"


def count_parameters(settings: PretrainingSettings, classes: Sequence[int]) -> dict[str, int]:
    """Count the weights of each part of the model that is trained, without storage for any."""
    with torch.device("meta"):
        model = MaskedPrediction(WavLM(settings.encoder), classes, settings.objective)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.removeprefix("encoder.").split(".")[0]] += parameter.numel()
    return dict(counts)


def masked_share(masks: MaskSettings) -> float:
    """Return about which share of the frames is masked: those that a span begins shortly before."""
    return float(1 - (1 - masks.start_probability) ** masks.span)


def _memory(
    settings: PretrainingSettings,
    classes: Sequence[int],
    gpus: int,
    strategy: Strategy,
    parameters: Mapping[str, int],
) -> Memory:
    count, half = sum(parameters.values()), _half(settings)
    shards = gpus if strategy == "fsdp" else 1
    layers = parameters["layers"]
    if strategy == "fsdp":
        layer = layers // settings.encoder.layers
        whole = count - layers + GATHERED_LAYERS * layer
        copies = 2 * half * whole
    elif half < FULL:
        copies = half * count
    else:
        copies = FULL * sum(parameters[part] for part in ("frontend", "position", "head"))
    own = FULL * -(-count // shards)
    return Memory(
        weights=own,
        gradients=own,
        moments=2 * own,
        copies=copies,
        activations=_activations(settings, classes).kept(recompute=settings.trainer.recompute),
    )


def _activations(settings: PretrainingSettings, classes: Sequence[int]) -> Activations:
    """Count what one GPU keeps of one batch."""
    return count_activations(
        settings.encoder,
        settings.objective,
        classes,
        crops=_batch_s(settings) / settings.batches.longest_s,
        samples=_crop_samples(settings),
        masked=masked_share(settings.masks),
        half=_half(settings),
    )


def _crop_flops(settings: PretrainingSettings, classes: Sequence[int]) -> float:
    """Count the operations of one crop, gradients included."""
    encoder, objective = settings.encoder, settings.objective
    samples = _crop_samples(settings)
    flops = encoder_flops(encoder, samples).training(recompute=settings.trainer.recompute)
    head = encoder.width * objective.size * len(classes) + objective.size * sum(classes)
    if objective.contrastive_weight:
        channels = encoder.conv_layers[-1][0]
        head += encoder.width * channels + (1 + objective.negatives) * channels
    return flops + 3 * 2 * head * masked_share(settings.masks) * encoder.frame_count(samples)


def _crop_samples(settings: PretrainingSettings) -> int:
    return int(settings.batches.longest_s * SAMPLE_RATE)


def _batch_s(settings: PretrainingSettings) -> float:
    """Return the seconds of audio of one batch on one GPU; it holds one crop at least."""
    return max(settings.batches.seconds, settings.batches.longest_s)


def _half(settings: PretrainingSettings) -> int:
    """Return the bytes of a number that products work on."""
    return 2 if settings.optimizer.bfloat16 else FULL
