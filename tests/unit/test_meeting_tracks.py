"""Tracks of recordings: all of them, nothing else, and in the recording's own form."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from media import write_media
from small_separation import RATE, two_tones, write_small_separator
from wavlm_meeting.audio import read_audio
from wavlm_meeting.diarization import Diarization, diarize
from wavlm_meeting.errors import AudioError, AudioWarning, CheckpointError, SettingsError
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.speaker_tracks import FADE_S
from wavlm_meeting.tracks import TrackWriter, load_track_writer, separate

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a model that separates by pitch, in the windows of its diarization."""
    return str(write_small_separator(tmp_path_factory.mktemp("model") / "small"))


@pytest.fixture(scope="module")
def writer(model: str) -> TrackWriter:
    """Give what writes two tracks."""
    return load_track_writer(model, "cpu")


@pytest.fixture(scope="module")
def by_speaker(model: str) -> TrackWriter:
    """Give what writes a track for each person."""
    return load_track_writer(model, "cpu", by_speaker=True)


def read_all(paths: tuple[Path, ...]) -> Samples:
    """Read tracks (J, N) at their own rate."""
    return np.stack([soundfile.read(path, dtype="float32")[0] for path in paths])


def level(samples: Samples) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))


@pytest.mark.parametrize("extra", [0, 1, 777])
@pytest.mark.parametrize(
    ("suffix", "rate", "subtype"),
    [
        ("wav", 8000, "PCM_16"),
        ("wav", 16_000, "PCM_24"),
        ("wav", 44_100, "FLOAT"),
        ("flac", 22_050, "PCM_16"),
        ("flac", 48_000, "PCM_24"),
    ],
)
def test_tracks_have_the_recordings_form(
    suffix: str, rate: int, subtype: str, extra: int, writer: TrackWriter, tmp_path: Path
) -> None:
    """Kind of file, rate, kind of samples, length and loudness stay; the tracks add up to it."""
    tones = two_tones(3.0, rate)[:, : 3 * rate - extra]
    source = tmp_path / f"x.{suffix}"
    soundfile.write(source, tones.sum(axis=0), rate, subtype)
    tracks = writer(source, tmp_path)
    assert tracks.files == tuple(tmp_path / f"x_{number}.{suffix}" for number in (1, 2))
    assert (tracks.gain, tracks.diarization) == (1.0, None)
    for path in tracks.files:
        found, own = soundfile.info(path), soundfile.info(source)
        assert (found.samplerate, found.subtype, found.format) == (rate, subtype, own.format)
        assert found.frames == own.frames == 3 * rate - extra
    both = read_all(tracks.files)
    inner = slice(rate // 10, -rate // 10)  # resampling blurs the ends
    expected = tones.sum(axis=0)[inner]
    assert level(both.sum(axis=0)[inner] - expected) < 0.02 * level(expected)


def test_who_talks_at_once_is_kept_apart(writer: TrackWriter, tmp_path: Path) -> None:
    """While both sound each is on its own track; who is alone is on one, and the other is quiet."""
    tones = two_tones(9.0)
    soundfile.write(tmp_path / "x.wav", tones.sum(axis=0), RATE, "FLOAT")
    found = read_all(writer(tmp_path / "x.wav", tmp_path).files)
    together, low_alone, high_alone = (
        slice(int(start * RATE), int((start + 1.5) * RATE)) for start in (0.75, 3.75, 6.75)
    )
    for track, tone in zip(found, tones, strict=True):
        assert level((track - tone)[together]) < 0.05 * level(tone[together])
    for place in (low_alone, high_alone):
        quiet, loud = sorted(level(track[place]) for track in found)
        assert quiet < 0.01 * loud


def test_any_file_with_sound_has_tracks(writer: TrackWriter, tmp_path: Path) -> None:
    """The sound of a video becomes WAV, as long as what is decoded, or what is asked for."""
    tones = two_tones(3.0, 48_000).sum(axis=0)
    film = write_media(tmp_path / "film.mkv", tones, 48_000, "aac", video="mpeg4")
    tracks = writer(film, tmp_path)
    assert [path.name for path in tracks.files] == ["film_1.wav", "film_2.wav"]
    assert soundfile.info(tracks.files[0]).samplerate == 48_000
    assert round(tracks.duration_s * RATE) == len(read_audio(film))
    asked = writer(film, tmp_path, container="flac")
    assert soundfile.info(asked.files[1]).format == "FLAC"


def test_one_channel_can_be_asked_for(writer: TrackWriter, tmp_path: Path) -> None:
    """Tracks are of the channel that is named, else of the mean of all."""
    tones = two_tones(3.0)
    stereo = np.stack([tones.sum(axis=0), np.zeros_like(tones[0])], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, RATE)
    first, second, mean = (
        level(read_all(writer(tmp_path / "x.wav", tmp_path, channel=channel).files))
        for channel in (1, 2, None)
    )
    assert second == 0
    assert mean == pytest.approx(first / 2, rel=0.01)
    with pytest.raises(AudioError, match="no channel 3"):
        writer(tmp_path / "x.wav", tmp_path, channel=3)


@pytest.mark.parametrize("channel", [None, 2])
def test_microphones_of_one_room(
    channel: int | None, writer: TrackWriter, by_speaker: TrackWriter, tmp_path: Path
) -> None:
    """All channels are separated as microphones, and tracks sound as in the one that is named.

    Who speaks is said as without.
    """
    low, high = two_tones(6.0)
    room = np.stack([low + 0.5 * high, 0.3 * low + high], axis=1)
    room += 1e-3 * np.random.default_rng(0).standard_normal(room.shape)
    soundfile.write(tmp_path / "x.wav", room, RATE, "FLOAT")
    tracks = writer(tmp_path / "x.wav", tmp_path, channel=channel, microphones=True)
    expected = writer.separator.separate(room.T, 0 if channel is None else channel - 1)
    np.testing.assert_allclose(read_all(tracks.files), expected, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        named, alike = (
            by_speaker(tmp_path / "x.wav", tmp_path, channel=channel, microphones=several)
            for several in (True, False)
        )
    assert named.diarization == alike.diarization


def test_nothing_clips(writer: TrackWriter, tmp_path: Path) -> None:
    """A track beyond full scale makes both quieter by the same, and only as much as it takes.

    A square wave's fundamental is louder than the wave itself; as floats it stays as it is.
    """
    square = 0.95 * np.sign(np.sin(2 * np.pi * 400 * (np.arange(3 * RATE) + 0.5) / RATE))
    soundfile.write(tmp_path / "x.wav", square, RATE)
    tracks = writer(tmp_path / "x.wav", tmp_path)
    found = read_all(tracks.files)
    assert tracks.gain == pytest.approx(np.pi / 4 / 0.95, rel=0.05)
    assert np.abs(found).max() == pytest.approx(1, abs=1e-3)
    middle = slice(RATE, 2 * RATE)
    np.testing.assert_allclose(found.sum(axis=0)[middle], tracks.gain * square[middle], atol=0.02)
    soundfile.write(tmp_path / "x.wav", square, RATE, "FLOAT")
    as_floats = writer(tmp_path / "x.wav", tmp_path)
    assert as_floats.gain == 1
    assert np.abs(read_all(as_floats.files)).max() > 1.1


def test_what_is_left_of_a_damaged_file_is_separated(writer: TrackWriter, tmp_path: Path) -> None:
    """A recording that is cut off has tracks as long as what can be read, and a warning."""
    soundfile.write(tmp_path / "whole.wav", two_tones(4.0).sum(axis=0), RATE)
    data = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    with pytest.warns(AudioWarning, match="cut off at 2"):
        tracks = writer(tmp_path / "cut.wav", tmp_path)
    assert tracks.duration_s == pytest.approx(2.0, abs=0.01)
    assert read_all(tracks.files).shape == (2, round(tracks.duration_s * RATE))


def where(turns: tuple[tuple[float, float], ...], samples: int, margin_s: float = 0) -> Samples:
    """Say where turns (start, end) and a margin around them are, (N,)."""
    flags = np.zeros(samples, np.bool_)
    for start, end in turns:
        first = max(0, round((start - margin_s) * RATE))
        flags[first : round((end + margin_s) * RATE)] = True
    return flags


def spans(found: Diarization, speaker: str | None = None) -> tuple[tuple[float, float], ...]:
    """Return start and end of the turns of a speaker, or of all."""
    return tuple((turn.start, turn.end) for turn in found.turns if speaker in (None, turn.speaker))


def test_a_track_for_each_person(
    by_speaker: TrackWriter, writer: TrackWriter, model: str, conversation: Path, tmp_path: Path
) -> None:
    """Names and turns are those of `diarize`; each track is silent where its person is.

    Wherever anybody speaks the tracks add up to both separated ones.
    """
    tracks = by_speaker(conversation, tmp_path)
    expected = diarize(conversation, model, device="cpu")
    found = tracks.diarization
    assert found is not None
    assert found.turns == expected.turns
    assert len(found.speakers) > 1
    stem = conversation.stem
    assert [path.name for path in tracks.files] == [f"{stem}_{who}.wav" for who in found.speakers]
    separated = read_all(writer(conversation, tmp_path).files)
    own = read_all(tracks.files)
    assert own.shape == (len(found.speakers), soundfile.info(conversation).frames)
    speech = where(spans(found), own.shape[1])
    step = 2.0**-15  # of 16 bits, in which each track is rounded
    difference = own.sum(axis=0) - separated.sum(axis=0)
    assert np.abs(difference[speech]).max() < (len(own) + 2) * step
    for samples, speaker in zip(own, found.speakers, strict=True):
        near = where(spans(found, speaker), len(samples), FADE_S + 0.001)
        assert np.abs(samples[~near]).max() == 0
        assert level(samples[near]) > 0


def test_turns_of_each_person(by_speaker: TrackWriter, conversation: Path, tmp_path: Path) -> None:
    """There is an RTTM of all, and one of each whose recording is the track."""
    tracks = by_speaker(conversation, tmp_path)
    assert tracks.diarization is not None
    whole = read_rttm(tmp_path / f"{conversation.stem}.rttm")[conversation.stem]
    assert whole.labels() == tracks.diarization.speakers
    for path, speaker in zip(tracks.files, tracks.diarization.speakers, strict=True):
        own = read_rttm(path.with_suffix(".rttm"))[path.stem]
        assert own.labels() == [speaker]
        assert own.get_timeline() == whole.label_timeline(speaker)


def test_the_encoder_hears_each_window_once(
    by_speaker: TrackWriter, conversation: Path, tmp_path: Path
) -> None:
    """Both tasks read one encoder pass: as many windows go through it as the recording has."""
    assert by_speaker.in_one_pass
    assert by_speaker.diarizer is not None
    heard = 0

    def count(_module: object, inputs: tuple[Samples, ...], _output: object) -> None:
        nonlocal heard
        heard += len(inputs[0])

    encoder = by_speaker.diarizer.encoder
    assert by_speaker.separator.encoder is encoder
    hook = encoder.register_forward_hook(count)
    by_speaker(conversation, tmp_path)
    hook.remove()
    window, hop = by_speaker.separator.sizes()
    frames = soundfile.info(conversation).frames
    assert heard == 1 + -(-(frames - window) // hop)


def test_windows_that_differ_are_heard_twice(
    conversation: Path, tmp_path: Path, by_speaker: TrackWriter
) -> None:
    """A model whose tasks want other windows gives the same turns, and tracks for them."""
    folder = write_small_separator(tmp_path / "other", like_diarization=False)
    other = load_track_writer(str(folder), "cpu", by_speaker=True)
    assert not other.in_one_pass
    seen: list[tuple[float, float | None]] = []
    tracks = other(conversation, tmp_path, progress=lambda done, total: seen.append((done, total)))
    expected = by_speaker(conversation, tmp_path)
    assert tracks.diarization is not None
    assert expected.diarization is not None
    assert tracks.diarization.turns == expected.diarization.turns
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (pytest.approx(30, abs=0.1), pytest.approx(30, abs=0.1))


def test_one_speaker_comes_out_whole(
    by_speaker: TrackWriter, conversation: Path, tmp_path: Path
) -> None:
    """If only one person speaks, their track is the recording wherever they do."""
    tracks = by_speaker(conversation, tmp_path, num_speakers=1)
    assert tracks.diarization is not None
    (own,), samples = read_all(tracks.files), read_audio(conversation)
    speech = where(spans(tracks.diarization), len(samples))
    np.testing.assert_allclose(own[speech], samples[speech], atol=1e-3)


def test_lengths_of_turns_can_be_asked_for(
    by_speaker: TrackWriter, conversation: Path, tmp_path: Path
) -> None:
    """Turns are as `diarize` would have them with the same words."""
    tracks = by_speaker(conversation, tmp_path, max_speakers=2, min_turn_s=0.6, min_gap_s=0.4)
    assert tracks.diarization is not None
    assert all(turn.end - turn.start > 0.55 for turn in tracks.diarization.turns)
    assert len(tracks.diarization.speakers) <= 2


def test_tracks_of_an_earlier_run_do_not_stay(
    by_speaker: TrackWriter, conversation: Path, tmp_path: Path
) -> None:
    """Who is no longer found, or is in another kind of file, is gone; other files stay."""
    stem = conversation.stem
    by_speaker(conversation, tmp_path, num_speakers=3)
    others = {f"{stem}_SPEAKER_07.wav", f"{stem}_SPEAKER_1b.wav", f"{stem}_SPEAKER_1b.rttm"}
    others |= {f"{stem}_1.wav", f"other_{stem}_SPEAKER_02.wav", f"other_{stem}_SPEAKER_02.rttm"}
    for name in others:
        (tmp_path / name).write_text("mine")
    tracks = by_speaker(conversation, tmp_path, num_speakers=2, container="flac")
    own = {path.with_suffix(end).name for path in tracks.files for end in (".flac", ".rttm")}
    assert len(tracks.files) == 2
    assert {path.name for path in tmp_path.iterdir()} == {*others, *own, f"{stem}.rttm"}
    assert all((tmp_path / name).read_text() == "mine" for name in others)


def test_damage_is_told_once(tmp_path: Path, conversation: Path, by_speaker: TrackWriter) -> None:
    """Where a recording is read twice, its warning comes once."""
    data = conversation.read_bytes()
    damaged = tmp_path / conversation.name
    damaged.write_bytes(data[: len(data) // 2])
    with pytest.warns(AudioWarning) as told:
        by_speaker(damaged, tmp_path, microphones=True)
    assert len([each for each in told if "cut off" in str(each.message)]) == 1


def test_a_folder_that_is_not_there_is_told_at_once(
    writer: TrackWriter, silence: Path, tmp_path: Path
) -> None:
    """What cannot be written to is an error before the recording is separated."""
    with pytest.raises(FileNotFoundError, match="gone"):
        writer(silence, tmp_path / "gone", progress=broken)


def test_silence_has_nobodys_track(by_speaker: TrackWriter, silence: Path, tmp_path: Path) -> None:
    """Where nobody speaks there are no tracks, an empty RTTM and a warning."""
    with pytest.warns(AudioWarning, match="no speech"):
        tracks = by_speaker(silence, tmp_path)
    assert tracks.files == ()
    assert [path.name for path in tmp_path.iterdir()] == ["silence.rttm"]


def test_a_call_does_all(model: str, silence: Path, tmp_path: Path) -> None:
    """`separate` makes the folder and writes what the writer does."""
    tracks = separate(silence, tmp_path / "new/folder", model, device="cpu")
    assert sorted((tmp_path / "new/folder").iterdir()) == list(tracks.files)
    assert not read_all(tracks.files).any()


def broken(_done_s: float, _total_s: float | None) -> None:
    """Stop the work."""
    raise RuntimeError("pulled the plug")


def test_what_stops_leaves_nothing(writer: TrackWriter, silence: Path, tmp_path: Path) -> None:
    """A call that is cut short leaves no track, whole or half."""
    with pytest.raises(RuntimeError, match="plug"):
        writer(silence, tmp_path, progress=broken)
    assert list(tmp_path.iterdir()) == []


def test_a_model_must_be_able_to(silence: Path, tmp_path: Path, shared_dir: Path) -> None:
    """A model without a separation head is refused in one line."""
    with pytest.raises(CheckpointError, match="no separation head"):
        separate(silence, tmp_path, str(shared_dir / "golden/wavlm_base_tiny.pt"), device="cpu")


@pytest.mark.parametrize("given", [{"num_speakers": 2}, {"min_gap_s": 0.1}, {"clustering": "vbx"}])
def test_what_is_about_speakers_needs_them(
    given: dict[str, int], writer: TrackWriter, silence: Path, tmp_path: Path
) -> None:
    """What two tracks cannot be asked for is refused, not ignored."""
    with pytest.raises(SettingsError, match="by_speaker"):
        writer(silence, tmp_path, **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
