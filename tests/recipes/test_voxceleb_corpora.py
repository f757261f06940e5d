"""VoxCeleb, its trial lists, noise and rooms, read from small trees in the published layouts."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from media import write_media
from small_voxceleb import small_corpus
from wavlm_meeting.audio import read_audio
from wavlm_meeting.errors import AudioError, FormatError, SettingsError

pytest.importorskip("lhotse", reason="recipes need the extra 'train'")
pytest.importorskip("lightning", reason="recipes need the extra 'train'")

from wavlm_meeting.formats.trials import Trials
from wavlm_meeting.recipes.manifests import Row, read_manifest
from wavlm_meeting.recipes.voxceleb.calibration import called_too, draw_trials, listed_trials
from wavlm_meeting.recipes.voxceleb.corpora import find_speakers
from wavlm_meeting.recipes.voxceleb.lists import recording_name
from wavlm_meeting.recipes.voxceleb.prepare import Prepared, prepare
from wavlm_meeting.recipes.voxceleb.settings import CalibrationSettings, DataSettings
from wavlm_meeting.recipes.voxceleb.small import lay_out
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.verification.backend import Voices

RATE = 16_000
ONE = DataSettings(held_out=2, workers=1, lists={"O": "veri_test2.txt"})

# N samples

Write = Callable[[Path, float], None]


@pytest.fixture(scope="module")
def speech(shared_dir: Path) -> NDArray[np.float32]:
    """Give 20 s of read speech at 16 kHz (N,)."""
    paths = sorted((shared_dir / "corpus/speech/librispeech").rglob("*.opus"))[:3]
    return np.concatenate([read_audio(path) for path in paths])[: 20 * RATE]


@pytest.fixture(scope="module")
def write(speech: NDArray[np.float32]) -> Write:
    """Give a function that writes two seconds of speech, from a second on, by the path's suffix."""

    def written(path: Path, start: float = 0.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = speech[round(start * RATE) :][: 2 * RATE]
        if path.suffix == ".m4a":
            write_media(path, part, RATE, "aac")
        else:
            soundfile.write(path, part, RATE)

    return written


@pytest.fixture(scope="module")
def written_tree(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """Write three speakers to train on, as published, and two tested ones, with a list."""
    data = tmp_path_factory.mktemp("voxceleb")
    for number, speaker in enumerate(("id00012", "id00015", "id00016")):
        for video in ("2DLq_Kkc1r8", "k2PgTw7lDMY")[: 1 + (number < 2)]:
            for clip in (1, 2):
                path = f"vox2/dev/aac/{speaker}/{video}/{clip:05d}.m4a"
                write(data / path, 2.0 * number + clip)
    for number, speaker in enumerate(("id10270", "id10271")):
        for clip in (1, 2):
            path = f"vox1/test/wav/{speaker}/5r0dWxy17C8/{clip:05d}.wav"
            write(data / path, 10.0 + 2 * number + clip)
    one, two = "id10270/5r0dWxy17C8", "id10271/5r0dWxy17C8"
    trials = f"1 {one}/00001.wav {one}/00002.wav\n0 {one}/00001.wav {two}/00002.wav\n"
    (data / "vox1/veri_test2.txt").write_text(trials)
    return data


@pytest.fixture
def tree(tmp_path: Path, written_tree: Path) -> Path:
    """Give a copy of the tree."""
    return shutil.copytree(written_tree, tmp_path / "data")


def prepared_in(data: Path, out: Path, settings: DataSettings = ONE) -> Prepared:
    """Run the stage."""
    prepared = Prepared(out / "prepared")
    prepare(data, out, prepared, settings)
    return prepared


@pytest.mark.parametrize(
    ("where", "part"),
    [
        ("wav/id10001", "vox1-dev"),
        ("vox1_dev_wav/wav/id10001", "vox1-dev"),
        ("vox1_test_wav/wav/id10309", "vox1-test"),
        ("vox1/dev/id10310", "vox1-dev"),
        ("VoxCeleb1/wav/id10270", "vox1-test"),
        ("aac/id00012", "vox2-dev"),
        ("corpora/voxceleb2/dev/aac/id09272", "vox2-dev"),
        ("vox2_test_aac/aac/id00017", "vox2-test"),
    ],
)
def test_layouts(where: str, part: str, tmp_path: Path) -> None:
    """However archives were unpacked, speakers, parts, sessions and names are the same."""
    folder = tmp_path / where
    for name in ("21Uxsk56VDQ/00002.m4a", "21Uxsk56VDQ/00001.wav", "a.b/00001.wav", "a.b/.x.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "a.b/notes.txt").touch()
    (tmp_path / "musan/noise").mkdir(parents=True)
    (speaker,) = find_speakers(tmp_path).values()
    assert (speaker.name, speaker.part) == (folder.name, part)
    assert speaker.sessions() == {"21Uxsk56VDQ", "a.b"}
    names = ["21Uxsk56VDQ/00001", "21Uxsk56VDQ/00002", "a.b/00001"]
    assert [name for name, _ in speaker.recordings()] == [f"{folder.name}/{n}" for n in names]
    assert recording_name("id10001/a.b/00001.wav") == "id10001/a.b/00001"


def test_one_recording_in_two_formats(tmp_path: Path) -> None:
    """Where m4a was converted, fully or in part, each recording is there once, as WAV if it can."""
    for path in ("aac/id00012/v/00001.m4a", "aac/id00012/v/00002.m4a", "wav/id00012/v/00001.wav"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (speaker,) = find_speakers(tmp_path).values()
    files = {name: path.suffix for name, path in speaker.recordings()}
    assert files == {"id00012/v/00001": ".wav", "id00012/v/00002": ".m4a"}


def test_prepared(tree: Path, tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """WAV stays where it is, m4a is decoded; who is tested or held out is not trained on."""
    broken = tree / "vox2/dev/aac/id00016/2DLq_Kkc1r8/00002.m4a"
    broken.write_bytes(broken.read_bytes()[:300])
    prepared = prepared_in(tree, tmp_path / "out")
    train, apart, tested = (
        list(read_manifest(path)) for path in (prepared.train, prepared.held_out, prepared.tested)
    )
    # The third speaker has one session and cannot be held out.
    assert {row.speaker for row in apart} == {"id00012", "id00015"}
    assert [row.name for row in train] == ["id00016/2DLq_Kkc1r8/00001"]
    assert [(row.name, row.path.suffix) for row in tested] == [
        ("id10270/5r0dWxy17C8/00001", ".wav"),
        ("id10270/5r0dWxy17C8/00002", ".wav"),
        ("id10271/5r0dWxy17C8/00002", ".wav"),
    ]
    assert {(row.speaker, row.session) for row in apart} == {
        (speaker, video)
        for speaker in ("id00012", "id00015")
        for video in ("2DLq_Kkc1r8", "k2PgTw7lDMY")
    }
    for row in [*train, *apart]:
        sound = read_audio(row.path)
        start = 2 * ("id00012", "id00015", "id00016").index(row.speaker) + int(row.name[-1])
        best = max(
            np.corrcoef(sound[shift : shift + RATE], speech[start * RATE :][:RATE])[0, 1]
            for shift in range(0, 2048, 64)
        )
        assert best > 0.9  # an encoder's delay stays in some files
        assert row.seconds == pytest.approx(len(sound) / RATE)
    (left,) = map(json.loads, (prepared.folder / "left_out.jsonl").read_text().splitlines())
    assert left["name"] == "id00016/2DLq_Kkc1r8/00002"
    assert left["reason"]
    # What training reads is the same.
    read = read_recordings(prepared.held_out)
    assert read.speaker_names == ["id00012", "id00015"]
    assert len(np.unique(read.sessions)) == 4


def test_a_stopped_run_goes_on(tree: Path, tmp_path: Path) -> None:
    """What was decoded stays; several processes write what one does."""
    prepared = prepared_in(tree, tmp_path / "out")
    decoded = sorted((tmp_path / "out/decoded").rglob("*.flac"))
    assert len(decoded) == 10
    decoded[3].unlink()
    times = {path: path.stat().st_mtime_ns for path in decoded if path.is_file()}
    manifests = {path.name: path.read_bytes() for path in prepared.folder.iterdir()}
    shutil.rmtree(prepared.folder)
    prepared_in(tree, tmp_path / "out", ONE.model_copy(update={"workers": 2}))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert decoded[3].is_file()
    assert {path.name: path.read_bytes() for path in prepared.folder.iterdir()} == manifests


def test_noise_and_rooms(tree: Path, tmp_path: Path, write: Write) -> None:
    """Kinds are sources, by which augmentation knows them; of a room, one microphone is taken."""
    write(tree / "musan/noise/free-sound/noise-free-sound-0000.wav", 0)
    write(tree / "musan/music/fma/music-fma-0000.wav", 1)
    write(tree / "musan/speech/librivox/speech-librivox-0000.wav", 2)
    write(tree / "DNS-Challenge/datasets/noise/a.wav", 3)
    rooms = tree / "RIRS_NOISES"
    write(rooms / "simulated_rirs/smallroom/Room001/Room001-00001.wav", 4)
    measured = rooms / "real_rirs_isotropic_noises"
    write(measured / "RVB2014_type1_noise_largeroom1_1.wav", 5)
    both = np.stack([np.eye(1, 4000, 9)[0], np.eye(1, 4000, 700)[0]], axis=1)
    soundfile.write(measured / "air_type1_air_binaural_aula_0.wav", both, RATE)
    prepared = prepared_in(tree, tmp_path / "out")
    assert prepared.sounds is not None
    assert prepared.rooms is not None
    kinds = Counter(row.source for row in read_manifest(prepared.sounds))
    assert kinds == {"noise": 2, "music": 1, "speech": 1}
    found = {row.name: row for row in read_manifest(prepared.rooms)}
    assert len(found) == 2
    response = read_audio(
        found["RIRS_NOISES/real_rirs_isotropic_noises/air_type1_air_binaural_aula_0.wav"].path
    )
    assert response.argmax() == 9
    assert np.abs(response[20:]).max() < 0.01


def test_no_noise_is_said(tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Noise and rooms are optional: what was looked for is noted."""
    caplog.set_level("INFO")
    prepared = prepared_in(tree, tmp_path / "out")
    assert (prepared.sounds, prepared.rooms) == (None, None)
    for part in ("musan/noise", "musan/music", "RIRS_NOISES/simulated_rirs"):
        assert part in caplog.text


def test_mistakes(tree: Path, tmp_path: Path) -> None:
    """Each is one line that says what is missing where; nothing is half-written."""

    def refused(says: str, data: Path = tree, **values: object) -> None:
        settings = ONE.model_copy(update=values)
        with pytest.raises((SettingsError, FormatError, AudioError), match=says) as caught:
            prepared_in(data, tmp_path / "bad", settings)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "bad/prepared/train.jsonl.gz").exists()

    (tmp_path / "empty").mkdir()
    refused("no VoxCeleb here", tmp_path / "empty")
    refused("no trial list here.*list_test_hard2.txt", lists={"H": "list_test_hard2.txt"})
    refused("no speakers of vox1-dev .* 3 of vox2-dev, 2 of vox1-test", train=("vox1-dev",))
    refused("2 training speakers are in the trial lists, such as id10270", train=("vox1-test",))
    refused("3 speakers are to be held out, but 2", held_out=3)
    (tree / "more.txt").write_text("1 id10270/5r0dWxy17C8/00001.wav id10270/5r0dWxy17C8/00009.wav")
    refused(r"1 recordings .* id10270/5r0dWxy17C8/00009 \(no such", lists={"more": "more.txt"})
    (tree / "more.txt").write_text("1 id10270/5r0dWxy17C8/00001.wav id10999/5r0dWxy17C8/1.wav")
    refused("no folder of 1 speakers .* id10999", lists={"more": "more.txt"})
    (tree / "sources.csv").write_text("who,what\nid00012,radio\n")
    refused("no table of sources")


def test_a_small_corpus_laid_out(tmp_path: Path, shared_dir: Path) -> None:
    """Speakers, sessions, sources and trials stay; dev and test are not trained on."""
    corpus = small_corpus(tmp_path / "corpus", shared_dir / "corpus")
    lay_out(corpus, tmp_path / "tree", workers=1)
    tree = tmp_path / "tree"
    with (corpus / "manifest.csv").open(newline="") as file:
        lines = {line["path"]: line for line in csv.DictReader(file)}
    with (tree / "sources.csv").open(newline="") as file:
        who = {line["speaker"]: line for line in csv.DictReader(file)}
    speakers = find_speakers(tree)
    assert speakers.keys() == who.keys()
    assert all(speakers[name].source == line["source"] for name, line in who.items())
    trained = [line for line in lines.values() if line["split"] == "train" and line["speaker"]]
    groups = Counter((line["source"], line["speaker"]) for line in trained)
    found = Counter(
        (who[name]["source"], who[name]["original"])
        for name, speaker in speakers.items()
        if speaker.part == "vox2-dev"
        for _ in speaker.recordings()
    )
    assert found == groups
    for name in ("trials_dev_cv.txt", "trials_test_cv.txt"):
        before = [line.split() for line in (corpus / name).read_text().splitlines()]
        after = [line.split() for line in (tree / name).read_text().splitlines()]
        assert [line[0] for line in after] == [line[0] for line in before]
        for old, new in zip(before[:5], after[:5], strict=True):
            for path, moved in zip(old[1:], new[1:], strict=True):
                speaker, session, _ = moved.split("/")
                assert who[speaker]["original"] == lines[path]["speaker"]
                assert session == lines[path]["session"]
                sound = read_audio(tree / "vox1/wav" / moved)
                assert np.abs(sound - read_audio(corpus / path).clip(-1, 1)).max() < 1e-4
    prepared = prepared_in(
        tree, tmp_path / "out", ONE.model_copy(update={"lists": {"cv": "trials_test_cv.txt"}})
    )
    assert prepared.rooms is not None
    assert {row.source for row in read_manifest(prepared.train)} == {"commonvoice", "librispeech"}


def test_a_corpus_without_its_parts(tmp_path: Path) -> None:
    """No manifest, no lists, a list that names what is not there."""
    (tmp_path / "corpus").mkdir()
    with pytest.raises(SettingsError, match="no manifest"):
        lay_out(tmp_path / "corpus", tmp_path / "tree")
    (tmp_path / "corpus/manifest.csv").write_text("path,source,speaker,split,session\n")
    with pytest.raises(SettingsError, match=r"no trials_\*.txt here"):
        lay_out(tmp_path / "corpus", tmp_path / "tree")
    (tmp_path / "corpus/trials_x.txt").write_text("1 a.wav b.wav\n")
    with pytest.raises(SettingsError, match="2 recordings of the trial lists"):
        lay_out(tmp_path / "corpus", tmp_path / "tree")


def test_calibration_trials() -> None:
    """Targets are across sessions, others within a source; durations are met in equal shares."""
    rows = [
        Row(f"s{speaker}/{session}/{clip}", Path("x"), 5.0, f"s{speaker}", session, source)
        for speaker, source in enumerate("aaabbc")
        for session in ("v1", "v2")[: 1 + (speaker != 1)]
        for clip in range(2)
    ]
    settings = CalibrationSettings(trials=6000)
    pairs, targets = draw_trials(rows, settings)
    assert targets.mean() == 0.5
    assert set(pairs.ravel().tolist()) == set(range(2 * len(rows)))
    sides = [[rows[index % len(rows)] for index in pair] for pair in pairs.tolist()]
    for (one, other), target in zip(sides, targets.tolist(), strict=True):
        assert (one.speaker == other.speaker) == target
        if target:
            assert one.session != other.session
        elif "c" not in (one.source, other.source):
            assert one.source == other.source
    short = pairs >= len(rows)
    for target in (True, False):
        kinds = Counter(short[targets == target].sum(axis=1).tolist())
        assert kinds == {0: 1000, 1: 1000, 2: 1000}
    again, _ = draw_trials(rows, settings)
    assert (again == pairs).all()
    with pytest.raises(SettingsError, match="0 of them with two sessions"):
        draw_trials([row for row in rows if row.session == "v1"], settings)


def test_simulated_rooms_join_the_recorded_ones(written_tree: Path, tmp_path: Path) -> None:
    """As many as asked for stand in the manifest beside those that there are."""
    pytest.importorskip("pyroomacoustics", reason="rooms are simulated by it")
    counts = []
    for number, simulated in enumerate((0, 2)):
        prepared = Prepared(tmp_path / f"prepared-{number}")
        settings = ONE.model_copy(update={"simulated_rooms": simulated})
        prepare(written_tree, tmp_path / f"out-{number}", prepared, settings)
        counts.append(0 if prepared.rooms is None else len(read_recordings(prepared.rooms)))
    assert counts[1] == counts[0] + 2


def test_trials_are_there_by_telephone_too() -> None:
    """Each as it is, with one of its sides called, in turn, and with both."""
    plain = Voices(np.eye(3, dtype=np.float32), np.arange(3.0))
    called = Voices(-plain.embeddings, plain.speech_s + 10)
    first, targets = np.array([[0, 1], [1, 2], [0, 2]]), np.array([True, False, True])
    voices, pairs, kinds = called_too(plain, called, first, targets)
    np.testing.assert_array_equal(voices.embeddings[3:], called.embeddings)
    assert voices.speech_s.tolist() == [0, 1, 2, 10, 11, 12]
    assert pairs[:3].tolist() == first.tolist()
    assert pairs[3:6].tolist() == [[3, 1], [4, 2], [0, 5]]
    assert pairs[6:].tolist() == [[3, 4], [4, 5], [3, 5]]
    assert kinds.tolist() == [True, False, True] * 3


def test_listed_trials_are_there_whole_and_in_pieces() -> None:
    """Every trial of every list stands for both sides whole, one short, and both short."""
    rows = [Row(f"id{n}/v/{n}", Path("x.wav"), 4.0, f"id{n}", "v", "") for n in range(5)]
    lists = [
        Trials(np.array([True, False]), np.array([[0, 1], [1, 2]], np.int32), names)
        for names in (["id4/v/4.wav", "id1/v/1.wav", "id2/v/2.wav"], ["id2/v/2.wav"] * 3)
    ]
    used, pairs, targets = listed_trials(rows, lists)
    assert [row.speaker for row in used] == ["id1", "id2", "id4"]
    assert len(pairs) == len(targets) == 12
    assert targets.tolist() == [True, False] * 6
    assert {tuple(pair) for pair in (pairs % 3).tolist()} == {(2, 0), (0, 1), (1, 1)}
    assert sorted((pairs >= 3).sum(axis=1).tolist()) == [0] * 4 + [1] * 4 + [2] * 4
