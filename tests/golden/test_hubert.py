"""Released HuBERT layouts load into the same encoder, with the position bias off."""

import collections
import sys
import types
from pathlib import Path

import pytest
import torch

from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.formats import read_model, write_model
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

transformers = pytest.importorskip("transformers", reason="parity is asked of transformers")

NORMS = {
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
}
FAIRSEQ = (
    ("feature_projection.layer_norm.", "layer_norm."),
    ("feature_projection.projection.", "post_extract_proj."),
    ("masked_spec_embed", "mask_emb"),
    (".attention.", ".self_attn."),
    (".feed_forward.intermediate_dense.", ".fc1."),
    (".feed_forward.output_dense.", ".fc2."),
    (
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.pos_conv.0.weight_g",
    ),
    (
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.pos_conv.0.weight_v",
    ),
    ("encoder.pos_conv_embed.conv.", "encoder.pos_conv.0."),
)
"""What transformers and fairseq call the same parameters, applied in this order."""


def make(norms: str, folder: Path) -> torch.nn.Module:
    """Save a small random HubertModel and return it."""
    torch.manual_seed(3)
    config = transformers.HubertConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        **NORMS[norms],
    )
    model = transformers.HubertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def fairseq_name(name: str, *, layer_norm_frontend: bool) -> str:
    """Return what fairseq calls a parameter of HubertModel."""
    for theirs, fairseq in FAIRSEQ:
        name = name.replace(theirs, fairseq)
    if name.startswith("encoder.layers."):
        name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
    if name.startswith("feature_extractor."):
        norm = ".2.1." if layer_norm_frontend else ".2."
        name = name.replace(".conv.", ".0.").replace(".layer_norm.", norm)
    return name


def fairseq_file(model: torch.nn.Module, norms: str, path: Path) -> None:
    """Write what fairseq's trainer would: nested settings, a task state of its own classes."""
    names = ("fairseq", "fairseq.data", "fairseq.data.dictionary")
    modules = {name: types.ModuleType(name) for name in names}
    kind = type("Dictionary", (), {"__module__": names[-1]})
    modules[names[-1]].Dictionary = kind
    dictionary = kind()
    dictionary.symbols = ["<s>", "0", "1"]
    large = norms == "large"
    state = {
        fairseq_name(name, layer_norm_frontend=large): tensor
        for name, tensor in model.state_dict().items()
    }
    state["final_proj.weight"], state["final_proj.bias"] = torch.randn(16, 48), torch.randn(16)
    state["label_embs_concat"] = torch.randn(7, 16)
    content = {
        "args": None,
        "cfg": {
            "model": {
                "extractor_mode": "layer_norm" if large else "default",
                "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2",
                "conv_bias": False,
                "encoder_embed_dim": 48,
                "encoder_layers": 3,
                "encoder_attention_heads": 4,
                "encoder_ffn_embed_dim": 96,
                "activation_fn": "gelu",
                "layer_norm_first": large,
                "conv_pos": 32,
                "conv_pos_groups": 4,
                "dropout": 0.1,
                "attention_dropout": 0.1,
                "activation_dropout": 0.0,
                "encoder_layerdrop": 0.05,
            },
            "task": {"_name": "hubert_pretraining", "normalize": large},
        },
        "model": collections.OrderedDict(state),
        "task_state": {"dictionaries": [dictionary]},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        torch.save(content, path)


@pytest.mark.parametrize("norms", NORMS)
@torch.inference_mode()
def test_hidden_states_are_those_of_transformers(tmp_path: Path, norms: str) -> None:
    """Every hidden state is HubertModel's, from its folder and from fairseq's file alike."""
    model = make(norms, tmp_path / "theirs")
    fairseq_file(model, norms, tmp_path / "hubert.pt")
    wave = torch.nn.functional.layer_norm(torch.randn(1, 40_000), (40_000,))
    reference = model(wave, output_hidden_states=True)
    expected = [*reference.hidden_states[:-1], reference.last_hidden_state]
    for source in ("theirs", "hubert.pt"):
        states = load_encoder(tmp_path / source)(wave).hidden_states
        for ours, theirs in zip(states, expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.inference_mode()
def test_a_padded_batch(tmp_path: Path) -> None:
    """Frames past an utterance's end are not attended: batch equals single."""
    make("base", tmp_path)
    encoder = load_encoder(tmp_path)
    long, short = torch.randn(1, 32_000), torch.randn(1, 20_000)
    waves = torch.cat([long, torch.nn.functional.pad(short, (0, 12_000))])
    output = encoder(waves, torch.tensor([32_000, 20_000]))
    for row, wave in enumerate((long, short)):
        alone = encoder(wave).hidden_states[-1][0]
        batch = output.hidden_states[-1][row, : len(alone)]
        assert (batch - alone).abs().max() <= 1e-4 * alone.abs().max()


def test_round_trip(tmp_path: Path) -> None:
    """HuBERT -> bundle -> Hugging Face: transformers loads the same tensors, none left over."""
    model = make("base", tmp_path / "theirs")
    write_model(tmp_path / "bundle", read_model(tmp_path / "theirs"), "bundle")
    write_model(tmp_path / "ours", read_model(tmp_path / "bundle"), "huggingface")
    loaded, report = transformers.HubertModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_the_pretraining_head_of_fairseq_is_kept(tmp_path: Path) -> None:
    """Its label embeddings and projection come along, as they do with Microsoft's files."""
    fairseq_file(make("base", tmp_path / "theirs"), "base", tmp_path / "hubert.pt")
    model = read_model(tmp_path / "hubert.pt")
    assert model.card.heads == {"pretraining": {"classes": 7, "size": 16}}
    write_model(tmp_path / "back.pt", model, "microsoft")
    again = read_model(tmp_path / "back.pt")
    assert again.card.encoder == model.card.encoder
    for name, tensor in model.state["encoder"].items():
        assert torch.equal(tensor, again.state["encoder"][name]), name


def test_other_peoples_classes_are_not_let_in(tmp_path: Path) -> None:
    """Only fairseq's inert leftovers are passed over; any other class is refused as before."""
    module = types.ModuleType("somebody")
    module.Thing = type("Thing", (), {"__module__": "somebody"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "somebody", module)
        torch.save({"cfg": {}, "model": {}, "rest": module.Thing()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="opening those can run code"):
        read_model(tmp_path / "x.pt")


def test_a_plain_position_bias_has_no_place_at_hugging_face(tmp_path: Path) -> None:
    """T5's bias without a gate computes, and round-trips through Microsoft's layout alone."""
    config = WavLMConfig(
        conv_layers=((24, 10, 5), (24, 8, 4)),
        width=32, layers=2, heads=2, ffn=32, position_kernel=16, position_groups=4,
        position_bias="plain",
    )  # fmt: skip
    encoder = WavLM(config).eval()
    wave = torch.randn(1, 16_000)

    card = Card(name="plain", version="1", licence="CC0-1.0", description="", encoder=config)
    model = Bundle(card, {"encoder": encoder.state_dict()})
    write_model(tmp_path / "plain.pt", model, "microsoft")
    with torch.inference_mode():
        expected = encoder(wave).hidden_states[-1]
        assert load_encoder(tmp_path / "plain.pt")(wave).hidden_states[-1].equal(expected)
    with pytest.raises(CheckpointError, match="'plain' position bias"):
        write_model(tmp_path / "folder", model, "huggingface")
