"""Windows to train diarization on: their targets are true, and batch n is always the same."""

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from wavlm_meeting.audio.simulate import ConversationSettings, Utterance
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig

pytest.importorskip("lhotse", reason="training needs the extra 'train'")
pytest.importorskip("speechbrain", reason="training needs the extra 'train'")

from small_conversations import RATE, single_voice, small_conversation
from wavlm_meeting.config import parse_settings
from wavlm_meeting.training.augmentation import AugmentationSettings, Augmenter
from wavlm_meeting.training.diarization_data import (
    ConversationBatches,
    ConversationBatchSettings,
    draw_mixture,
)
from wavlm_meeting.training.diarization_targets import local_targets
from wavlm_meeting.training.recordings import gather

ENCODER = WavLMConfig(conv_layers=((8, 400, 160), (8, 2, 2)), width=16, layers=1, heads=2, ffn=16)
DRY = ConversationSettings(room=0.0, noise=0.0, telephone=0.0, equaliser_db=0.0, gain_db=0.0)


def batches_of(folder: Path, augmented: float = 0.0, **values: object) -> ConversationBatches:
    """Return batches of two conversations and three single voices."""
    real = [small_conversation(folder / f"{name}.wav") for name in ("one", "three")]
    speech = [single_voice(folder / f"v{n}.wav", f"s{n}", 0.1 + n / 50) for n in range(3)]
    settings = parse_settings(
        {"conversations": 4, "windows": 2, "conversation": DRY, **values},
        ConversationBatchSettings,
        "here",
    )
    augmenter = Augmenter(
        AugmentationSettings(untouched=1.0 - augmented, noise=0.0, room=1.0), gather([])
    )
    return ConversationBatches(real, speech, settings, augmenter, ENCODER, 3, 4.0, seed=7)


def loud_frames(waveform: torch.Tensor, frames: int) -> torch.Tensor:
    """Return which frames sound."""
    return waveform[: frames * ENCODER.hop].reshape(frames, -1).square().mean(dim=1) > 1e-5


def assert_follows(waveform: torch.Tensor, active: torch.Tensor) -> None:
    """Check that a window sounds where somebody is active, but for frames at the edges of turns."""
    loud = loud_frames(waveform, len(active))
    inner = active[1:-1] & active[:-2] & active[2:]
    silent = ~(active[1:-1] | active[:-2] | active[2:])
    assert loud[1:-1][inner].all()
    assert not loud[1:-1][silent].any()


def test_windows_follow_the_reference(tmp_path: Path) -> None:
    """A real window sounds where its targets say so; each channel has its own speaker's turns."""
    batch = batches_of(tmp_path, one_channel=0.0).batch(0)
    assert batch.waveforms.shape == (8, 4 * RATE)
    assert batch.activities.shape == (8, ENCODER.frame_count(4 * RATE), 3)
    assert batch.conversations.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for waveform, activities in zip(batch.waveforms, batch.activities, strict=True):
        assert_follows(waveform, activities.sum(dim=1) > 0)
    assert batch.activities.sum(dim=2).max() == 2  # some of the overlap was heard
    # A channel holds one of the two speakers, as the recordings were made: turns of the other are
    # silent in it, and targets stay what they are.
    alone = batches_of(tmp_path, one_channel=1.0).batch(0)
    silent_turns = 0
    for waveform, activities in zip(alone.waveforms, alone.activities, strict=True):
        loud = loud_frames(waveform, len(activities))
        silent_turns += int((~loud & (activities.sum(dim=1) > 0)).sum() > 10)
    assert silent_turns > 0


def test_voices_are_numbered_within_the_conversation(tmp_path: Path) -> None:
    """The same voice has one number and one class in all windows of a conversation."""
    batches = batches_of(tmp_path, simulated=0.5, speaker_shares=(0.0, 1.0))
    people = ["s0", "s1", "s2", "one a", "one b", "three a", "three b"]
    assert list(batches.classes) == people
    simulated = set()
    for number in range(4):
        batch = batches.batch(number)
        for conversation in range(4):
            rows = batch.conversations == conversation
            pairs = set(zip(batch.voices[rows].ravel().tolist(),
                            batch.classes[rows].ravel().tolist(), strict=True))  # fmt: skip
            pairs.discard((-1, -1))
            assert len({voice for voice, _ in pairs}) == len(pairs) <= 2
            assert len({klass for _, klass in pairs}) == len(pairs)
            simulated |= {klass < 3 for _, klass in pairs}
        active = batch.activities.any(dim=1)
        assert torch.equal(active, batch.voices >= 0)
        assert not batch.teacher.any()
    assert simulated == {True, False}
    named = batches_of(tmp_path, named=True)
    assert list(named.classes) == ["s0", "s1", "s2", "a", "b"]


