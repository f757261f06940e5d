"""The objective of speaker models against its slow, obvious forms and SpeechBrain's."""

import math

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")

from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

from wavlm_meeting.verification.loss import SpeakerClasses, margin_loss, pair_loss, teacher_loss

V, C, D = 12, 9, 6


def some_cosines(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Give cosines from nearly -1 to nearly 1, and a class for each row."""
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(V, C, generator=generator) * 1.98 - 0.99
    return cosines, torch.randint(C, (V,), generator=generator)


def slow_loss(
    cosines: torch.Tensor, classes: torch.Tensor, margin: float, scale: float, k: int, m: float
) -> float:
    """Go through rows and classes one by one, in angles."""
    total = 0.0
    for row, own in zip(cosines.tolist(), classes.tolist(), strict=True):
        wrong = sorted((c for c in range(C) if c != own), key=lambda c: -row[c])
        logits = []
        for c, cosine in enumerate(row):
            angle = math.acos(cosine)
            if c == own:
                # Past pi the cosine would rise again: a straight line goes on falling.
                inside = angle + margin < math.pi
                made = math.cos(angle + margin) if inside else cosine - margin * math.sin(margin)
            else:
                made = math.cos(angle - m) if c in wrong[:k] else cosine
            logits.append(scale * made)
        most = max(logits)
        total += most + math.log(sum(math.exp(x - most) for x in logits)) - logits[own]
    return total / len(cosines)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("k", "m"), [(0, 0.0), (3, 0.1), (5, 0.06), (100, 0.1)])
def test_margins_are_those_of_the_formula(margin: float, k: int, m: float) -> None:
    """Right class farther by the margin, the k nearest wrong ones nearer, the rest as it is."""
    cosines, classes = some_cosines()
    found = margin_loss(cosines, classes, margin, 32.0, k, m)
    assert found.item() == pytest.approx(slow_loss(cosines, classes, margin, 32.0, k, m), rel=1e-4)


def test_without_top_k_it_is_speechbrains() -> None:
    """Value and gradient of one centre's AAM-softmax are those of SpeechBrain."""
    cosines, classes = some_cosines(1)
    ours = cosines.clone().requires_grad_()
    theirs = cosines.clone().requires_grad_()
    found = margin_loss(ours, classes, 0.2, 30.0)
    expected = LogSoftmaxWrapper(AdditiveAngularMargin(0.2, 30.0))(
        theirs[:, None], classes[:, None]
    )
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradients_are_finite_where_angles_are_0_or_pi() -> None:
    """A voice right on a centre, or opposite to it, has a gradient."""
    cosines = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]], requires_grad=True)
    margin_loss(cosines, torch.tensor([0, 0]), 0.2, 32.0, 2, 0.1).backward()
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()


def test_the_nearest_sub_centre_counts() -> None:
    """Cosines are the largest over a class's sub-centres; with one they are plain."""
    torch.manual_seed(0)
    classes = SpeakerClasses(C, D, 3)
    voices = torch.randn(V, D)
    expected = [
        [
            max(float(F.cosine_similarity(voice, centre, dim=0)) for centre in centres)
            for centres in classes.centres.detach()
        ]
        for voice in voices
    ]
    torch.testing.assert_close(classes(voices), torch.tensor(expected))
    single = SpeakerClasses(C, D)
    plain = F.linear(F.normalize(voices), F.normalize(single.centres[:, 0]))
    torch.testing.assert_close(single(voices), plain)


def test_only_the_nearest_sub_centre_moves() -> None:
    """The gradient reaches one sub-centre of a class for each voice."""
    torch.manual_seed(0)
    classes = SpeakerClasses(2, D, 3)
    voice = torch.randn(1, D)
    classes(voice)[0, 1].backward()
    moved = classes.centres.grad.abs().sum(dim=-1) > 0
    nearest = F.cosine_similarity(voice[:, None], classes.centres, dim=-1)[1].argmax()
    expected = torch.zeros(2, 3, dtype=torch.bool)
    expected[1, nearest] = True
    assert moved.equal(expected)


def test_pairs_are_the_written_out_cross_entropy() -> None:
    """Who is alone asks nothing, but is asked; lengths of embeddings do not matter."""
    torch.manual_seed(0)
    embeddings, classes = torch.randn(6, D), torch.tensor([0, 1, 0, 2, 1, 0])
    unit = F.normalize(embeddings, dim=-1)
    asked = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        same = [j for j in others if classes[j] == classes[i]]
        total = sum(math.exp(10 * float(unit[i] @ unit[j])) for j in others)
        if same:
            logs = [10 * float(unit[i] @ unit[j]) - math.log(total) for j in same]
            asked.append(-sum(logs) / len(logs))
    assert len(asked) == 5
    expected = sum(asked) / len(asked)
    assert pair_loss(embeddings, classes, 10.0).item() == pytest.approx(expected, rel=1e-5)
    assert pair_loss(3 * embeddings, classes, 10.0).item() == pytest.approx(expected, rel=1e-5)


def test_what_is_not_there_costs_nothing_and_breaks_nothing() -> None:
    """No labelled voice, no pair, no teacher: 0, with gradients of 0."""
    embeddings = torch.randn(3, D, requires_grad=True)
    classes = SpeakerClasses(C, D)
    nobody = torch.zeros(0, dtype=torch.long)
    for loss in (
        margin_loss(classes(embeddings[:0]), nobody, 0.2, 30.0, 5, 0.1),
        pair_loss(embeddings, torch.arange(3), 10.0),
        teacher_loss(embeddings, torch.zeros(3, D)),
    ):
        assert loss == 0
        embeddings.grad = None
        loss.backward()
        assert embeddings.grad is None or not embeddings.grad.any()


def test_the_teacher_counts_where_it_is_known() -> None:
    """Rows of zeros change nothing."""
    ours, teacher = torch.randn(4, D), torch.randn(4, D)
    teacher[[1, 3]] = 0.0
    expected = (1 - F.cosine_similarity(ours[[0, 2]], teacher[[0, 2]])).mean()
    torch.testing.assert_close(teacher_loss(ours, teacher), expected)
