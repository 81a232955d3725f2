"""All programs of the zoo, by name."""

from __future__ import annotations

from tests.zoo import contrastive, generative, gradients, habits, hub, measures, teachers
from tests.zoo.program import Program

PROGRAMS: dict[str, Program] = {
    **generative.PROGRAMS,
    **contrastive.PROGRAMS,
    **teachers.PROGRAMS,
    **gradients.PROGRAMS,
    **habits.PROGRAMS,
    **measures.PROGRAMS,
    **hub.PROGRAMS,
}
"""A name is what people call the pattern."""
