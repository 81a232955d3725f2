"""`import tfdist` and `tfdist --help` answer at once, because they import nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tfdist

ROOT = Path(__file__).parent.parent
HEAVY = ("tensorflow", "keras", "numpy")


def modules_after(statements: str) -> set[str]:
    """The modules that a fresh Python has imported after these statements."""
    script = f"import sys\n{statements}\nprint('\\nmodules:', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_importing_tfdist_imports_nothing_heavy() -> None:
    assert not modules_after("import tfdist").intersection(HEAVY)


def test_the_pure_rooms_import_nothing_heavy() -> None:
    pure = "tfdist.Cluster, tfdist.Task, tfdist.errors, tfdist.environments, tfdist.launch"
    assert not modules_after(f"import tfdist; {pure}").intersection(HEAVY)


def test_what_calls_a_function_as_a_job_imports_nothing_heavy() -> None:
    ask = "import tfdist; tfdist.run, tfdist.notebook, tfdist.load_ipython_extension"
    assert not modules_after(ask).intersection((*HEAVY, "IPython", "rich"))


def test_help_imports_nothing_heavy() -> None:
    ask = "import tfdist.cli\ntry: tfdist.cli.main(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(ask).intersection(HEAVY)


def test_dir_lists_the_public_names_before_they_are_fetched() -> None:
    assert {"Cluster", "Task", "strategy", "plug", "callbacks", "__version__"} <= set(dir(tfdist))


def test_a_submodule_does_not_take_the_place_of_a_function() -> None:
    from tfdist import cluster, environments, launch

    assert tfdist.Cluster is cluster.Cluster
    assert tfdist.environments is environments
    assert tfdist.launch is launch


def test_the_launchers_modules_do_not_take_the_place_of_run() -> None:
    from tfdist.functions import run_function
    from tfdist.launch import run

    assert tfdist.run is run_function.run
    assert run.__name__ == "tfdist.launch.run"


def test_a_misspelt_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'strategi': did you mean 'strategy'\?"):
        tfdist.strategi  # noqa: B018


def test_a_name_like_no_other_is_answered_with_all_names() -> None:
    with pytest.raises(AttributeError, match=r"'xyz': it has Cluster, .*Task, .*strategy"):
        tfdist.xyz  # noqa: B018
