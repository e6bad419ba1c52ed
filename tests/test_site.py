"""The site that is built from docs/: no warning, no cell that fails, no link that leads nowhere."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import ROOT

DOCS = ROOT / "docs"
THEORY = (DOCS / "theory.md").read_text(encoding="utf-8")
TUTORIALS = sorted(path for path in (DOCS / "tutorials").glob("*.md") if path.stem != "index")


class _Page(HTMLParser):
    """The places and the links of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places.update(filter(None, [given.get("id")]))
        self.links.update(filter(None, [given.get("href"), given.get("src")]))


def _broken_links(site: Path) -> Iterator[str]:
    pages = {path.resolve(): _Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.exists() or (target in pages and url.fragment and url.fragment not in pages[target].places):
                yield f"{path.relative_to(site.resolve())}: {link}"


@pytest.mark.slow
def test_it_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the site is built where its extra, docs, is installed")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(DOCS), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(_broken_links(site)) == []
    for tutorial in TUTORIALS:
        page = (site / "tutorials" / f"{tutorial.stem}.html").read_text(encoding="utf-8")
        assert "cell_output" in page
        assert "Traceback" not in page
        assert json.loads((site / "tutorials" / f"{tutorial.stem}.ipynb").read_text(encoding="utf-8"))["cells"]
        assert f'href="{tutorial.stem}.ipynb"' in page


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<p id="there">')
    links = ["other.html#there", "other.html", "https://example.org/none", "other.html#nowhere", "none.html", "#none"]
    (tmp_path / "index.html").write_text("".join(f'<a href="{link}">' for link in links))
    assert sorted(_broken_links(tmp_path)) == [f"index.html: {link}" for link in ("#none", "none.html", links[3])]


def test_each_statement_of_theory_has_its_code_source_and_proof() -> None:
    statements = re.split(r"^## ", THEORY, flags=re.M)[1:]
    assert len(statements) >= 10
    for statement in statements:
        title = statement.partition("\n")[0]
        for part in ("- In code: `", "- Source: ", "- Proved by: `tests/"):
            assert statement.count(part) == 1, f"{title}: {part}"
        for path in re.findall(r"`(gd_lightning/[\w/]+\.py)`", statement):
            assert (ROOT / path).is_file(), f"{title}: {path}"
        for names, path in re.findall(r"((?:`\w+`(?: and )?)+) in `(gd_lightning/[\w/]+\.py)`", statement):
            source = (ROOT / path).read_text(encoding="utf-8")
            for name in re.findall(r"\w+", names.replace(" and ", " ")):
                assert re.search(rf"^(?:def|class) {name}\b", source, re.M), f"{title}: {name} in {path}"


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_cells_are_python(tutorial: Path) -> None:
    """Short of the build, which runs them."""
    cells = re.findall(r"```\{code-cell\} ipython3\n(?::tags: [^\n]*\n\n)?(.*?)```", tutorial.read_text("utf-8"), re.S)
    assert cells
    for cell in cells:
        ast.parse(cell)


NOTEBOOKS = runpy.run_path(str(DOCS / "notebooks.py"))
ADDRESS = "https://github.com/owner/gd"


@pytest.mark.parametrize("address", ["", ADDRESS])
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_a_notebook_with_its_cells_and_links_that_hold(tutorial: Path, address: str) -> None:
    text = tutorial.read_text("utf-8")
    content = NOTEBOOKS["notebook_of"](text, f"docs/tutorials/{tutorial.name}", address)
    assert json.loads(json.dumps(content)) == content
    sources: dict[str, list[str]] = {"code": [], "markdown": []}
    for cell in content["cells"]:
        sources[cell["cell_type"]].append(cell["source"])
    if address:
        assert sources["code"].pop(0) == f'%pip install --quiet "gd-lightning @ git+{address}"'
    assert len(sources["code"]) == text.count("```{code-cell}")
    for source in sources["code"]:
        ast.parse(source)
        assert source in text
    said = "\n".join(sources["markdown"])
    assert said.startswith("# ")
    assert "{code-cell}" not in said
    for target in re.findall(r"\]\(([^)]*)\)", said):
        assert (ROOT / target.removeprefix(f"{address}/blob/main/")).is_file()
        assert address


@pytest.mark.parametrize(
    ("address", "colab"),
    [
        (ADDRESS, "https://colab.research.google.com/github/owner/gd/blob/gh-pages/tutorials/x.ipynb"),
        (f"{ADDRESS}.git", "https://colab.research.google.com/github/owner/gd/blob/gh-pages/tutorials/x.ipynb"),
        ("https://example.org/owner/gd", ""),
        ("", ""),
    ],
)
def test_colab_opens_what_the_workflow_publishes_of_a_repository_on_github(address: str, colab: str) -> None:
    page = NOTEBOOKS["with_links_to_notebook"]("---\na: b\n---\n\n# X\n\n# Y\n", "tutorials/x", address)
    assert '# X\n\n<p><a href="x.ipynb" download>' in page
    assert page.endswith("</p>\n\n# Y\n")
    assert re.findall(r'href="(https[^"]*)"', page) == ([colab] if colab else [])
    assert f"push --force origin {NOTEBOOKS['BRANCH']}" in (ROOT / ".github" / "workflows" / "site.yml").read_text()
