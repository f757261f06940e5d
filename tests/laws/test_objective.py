"""Laws of masked prediction, against a slow formula and by what must not matter."""

import pytest
import torch

from wavlm_meeting.pretraining.masking import MaskSettings, draw_masks
from wavlm_meeting.pretraining.objective import (
    Losses,
    MaskedPrediction,
    ObjectiveSettings,
    PredictionHead,
    contrastive_loss,
)
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

CONFIG = WavLMConfig(
    conv_layers=((16, 10, 5), (16, 8, 8), (24, 8, 8)),
    width=32,
    layers=2,
    heads=2,
    ffn=48,
    position_kernel=16,
    position_groups=4,
    dropout=0.0,
    attention_dropout=0.0,
)
LENGTHS = torch.tensor([32_000, 24_000, 11_111])


def model(classes: tuple[int, ...] = (7,), **settings: object) -> MaskedPrediction:
    """Give a small model with its head."""
    torch.manual_seed(1)
    return MaskedPrediction(WavLM(CONFIG), classes, ObjectiveSettings(**settings))


def batch(classes: tuple[int, ...] = (7,)) -> tuple[torch.Tensor, ...]:
    """Give waveforms, lengths, masks and a label set for each of `classes`."""
    torch.manual_seed(2)
    waveforms = torch.randn(3, 32_000) * (torch.arange(32_000) < LENGTHS[:, None])
    frames = CONFIG.frame_count(32_000)
    lengths = (LENGTHS - CONFIG.receptive_field) // CONFIG.hop + 1
    masks = draw_masks(lengths, frames, MaskSettings(span=4, start_probability=0.12))
    return waveforms, LENGTHS, masks, *(torch.randint(0, k, (3, frames)) for k in classes)


def run(network: MaskedPrediction, data: tuple[torch.Tensor, ...]) -> Losses:
    """Run a model on a batch."""
    waveforms, lengths, masks, *labels = data
    losses: Losses = network(waveforms, lengths, masks, labels)
    return losses


def test_the_loss_is_the_written_out_formula() -> None:
    """Cosines over 0.1, negative log-softmax at the label, mean over masked frames alone."""
    network, data = model(), batch()
    waveforms, lengths, masks, labels = data
    features, frames = network.encoder.extract(waveforms, lengths)
    states = network.encoder.contextualize(
        network.encoder.projection(features), frames, padded=True, masked=masks
    )[-1]
    head, terms = network.head, []
    for row in range(3):
        for frame in range(int(frames[row])):
            if masks[row, frame]:
                own = head.projection.weight @ states[row, frame] + head.projection.bias
                cosines = torch.stack(
                    [own @ e / own.norm() / e.norm() for e in head.label_embeddings]
                )
                terms.append(-(cosines / 0.1).log_softmax(0)[labels[row, frame]])
    losses = run(network, data)
    assert losses.prediction.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)
    squares = [features[row, : frames[row]].square().mean(dim=1) for row in range(3)]
    penalty = torch.cat(squares).mean()
    assert losses.feature_penalty.item() == pytest.approx(penalty.item(), rel=1e-5)
    assert losses.total.item() == pytest.approx(
        losses.prediction.item() + 10 * penalty.item(), rel=1e-5
    )


def test_labels_of_unmasked_frames_and_of_padding_do_not_matter() -> None:
    """Nor does a masked frame without a label; one with a label does."""
    network, data = model(), batch()
    waveforms, lengths, masks, labels = data
    expected = run(network, data).prediction
    changed = torch.where(masks, labels, (labels + 1) % 7)
    assert run(network, (waveforms, lengths, masks, changed)).prediction.equal(expected)
    every = torch.ones_like(masks)
    full = run(network, (waveforms, lengths, every, labels)).prediction
    past = torch.where(
        torch.arange(masks.shape[1]) < network.encoder.extract(waveforms, lengths)[1][:, None],
        labels,
        0,
    )
    assert run(network, (waveforms, lengths, every, past)).prediction.equal(full)
    row, frame = masks.nonzero()[0].tolist()
    other = labels.clone()
    other[row, frame] = (other[row, frame] + 1) % 7
    assert not run(network, (waveforms, lengths, masks, other)).prediction.equal(expected)
    none = torch.full_like(labels, -1)
    none[row, frame] = labels[row, frame]
    alone = run(network, (waveforms, lengths, masks, none))
    assert alone.accuracy.item() in {0.0, 1.0}


def test_masked_frames_are_hidden_from_the_encoder() -> None:
    """What is said in masked frames changes nothing in the Transformer's output."""
    encoder = model().encoder.eval()
    masks = batch()[2]
    x = torch.randn(3, masks.shape[1], CONFIG.width)
    frames = torch.full((3,), masks.shape[1])
    other = torch.where(masks[..., None], torch.randn_like(x), x)
    outputs = [encoder.contextualize(y, frames, padded=False, masked=masks)[-1] for y in (x, other)]
    assert outputs[0].equal(outputs[1])
    shown = [encoder.contextualize(y, frames, padded=False)[-1] for y in (x, other)]
    assert not shown[0].equal(shown[1])


