"""What jsonargparse says, in one line that a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "tuple": "a list",
    "NoneType": "null",
    "None": "null",
}


def plain(message: str, options: Iterable[str] = ()) -> str:
    """Say a parser's message in one line: what cannot be used, for what, and what to give instead.

    Args:
        message: What jsonargparse reports, over several lines at times.
        options: Names of the options there are, from which one that resembles an unknown one is proposed.
    """
    one_line = " ".join(message.split())
    for pattern, say in (
        (r"unrecognized arguments: (\S+)", _unknown),
        (r"does not accept option '([^']+)'", _unknown),
        (r"Option '([^']+)' is not accepted", _unknown),
    ):
        if found := re.search(pattern, one_line):
            return say(found[1], options)
    # The parser of a nested class has put its own message through here already.
    if found := re.search(r'Parser key "([^"]+)":.*these options are missing: ([^;]+)', one_line):
        return f"cannot make {found[1]} without {found[2]}; give {_missing(found[1], found[2])}"
    if found := re.search(r"arguments are required: (.+)", one_line):
        return f"these options are missing: {found[1]}; give them, or see --help"
    if found := re.search(r"File does not exist: '([^']+)'", one_line):
        return f"cannot read the config {found[1]}, because there is no such file; check the path"
    if one_line.startswith("Unexpected config"):
        return f"cannot read the config, because it is no mapping of options: {one_line.partition(':')[2].strip()[:80]}"
    if found := re.search(r"Problems parsing config: (.+)", one_line):
        return f"cannot read the config, because it is no valid YAML: {found[1]}"
    if found := re.match(r'Parser key "([^"]+)":', one_line):
        return _unusable(found[1], one_line)
    return one_line


def _missing(key: str, names: str) -> str:
    return " and ".join(f"--{key}.{name.strip()}" for name in names.split(","))


def _unknown(name: str, options: Iterable[str]) -> str:
    name = name.split("=")[0]
    close = difflib.get_close_matches(name.lstrip("-"), list(options), n=1)
    hint = f"did you mean {'--' * name.startswith('--')}{close[0]}?" if close else "see --help for those there are"
    return f"there is no option {name}; {hint}"


def _unusable(key: str, message: str) -> str:
    if found := re.search(r"NestedArg\(key='([^']+)', val='([^']*)'\)", message):
        return f"cannot use {found[2]} as {key}.{found[1]}; there is no such option of it, or not with this value"
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", message):
        return f"cannot use {found[1]} as {key}, because it is no subclass of {found[2]}; give the class path of one"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        return (
            f"cannot use {found[1]} as {key}, because there is no such class; give its name or class path, see --help"
        )
    if found := re.search(r"(?:Unexpected import path format|Problem with given class_path) '?(\S+?)'?[:\s]", message):
        return (
            f"cannot use {found[1]} as {key}, because it cannot be imported; check its name and where it is installed"
        )
    value = re.search(r"(?:Got value|Given value): (.*)$", message)
    expected = re.search(r"Subtypes: \[(.*?)\] Errors", message) or re.search(
        r"Expected an? (.*?)\.? Got value", message
    )
    if value and expected:
        return f"cannot use {value[1][:80]} as {key}; give {_types(expected[1])}"
    return f"cannot use what is given as {key}: {message.partition(': ')[2][:200]}"


def _types(text: str) -> str:
    """Say types as jsonargparse prints them, such as ``<class 'int'>, typing.Literal['full']``, in words."""
    text = re.sub(r"typing\.|<class '([\w.]+)'>", lambda found: found[1] or "", text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda found: " or ".join(re.findall(r"'([^']*)'", found[1])), text)
    parts = [_TYPES.get(part.partition("[")[0].strip(), part.strip()) for part in _split(text)]
    return " or ".join(
        dict.fromkeys(part.rpartition(".")[2] if "." in part and " " not in part else part for part in parts)
    )


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    return [part for part in re.split(r",(?![^\[]*\])", text) if part.strip()]
