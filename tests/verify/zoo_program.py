"""Runs a program of the zoo by itself: python -m tests.verify.zoo_program NAME."""

from __future__ import annotations

import sys

import keras

from tests.zoo.programs import PROGRAMS

if __name__ == "__main__":
    program = PROGRAMS[sys.argv[1]]
    keras.utils.set_random_seed(7)
    program.use(program.make())
