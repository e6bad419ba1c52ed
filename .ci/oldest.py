"""Prints the oldest versions of what the installed package and its tests need that it allows, a requirement a line."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement


def oldest(requirement: Requirement) -> str:
    """Return a requirement of the lowest version that is allowed; of any version, where none is named as the lowest."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    lowest = [f"=={part.version}" for part in requirement.specifier if part.operator == ">="]
    return requirement.name + extras + "".join(lowest)


if __name__ == "__main__":
    for text in metadata.requires("gd-lightning") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": "test"}):
            print(oldest(requirement))
