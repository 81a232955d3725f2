"""Logical CPUs, as the tests of `training` cut it into: both may share a process."""

from tests.training.devices import cut_the_cpu

cut_the_cpu()
