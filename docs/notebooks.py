"""The tutorials as notebooks, which the site offers beside their pages, and which Colab opens by a link."""

from __future__ import annotations

import posixpath
import re
from typing import Any

BRANCH = "gh-pages"
"""The branch that the workflow ``site.yml`` writes the site to; Colab reads notebooks from there."""

_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$\n?", re.M | re.S)
_TAGS = re.compile(r"\A:tags: \[([^\]]*)\]\n\n?")
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def notebook_of(text: str, page: str, address: str) -> dict[str, Any]:
    """Return a tutorial as the content of an ``.ipynb`` file, without output.

    Args:
        text: The tutorial, Markdown with cells.
        page: Its path in the repository, such as ``docs/tutorials/parabola.md``.
        address: That of the repository, which links lead to and the first cell installs from; "" where it has none.
    """
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    cells = [_code(f'%pip install --quiet "gd-lightning @ git+{address}"')] if address else []
    for number, part in enumerate(_CELL.split(body)):
        if number % 2:
            tags = _TAGS.match(part)
            cells.append(_code(part[tags.end() :] if tags else part, tags[1].split(", ") if tags else ()))
        elif part.strip():
            cells.append({"cell_type": "markdown", "metadata": {}, "source": _with_links(part.strip(), page, address)})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}


def colab_address(address: str, page: str) -> str:
    """Return the address at which Colab opens the notebook of a page of the site; "" for a repository not on GitHub."""
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(?:\.git)?", address)
    return f"https://colab.research.google.com/github/{found[1]}/blob/{BRANCH}/{page}.ipynb" if found else ""


def with_links_to_notebook(text: str, page: str, address: str) -> str:
    """Return a tutorial with links to its notebook, and to Colab where that finds it, below its title."""
    links = f'<a href="{posixpath.basename(page)}.ipynb" download>Download as a notebook</a>'
    if colab := colab_address(address, page):
        links += f' · <a href="{colab}">Open in Colab</a>'
    return re.sub(r"^(# .*)$", lambda title: f"{title[0]}\n\n<p>{links}</p>", text, count=1, flags=re.M)


def _code(source: str, tags: Any = ()) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": source.strip()}


def _with_links(text: str, page: str, address: str) -> str:
    """Return a text with links that hold outside the repository; where that has no address, with their words alone."""

    def absolute(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[2]))
        return f"[{link[1]}]({address}/blob/main/{target})" if address else link[1]

    return _LINK.sub(absolute, text)
