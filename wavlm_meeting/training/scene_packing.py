"""Plans of simulated conversations as a few arrays, which go to another process or to a GPU.

P plans, U placements, S tracks (each speaker of each plan has one).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_meeting.audio.simulate import SOLO_LEVEL, ConversationPlan


class PackedScenes(NamedTuple):
    """What `training/scene_rendering.py` renders; all plans have one length."""

    length: Tensor
    """(): samples of each plan."""
    pieces: Tensor
    """(U, 4) int64: where in all samples a placement is taken from, how many samples, on which
    track, from which sample of it on (may be negative)."""
    plans: Tensor
    """(S,) int64: plan of each track, in rising order."""
    rooms: Tensor
    """(S, 2) float32: reverberation in seconds, direct sound to it in dB."""
    equalisers: Tensor
    """(S, bands) float32: gains in dB at bands spread evenly over the mel scale."""
    places: Tensor
    """(S,) int64: number of the place in a room; tracks of one place share its response."""
    responses: Tensor
    """(S,) int64: which of the renderer's responses a track is heard through; -1 where its room is
    a statistical one."""
    gains_db: Tensor
    """(S,) float32: level of each track."""
    noises: Tensor
    """(P, 3) int64: where in all samples the background is taken from, how many samples it has, at
    which of them it begins; no samples where there is none."""
    noise_gains: Tensor
    """(P,) float32: what these samples are multiplied by."""
    noise_equalisers: Tensor
    """(P, bands) float32: gains in dB that the backgrounds are filtered with; no bands where none
    of them is."""
    telephone: Tensor
    """(P,) int64: 0 without, 1 the band of a telephone, 2 its companded samples beside."""
    levels_db: Tensor
    """(P,) float32: level of the whole."""


class ScenePacker:
    """Packs plans over one array of samples that holds all sources, one after the other.

    `starts` and `lengths` say where each source lies in `samples`.
    """

    def __init__(
        self,
        samples: NDArray[np.int16],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        self.samples, self.starts, self.lengths = samples, starts, lengths
        self._noise_scales: dict[int, float] = {}

    def pack(
        self,
        plans: Sequence[ConversationPlan],
        shifts: Sequence[dict[str, int]] | None = None,
        responses: Sequence[dict[str, int]] | None = None,
    ) -> PackedScenes:
        """Pack plans of one length.

        `shifts` says of each plan's speakers how many samples further on theirs are taken from,
        which leads to other copies of the same speech; `responses`, which of the renderer's
        responses they are heard through instead of a statistical room.
        """
        pieces: list[tuple[int, int, int, int]] = []
        tracks: list[tuple[int, float, float, int, float, int]] = []
        equalisers: list[tuple[float, ...]] = []
        for number, plan in enumerate(plans):
            own = {name: len(tracks) + slot for slot, name in enumerate(plan.speakers)}
            shift = shifts[number] if shifts is not None else {}
            heard_through = responses[number] if responses is not None else {}
            for name in own:
                room = plan.rooms[name]
                tracks.append(
                    (
                        number,
                        room.reverberation_s,
                        room.direct_to_reverberant_db,
                        room.seed,
                        plan.gains_db[name],
                        heard_through.get(name, -1),
                    )
                )
                equalisers.append(room.equaliser_db)
            for placement in plan.placements:
                name, said = placement.utterance.speaker, placement.utterance
                begin = int(self.starts[said.index]) + placement.begin + shift.get(name, 0)
                size = placement.end - placement.begin
                pieces.append((begin, size, own[name], placement.start))
        columns = np.array(tracks, np.float64).reshape(-1, 6)
        return PackedScenes(
            length=torch.tensor(plans[0].length),
            pieces=torch.tensor(pieces, dtype=torch.int64).view(-1, 4),
            plans=torch.from_numpy(columns[:, 0].astype(np.int64)),
            rooms=torch.from_numpy(columns[:, 1:3].astype(np.float32)),
            equalisers=torch.tensor(equalisers or np.zeros((0, 1)), dtype=torch.float32),
            places=torch.from_numpy(columns[:, 3].astype(np.int64)),
            responses=torch.from_numpy(columns[:, 5].astype(np.int64)),
            gains_db=torch.from_numpy(columns[:, 4].astype(np.float32)),
            noises=torch.tensor([self._noise(plan) for plan in plans]),
            noise_gains=torch.tensor([self._noise_gain(plan) for plan in plans]),
            noise_equalisers=_noise_equalisers(plans),
            telephone=torch.tensor([plan.telephone * (1 + plan.companded) for plan in plans]),
            levels_db=torch.tensor([plan.level_db for plan in plans], dtype=torch.float32),
        )

    def _noise(self, plan: ConversationPlan) -> tuple[int, int, int]:
        if plan.noise is None:
            return 0, 0, 0
        index = plan.noise.index
        return int(self.starts[index]), int(self.lengths[index]), plan.noise.offset

    def _noise_gain(self, plan: ConversationPlan) -> float:
        if plan.noise is None:
            return 0.0
        index = plan.noise.index
        if index not in self._noise_scales:
            first = self.starts[index]
            whole = self.samples[first : first + self.lengths[index]]
            level = float(np.sqrt(np.mean(np.square(whole, dtype=np.float64))))
            self._noise_scales[index] = SOLO_LEVEL / max(level, 1e-5)
        return self._noise_scales[index] * 10 ** (-plan.noise.snr_db / 20)


def _noise_equalisers(plans: Sequence[ConversationPlan]) -> Tensor:
    gains = [plan.noise.equaliser_db if plan.noise else () for plan in plans]
    bands = max(map(len, gains))
    return torch.tensor([own or (0.0,) * bands for own in gains], dtype=torch.float32)
