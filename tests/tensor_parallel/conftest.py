"""Three logical CPUs in this process."""

from __future__ import annotations

from tests.training.devices import cut_the_cpu

cut_the_cpu()
