"""Compression of an encoder: what `wavlm-meeting compress` runs.

As DPHuBERT does (Peng et al., Interspeech 2023, arXiv 2305.17651): a copy of the teacher learns the
teacher's hidden states while gates on heads, feed-forward and frontend channels shut until a target
size is reached; what is shut is taken out; the rest learns again without gates.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle, write_bundle
from wavlm_meeting.checkpoints.card import Card, Material
from wavlm_meeting.checkpoints.conformer_head import CONFORMER_CLASSIFIER
from wavlm_meeting.checkpoints.loading import build_encoder, load_model
from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.compression.gates import Gates, usual_gate
from wavlm_meeting.compression.groups import count_parameters, group_sizes
from wavlm_meeting.compression.pruning import folded, prune
from wavlm_meeting.compression.selection import choose_kept, least_parameters
from wavlm_meeting.compression.settings import CompressionSettings, parse_share
from wavlm_meeting.compression.task import DistillationTask, mean_cosines
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.compression_data import open_data
from wavlm_meeting.training.progress import Progress, Report
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

NOTE = "compression.json"
"""Says what a folder is the compression of."""
COMPARED = 8
"""Batches that teacher and student are compared on; training draws others."""
NEAR = 0.02
"""How far from the target, as a share of the teacher, a size may be before it is said."""


@dataclass(frozen=True)
class Compressed:
    """What came of it."""

    model: Path
    """Folder of the model, for every command."""
    before: int
    """Parameters of the teacher's encoder."""
    after: int
    """Parameters of the new one."""
    target: int
    """Parameters that were asked for."""
    pruned: list[float]
    """Cosine with the teacher in each hidden state, right after the pruning."""
    recovered: list[float]
    """The same at the end."""

    @property
    def near(self) -> bool:
        """Whether the target was met, to 2 % of the teacher's size."""
        return abs(self.after - self.target) <= NEAR * self.before


def compress(
    teacher: str,
    target_size: str | float,
    data: Path,
    out: Path,
    settings: CompressionSettings | None = None,
    report: Report | None = None,
) -> Compressed:
    """Make a model's encoder smaller, its heads left as they are.

    Args:
        teacher: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        target_size: Share of the encoder's parameters that stays: "20%" or 0.2.
        data: Manifest of recordings, folder of them, or shards.
        out: Folder for checkpoints, logs and `model`; a stopped run goes on there.
        settings: All other choices; None takes the defaults.
        report: Told after each batch how far the stage is.

    Raises:
        SettingsError: The size cannot be, `data` holds nothing, or `out` another compression.
        AudioError: A recording cannot be read.
        CheckpointError: The teacher cannot be loaded, or its head reads the frontend.
        TrainingError: The loss is not finite.
    """
    share = parse_share(target_size)
    settings = settings or CompressionSettings()
    base = load_model(teacher)
    if CONFORMER_CLASSIFIER in base.card.heads:
        raise CheckpointError(
            f"{teacher}: its head scales the channels of the frontend, which would be pruned; "
            "compress a model of another kind, or its encoder alone."
        )
    encoder = build_encoder(base)
    config = encoder.config
    _check_states(settings.objective.states, config.layers)
    before = count_parameters(config, group_sizes(config))
    target = _target(share, before, config)
    compared = open_data(data, config, settings.batches, settings.seed + 1)
    held = list(islice(compared, COMPARED))
    _note(out, base, data, {"target_size": share, "settings": settings.model_dump(mode="json")})
    student = _pruned(encoder, target / before, target, data, out, settings, report)
    pruned = mean_cosines(encoder, student, held)
    _distil(
        DistillationTask(
            encoder,
            student,
            settings.recovery,
            settings.objective,
            bfloat16=settings.trainer.bfloat16,
        ),
        data,
        out / "recovery",
        settings,
        report,
    )
    load_parts(out / "recovery", {"student": student})
    encoder.to("cpu")
    student.to("cpu")
    recovered = mean_cosines(encoder, student, held)
    after = count_parameters(student.config, group_sizes(student.config))
    found = Compressed(out / "model", before, after, target, pruned, recovered)
    storage = base.card.weights.storage if base.card.weights else "float32"
    state = {**base.state, ENCODER: student.state_dict()}
    write_bundle(found.model, state, _card(base.card, student.config, data, found), storage)
    return found


