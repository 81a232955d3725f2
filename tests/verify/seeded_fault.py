"""Runs a program with a seeded fault: python -m tests.verify.seeded_fault NAME."""

from __future__ import annotations

import sys

from tests.verify import faults_of_models, faults_of_programs

FAULTS = {**faults_of_models.FAULTS, **faults_of_programs.FAULTS}

if __name__ == "__main__":
    FAULTS[sys.argv[1]].train()
