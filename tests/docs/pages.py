"""The pages of the documentation, and what stands in them between ``` and ```.

A comment right before a block says how it is run, where that is not in one process:

    <!-- job: --workers 2 -->      in a job of `tfdist run --workers 2`
    <!-- not run: why -->          not at all
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
_OPEN = re.compile(r'```(\w*)(?: title="[^"]+")?$')
_MARK = re.compile(r"<!-- (job|not run): (.+?) -->$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code in a page.

    Attributes:
        page: the page's path in the repository.
        line: of the page, from 1, where the code begins.
        language: after the ```; "" where there is none.
        code: the lines between.
        job: what `tfdist run` is given to run it; "" for one process.
        not_run: why it is not run; "" where it is.
    """

    page: str
    line: int
    language: str
    code: str
    job: str = ""
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def written_pages() -> list[Path]:
    """The pages that people write: in docs/ a link leads to what is written elsewhere."""
    return [README, *sorted(one for one in DOCS.rglob("*.md") if not one.is_symlink())]


def with_commands() -> list[Path]:
    """The pages whose commands are meant for readers."""
    return [*written_pages(), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


def blocks(page: Path) -> list[Block]:
    """Reads the blocks of a page, in their order."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    language: str | None = None
    begin, lines = 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if language is not None:
            if line != "```":
                lines.append(line)
                continue
            code = "\n".join(lines) + "\n"
            name = str(page.relative_to(ROOT))
            job, not_run = marks.get("job", ""), marks.get("not run", "")
            found.append(Block(name, begin, language, code, job, not_run))
            language, marks = None, {}
        elif opened := _OPEN.match(line):
            language, begin, lines = opened[1], number + 1, []
        elif mark := _MARK.match(line):
            marks[mark[1]] = mark[2]
        else:
            marks = {}
    assert language is None, f"{page} ends in the middle of a block"
    return found


def commands(first: str) -> list[str]:
    """The commands that begin so, each once; without their comments."""
    found = []
    for page in with_commands():
        for block in blocks(page):
            if block.language in ("", "sh") and not block.not_run:
                lines = [line.split("  #")[0].strip() for line in block.code.splitlines()]
                found += [line for line in lines if line.startswith(first)]
    return list(dict.fromkeys(found))