def _target(share: float, before: int, config: WavLMConfig) -> int:
    """Return how many parameters to keep; raises SettingsError if pruning cannot get there."""
    least = least_parameters(config)
    if share * before < least:
        raise SettingsError(
            f"the target size is {share:.1%}, but with one head and one channel everywhere "
            f"{least / before:.1%} is left: that cannot be pruned; ask for more."
        )
    return round(share * before)


def _check_states(states: tuple[int, ...], layers: int) -> None:
    """Refuse hidden states that the teacher does not have."""
    if wrong := [number for number in states if not 0 <= number <= layers]:
        raise SettingsError(
            f"objective.states: the teacher has no hidden state {wrong[0]}; it has 0 to {layers}."
        )


def _pruned(
    encoder: WavLM,
    share: float,
    target: int,
    data: Path,
    out: Path,
    settings: CompressionSettings,
    report: Report | None,
) -> WavLM:
    """Learn with gates, then take out what they shut."""
    student = deepcopy(encoder)
    gates = Gates(encoder.config, settings.gates.start)
    task = DistillationTask(
        encoder,
        student,
        settings.pruning,
        settings.objective,
        bfloat16=settings.trainer.bfloat16,
        gates=gates,
        remaining=share,
        gate_settings=settings.gates,
    )
    _distil(task, data, out / "pruning", settings, report)
    load_parts(out / "pruning", {"student": student, "gates": gates})
    encoder.to("cpu")
    student.to("cpu")
    gates.to("cpu")
    kept = choose_kept(encoder.config, gates.log_alpha, target)
    return prune(folded(student, gates.log_alpha.map(usual_gate)), kept)


def _distil(
    task: DistillationTask,
    data: Path,
    folder: Path,
    settings: CompressionSettings,
    report: Report | None,
) -> None:
    """Train in a folder, or go on from its last checkpoint."""
    trainer = settings.trainer
    first = steps_done(folder) * trainer.accumulate
    config = task.student.config
    callbacks: list[lightning.Callback] = [StepSeeds(settings.seed, trainer.accumulate)]
    fit(
        task,
        open_data(data, config, settings.batches, settings.seed, first),
        folder,
        trainer,
        steps=task.settings.steps,
        gradient_clip=task.settings.gradient_clip,
        callbacks=callbacks if report is None else [*callbacks, Progress(report)],
    )


def _note(out: Path, base: Bundle, data: Path, options: Mapping[str, Any]) -> None:
    """Say what the folder is for; raises SettingsError if it is for something else."""
    weights = base.card.weights.sha256 if base.card.weights else base.card.name
    wanted = json.loads(
        json.dumps({"teacher": weights, "data": str(data.resolve()), "options": options})
    )
    note = out / NOTE
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")) != wanted:
            raise SettingsError(
                f"{out}: holds another compression, or one with other options; name another "
                "folder, or remove it."
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _card(card: Card, encoder: WavLMConfig, data: Path, found: Compressed) -> Card:
    """Return what is known of the new model; the teacher's figures are not its own."""
    share = found.after / found.before
    heard = Material(name=data.name, licence="unknown", use="distillation")
    teacher = Material(name=card.name, licence=card.licence, use="its weights and hidden states")
    training = card.training.model_copy(
        update={
            "data": (*card.training.data, heard),
            "teachers": (*card.training.teachers, teacher),
            "recipe": "wavlm-meeting compress",
        }
    )
    states = range(len(found.recovered))
    return Card(
        name=f"{card.name}-{share:.0%}".removesuffix("%"),
        version=card.version,
        licence=card.licence,
        description=f"{card.name}, its encoder pruned to {share:.1%} of its parameters.",
        encoder=encoder,
        heads=card.heads,
        training=training,
        figures={
            "parameters of the encoder": found.after,
            "parameters of the teacher's": found.before,
            **{f"cosine with the teacher, state {n}": round(found.recovered[n], 4) for n in states},
        },
    )