@pytest.mark.parametrize("pauses_s", [(), (0.5, 0.5)])
def test_simulated_windows_follow_their_plan(tmp_path: Path, pauses_s: tuple[float, ...]) -> None:
    """Turn-taking or as in EEND: a window sounds where its targets say so."""
    batches = batches_of(tmp_path, simulated=1.0, speaker_shares=(0.5, 0.5), pauses_s=pauses_s)
    for waveform, activities in zip(*batches.batch(3)[:2], strict=True):
        assert_follows(waveform * 30, activities.sum(dim=1) > 0)


def test_a_batch_is_a_function_of_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before; each process has conversations of its own, all of one larger batch."""
    values = {"augmented": 1.0, "simulated": 0.5, "speaker_shares": (0.0, 1.0)}
    batches = batches_of(tmp_path, **values)
    third = list(islice(batches, 4))[3]
    again = batches_of(tmp_path, **values)
    again.first = 3
    for one, other in zip(third, next(iter(again)), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(third.waveforms, batches.batch(2).waveforms)
    whole = batches_of(tmp_path, **{**values, "conversations": 8}).batch(3)
    assert torch.equal(whole.waveforms[:8], third.waveforms)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert torch.equal(whole.waveforms[8:], again.batch(3).waveforms)


def test_mixtures_do_not_heed_each_other() -> None:
    """Pauses of a speaker are exponential around their mean, whatever the others say."""
    voices = {
        name: [Utterance(number, name, ((0, 2 * RATE),))] for number, name in enumerate("abc")
    }
    plan = draw_mixture(np.random.default_rng(1), voices, 4000 * RATE, 3.0, DRY)
    for name in voices:
        own = [p for p in plan.placements if p.utterance.speaker == name]
        pauses = [later.start - one.start - 2 * RATE for one, later in pairwise(own)]
        assert min(pauses) >= 0
        assert np.mean(pauses) / RATE == pytest.approx(3.0, rel=0.15)
        assert np.std(pauses) == pytest.approx(np.mean(pauses), rel=0.2)
    active = np.zeros((3, 4000))
    for start, end, name in plan.turns():
        active["abc".index(name), start // RATE : end // RATE] = 1
    alone = active.mean(axis=1)
    assert (active[0] * active[1]).mean() == pytest.approx(alone[0] * alone[1], rel=0.2)


def test_who_speaks_longest_has_a_slot() -> None:
    """Of more speakers than slots those remain who speak most, in the order of their turns."""
    turns = [(0, 1000, "short"), (1000, 9000, "long"), (9000, 15000, "longer")]
    activities, names = local_targets(ENCODER, RATE, turns, 2)
    assert names == ["long", "longer"]
    assert activities.shape == (ENCODER.frame_count(RATE), 2)
    assert activities[:, 0].sum() == pytest.approx(8000 / ENCODER.hop, abs=1)


def test_mistakes(tmp_path: Path) -> None:
    """Settings that do not fit the material are refused with what to change."""
    with pytest.raises(SettingsError, match=r"add up to 0\.7"):
        batches_of(tmp_path, simulated=0.5, speaker_shares=(0.5, 0.2))
    with pytest.raises(SettingsError, match=r"between 4 speakers .* speech of 3"):
        batches_of(tmp_path, simulated=0.5)
    with pytest.raises(SettingsError, match="pauses_s is shorter"):
        batches_of(tmp_path, simulated=0.5, speaker_shares=(0.5, 0.5), pauses_s=(2.0,))
    call = small_conversation(tmp_path / "call.wav")
    augmenter = Augmenter(AugmentationSettings(), gather([]))
    settings = ConversationBatchSettings(simulated=1.0)
    with pytest.raises(SettingsError, match="several speakers"):
        ConversationBatches([], [call], settings, augmenter, ENCODER, 3, 4.0, seed=7)
