"""Which local speakers of all windows are the same person.

M local speakers of all windows together, D embedding size, N groups of them, K speakers of the
recording.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import Field

from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.agglomerative import Dendrogram, Floats, Groups, Ints, join
from wavlm_meeting.diarization.assignment import assign_all, choose_founders, large_enough
from wavlm_meeting.diarization.blocks import condense
from wavlm_meeting.diarization.spectral import spectral
from wavlm_meeting.diarization.vbx import MOST, SpeakerModel, infer

NEAR = 0.5
"""Share of the threshold up to which neighbouring blocks of a long recording are put together."""
UNLIKELY = 1e-3
"""Probability below which a number of speakers is not listed."""
WANTED_S = 1.0
"""Speech that a group needs at least to be taken for one of the speakers that were asked for."""


class VbxSettings(Settings):
    """The Bayesian hidden Markov model of `vbx.py`; `[heads.diarization.clustering.vbx]`."""

    threshold: float = Field(0.55, gt=0, lt=2)
    """Cosine distance up to which average linkage joins what the model starts from: rather low,
    since it takes speakers away and never adds one."""
    cosine: float = Field(0.5, gt=0, lt=1)
    """Mean cosine between two embeddings of one speaker."""
    acoustic_factor: float = Field(0.2, gt=0)
    """How much an embedding counts; below 1, as the entries of an embedding and neighbouring
    windows are not independent."""
    speaker_factor: float = Field(0.7, gt=0)
    """How much a speaker costs: the larger, the fewer."""
    stay: float = Field(0.0, ge=0, lt=1)
    """Probability that a window goes on with the speaker before it for want of any choice."""


class SpectralSettings(Settings):
    """Spectral clustering; `[heads.diarization.clustering.spectral]`."""

    scale: float = Field(0.25, gt=0)
    """Cosine distance at which the affinity of two embeddings has fallen to exp(-1/2)."""
    neighbours: float = Field(1.0, gt=0, le=1)
    """Share of all local speakers that each one keeps an affinity to."""


class ClusteringSettings(Settings):
    """What a bundle's card says under `[heads.diarization.clustering]`."""

    method: Literal["agglomerative", "vbx", "spectral"] = "agglomerative"
    """How groups are found."""
    threshold: float = Field(0.6, gt=0, lt=2)
    """Cosine distance, averaged between two groups of voices, up to which they are one speaker."""
    threshold_spread: float = Field(0.08, gt=0)
    """How far the right threshold of a recording lies from that, as the scale of a logistic
    distribution: the numbers of speakers that those lead to get their probabilities."""
    least_s: float = Field(1.0, ge=0)
    """Speech alone that an embedding needs to found a group; the others join the nearest one."""
    least_speaker_s: float = Field(2.0, ge=0)
    """Speech that a group needs to be a speaker, unless a number of speakers was asked for."""
    evident_s: float = Field(0.8, gt=0)
    """Speech alone that a local speaker needs to be evidence of how many speakers there are."""
    evident_share: float = Field(0.1, gt=0, le=1)
    """Share of the windows with speech in which so many local speakers show that there are."""
    evident_threshold: float = Field(0.4, gt=0, lt=2)
    """Distance up to which two groups are one speaker even where the windows show more of them."""
    block: int = Field(3000, ge=100)
    """Local speakers that are compared all with all; of more, neighbours are put together first.
    The distances take 72 MB."""
    vbx: VbxSettings = VbxSettings()
    """Settings of the method `vbx`."""
    spectral: SpectralSettings = SpectralSettings()
    """Settings of the method `spectral`."""

    @property
    def joined_to(self) -> float:
        """Distance up to which the method in use joins groups, VBx those that it starts from."""
        return self.vbx.threshold if self.method == "vbx" else self.threshold

    def joining_to(self, threshold: float) -> Self:
        """Return these settings with another such distance."""
        if self.method == "vbx":
            own = self.vbx.model_copy(update={"threshold": threshold})
            return self.model_copy(update={"vbx": own})
        return self.model_copy(update={"threshold": threshold})


@dataclass(frozen=True)
class Clusters:
    """Who is who, and how sure the number of speakers is."""

    labels: Ints
    """(M,) speaker of each local speaker, numbered from 0 by who is heard first."""
    counts: dict[int, float]
    """Probability of each number of speakers; 1 for a number that was given."""


