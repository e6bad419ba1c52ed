"""Reading the pages that are made for a browser."""

from __future__ import annotations

import json
import re
from typing import Any


def content_of(page: str) -> dict[str, Any]:
    """Return the data in a page."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content
