"""How Sphinx builds the site from this directory; pages that are made from code go to ``reference/generated``."""

from __future__ import annotations

import ast
import atexit
import contextlib
import dataclasses
import html
import inspect
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# The package that stands beside these pages, whichever is installed, and what the pages are made by.
sys.path[:0] = [str(ROOT), str(DOCS)]

from notebooks import notebook_of, with_links_to_notebook  # noqa: E402

import gd_lightning  # noqa: E402
from gd_lightning.cli.options.examples import EXAMPLES  # noqa: E402

project = "gd_lightning"
author = "The gd_lightning authors"
copyright = author  # noqa: A001  # the name that Sphinx reads
version = release = gd_lightning.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"gd_lightning {version}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
toc_object_entries = False  # beside a page are its headings; every method would be hundreds of lines
smartquotes = False  # values of options are shown as they are typed

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3  # links such as page.md#a-heading
nb_execution_mode = "force"
nb_execution_in_temp = True  # what a tutorial writes is not left among the pages
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True  # what one cell prints stands together
nb_output_stderr = "warn"  # a cell that warns fails the build, too
nb_execution_show_tb = True

napoleon_use_rtype = False  # docstrings say what is returned, and signatures its type
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures have them; docstrings say what they mean
autodoc_default_options = {"members": True}
nitpicky = True  # a name in a docstring that leads nowhere is a warning, too
html_math_renderer = "mathml"

COMMANDS = tuple(EXAMPLES)
TUTORIALS = sorted(path for path in (DOCS / "tutorials").glob("*.md") if path.stem != "index")
ADDRESS = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")).get("repository-code", "").rstrip("/")
"""That of the repository, which links lead to once ``CITATION.cff`` names it."""
GENERATED = DOCS / "reference" / "generated"


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer of formulas and the pages that are made from code."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("builder-inited", lambda _: _write_pages())
    app.connect("builder-inited", lambda _: _settle_kernels())
    app.connect("source-read", _link_notebook)
    app.connect("build-finished", _write_notebooks)
    app.connect("autodoc-process-docstring", _keep_sentence, priority=400)  # before napoleon's, which is 500
    return {"parallel_read_safe": True}