@dataclass(frozen=True)
class _Tree:
    """How groups of founders are joined, and which of them have enough speech to be a speaker."""

    joined: Dendrogram
    members: Ints
    """Which of the groups at the start each founder is in."""
    large: Ints
    """(N,) groups that have enough speech when 1, 2, ... N are left."""

    def cut(self, groups: int) -> Ints:
        """Return the group of each founder when so many are left."""
        return self.joined.cut(groups)[self.members]

    def fewest(self, speakers: int) -> int:
        """Return the fewest groups among which are so many speakers, or as many as can be."""
        large = self.large[speakers - 1 :]
        return speakers + int(np.argmax(large >= min(speakers, large.max())))

    def most(self, groups: int, speakers: int) -> int:
        """Return the most groups, of up to `groups`, among which are no more speakers."""
        return int(np.flatnonzero(self.large[:groups] <= speakers)[-1]) + 1


@dataclass(frozen=True)
class _Bounds:
    """Between which numbers to choose."""

    groups: int
    """Groups at least."""
    least: int
    """Speakers at least: groups that have enough speech."""
    most: int
    """Speakers at most."""


@dataclass(frozen=True)
class _Founders:
    """Local speakers that groups are founded on, in the order of time."""

    embeddings: Floats
    windows: Ints
    speech_s: Floats
    groups: Groups
    """What they are put together to at first: themselves, unless the recording is long."""
    members: Ints
    """Which of the groups each of them is in."""

    def tree(self, groups: Groups, members: Ints, least_s: float) -> _Tree:
        """Return how `groups`, which have these `members`, are joined; `least_s` is enough."""
        joined = join(groups)
        speech_s = np.bincount(members, weights=self.speech_s).astype(np.float64)
        return _Tree(joined, members, joined.large(speech_s, max(least_s, WANTED_S)))


def cluster(
    embeddings: Floats,
    windows: Ints,
    speech_s: Floats,
    settings: ClusteringSettings,
    *,
    min_speakers: int = 1,
    max_speakers: int | None = None,
) -> Clusters:
    """Tell which local speakers are one person.

    `embeddings` (M, D) have unit length, `windows` (M,) says where each was heard and `speech_s`
    (M,) for how long; their order does not matter. Groups are founded on those who were heard for
    long enough, by one of three methods:

    - agglomerative: average linkage up to a threshold, of two of one window only if so few speakers
      are wanted.
    - vbx: that up to a lower threshold, then a Bayesian model which takes speakers away.
    - spectral: eigenvectors of the affinities, as many as come before the largest gap.

    There are as many groups as one window holds, and where more windows are evidence of more
    speakers, so many, unless they are very near. Then every local speaker takes the nearest group,
    those of one window different ones as long as there are enough. The number of speakers lies
    within `min_speakers` and `max_speakers` whenever there are as many local speakers; a wanted
    number outranks thresholds and least durations. Groups are joined until so many of them have
    enough speech to be a speaker: what is odd and brief is none of those that were asked for.
    """
    if not len(embeddings):
        return Clusters(np.zeros(0, np.int64), {0: 1.0})
    order = np.lexsort((embeddings[:, -1], embeddings[:, 0], -speech_s, windows))
    embeddings, windows, speech_s = embeddings[order], windows[order], speech_s[order]
    evident = evident_speakers(windows, speech_s, settings.evident_s, settings.evident_share)
    founders = choose_founders(speech_s, settings.least_s, max(min_speakers, evident))
    founded = _founded(
        embeddings[founders], windows[founders], speech_s[founders], settings, min_speakers
    )
    tree = founded.tree(founded.groups, founded.members, settings.least_speaker_s)
    together = int(np.unique(founded.windows, return_counts=True)[1].max())
    evident = min(evident, tree.joined.groups_below(settings.evident_threshold))
    count = len(founded.groups)
    least, most = min(min_speakers, count), min(max_speakers or count, count)
    bounds = _Bounds(min(max(least, together, evident), most), least, most)
    labels = _group(founded, tree, bounds, settings)
    limits = founded.speech_s, settings.least_speaker_s, least, most
    kept = large_enough(labels, *limits)
    assigned = assign_all(embeddings, windows, speech_s, founders, labels, kept)
    found = np.empty(len(order), np.int64)
    found[order] = _by_first(assigned)
    if min_speakers == max_speakers:
        return Clusters(found, {len(kept): 1.0})
    counts: dict[int, float] = {}
    for groups, probability in _group_counts(tree, len(np.unique(labels)), bounds, settings):
        speakers = len(large_enough(tree.cut(groups), *limits))
        counts[speakers] = counts.get(speakers, 0.0) + probability
    return Clusters(found, dict(sorted(counts.items())))


