"""Pseudo-labels of a folder of shards: clusters of a sample, then a label for each frame.

Beside the shards stand `<field>.safetensors` (the clusters), `<field>.NNNNNN.tar` (labels) and
`<field>.json`, which says by the SHA-256 of their centres which clusters the labels are of. Labels
are written shard by shard, by one process or several, and a killed run goes on with the shards that
have none.

N samples, T frames, C channels.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch import Tensor

from wavlm_meeting.devices import resolve_device
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.kmeans import KMeans, KMeansSettings, fit_kmeans
from wavlm_meeting.pretraining.labels import (
    FrameFeatures,
    LabelQuality,
    UnitCounts,
    label_frames,
    label_quality,
    read_clusters,
    sample_frames,
    use_perplexity,
    write_clusters,
)
from wavlm_meeting.training.processes import join_processes, processes, wait_for_all
from wavlm_meeting.training.shard_index import Part
from wavlm_meeting.training.shards import CUTS, read_index, read_shards, write_field
from wavlm_meeting.units import SAMPLE_RATE

SAMPLE_SHARDS = 100
"""Shards at most that frames are sampled from: 400 hours of the largest corpora."""
SPARE = 4
"""Frames that are made for each one that is kept, so that these are of many recordings."""


@dataclass(frozen=True)
class LabelReport:
    """What the labels of a folder are like; counts are over all shards."""

    frames: int
    """Frames with a label."""
    clusters: int
    """Number of clusters."""
    used: int
    """Clusters that at least one frame has."""
    perplexity: float
    """Number of clusters that would be as hard to guess if all were used evenly."""
    aligned_frames: int
    """Frames during which a unit (word, phone) is known to be spoken."""
    units: int
    """Different units among them."""
    quality: LabelQuality | None
    """How well labels tell units apart, over those frames; None if there are none."""


def make_labels(
    folder: Path,
    field: str,
    features: FrameFeatures,
    frames: int,
    settings: KMeansSettings,
    hop: int,
    source: str = "",
) -> LabelReport | None:
    """Find clusters where there are none yet, label every shard, and report.

    In the processes of torchrun the first one finds the clusters and reports, the others return
    None; all of them label. Arguments are those of `fit_clusters` and `label_report`. Raises
    SettingsError where `field` has clusters of something else, or another number of them.
    """
    join_processes()
    part = processes()
    if part[0] == 0 and not _clusters_path(folder, field).is_file():
        fit_clusters(folder, field, features, frames, settings, resolve_device("auto"), source)
    wait_for_all()
    found, of = read_clusters(_clusters_path(folder, field))
    if (len(found.centres), of) != (settings.clusters, source or field):
        raise SettingsError(
            f"{folder}: '{field}' has {len(found.centres)} clusters of {of}: name other labels, or "
            f"remove {field}.*"
        )
    label_shards(folder, field, features, part)
    wait_for_all()
    return label_report(folder, field, hop) if part[0] == 0 else None


def fit_clusters(
    folder: Path,
    field: str,
    features: FrameFeatures,
    frames: int,
    settings: KMeansSettings,
    device: str | torch.device = "cpu",
    source: str = "",
) -> KMeans:
    """Find clusters of at most `frames` frames of a folder's speech and write them beside it.

    `source` says what they are clusters of. Labels of `field` that were made with other clusters
    are removed. Raises SettingsError if there
    are no shards, or fewer frames than clusters.
    """
    _check_field(field)
    sample = sample_frames(
        _sample_waveforms(folder, features, frames, settings.seed), features, frames, settings.seed
    )
    found = fit_kmeans(sample, settings, device)
    if _noted(folder, field) not in (None, _fingerprint(found)):
        for path in _label_paths(folder, field):
            path.unlink()
        _note_path(folder, field).unlink()
    write_clusters(_clusters_path(folder, field), found, source or field)
    return found


def label_shards(
    folder: Path, field: str, features: FrameFeatures, part: Part = (0, 1)
) -> list[int]:
    """Label every frame of the shards that have no labels yet, with the clusters of `field`.

    Process i of n, `part` (i, n), takes the shards whose number leaves i when divided by n. Returns
    the numbers of the shards that were written. Raises SettingsError if there are no clusters, or
    labels are there that were made with others.
    """
    _check_field(field)
    own, count = part
    if not 0 <= own < count:
        raise SettingsError(f"part {own}/{count}: in N parts, I goes from 0 to N - 1.")
    clusters, _ = read_clusters(_clusters_path(folder, field))
    _claim(folder, field, _fingerprint(clusters))
    there = {path.name for path in _label_paths(folder, field)}
    written = []
    for shard in read_index(folder):
        mine = shard.number % count == own and shard.cuts
        if mine and f"{field}.{shard.number:06d}.tar" not in there:
            waveforms = _named_waveforms(folder, shard.number)
            write_field(
                folder, field, shard.number, label_frames(waveforms, features, clusters.centres)
            )
            written.append(shard.number)
    return written


def frame_units(cut: Cut, kind: str, hop: int, frames: int) -> list[str | None] | None:
    """Return the unit that is spoken in the middle of each frame's hop, None where there is none.

    `kind` names the alignment of the cut's supervisions ("word", "phone"), which comes from a
    forced aligner; times count from the recording's start, as everywhere in Lhotse. Returns None if
    there is no such alignment, as in corpora whose transcripts have no times (LibriSpeech).
    """
    alignments = [
        part.alignment[kind]
        for part in cut.supervisions
        if part.alignment is not None and kind in part.alignment
    ]
    if not alignments:
        return None
    units: list[str | None] = [None] * frames
    for item in (item for items in alignments for item in items):
        # Frame t is the unit's if start <= (t + 1/2) hop < end.
        first, end = (
            min(max(math.ceil((time - cut.start) * SAMPLE_RATE / hop - 0.5), 0), frames)
            for time in (item.start, item.end)
        )
        units[first:end] = [item.symbol] * (end - first)
    return units


def label_report(folder: Path, field: str, hop: int, kind: str = "word") -> LabelReport:
    """Count how labels are used and, where cuts carry alignments of `kind`, what they know of it.

    `hop` is the number of samples from label to label. Without alignments only the use is reported.
    Raises SettingsError if a shard has no labels.
    """
    clusters, _ = read_clusters(_clusters_path(folder, field))
    count = len(clusters.centres)
    use = np.zeros(count, np.int64)
    units = UnitCounts(count)
    names: dict[str, int] = {}
    for cut in _labelled_cuts(folder, field):
        labels = cut.load_custom(field)
        use += np.bincount(labels, minlength=count)
        spoken = frame_units(cut, kind, hop, len(labels))
        if spoken is not None:
            numbers = [
                -1 if name is None else names.setdefault(name, len(names)) for name in spoken
            ]
            units.add(labels, np.array(numbers))
    matrix = units.matrix()
    return LabelReport(
        frames=int(use.sum()),
        clusters=count,
        used=int((use > 0).sum()),
        perplexity=use_perplexity(use),
        aligned_frames=0 if matrix is None else int(matrix.sum()),
        units=len(names),
        quality=None if matrix is None else label_quality(matrix),
    )


def _sample_waveforms(
    folder: Path, features: FrameFeatures, frames: int, seed: int
) -> Iterator[Tensor]:
    """Give random recordings that hold about SPARE times `frames` frames, all if there are fewer.

    Shards are drawn first, then recordings in them, each as likely as any other; what is not drawn
    is not decoded.
    """
    rng = np.random.default_rng(seed)
    shards = [shard for shard in read_index(folder) if shard.cuts]
    drawn = rng.permutation(len(shards))[:SAMPLE_SHARDS]
    chosen = [shards[index] for index in sorted(drawn.tolist())]
    cuts = read_shards(folder, numbers=[shard.number for shard in chosen])
    expected = sum(shard.seconds for shard in chosen) * _frame_rate(cuts, features)
    share = SPARE * frames / expected
    for cut in cuts:
        if rng.random() < share:
            yield _waveform(cut)


def _frame_rate(cuts: CutSet, features: FrameFeatures) -> float:
    """Return how many frames a second has, by the first of the cuts."""
    first = next(iter(cuts))
    return len(features(_waveform(first))) / float(first.duration)


def _named_waveforms(folder: Path, number: int) -> Iterator[tuple[str, Tensor]]:
    for cut in read_shards(folder, numbers=[number]):
        yield cut.id, _waveform(cut)


def _waveform(cut: Cut) -> Tensor:
    return torch.from_numpy(cut.load_audio()[0])


def _labelled_cuts(folder: Path, field: str) -> CutSet:
    """Return the cuts with their labels and without their audio, which is most of the bytes."""
    read_shards(folder, [field])  # a missing shard is said before the count begins
    numbers = [shard.number for shard in read_index(folder) if shard.cuts]
    names = {"cuts": CUTS, field: f"{field}.%06d.tar"}
    return CutSet.from_shar(
        fields={
            key: [str(folder / (name % number)) for number in numbers]
            for key, name in names.items()
        }
    )


def _fingerprint(clusters: KMeans) -> str:
    """Return the SHA-256 of the centres; files of equal clusters may differ in their header."""
    return hashlib.sha256(clusters.centres.numpy().tobytes()).hexdigest()


def _claim(folder: Path, field: str, clusters: str) -> None:
    """Note which clusters the labels are of; raises SettingsError if some are of others."""
    # Looked for before the note is read: other processes write their note before their labels.
    labelled = bool(_label_paths(folder, field))
    noted = _noted(folder, field)
    if noted is None and not labelled:
        with atomic_write(_note_path(folder, field)) as temporary:
            temporary.write_text(json.dumps({"clusters": clusters}) + "\n", encoding="utf-8")
    elif noted != clusters:
        raise SettingsError(
            f"{folder}: the labels '{field}' were made with other clusters than are there now; "
            f"remove {field}.*.tar and {field}.json to make them anew."
        )


def _noted(folder: Path, field: str) -> str | None:
    """Return the SHA-256 of the clusters that labels are of, None if there is no note."""
    path = _note_path(folder, field)
    return str(json.loads(path.read_text(encoding="utf-8"))["clusters"]) if path.is_file() else None


def _check_field(field: str) -> None:
    if not field.isidentifier() or field in ("cuts", "recording"):
        raise SettingsError(
            f"'{field}' cannot name labels: take letters, not 'cuts' or 'recording'."
        )


def _clusters_path(folder: Path, field: str) -> Path:
    return folder / f"{field}.safetensors"


def _note_path(folder: Path, field: str) -> Path:
    return folder / f"{field}.json"


def _label_paths(folder: Path, field: str) -> list[Path]:
    return list(folder.glob(f"{field}.[0-9]*.tar"))
