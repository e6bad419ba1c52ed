"""Assembling an HTML page from a template, scripts and data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from gd_lightning.escaping import in_one_line


def html_page(template: str, scripts: Sequence[str], title: str, content: Mapping[str, Any]) -> str:
    r"""Return a self-contained page as a text.

    Args:
        template: The name of the template, a file beside this one.
        scripts: Names of JavaScript files, in the order in which they are run.
        title: The title of the page.
        content: Plain values without infinities, which the scripts read from the element ``content``.

    Example:
        >>> page = html_page("explore.html", ["panels.js"], "a < b", {"name": "</script>"})
        >>> "<title>a &lt; b</title>" in page, '"name":"\\u003c/script>"' in page
        (True, True)
    """
    # Within a script, < could begin the tag that ends it; JSON can also write it as an escape.
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"title": escape(in_one_line(title)), "script": "\n".join(map(_text, scripts)), "content": data}
    head = Template(_text("head.html")).substitute(title=parts["title"], style=_text("page.css"))
    return Template(_text(template)).substitute(parts, head=head)


def in_notebook(page: str, title: str, height: int = 820) -> str:
    """Return a page embedded in a frame, for another page such as a notebook.

    Args:
        page: The page.
        title: Title of the frame.
        height: Height of the frame in pixels.
    """
    frame = f'title="{escape(in_one_line(title))}" width="100%" height="{height}" style="border: 0"'
    return f'<iframe {frame} srcdoc="{escape(page)}"></iframe>'


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
