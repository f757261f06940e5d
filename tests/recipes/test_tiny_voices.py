"""The head for verification: what its teacher says, of what it learns, and the stage as typed."""

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from small_tiny import SMALL, lay_out
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.config import read_toml
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.heads.speaker import SpeakerConfig
from wavlm_meeting.verification.fbank import Fbank, centred_decibels, triangular_filters
from wavlm_meeting.verification.load import load_speaker_model

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
pytest.importorskip("resemblyzer", reason="the teacher needs the extra 'train'")
from resemblyzer import VoiceEncoder
from resemblyzer.audio import normalize_volume

from wavlm_meeting.recipes.tiny.__main__ import main
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.evaluate import embed, embedder
from wavlm_meeting.recipes.tiny.settings import TinySettings, VoiceSettings
from wavlm_meeting.recipes.tiny.voice_data import VoiceBatches
from wavlm_meeting.recipes.tiny.voice_scenes import Scene, Scenes, VoiceSceneSettings, warps
from wavlm_meeting.recipes.tiny.voice_spectra import (
    BINS,
    Spectra,
    noise_spectra,
    spectrum,
    speech_spectra,
)
from wavlm_meeting.recipes.tiny.voice_task import VoiceTask
from wavlm_meeting.recipes.tiny.voice_teacher import (
    LEAST,
    PARTIAL,
    Directions,
    describe,
    find_directions,
    stretches,
    teacher_filters,
)
from wavlm_meeting.recipes.tiny.voices import new_head
from wavlm_meeting.recipes.voxceleb.settings import VoxCelebSettings
from wavlm_meeting.recipes.voxceleb.train import new_model

VOICES = """
[voices]
seconds = 10.0
steps = 3
[voices.head]
features = "fbank"
mels = 20
stacked = 2
centred = "level"
instance_norm = false
[voices.head.ecapa]
channels = 8
aggregated = 8
dilations = [2]
scale = 2
embedding = 4
[voices.head.beside]
size = 3
weight = 0.5
[voices.trainer]
workers = 0
checkpoint_steps = 1
"""
AS_IT_IS = {
    "speeds": (1.0, 1.0), "formants": 0.0, "colour_db": 0.0, "second": 0.0, "microphone": 0.0,
    "telephone": 0.0, "room": 0.0, "noise": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def speech(shared_dir: Path) -> np.ndarray:
    """Give six seconds of one reader."""
    path = min((shared_dir / "corpus/speech/librispeech").rglob("*_a.opus"))
    samples, _ = soundfile.read(path, dtype="float32")
    return np.resize(samples, 96_000)


@pytest.fixture(scope="module")
def prepared(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Give a corpus of a few files, what `prepare` makes of it, and settings with the head."""
    corpus = lay_out(shared_dir, tmp_path_factory.mktemp("corpus"))
    paths = sorted(path.relative_to(corpus) for path in (corpus / "speech").rglob("*.opus"))
    trials = [f"{int(a.parent == b.parent)} {a} {b}" for a, b in combinations(paths, 2)]
    (corpus / "trials_dev_cv.txt").write_text("\n".join(trials) + "\n")
    work = tmp_path_factory.mktemp("work")
    settings = work / "small.toml"
    settings.write_text(SMALL + VOICES)
    main(corpus, work, settings, stages="prepare", workers=1)
    return corpus, work, settings


def bands_of(samples: np.ndarray) -> torch.Tensor:
    """Return the teacher's bands (1, T, 40) of samples."""
    return torch.from_numpy(spectrum(samples)).float().square()[None] @ teacher_filters()


def one_recording(amplitudes: np.ndarray, speech: np.ndarray | None = None) -> Spectra:
    """Return a recording as the only one that can be drawn."""
    spoken = np.ones(len(amplitudes), np.bool_) if speech is None else speech
    return Spectra(amplitudes, spoken, np.array([0, len(amplitudes)]), np.ones(1))


def drawn(speech: Spectra, count: int, seed: int = 0, **changes: object) -> Scene:
    """Draw stretches of 1.6 s in which nothing but these is changed; noise is white."""
    settings = VoiceSceneSettings.model_validate({**AS_IT_IS, **changes})
    noise = one_recording(np.ones((50, BINS), np.float16))
    scenes = Scenes(settings, speech, noise, teacher_filters(), triangular_filters(80))
    return scenes.draw(np.random.default_rng(seed), count, PARTIAL)


def test_the_teacher_is_asked_as_its_authors_do(speech: np.ndarray) -> None:
    """What it says of 1.6 s of speech is what `embed_utterance` gives for them."""
    quiet = normalize_volume(0.01 * speech, -30, increase_only=True)
    _, expected, slices = VoiceEncoder("cpu", verbose=False).embed_utterance(
        quiet, return_partials=True, rate=2.5
    )
    bands = bands_of(quiet)
    for own, reference in list(zip(slices, expected, strict=True))[:8]:
        first = own.start // 160
        (said,) = describe(bands[:, first : first + PARTIAL], np.ones((1, PARTIAL), np.bool_))
        assert said @ reference > 0.995


def test_pauses_are_left_out(speech: np.ndarray) -> None:
    """Speech goes on after a pause, whatever is heard in it; hardly any speech says nothing."""
    bands = bands_of(speech)
    spoken = np.ones((1, bands.shape[1]), np.bool_)
    spoken[:, 100:200] = False
    loud = bands.clone()
    loud[:, 100:200] *= 1e4
    np.testing.assert_array_equal(describe(loud, spoken), describe(bands, spoken))
    kept = torch.cat([bands[:, :100], bands[:, 200:]], dim=1)
    np.testing.assert_allclose(
        describe(kept, spoken[:, spoken[0]]), describe(bands, spoken), atol=1e-2
    )
    assert not describe(bands, np.zeros_like(spoken)).any()


def test_the_teacher_hears_all_there_is() -> None:
    """Stretches cover the speech from its first frame to its last; little speech is repeated."""
    assert not len(stretches(np.arange(300) < LEAST - 1))
    (little,) = stretches(np.arange(300) < LEAST)
    assert little.tolist() == [*range(LEAST)] * 2
    assert stretches(np.ones(PARTIAL, np.bool_)).tolist() == [[*range(PARTIAL)]]
    two = stretches(np.ones(360, np.bool_))
    assert two.shape == (2, PARTIAL)
    assert (two.min(), two.max()) == (0, 359)


def test_voices_around_their_mean_keep_their_angles() -> None:
    """In as many directions as there are, cosines are those around the mean."""
    rng = np.random.default_rng(1)
    voices, mean = rng.standard_normal((2, 5, 256)).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((256, 256)))[0].astype(np.float32)
    found = Directions(mean[0], basis)(voices)
    centred = voices - mean[0]
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-5)
    assert np.isfinite(Directions(mean[0], basis)(mean[:1])).all()


