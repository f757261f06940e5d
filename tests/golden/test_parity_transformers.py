"""What transformers' WavLM models compute, ours compute from the same folder."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavlm_meeting.checkpoints import load_encoder, load_frame_classifier, load_xvector

transformers = pytest.importorskip("transformers", reason="parity is asked of transformers")

TOLERANCE = 1e-4
"""Relative, by the largest value: what float32 allows."""
NORMS = {
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    "mixed": {"feat_extract_norm": "group", "do_stable_layer_norm": True},
}


def make(kind: str, norms: str, folder: Path, **settings: object) -> torch.nn.Module:
    """Save a small model of transformers with every parameter drawn at random, and return it."""
    torch.manual_seed(7)
    config = transformers.WavLMConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        num_buckets=40,
        max_bucket_distance=100,
        tdnn_dim=(24, 24, 40),
        tdnn_kernel=(5, 3, 1),
        tdnn_dilation=(1, 2, 1),
        xvector_output_dim=16,
        num_labels=5,
        vocab_size=11,
        **NORMS[norms],
        **settings,
    )
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # So that no bias, norm or gate hides behind its zeros and ones.
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def noise(samples: int) -> Tensor:
    """Return a waveform (1, N) of zero mean and unit variance, which normalisation leaves alone."""
    torch.manual_seed(samples)
    return torch.nn.functional.layer_norm(torch.randn(1, samples), (samples,))


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Compare by the largest value of the reference."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


@pytest.mark.parametrize("norms", NORMS)
@torch.inference_mode()
def test_hidden_states(tmp_path: Path, norms: str) -> None:
    """Every hidden state is that of WavLMModel, past the reach of the bias table too."""
    model = make("WavLMModel", norms, tmp_path)
    encoder = load_encoder(tmp_path)
    wave = noise(60_000)
    reference = model(wave, output_hidden_states=True)
    states = encoder(wave).hidden_states
    assert len(states) == len(reference.hidden_states) == 4
    for ours, theirs in zip(states[:-1], reference.hidden_states[:-1], strict=True):
        assert_close(ours, theirs)
    # transformers' last entry of hidden_states misses the final norm; last_hidden_state has it.
    assert_close(states[-1], reference.last_hidden_state)


@torch.inference_mode()
def test_batch_of_different_lengths(tmp_path: Path) -> None:
    """Where padding disturbs no statistics (layer norm), the valid frames of a batch agree."""
    model = make("WavLMModel", "large", tmp_path)
    encoder = load_encoder(tmp_path)
    long, short = noise(32_000), noise(20_000)
    waves = torch.cat([long, torch.nn.functional.pad(short, (0, 12_000))])
    lengths = torch.tensor([32_000, 20_000])
    mask = (torch.arange(32_000) < lengths[:, None]).long()
    reference = model(waves, attention_mask=mask).last_hidden_state
    output = encoder(waves, lengths)
    for row, frames in enumerate(output.frame_lengths.tolist()):
        assert_close(output.hidden_states[-1][row, :frames], reference[row, :frames])


@pytest.mark.parametrize("norms", ["base", "large"])
@pytest.mark.parametrize("weighted", [False, True])
@torch.inference_mode()
def test_xvector(tmp_path: Path, norms: str, weighted: bool) -> None:
    """Embeddings and logits are those of WavLMForXVector."""
    model = make("WavLMForXVector", norms, tmp_path, use_weighted_layer_sum=weighted)
    encoder, head = load_xvector(tmp_path)
    wave = noise(24_000)
    reference = model(wave)
    output = encoder(wave)
    result = head(output.hidden_states, output.frame_lengths)
    assert_close(result.embeddings, reference.embeddings)
    assert_close(result.logits, reference.logits)


@torch.inference_mode()
def test_xvector_ignores_padding(tmp_path: Path) -> None:
    """In a batch each utterance has the embedding that it has alone.

    (transformers counts the frames after dilated layers without the dilation, so its padded
    batches pool over some padding.)
    """
    make("WavLMForXVector", "base", tmp_path, use_weighted_layer_sum=True)
    encoder, head = load_xvector(tmp_path)
    long, short = noise(32_000), noise(20_000)
    waves = torch.cat([long, torch.nn.functional.pad(short, (0, 12_000))])
    batch = encoder(waves, torch.tensor([32_000, 20_000]))
    embeddings = head(batch.hidden_states, batch.frame_lengths).embeddings
    for row, wave in enumerate((long, short)):
        alone = encoder(wave)
        assert_close(embeddings[row], head(alone.hidden_states, alone.frame_lengths).embeddings[0])


@pytest.mark.parametrize("norms", ["base", "large"])
@pytest.mark.parametrize("weighted", [False, True])
@torch.inference_mode()
def test_frame_classifier(tmp_path: Path, norms: str, weighted: bool) -> None:
    """Logits are those of WavLMForAudioFrameClassification."""
    kind = "WavLMForAudioFrameClassification"
    model = make(kind, norms, tmp_path, use_weighted_layer_sum=weighted)
    encoder, head = load_frame_classifier(tmp_path)
    wave = noise(24_000)
    assert_close(head(encoder(wave).hidden_states), model(wave).logits)


@pytest.mark.parametrize("kind", ["WavLMForXVector", "WavLMForCTC"])
@torch.inference_mode()
def test_encoder_of_a_model_with_a_head(tmp_path: Path, kind: str) -> None:
    """The encoder alone loads from a model with any head."""
    model = make(kind, "base", tmp_path)
    wave = noise(16_000)
    assert_close(
        load_encoder(tmp_path)(wave).hidden_states[-1], model.wavlm(wave).last_hidden_state
    )


@torch.inference_mode()
def test_preprocessor_decides_normalisation(tmp_path: Path) -> None:
    """With `do_normalize` the encoder takes a raw waveform to what a normalised one gives."""
    model = make("WavLMModel", "base", tmp_path)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    extractor.save_pretrained(tmp_path)
    wave = 0.3 * noise(16_000) + 0.1
    values = extractor(wave[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    ours = load_encoder(tmp_path)(wave).hidden_states[-1]
    # The extractor adds 1e-7 to the variance (here 0.09), the released code 1e-5.
    assert (ours - model(values).last_hidden_state).abs().max() < 1e-3
    settings = tmp_path / "preprocessor_config.json"
    values = json.loads(settings.read_text()) | {"do_normalize": False}
    settings.write_text(json.dumps(values))
    assert_close(load_encoder(tmp_path)(wave).hidden_states[-1], model(wave).last_hidden_state)
