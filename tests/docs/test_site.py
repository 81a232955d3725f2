"""The site builds strictly where the extra `docs` is installed; it loads nothing from elsewhere."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

USED = ("scripts", "tests", "tfdist", "CHANGELOG.md", "CONTRIBUTING.md")

SHOWN = {
    "terminal.svg": ("tfdist run --workers 2 train.py", "2 replicas x 128", "ended well"),
    "live.svg": ("-m tfdist.examples.digits", "examples/s", "worker:1 input", "exchange"),
}
"""What the pictures of a terminal show, among others."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; nothing is written into the repository."""
    pytest.importorskip("zensical", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    (folder / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text())
    shutil.copytree(DOCS, folder / "docs", symlinks=True)
    for name in USED:
        (folder / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        env={**os.environ, "PATH": path, "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_every_page_is_in_the_navigation_and_built(site: Path) -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS)
        assert re.search(rf"[:-] {re.escape(str(name))}$", nav, re.MULTILINE), (
            f"{name} is not in mkdocs.yml"
        )
        folder = name.parent if name.stem == "index" else name.with_suffix("")
        assert (site / folder / "index.html").is_file(), name


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not loads.findall(text), page
        assert 'class="mermaid"' not in text  # it would be drawn by a script from elsewhere


def test_the_api_shows_the_public_functions(site: Path) -> None:
    text = (site / "api" / "index.html").read_text()
    for name in ("strategy", "plug", "Cluster", "callbacks.Checkpoint", "gather_batch"):
        assert f'id="tfdist.{name}"' in text, name


def test_the_diagrams_have_words_for_those_who_cannot_see_them() -> None:
    for drawing in DOCS.rglob("*.svg"):
        text = drawing.read_text()
        assert all(part in text for part in ("<title", "<desc", 'role="img"')), drawing
    for page in DOCS.rglob("*.md"):
        if not page.is_symlink():
            assert "![](" not in page.read_text(), page


def test_the_picture_of_a_terminal_shows_what_a_job_says_and_fetches_nothing() -> None:
    for name, told in SHOWN.items():
        text = (DOCS / "assets" / name).read_text()
        shown = re.sub("&#160;", " ", " ".join(re.findall(r"<text[^>]*>(.*?)</text>", text)))
        for said in (*told, "all 2 tasks are here"):
            assert said in shown, said
        assert "url(http" not in text
        assert "@import" not in text


def test_the_tables_have_a_name_for_each_column() -> None:
    for page in DOCS.rglob("*.md"):
        lines = page.read_text().splitlines()
        for head, rule in itertools.pairwise(lines):
            if re.fullmatch(r"\|[-:| ]+\|", rule) and rule.count("-") > 2 and head.startswith("|"):
                assert all(cell.strip() for cell in head.strip("|").split("|")), f"{page}: {head}"
