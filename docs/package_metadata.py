"""What the metadata of the package are made of besides ``pyproject.toml``, for its build.

The address of the repository stands in one place, ``repository-code`` in ``CITATION.cff``. The project's links come
from it, and the links of the README, which are relative there, lead to it in the long description.
While there is no address, the long description has no links to files, instead of some that lead nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?://|#|mailto:)[^)\s]+)\)")


def address_in(citation: str) -> str:
    """Return the address of the repository that a ``CITATION.cff`` names; "" where it names none."""
    found = re.search(r"^repository-code: *[\"']?(https://[^\s\"']+?)/?[\"']?\s*$", citation, re.M)
    return found[1] if found else ""


def long_description(readme: str, address: str) -> str:
    """Return the README with links that hold wherever it is shown.

    Args:
        readme: Its text.
        address: That of the repository; "" where there is none: then files are named, and pictures left out.
    """

    def absolute(link: re.Match[str]) -> str:
        image, text, target = link["image"], link["text"], link["target"]
        if not address:
            return "" if image else text
        return f"{image}[{text}]({address}/{'raw' if image else 'blob'}/main/{target})"

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(absolute, readme))


class PackageMetadata(MetadataHookInterface):
    """Adds the long description and the project's links."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add them to the metadata, in place."""
        root = Path(self.root)
        citation = root / "CITATION.cff"
        address = address_in(citation.read_text(encoding="utf-8")) if citation.is_file() else ""
        text = long_description((root / "README.md").read_text(encoding="utf-8"), address)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        pages = {"Documentation": "tree/main/docs", "Changelog": "blob/main/CHANGELOG.md", "Issues": "issues"}
        links = {"Source": address, **{name: f"{address}/{page}" for name, page in pages.items()}}
        metadata["urls"] = links if address else {}