def test_an_unchanged_stretch_is_what_was_recorded(speech: np.ndarray) -> None:
    """The teacher's bands are the recording's, and the head's as it will measure them."""
    found = drawn(one_recording(spectrum(speech[: 159 * 160])), 1)
    torch.testing.assert_close(found.voice, bands_of(speech[: 159 * 160]), rtol=2e-3, atol=1e-6)
    features = centred_decibels(found.heard, torch.tensor([PARTIAL]), "level")
    whole = torch.from_numpy(speech[None, : 159 * 160])
    (measured,) = Fbank(80, centred="level")(whole).hidden_states
    apart = (features - measured).abs()[:, :, 5:]  # the windows differ where bands are narrow
    assert apart.median() < 0.5
    assert np.corrcoef(features.flatten(), measured.flatten())[0, 1] > 0.99


def test_a_spectrum_is_stretched() -> None:
    """A tone goes as far up as the factor says; at one nothing moves."""
    still, half, more = warps(np.array([1.0, 0.75, 1.25]))
    torch.testing.assert_close(still, torch.eye(BINS), atol=1e-4, rtol=0)
    tone = torch.zeros(BINS)
    tone[80] = 1.0
    assert (half @ tone).argmax() == 60
    assert (more @ tone).argmax() == 100


def test_a_place_changes_what_the_head_hears_alone(speech: np.ndarray) -> None:
    """Microphones, telephones, rooms and noise do; the teacher hears the voice as it is."""
    recorded = one_recording(spectrum(speech))
    plain = drawn(recorded, 4)
    for place in ("microphone", "telephone", "room", "noise"):
        found = drawn(recorded, 4, **{place: 1.0})
        torch.testing.assert_close(found.voice[0], plain.voice[0])
        assert not torch.allclose(found.heard[0], plain.heard[0], rtol=0.1), place


def test_a_voice_changes_for_both(speech: np.ndarray) -> None:
    """Formants, colour and a second voice do, and the teacher hears them no louder."""
    recorded = one_recording(spectrum(speech))
    plain = drawn(recorded, 1)
    loudness = plain.voice.sum(dim=2).mean()
    for voice, amount in (("formants", 0.3), ("colour_db", 6.0), ("second", 1.0)):
        found = drawn(recorded, 1, **{voice: amount})
        assert not torch.allclose(found.voice, plain.voice, rtol=0.1), voice
        assert not torch.allclose(found.heard, plain.heard, rtol=0.1), voice
        assert found.voice.sum(dim=2).mean() / loudness == pytest.approx(1.0, abs=1e-3)


