"""The simulated conversations that the model is chosen on (dev) and reported on (test)."""

from collections.abc import Iterator

import numpy as np
from pyannote.core import Annotation, Segment

from wavlm_meeting.audio.simulate import ConversationPlan, Samples, draw_conversation, render
from wavlm_meeting.recipes.tiny.collection import Collection, draw_speakers
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings
from wavlm_meeting.units import SAMPLE_RATE


def draw_set(collection: Collection, settings: EvaluationSettings) -> list[ConversationPlan]:
    """Draw the set: as many conversations of each number of speakers, overlap within bounds."""
    rng = np.random.default_rng(settings.seed)
    plans: list[ConversationPlan] = []
    for count in settings.speakers:
        drawn = 0
        while drawn < settings.conversations:
            names = draw_speakers(rng, collection, count, settings.one_source, {})
            plan = draw_conversation(
                rng,
                {name: collection.voices[name] for name in names},
                int(settings.length_s * SAMPLE_RATE),
                settings.conversation,
                collection.noises,
            )
            low, high = settings.overlap
            if len(plan.speakers) == count and low <= overlap_share(plan) <= high:
                plans.append(plan)
                drawn += 1
    return plans


def overlap_share(plan: ConversationPlan) -> float:
    """Return which share of the time with speech has more than one speaker."""
    active = np.zeros((len(plan.speakers), plan.length), bool)
    for start, end, name in plan.turns():
        active[plan.speakers.index(name), start:end] = True
    depth = active.sum(axis=0)
    return float((depth > 1).sum() / max((depth > 0).sum(), 1))


def rendered(
    collection: Collection, plans: list[ConversationPlan]
) -> Iterator[tuple[str, Samples, Annotation]]:
    """Give name, waveform (N,) and reference of each conversation."""
    for number, plan in enumerate(plans):
        name = f"conversation_{number:03d}_{len(plan.speakers)}_speakers"
        reference = Annotation(uri=name)
        for track, (start, end, speaker) in enumerate(plan.turns()):
            reference[Segment(start / SAMPLE_RATE, end / SAMPLE_RATE), track] = speaker
        yield name, render(plan, collection.audio, collection.audio), reference.support()
