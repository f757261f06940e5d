"""Batches of speakers: balanced, across sessions and sources, and the same wherever one begins."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavlm_meeting.errors import SettingsError

pytest.importorskip("lhotse", reason="training needs the extra 'train'")

from wavlm_meeting.training.augmentation import AugmentationSettings, Augmenter
from wavlm_meeting.training.recordings import Recordings, Row, gather
from wavlm_meeting.training.speakers import SpeakerBatches, SpeakerBatchSettings
from wavlm_meeting.verification.task import SpeakerBatch

RATE = 16_000
PLAIN = AugmentationSettings(untouched=1.0)
SETTINGS = SpeakerBatchSettings(speakers=4, utterances=2, crop_s=0.5, speeds=(1.0,))
SPEAKERS = {
    # name: source, sessions of the recordings
    "anna": ("radio", "112233"),
    "ben": ("radio", "11112"),
    "cleo": ("radio", "1"),
    "dan": ("phone", "11"),
    "eve": ("phone", "1234"),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """Give speech whose samples tell which recording it is: number n is n / 100 all through."""
    root = tmp_path_factory.mktemp("speech")
    rows = []
    for name, (source, sessions) in [*SPEAKERS.items(), ("", ("street", "111"))]:
        for session in sessions:
            path = root / f"{len(rows)}.wav"
            samples = np.full(RATE + 100 * len(rows), len(rows) / 100)
            soundfile.write(path, samples, RATE, "FLOAT")
            rows.append(Row(str(path), 0.0, len(samples) / RATE, name, session, source))
    return gather(rows)


def stream(
    recordings: Recordings,
    first: int = 0,
    seed: int = 1,
    teacher: Path | None = None,
    augmentation: AugmentationSettings = PLAIN,
    **values: object,
) -> SpeakerBatches:
    """Return batches with some settings changed."""
    settings = SETTINGS.model_copy(update=values)
    augmenter = Augmenter(augmentation, recordings)
    return SpeakerBatches(recordings, settings, augmenter, seed, first, teacher)


def heard(batch: SpeakerBatch) -> list[int]:
    """Return which recording each crop is of."""
    return (batch.waveforms[:, 0] * 100).round().int().tolist()


def names(recordings: Recordings, batches: SpeakerBatches, batch: SpeakerBatch) -> list[str]:
    """Return whose crops a batch has, by what is heard; checks that classes say the same."""
    found = [recordings.speaker_names[recordings.speakers[index]] for index in heard(batch)]
    assert found == [batches.classes[class_] for class_ in batch.classes.tolist()]
    return found


def test_every_speaker_is_as_likely(recordings: Recordings) -> None:
    """Six recordings or one: all come equally often, different ones within a batch."""
    batches = stream(recordings, speakers=2)
    counts: Counter[str] = Counter()
    for number in range(500):
        found = names(recordings, batches, batches.batch(number))
        assert found[0] == found[1] != found[2] == found[3]
        counts.update(found[::2])
    for name in SPEAKERS:
        assert counts[name] == pytest.approx(200, abs=4 * np.sqrt(1000 * 0.2 * 0.8))


def test_crops_of_a_speaker_are_of_different_sessions(recordings: Recordings) -> None:
    """Always where there are several, of different recordings where not, else of the only one."""
    batches = stream(recordings, speakers=5, utterances=3)
    recordings_of: dict[str, set[int]] = {name: set() for name in SPEAKERS}
    for number in range(60):
        batch = batches.batch(number)
        own: dict[str, list[int]] = {}
        for name, index in zip(names(recordings, batches, batch), heard(batch), strict=True):
            own.setdefault(name, []).append(index)
        for name, chosen in own.items():
            recordings_of[name] |= set(chosen)
            sessions = {int(recordings.sessions[index]) for index in chosen}
            assert len(sessions) == min(3, len(set(SPEAKERS[name][1])))
            assert len(set(chosen)) == min(3, len(SPEAKERS[name][1]))
    assert {name: len(found) for name, found in recordings_of.items()} == {
        name: len(sessions) for name, (_, sessions) in SPEAKERS.items()
    }


def test_a_batch_of_one_source(recordings: Recordings) -> None:
    """As often as is set, weighed as is set; a small source gives its speakers again."""
    batches = stream(recordings, one_source=1.0, sources={"phone": 3.0, "radio": 1.0})
    counts: Counter[str] = Counter()
    for number in range(200):
        batch = batches.batch(number)
        (source,) = {SPEAKERS[name][0] for name in names(recordings, batches, batch)}
        counts[source] += 1
        assert len(batch.classes) == 8
    assert counts["phone"] == pytest.approx(150, abs=25)
    mixed = stream(recordings, one_source=0.0)
    several = [
        len({SPEAKERS[name][0] for name in names(recordings, mixed, mixed.batch(number))})
        for number in range(50)
    ]
    assert np.mean(several) > 1.8


def test_speeds_are_further_speakers(recordings: Recordings) -> None:
    """Class = speaker + n x speed; a faster recording is the same one, sooner over."""
    batches = stream(recordings, speakers=8, utterances=1, speeds=(1.0, 0.9, 1.1))
    assert len(batches.classes) == 15
    assert batches.classes[7] == f"{sorted(SPEAKERS)[2]} x0.9"
    seen = set()
    for number in range(30):
        batch = batches.batch(number)
        for class_, wave in zip(batch.classes.tolist(), batch.waveforms, strict=True):
            index = int((wave.median() * 100).round())
            assert int(recordings.speakers[index]) == class_ % 5
            seen.add(class_)
    assert seen == set(range(15))


def test_batch_n_is_the_same_whatever_came_before(recordings: Recordings) -> None:
    """From batch 7 on, with none, one or two workers; another seed gives another stream."""
    everything = AugmentationSettings(untouched=0.0, room=1.0, noise=1.0, codec=0.3)
    whole = list(islice(stream(recordings, augmentation=everything), 10))
    for workers in (0, 1, 2):
        loader = torch.utils.data.DataLoader(
            stream(recordings, first=7, augmentation=everything),
            batch_size=None, num_workers=workers,
        )  # fmt: skip
        for old, new in zip(whole[7:], islice(loader, 3), strict=True):
            assert old.waveforms.equal(new.waveforms)
            assert old.classes.equal(new.classes)
    other = next(iter(stream(recordings, seed=2, augmentation=everything)))
    assert not other.waveforms.equal(whole[0].waveforms)


def test_processes_share_what_one_would_draw(
    recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with two speakers each have the batch of one with four, crop for crop."""
    everything = AugmentationSettings(untouched=0.0, room=1.0, noise=1.0)
    whole = stream(recordings, augmentation=everything).batch(3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shares.append(stream(recordings, augmentation=everything, speakers=2).batch(3))
    assert torch.cat([share.waveforms for share in shares]).equal(whole.waveforms)
    assert torch.cat([share.classes for share in shares]).equal(whole.classes)


def test_the_teacher_speaks_of_each_recording_at_each_speed(
    recordings: Recordings, tmp_path: Path
) -> None:
    """Rows stand beside the crops that they are of; the unlabelled have one, too, and no class."""
    table = np.zeros((len(recordings), 2, 3), np.float32)
    table[..., 0] = np.arange(len(recordings))[:, None]
    table[..., 1] = [[0.0, 1.0]]
    np.save(tmp_path / "teacher.npy", table)
    batches = stream(recordings, teacher=tmp_path / "teacher.npy", unlabelled=3, speeds=(1.0, 1.1))
    assert batches.teacher_size == 3
    speeds = set()
    for number in range(20):
        batch = batches.batch(number)
        assert batch.classes.shape == (11,)
        assert batch.teacher.shape == (11, 3)
        assert (batch.classes[8:] == -1).all()
        for class_, wave, row in zip(
            batch.classes.tolist(), batch.waveforms, batch.teacher, strict=True
        ):
            index = int((wave.median() * 100).round())
            assert int(row[0]) == index
            known = int(recordings.speakers[index])
            assert (class_ % 5 if class_ >= 0 else -1) == known
            if class_ >= 0:
                assert int(row[1]) == class_ // 5
            else:
                speeds.add(int(row[1]))
    assert speeds == {0, 1}
    assert stream(recordings).batch(0).teacher.shape == (8, 0)


def test_who_has_too_few_recordings_is_left_out(recordings: Recordings) -> None:
    """Classes are those who stay."""
    assert stream(recordings).classes == ["anna", "ben", "cleo", "dan", "eve"]
    assert stream(recordings, least_recordings=3).classes == ["anna", "ben", "eve"]


def test_settings_that_leave_nothing_are_refused(recordings: Recordings, tmp_path: Path) -> None:
    """Each mistake is said with what to change."""
    with pytest.raises(SettingsError, match="lower least_recordings"):
        stream(recordings, least_recordings=6)
    with pytest.raises(SettingsError, match="no 'radoi': there are phone, radio, street"):
        stream(recordings, sources={"radoi": 1.0})
    with pytest.raises(SettingsError, match="all weights are 0"):
        stream(recordings, sources={"street": 1.0})  # nobody there has a name
    with pytest.raises(SettingsError, match="unlabelled is above 0"):
        stream(recordings, unlabelled=1)
    np.save(tmp_path / "few.npy", np.zeros((3, 1, 8), np.float32))
    with pytest.raises(SettingsError, match="each of 21 recordings at 1 speeds"):
        stream(recordings, teacher=tmp_path / "few.npy")
    with pytest.raises(SettingsError, match="not a file of embeddings"):
        stream(recordings, teacher=tmp_path / "none.npy")