def _settle_kernels() -> None:
    """Let cells import the package beside these pages, without the settings and start-up files of one's own IPython.

    Kernels report errors alone: that they speak with this process without encryption is a warning of new ones.
    """
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    (directory / "profile_default").mkdir()
    config = directory / "profile_default" / "ipython_kernel_config.py"
    config.write_text('c.IPKernelApp.log_level = "ERROR"\nc.HistoryManager.enabled = False\n', encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(directory)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _link_notebook(_app: Any, page: str, source: list[str]) -> None:
    if DOCS / f"{page}.md" in TUTORIALS:
        source[0] = with_links_to_notebook(source[0], page, ADDRESS)


def _write_notebooks(app: Any, failed: Exception | None) -> None:
    """Write the tutorials as notebooks beside their pages."""
    if failed is not None or app.builder.format != "html":
        return
    for path in TUTORIALS:
        name = path.relative_to(ROOT).as_posix()
        content = json.dumps(notebook_of(path.read_text(encoding="utf-8"), name, ADDRESS), indent=1, ensure_ascii=False)
        file = Path(app.outdir) / "tutorials" / f"{path.stem}.ipynb"
        file.write_text(f"{content}\n", encoding="utf-8")


def _keep_sentence(_app: Any, what: str, _name: str, _of: object, _options: object, lines: list[str]) -> None:
    """Break the first line of an attribute behind its colon: napoleon takes what stands before it as a type."""
    before, colon, after = lines[0].partition(": ") if lines else ("", "", "")
    if what in ("attribute", "property", "data") and colon:
        lines[:1] = [f"{before}:", after]


def _inline_math(translator: Any, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers draw by themselves: MathJax would be loaded from elsewhere."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block_math(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _write_pages() -> None:
    """Write the pages that are made from code, those alone that differ from what is there."""
    pages = {"api.md": _api(), "configs.md": _configs()}
    pages |= {f"{command}.md": _options(command) for command in COMMANDS}
    GENERATED.mkdir(exist_ok=True)
    for path in GENERATED.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = GENERATED / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _public() -> Iterator[tuple[str, list[str]]]:
    """Give the public names by the part of the package that they come from, in the order of the stub."""
    stub = ast.parse((ROOT / "gd_lightning" / "__init__.pyi").read_text(encoding="utf-8"))
    parts: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module != "gd_lightning":  # but the extra, which stands at the end
            part = f"{node.module}".split(".")[1]
            parts.setdefault(part, []).extend(alias.name for alias in node.names)
    yield from parts.items()


def _api() -> str:
    lines = ["# Public names", "", "All but the last are imported from `gd_lightning`.", ""]
    for part, names in _public():
        lines += [f"## {part}", ""]
        for name in names:
            value = getattr(gd_lightning, name)
            directive = "autoclass" if inspect.isclass(value) else "autofunction"
            block = [f".. {directive}:: gd_lightning.{name}", *_inherited(value)]
            lines += [f"### {name}", "", "```{eval-rst}", *block, "```", ""]
    estimator = "gd_lightning.sklearn.GradientDescentRegressor"
    lines += [
        "## sklearn",
        "",
        f"### {estimator}",
        "",
        "```{eval-rst}",
        f".. autoclass:: {estimator}",
        "   :no-members:",
        "```",
        "",
    ]
    return "\n".join(lines)


def _inherited(value: Any) -> list[str]:
    """Return the option that shows what a result has of a base class that is not public, such as that of plans."""
    bases = value.__mro__[1:] if inspect.isclass(value) and dataclasses.is_dataclass(value) else ()
    own = {base for base in bases if base.__module__.startswith("gd_lightning.")}
    if not own or any(base.__name__ in dir(gd_lightning) for base in own):
        return []
    return [f"   :inherited-members: {', '.join(base.__name__ for base in bases if base not in own)}"]


def _configs() -> str:
    lines = [
        "# Configs",
        "",
        "`fit --config NAME` takes the first ones, `compare --config experiments/NAME` the others, anywhere.",
        "",
    ]
    for title, folder in (("Runs", ROOT / "configs"), ("Experiments", ROOT / "configs" / "experiments")):
        lines += [f"## {title}", ""]
        for path in sorted(folder.glob("*.yaml")):
            include = Path(os.path.relpath(path, GENERATED)).as_posix()
            lines += [f"### {path.stem}", "", f"```{{literalinclude}} {include}", ":language: yaml", "```", ""]
    return "\n".join(lines)


def _help(command: str) -> str:
    """Return what ``--help-all`` of a subcommand prints, one line for each text of an option."""
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        with contextlib.redirect_stdout(printed):
            code = gd_lightning.main([command, "--help-all"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    if code:
        raise RuntimeError(f"`{command} --help-all` ends with exit code {code}")
    return printed.getvalue()


def _options(command: str) -> str:
    """Return the page of a subcommand: its examples, then its options in their groups."""
    examples, _, rest = _help(command).partition("\nusage: ")
    lines = [f"# {command}", "", "```text", examples.strip(), "```", ""]
    for line in rest.splitlines()[1:]:
        text = line.strip()
        if line and not line.startswith(" ") and text.endswith(":"):
            lines += ["", f"## {'Options' if text == 'options:' else text[:-1]}", ""]
        elif re.match(r"  -", line):
            name, _, said = re.sub(r" {2,}", "\n", text).partition("\n")
            lines += ["", f"`{name}`", *([f": {_escaped(said)}"] if said else [])]
        elif text:
            lines.append(f": {_escaped(text)}" if line.startswith("   ") else f"\n{_escaped(text)}\n")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    """Return a text of help as Markdown that shows it as it is, and roles of docstrings as code."""
    text = re.sub(r":(?:\w+:)?\w+:`~?([^`]+)`", r"``\1``", text)
    parts = re.split(r"(``?[^`]+``?)", html.unescape(text))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]{}$#|])", r"\\\1", part) for part in parts)
