"""Speaker models equal the code that they come from, from waveform to embedding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wavlm_meeting import load_speaker_model
from wavlm_meeting.heads.ecapa import EcapaConfig
from wavlm_meeting.heads.speaker import SpeakerConfig
from wavlm_meeting.verification.load import write_speaker_model
from wavlm_meeting.verification.model import build_speaker_model

RELEASED = "golden/sv_ecapa_wavlm_large_tiny"


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference as a share of the reference's RMS."""
    return float((ours - theirs).abs().max() / theirs.square().mean().sqrt())


def spread(module: nn.Module) -> None:
    """Give norms, statistics and biases values at random, so that no term hides."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.ndim == 1 and "var" in name:
                value.copy_(0.3 + torch.rand_like(value))
            elif value.ndim == 1:
                value.add_(0.3 * torch.randn_like(value))


def speech(shared: Path) -> list[Tensor]:
    """Give the two utterances of the golden values."""
    with np.load(shared / f"{RELEASED}.npz") as arrays:
        return [torch.from_numpy(arrays[name]) for name in ("wav0", "wav1")]


@torch.inference_mode()
def test_released_code(shared_dir: Path) -> None:
    """The released speaker-verification code's embeddings, one by one and in a batch."""
    model = load_speaker_model(shared_dir / f"{RELEASED}.pt")
    with np.load(shared_dir / f"{RELEASED}.npz") as arrays:
        golden = [torch.from_numpy(arrays[name]) for name in ("emb0", "emb1")]
        cosine = float(arrays["cos"])
    waves = speech(shared_dir)
    lengths = torch.tensor([len(wave) for wave in waves])
    together = model(nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    for wave, theirs, row in zip(waves, golden, together, strict=True):
        assert relative_error(model.embed(wave), theirs) < 1e-4
        assert relative_error(row, theirs) < 1e-4
    assert torch.cosine_similarity(*together, dim=0).item() == pytest.approx(cosine, abs=1e-5)
    assert (model.size, len(model.sha256)) == (256, 64)


@pytest.mark.parametrize("scale", [2, 4])
@torch.inference_mode()
def test_speechbrain(tmp_path: Path, shared_dir: Path, scale: int) -> None:
    """SpeechBrain's features, normalisation and ECAPA-TDNN, from a file that it wrote."""
    pytest.importorskip("speechbrain", reason="asked of SpeechBrain")
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    theirs = ECAPA_TDNN(
        80,
        channels=[32, 32, 32, 32, 48],
        res2net_scale=scale,
        attention_channels=12,
        se_channels=10,
        lin_neurons=20,
    ).eval()
    spread(theirs)
    torch.save(theirs.state_dict(), tmp_path / "embedding_model.ckpt")
    features = Fbank(n_mels=80)
    norm = InputNormalization(norm_type="sentence", std_norm=False)
    model = load_speaker_model(tmp_path)
    waves = [0.1 * wave / wave.abs().max() for wave in speech(shared_dir)]
    waves[1][20_000:] *= 1e-6  # reaches the range that features are cut to
    expected = [theirs(norm(features(wave[None]), torch.ones(1)))[0, 0] for wave in waves]
    lengths = torch.tensor([len(wave) for wave in waves])
    together = model(nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    for wave, reference, row in zip(waves, expected, together, strict=True):
        assert relative_error(model.embed(wave), reference) < 1e-4
        assert relative_error(row, reference) < 1e-4


@torch.inference_mode()
def test_ours_in_speechbrain(tmp_path: Path, shared_dir: Path) -> None:
    """SpeechBrain loads the folder of a model of ours and gives its embeddings."""
    classifiers = pytest.importorskip("speechbrain.inference.classifiers", reason="asked of it")
    sizes = EcapaConfig(
        channels=32, aggregated=48, scale=4, squeezed=10, attention=12, embedding=20,
        dilations=(2, 3), padding="reflect", context=True,
    )  # fmt: skip
    model = build_speaker_model(
        None, SpeakerConfig(features="fbank", mels=40, instance_norm=False, ecapa=sizes)
    )
    spread(model)
    write_speaker_model(tmp_path / "ours", model.eval(), {})
    theirs = classifiers.EncoderClassifier.from_hparams(
        str(tmp_path / "ours"), savedir=str(tmp_path / "ours")
    )
    wave = speech(shared_dir)[1]
    again = load_speaker_model(tmp_path / "ours")
    reference = theirs.encode_batch(wave)[0, 0]
    for each in (model, again):
        assert relative_error(each.embed(wave), reference) < 1e-4
    assert again.config == model.config


@pytest.mark.parametrize("weighted", [False, True])
@torch.inference_mode()
def test_xvectors_of_transformers(tmp_path: Path, shared_dir: Path, weighted: bool) -> None:
    """The embeddings of `WavLMForXVector`, from its folder."""
    transformers = pytest.importorskip("transformers", reason="asked of transformers")
    torch.manual_seed(4)
    config = transformers.WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        tdnn_dim=(24, 40), tdnn_kernel=(5, 3), tdnn_dilation=(1, 2), xvector_output_dim=16,
        use_weighted_layer_sum=weighted,
    )  # fmt: skip
    theirs = transformers.WavLMForXVector(config).eval()
    spread(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    model = load_speaker_model(tmp_path / "theirs")
    for wave in speech(shared_dir):
        reference = theirs(wave[None]).embeddings[0]
        assert relative_error(model.embed(wave), reference) < 1e-4
    assert model.size == 16