def evident_speakers(windows: Ints, speech_s: Floats, least_s: float, share: float) -> int:
    """Return how many speakers there are at least, by the windows that hold several.

    `windows` (M,) and `speech_s` (M,) as in `cluster`. That is the largest number of local speakers
    with `least_s` of speech alone which at least `share` of the windows with such a speaker have:
    who shares a microphone and a room with others is told from them within a window when their
    embeddings no longer do.
    """
    counts = np.unique(windows[speech_s >= least_s], return_counts=True)[1]
    counts = np.sort(counts)[::-1]
    if not len(counts):
        return 1
    needed = max(1, int(np.ceil(share * len(counts))))
    return int(counts[needed - 1])


def _founded(
    embeddings: Floats, windows: Ints, speech_s: Floats, settings: ClusteringSettings, least: int
) -> _Founders:
    """Put founders together where there are too many of them to compare all with all."""
    groups = Groups.single(embeddings, windows)
    groups, members = condense(groups, settings.block, NEAR * settings.threshold, least)
    return _Founders(embeddings, windows, speech_s, groups, members)


def _group(founded: _Founders, tree: _Tree, bounds: _Bounds, settings: ClusteringSettings) -> Ints:
    """Return the groups of the founders, as many as the method finds within bounds."""
    if settings.method == "spectral":
        affinity = settings.spectral.scale, settings.spectral.neighbours
        labels: Ints = spectral(founded.groups, *affinity, bounds.groups, bounds.most)
        return labels[founded.members]
    if settings.method == "vbx":
        return _group_by_vbx(founded, tree, bounds, settings)
    groups = max(_fewest(tree, bounds), tree.joined.groups_below(settings.threshold))
    return tree.cut(tree.most(groups, bounds.most))


def _group_by_vbx(
    founded: _Founders, tree: _Tree, bounds: _Bounds, settings: ClusteringSettings
) -> Ints:
    """Let the model choose, and join what is more than the bounds allow.

    The model only takes speakers away: it starts with what the lower bound wants, and where it
    takes away too many, the cut there is the result.
    """
    values = settings.vbx.model_dump(exclude={"threshold"})
    least = _fewest(tree, bounds)
    enough = min(max(least, tree.joined.groups_below(settings.vbx.threshold)), MOST)
    start = tree.cut(max(bounds.groups, enough))
    labels = infer(founded.embeddings, founded.windows, start, SpeakerModel(**values)).labels()
    everywhere = np.arange(len(labels))  # one doubtful window does not keep two groups apart
    groups = Groups.single(founded.embeddings, everywhere).joined(labels)
    left = founded.tree(groups, labels, settings.least_speaker_s)
    if len(groups) < bounds.groups or left.large[-1] < min(bounds.least, tree.large[least - 1]):
        return tree.cut(tree.most(least, bounds.most))
    return left.cut(left.most(len(groups), bounds.most))


def _fewest(tree: _Tree, bounds: _Bounds) -> int:
    """Return the lower bound of groups, those that are too small for a speaker among them."""
    return max(bounds.groups, tree.fewest(bounds.least))


def _group_counts(
    tree: _Tree, found: int, bounds: _Bounds, settings: ClusteringSettings
) -> list[tuple[int, float]]:
    """Return the probable numbers of groups: those of the thresholds around the one used.

    Where the method is not the threshold, that is the nearest one to it which gives what was found.
    """
    low, high = tree.joined.thresholds(found)
    centre = settings.threshold
    if settings.method != "agglomerative":
        centre = min(max(centre, low), high)
    within: dict[int, float] = {}
    least = _fewest(tree, bounds)
    probabilities = tree.joined.counts(centre, settings.threshold_spread)
    for number, probability in enumerate(probabilities, start=1):
        groups = tree.most(max(number, least), bounds.most)
        within[groups] = within.get(groups, 0.0) + float(probability)
    likely = [item for item in within.items() if item[1] >= UNLIKELY]
    total = sum(probability for _, probability in likely)
    return [(groups, probability / total) for groups, probability in likely]


def _by_first(labels: Ints) -> Ints:
    """Number labels (M,) in the order in which they come first."""
    _, first, places = np.unique(labels, return_index=True, return_inverse=True)
    numbers: Ints = np.argsort(np.argsort(first))[places]
    return numbers
