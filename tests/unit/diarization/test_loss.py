"""The objective of segmentation against its slow, obvious form."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from wavlm_meeting.diarization.loss import (
    conversation_activities,
    conversation_voices,
    linking_loss,
    permutation_free_binary_cross_entropy,
    permutation_free_cross_entropy,
    powerset_targets,
    teacher_distance,
    vector_loss,
)
from wavlm_meeting.diarization.model import powerset_table

TABLE = powerset_table(4, 2)


def test_the_powerset_of_four_two_at_once_has_eleven_classes() -> None:
    """Nobody, four single speakers, six pairs: each set once."""
    assert TABLE.shape == (11, 4)
    assert len({tuple(row.tolist()) for row in TABLE}) == 11
    assert TABLE.sum(dim=1).tolist() == [0] + [1] * 4 + [2] * 6


def test_targets_are_the_class_of_the_same_set() -> None:
    """Every row of the table is its own class; three at once keep the first two."""
    assert powerset_targets(TABLE[None], TABLE)[0].tolist() == list(range(11))
    crowded = torch.tensor([[[0.0, 1.0, 1.0, 1.0]]])
    assert TABLE[powerset_targets(crowded, TABLE)[0, 0]].tolist() == [0, 1, 1, 0]


def test_the_loss_is_the_best_order_by_trying_all() -> None:
    """The loss equals the smallest cross-entropy over all orders, and the order attains it."""
    torch.manual_seed(0)
    log_probabilities = torch.randn(3, 50, 11).log_softmax(-1)
    activities = TABLE[torch.randint(11, (3, 50))]
    loss, order = permutation_free_cross_entropy(log_probabilities, activities, TABLE)
    for row in range(3):
        tried = {
            p: F.nll_loss(
                log_probabilities[row],
                powerset_targets(activities[row : row + 1, :, list(p)], TABLE)[0],
            ).item()
            for p in permutations(range(4))
        }
        assert loss[row].item() == pytest.approx(min(tried.values()), rel=1e-6)
        assert tried[tuple(order[row].tolist())] == pytest.approx(loss[row].item(), rel=1e-6)


def test_the_order_of_the_reference_does_not_matter() -> None:
    """Renaming the reference's speakers leaves the loss as it is."""
    torch.manual_seed(1)
    log_probabilities = torch.randn(2, 30, 11).log_softmax(-1)
    activities = TABLE[torch.randint(11, (2, 30))]
    loss, _ = permutation_free_cross_entropy(log_probabilities, activities, TABLE)
    renamed, _ = permutation_free_cross_entropy(
        log_probabilities, activities[..., [2, 0, 3, 1]], TABLE
    )
    torch.testing.assert_close(loss, renamed)


def test_the_teacher_counts_where_it_is_known() -> None:
    """Unknown rows change nothing, and knowing none is a loss of 0."""
    ours, teacher = torch.randn(4, 8), torch.randn(4, 8)
    known = torch.tensor([True, False, True, False])
    expected = (1 - F.cosine_similarity(ours[known], teacher[known])).mean()
    torch.testing.assert_close(teacher_distance(ours, teacher, known), expected)
    assert teacher_distance(ours, teacher, torch.zeros(4, dtype=torch.bool)) == 0


def test_linking_is_the_written_out_cross_entropy_within_conversations() -> None:
    """Only pairs of one conversation count; equal and different ones weigh the same."""
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(7, 5), dim=-1)
    voices = torch.tensor([0, 1, 0, 0, 0, 1, 2])
    conversations = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    scale, offset = torch.tensor(8.0), torch.tensor(0.3)
    terms: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for i in range(7):
        for j in range(i + 1, 7):
            if conversations[i] == conversations[j]:
                same = bool(voices[i] == voices[j])
                probability = torch.sigmoid(8.0 * (embeddings[i] @ embeddings[j] - 0.3))
                terms[same].append(-torch.log(probability if same else 1 - probability))
    assert (len(terms[True]), len(terms[False])) == (2, 7)
    expected = sum(torch.stack(part).mean() for part in terms.values()) / 2
    every = torch.ones(7, dtype=torch.bool)
    loss = linking_loss(embeddings, voices, conversations, every, scale, offset)
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    more = [F.pad(each, (0, 2)) for each in (voices, conversations, every)]
    unheard = linking_loss(torch.cat([embeddings, torch.randn(2, 5)]), *more, scale, offset)
    torch.testing.assert_close(unheard, loss)
    alone = linking_loss(embeddings[:1], voices[:1], conversations[:1], every[:1], scale, offset)
    assert alone == 0


def test_the_binary_loss_is_the_best_order_by_trying_all() -> None:
    """As for the powerset, with sigmoids of each speaker."""
    torch.manual_seed(2)
    logits, activities = torch.randn(3, 20, 3), (torch.rand(3, 20, 3) > 0.5).float()
    loss, order = permutation_free_binary_cross_entropy(logits, activities)
    for row in range(3):
        tried = {
            p: F.binary_cross_entropy_with_logits(logits[row], activities[row][:, list(p)]).item()
            for p in permutations(range(3))
        }
        assert loss[row].item() == pytest.approx(min(tried.values()), rel=1e-6)
        assert tried[tuple(order[row].tolist())] == pytest.approx(loss[row].item(), rel=1e-6)


def test_vectors_are_told_apart_by_squared_distance() -> None:
    """The loss equals its formula, written out; without vectors it is 0 and has a gradient."""
    torch.manual_seed(3)
    vectors = F.normalize(torch.randn(4, 6), dim=-1)
    table = torch.randn(5, 6, requires_grad=True)
    classes = torch.tensor([0, 3, 3, 4])
    scale, offset = torch.tensor(1.5), torch.tensor(0.2)
    alpha = torch.log1p(torch.exp(scale))
    terms = []
    for vector, number in zip(vectors, classes, strict=True):
        scores = [-alpha * ((vector - row / row.norm()) ** 2).sum() + offset for row in table]
        terms.append(-scores[number] + torch.logsumexp(torch.stack(scores), dim=0))
    loss = vector_loss(vectors, classes, table, scale, offset)
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    nobody = vector_loss(vectors[:0], classes[:0], table, scale, offset)
    nobody.backward()
    assert nobody == 0


def test_a_conversation_is_put_together_from_its_windows() -> None:
    """Activities and voices of its speakers equal a loop over windows and slots."""
    torch.manual_seed(4)
    B, T, S, windows, speakers = 6, 5, 3, 3, 4
    activities = (torch.rand(B, T, S) > 0.5).float()
    voices = torch.stack([torch.randperm(speakers)[:S] for _ in range(B)])
    voices[1, 2] = -1
    embeddings, weights = F.normalize(torch.randn(B, S, 7), dim=-1), torch.rand(B, S)
    expected = torch.zeros(2, windows * T, speakers)
    sums = torch.zeros(2, speakers, 7)
    for window in range(B):
        conversation, place = divmod(window, windows)
        for slot in range(S):
            if (speaker := int(voices[window, slot])) >= 0:
                frames = slice(place * T, (place + 1) * T)
                expected[conversation, frames, speaker] = activities[window, :, slot]
                sums[conversation, speaker] += weights[window, slot] * embeddings[window, slot]
    found = conversation_activities(activities, voices, windows, speakers)
    torch.testing.assert_close(found, expected)
    means, heard = conversation_voices(embeddings, weights, voices, windows, speakers)
    torch.testing.assert_close(means, F.normalize(sums, dim=-1))
    assert heard.tolist() == sums.any(dim=-1).tolist()