def test_talk_is_faster_or_slower() -> None:
    """At a speed of two every second frame is heard; what ends begins again."""
    counted = np.arange(100.0, dtype=np.float16)[:, None].repeat(BINS, axis=1)
    power, _ = one_recording(counted).cut(np.random.default_rng(3), np.array([2.0, 0.5]), 40)
    fast, slow = np.sqrt(power[:, :, 0])
    assert np.diff(fast).tolist() == [2.0] * 39
    assert np.diff(slow).sum() == 20
    assert set(np.diff(slow).tolist()) == {0.0, 1.0}
    round_again, _ = one_recording(counted).cut(np.random.default_rng(3), np.array([1.0]), 150)
    assert np.sqrt(round_again[0, :, 0]).tolist() == [*range(100), *range(50)]


def test_a_room_decays_by_its_time() -> None:
    """After a click the sound falls evenly, by 60 dB in the reverberation time."""
    click = np.zeros((PARTIAL, BINS), np.float16)
    click[0] = 100.0
    room = {"room": 1.0, "reverberation_s": (0.5, 0.5), "reverberant_db": (0.0, 0.0)}
    found = drawn(one_recording(click), 1, **room)
    levels = 10 * found.heard[0, :, 40].log10()
    assert float(levels[5] - levels[55]) == pytest.approx(60.0, abs=0.1)
    straight, rest = found.heard[0, 0, 40], found.heard[0, 1:, 40].sum()
    assert float(rest / straight) == pytest.approx(10**-0.12, rel=0.05)  # its first frame is over


def test_a_telephone_passes_its_band_alone(speech: np.ndarray) -> None:
    """Within it nothing changes, beyond it all is lost evenly in octaves, noise as well."""
    line = {
        "telephone": 1.0, "from_hz": (300.0, 300.0), "to_hz": (3400.0, 3400.0),
        "slope_db": (48.0, 48.0), "lost_db": (60.0, 60.0),
    }  # fmt: skip
    recorded = one_recording(spectrum(speech))
    highest = 2595 * np.log10(1 + 8000 / 700)
    centres = 700 * (10 ** (torch.linspace(0, highest, 82)[1:-1] / 2595) - 1)
    lost = 48 * (torch.log2(300 / centres).clamp(0) + torch.log2(centres / 3400).clamp(0))
    plain, found = (drawn(recorded, 2, **own).heard for own in ({}, line))
    kept = 10 * (found / plain).log10().mean(dim=(0, 1))
    inside, slope = (centres > 400) & (centres < 3000), (centres > 4000) & (centres < 7000)
    torch.testing.assert_close(kept[inside], torch.zeros(int(inside.sum())), atol=0.1, rtol=0)
    torch.testing.assert_close(kept[slope], -lost[slope], atol=1.5, rtol=0)
    noise = {"noise": 1.0, "snr_db": (0.0, 0.0)}
    plain, found = (drawn(recorded, 2, **noise, **own).heard for own in ({}, line))
    assert (10 * (found / plain).log10())[..., centres > 7000].max() < -35


def test_noise_is_as_loud_as_is_drawn(speech: np.ndarray) -> None:
    """Against the frames of speech, in the bands that the head hears."""
    recorded = one_recording(spectrum(speech))
    noise = drawn(recorded, 3, noise=1.0, snr_db=(10.0, 10.0)).heard - drawn(recorded, 3).heard
    loud = drawn(recorded, 3).heard.sum(dim=2).mean(dim=1)
    ratio = 10 * (loud / noise.sum(dim=2).mean(dim=1)).log10()
    torch.testing.assert_close(ratio, torch.full((3,), 10.0), atol=0.05, rtol=0)


def test_sources_have_their_shares(prepared: tuple[Path, Path, Path]) -> None:
    """Sources are drawn as settings say; no speech at all is an error."""
    _, work, _ = prepared
    collection = load_collection(work, "train")
    counts = [
        sum(len(collection.voices[name]) for name in names) for names in collection.sources.values()
    ]
    first = next(iter(collection.sources))
    found = speech_spectra(collection, {first: 1.0}, LEAST)
    assert found.shares.sum() == pytest.approx(1.0)
    assert not found.shares[counts[0] :].any()
    once = load_collection(work, "train", copies=False)
    assert not any(" x" in name for name in once.voices)
    kept = sum(map(len, once.voices.values()))
    assert 3 * kept == sum(map(len, collection.voices.values()))
    assert len(found.speech) == len(found.amplitudes) == found.starts[-1]
    level = np.square(found.amplitudes[found.speech].astype(np.float32)).sum(axis=1).mean()
    assert 10 * np.log10(level / BINS / 150) == pytest.approx(-30, abs=1)
    assert len(noise_spectra(collection).shares) == len(collection.noises)
    with pytest.raises(SettingsError, match="no utterance has 1000 s of speech"):
        speech_spectra(collection, {}, 100_000)


