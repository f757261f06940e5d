"""Hugging Face's layout, against transformers itself: folders it made, and folders it loads."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.checkpoints.bundle import Bundle, read_bundle, write_bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.formats import read_model, write_model
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

transformers = pytest.importorskip("transformers", reason="asked of transformers")

KINDS = (
    "WavLMModel",
    "WavLMForXVector",
    "WavLMForAudioFrameClassification",
    "WavLMForCTC",
)


def save(folder: Path, kind: str = "WavLMModel", **settings: object) -> torch.nn.Module:
    """Let transformers save a small random model, and return it."""
    torch.manual_seed(5)
    sizes = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "conv_dim": (24,) * 7,
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 4,
        "num_buckets": 40,
        "max_bucket_distance": 100,
        "tdnn_dim": (24, 40),
        "tdnn_kernel": (5, 3),
        "tdnn_dilation": (1, 2),
        "xvector_output_dim": 16,
        "num_labels": 5,
        "vocab_size": 11,
    }
    config = transformers.WavLMConfig(**(sizes | settings))
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_round_trip_through_a_bundle(tmp_path: Path, kind: str, weighted: bool) -> None:
    """Transformers -> bundle -> Hugging Face: transformers loads the same tensors, head included.

    Its own report of missing, unexpected and mismatched parameters is empty.
    """
    model = save(tmp_path / "theirs", kind, use_weighted_layer_sum=weighted)
    write_model(tmp_path / "bundle", read_model(tmp_path / "theirs"), "bundle")
    write_model(tmp_path / "ours", read_bundle(tmp_path / "bundle"), "huggingface")
    loaded, report = getattr(transformers, kind).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


@pytest.mark.parametrize("normalize", [False, True])
@torch.inference_mode()
def test_sizes_of_our_own(tmp_path: Path, normalize: bool) -> None:
    """A model of no released size, written for transformers, computes the same there."""
    config = WavLMConfig(
        conv_layers=((32, 400, 160), (24, 3, 2)),
        width=48,
        layers=2,
        heads=4,
        ffn=64,
        pre_norm=True,
        normalize_waveform=normalize,
        position_kernel=32,
    )
    torch.manual_seed(1)
    encoder = WavLM(config).eval()
    card = Card(name="own", version="1", licence="CC0-1.0", description="", encoder=config)
    write_model(tmp_path / "own", Bundle(card, {"encoder": encoder.state_dict()}), "huggingface")
    wave = torch.nn.functional.layer_norm(torch.randn(1, 16_000), (16_000,))
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "own")
    assert extractor.do_normalize == normalize
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "own")(wave).last_hidden_state
    ours = encoder(wave).hidden_states[-1]
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert read_model(tmp_path / "own").card.encoder == config


def test_older_folders(tmp_path: Path) -> None:
    """Pickled parameters with the weight norm's older names load to the same encoder."""
    save(tmp_path)
    expected = load_encoder(tmp_path).state_dict()
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert older.keys() != tensors.keys()
    torch.save(older, tmp_path / "pytorch_model.bin")
    for name, tensor in load_encoder(tmp_path).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_model_that_masks_nothing(tmp_path: Path) -> None:
    """Transformers leaves the mask embedding out where nothing is masked; the rest loads."""
    save(tmp_path, mask_time_prob=0.0, mask_feature_prob=0.0)
    assert "masked_spec_embed" not in load_file(tmp_path / "model.safetensors")
    assert not load_encoder(tmp_path).mask_embedding.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": torch.zeros(2)}, r"1 parameter unknown \(extra\.weight\)"),
        ({"encoder.layer_norm.bias": None}, r"1 parameter missing \(encoder\.layer_norm\.bias\)"),
        ({"masked_spec_embed": None}, r"1 parameter missing \(masked_spec_embed\)"),
        ({"encoder.layer_norm.bias": torch.zeros(3)}, r"'encoder\.layer_norm\.bias' has the shape"),
    ],
)
def test_wrong_parameters_are_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    """One parameter too many, too few or of another shape is an error that names it."""
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path)


def test_unknown_head_is_not_dropped(tmp_path: Path) -> None:
    """A head that has no place here is refused, not left out."""
    save(tmp_path, "WavLMForSequenceClassification")
    with pytest.raises(CheckpointError, match=r"2 parameters unknown \(projector\.bias"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "wav2vec2"}, "a 'wav2vec2' model"),
        ({"hidden_act": "relu"}, "'hidden_act' is 'relu'; only 'gelu'"),
        ({"add_adapter": True}, "'add_adapter' is True"),
        ({"conv_stride": [5]}, "not lists of one length"),
        ({"num_attention_heads": 7}, "not a multiple of heads"),
    ],
)
def test_other_architectures_are_refused(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    """Settings that this encoder does not have are an error, never silently ignored."""
    save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path)


def test_parts_without_a_place_are_not_dropped(tmp_path: Path) -> None:
    """A bundle with a head that transformers does not know is not written without it."""
    save(tmp_path / "theirs")
    model = read_model(tmp_path / "theirs")
    card = model.card.model_copy(update={"heads": {"diarization": {}}})
    parts = {**model.state, "diarization": {"weight": torch.zeros(1)}}
    write_bundle(tmp_path / "bundle", parts, card)
    for layout in ("huggingface", "microsoft"):
        with pytest.raises(CheckpointError, match="no place for 'diarization'"):
            write_model(tmp_path / "out", read_bundle(tmp_path / "bundle"), layout)
    assert not (tmp_path / "out").exists()