def test_several_label_sets_are_averaged() -> None:
    """Two sets give the mean of what each gives alone with its share of the head."""
    network, data = model((7, 5)), batch((7, 5))
    waveforms, lengths, masks, first, second = data
    both = run(network, data).prediction
    parts = []
    for number, own in enumerate((first, second)):
        single = model((own.max().item() + 1,))
        single.encoder = network.encoder
        single.head = PredictionHead(CONFIG.width, 256, (network.head.classes[number],))
        with torch.no_grad():
            single.head.projection.weight.copy_(network.head.projection.weight.chunk(2)[number])
            single.head.projection.bias.copy_(network.head.projection.bias.chunk(2)[number])
            single.head.label_embeddings.copy_(network.head.label_embeddings.split((7, 5))[number])
        parts.append(run(single, (waveforms, lengths, masks, own)).prediction)
    assert both.item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-5)


def test_the_frontend_gets_a_tenth_of_the_gradient() -> None:
    """`frontend_gradient` scales what reaches the convolutions and nothing else."""
    gradients = []
    for share in (1.0, 0.1):
        network = model(frontend_gradient=share)
        run(network, batch()).total.backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, whole in gradients[0].items():
        if whole is None:
            continue
        factor = 0.1 if name.startswith("encoder.frontend") else 1.0
        assert torch.allclose(gradients[1][name], factor * whole, atol=1e-6), name


def test_the_mean_over_processes_is_the_whole_batch() -> None:
    """Utterances of different lengths on two processes: losses and gradients average to one's."""
    network, data = model((7, 5), contrastive_weight=0.0), batch((7, 5))
    whole = run(network, data)
    whole.total.backward()
    expected = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }
    counts: list[torch.Tensor] = []

    def keep(own: torch.Tensor) -> torch.Tensor:
        counts.append(own)
        return own

    parts = [[part[rows] for part in data] for rows in (slice(0, 1), slice(1, 3))]
    for waveforms, lengths, masks, *labels in parts:
        network(waveforms, lengths, masks, labels, share=keep)
    mean = (counts[0] + counts[1]) / 2
    network.zero_grad()
    shares = [network(w, n, m, labels, share=lambda _: mean) for w, n, m, *labels in parts]
    (sum(part.total for part in shares) / 2).backward()
    for name in ("total", "prediction", "feature_penalty", "accuracy", "perplexity"):
        found = sum(getattr(part, name).item() for part in shares) / 2
        assert found == pytest.approx(getattr(whole, name).item(), rel=1e-5), name
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-6), name


def test_layers_that_are_left_out_are_not_run() -> None:
    """`kept` leaves a layer out and nothing else; all layers computed again change nothing."""
    network = model()
    waveforms, lengths, masks, labels = batch()
    network(waveforms, lengths, masks, [labels], kept=[True, False]).total.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert all(gradients[n] is None for n in gradients if n.startswith("encoder.layers.1"))
    assert all(gradients[n] is not None for n in gradients if n.startswith("encoder.layers.0"))
    network.zero_grad()
    run(network, batch()).total.backward()
    expected = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }
    network.zero_grad()
    network.encoder.recompute = True
    run(network, batch()).total.backward()
    for name, parameter in network.named_parameters():
        if name in expected:
            assert torch.allclose(parameter.grad, expected[name], atol=1e-6), name


def test_every_parameter_learns() -> None:
    """Nothing of encoder and head is left without a gradient, the contrast included if it is on."""
    network = model(contrastive_weight=0.5)
    losses = run(network, batch())
    losses.total.backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert not without
    assert losses.total.item() == pytest.approx(
        (losses.prediction + 10 * losses.feature_penalty + 0.5 * losses.contrastive).item()
    )


def test_contrast_is_low_where_frames_find_themselves() -> None:
    """Equal vectors find their own target; unrelated ones are at chance."""
    torch.manual_seed(0)
    targets = torch.randn(200, 64)
    own = contrastive_loss(targets, targets, 50, 0.1) / 200
    chance = contrastive_loss(torch.randn(200, 64), targets, 50, 1e3) / 200
    assert own < 0.05
    assert chance.item() == pytest.approx(torch.tensor(51.0).log().item(), rel=1e-3)
    assert contrastive_loss(targets[:1], targets[:1], 50, 0.1) == 0


def test_it_learns_labels_that_can_be_heard() -> None:
    """A few steps on high and low tones: masked frames are guessed from those around them."""
    torch.manual_seed(0)
    network = model((2,), feature_penalty=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    frames = CONFIG.frame_count(16_000)
    losses = []
    for _ in range(40):
        high = torch.rand(8, 1) < 0.5
        tone = torch.where(high, 3000.0, 300.0) * torch.arange(16_000) / 16_000
        waveforms = torch.sin(2 * torch.pi * tone) + 0.1 * torch.randn(8, 16_000)
        labels = high.long().expand(8, frames)
        masks = draw_masks(torch.full((8,), frames), frames, MaskSettings(span=3))
        loss = network(waveforms, torch.full((8,), 16_000), masks, [labels])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss)
    assert sum(loss.accuracy.item() for loss in losses[-10:]) / 10 > 0.9