def test_a_batch_is_what_its_number_says(prepared: tuple[Path, Path, Path]) -> None:
    """Whatever came before it; the teacher's answers have unit length or are none."""
    _, work, path = prepared
    settings = read_toml(path, TinySettings)
    voices = VoiceSettings(seconds=30.0, lengths_s=(1.6, 2.4))
    parts = load_collection(work, "train"), settings.data.sources, voices, find_directions(work, 4)
    batches = VoiceBatches(*parts)
    batch = batches.batch(2)
    again = next(iter(VoiceBatches(*parts, first=2)))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    shapes = {batches.batch(number).features.shape for number in range(6)}
    assert shapes == {(19, 160, 80), (12, 240, 80)}
    lengths = batch.targets.norm(dim=1)
    assert (((lengths - 1).abs() < 1e-4) | (lengths == 0)).all()
    assert (lengths > 0).float().mean() > 0.5
    with pytest.raises(SettingsError, match="100000 directions need more"):
        find_directions(work, 100_000)


def test_a_head_is_on_filterbanks() -> None:
    """Any other is refused."""
    with pytest.raises(SettingsError, match="features is 'wavlm'"):
        new_head(VoiceSettings(head=SpeakerConfig()))
    attentive = SpeakerConfig.model_validate({"features": "fbank", "attentive": {}})
    with pytest.raises(SettingsError, match="'attentive' is for an encoder"):
        new_head(VoiceSettings(head=attentive))


def test_a_training_that_has_ended_goes_on_in_a_further_cycle() -> None:
    """The second is as the first one; a training of one alone has the same rates as far."""

    def rates(steps: int, cycles: int) -> list[float]:
        settings = VoiceSettings(steps=steps, cycles=cycles, warmup=0.1, learning_rate=0.01)
        found = VoiceTask(torch.nn.Linear(2, 2), settings).configure_optimizers()
        optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
        drawn = []
        for _ in range(steps):
            drawn.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return drawn

    once = rates(40, 1)
    assert rates(80, 2) == once * 2
    assert once[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01 * 37 / 40])
    assert np.diff(once[3:]) == pytest.approx(-0.01 / 40)


def test_a_bundle_gets_a_head_that_verification_takes(
    prepared: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Nothing else in it moves, its backend goes, and its card says what the head reaches."""
    corpus, work, settings = prepared
    bundle = shutil.copytree(resolve("mini"), tmp_path / "bundle")
    before = load_model(str(bundle))
    with pytest.raises(SettingsError, match="name the bundle"):
        main(corpus, work, settings, stages="voices", workers=1)
    with pytest.raises(SettingsError, match="mini is no folder"):
        main(corpus, work, settings, Path("mini"), stages="voices", workers=1)
    main(corpus, work, settings, bundle, stages="voices", workers=1)
    after = load_model(str(bundle))
    for part, state in before.state.items():
        for name, tensor in state.items():
            assert torch.equal(tensor, after.state[part][name]), name
    assert not (bundle / BACKEND).exists()
    figures = read_card(bundle).figures
    changed = {name for name in figures if figures[name] != before.card.figures.get(name)}
    assert changed
    assert all(name.startswith("EER %, trials_dev_cv") for name in changed)
    stale = {name for name in before.card.figures if name.startswith("EER")} - changed
    assert stale
    assert not stale & set(figures)

    samples = np.random.default_rng(2).standard_normal(32_000).astype(np.float32)
    model = load_speaker_model(bundle)
    assert model.size == 7
    first, second = model.embed(samples).split([4, 3])
    assert second.norm() / first.norm() == pytest.approx(0.5)
    with pytest.raises(SettingsError, match="of a kind that no training here goes on with"):
        new_model(VoxCelebSettings(start=str(bundle)))
    voice = embedder(bundle)([samples])[0]
    torch.testing.assert_close(
        torch.from_numpy(voice), torch.nn.functional.normalize(model.embed(samples), dim=0)
    )
    pipeline = load_pipeline("mini", "cpu")
    bare = embedder(resolve("mini"))([samples])
    np.testing.assert_array_equal(bare, embed(pipeline, [samples]))

    main(corpus, work, settings, bundle, stages="voices", workers=1)  # done already: the same again
    assert load_speaker_model(bundle).sha256 == model.sha256
    bare_settings = tmp_path / "bare.toml"
    bare_settings.write_text(SMALL)
    with pytest.raises(SettingsError, match=r"no table \[voices\]"):
        main(corpus, work, bare_settings, bundle, stages="voices", workers=1)
