"""Translation of jsonargparse's errors to one-line messages with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gd_lightning.experiments.comparison.members import values_of
from gd_lightning.similar_options import similar_option

_LONGEST_VALUE = 80
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
    "None": "null",
    "timedelta": "a duration such as {seconds: 90}",
    "Path": "a path",
}
_LISTS = {"list[int]": "a list of whole numbers", "list[float]": "a list of numbers", "list[str]": "a list of texts"}
_UNTYPABLE = ("Tensor", "Callable", "Iterable", "device", "dtype")
_SENTENCES = (
    (r"arguments are required: (.+)", "cannot continue without {0}; give it, or see --help"),
    (r"argument (?:\S+/)?(\S+): expected one argument", "cannot use {0} without a value; give one, as in {0} VALUE"),
    (r"argument \S+ --> model\.(\w+): .*", "cannot use the value of model.{0}; give it as {0}, beside model"),
    (r"argument (?:\S+/)?(\S+): ignored explicit argument (.+)", "cannot use {1} as {0}, because it takes no value"),
    (r"invalid choice: ('[^']*') \(choose from (.+)\)", "there is no subcommand {0}; use one of {1}"),
    (r"Config file loop detected: (.+)", "cannot read the config, because it includes itself: {0}; include it once"),
    (
        r"Option '([^']*)' is not accepted before",
        "cannot use {0} before the subcommand; give it, or its config, after it",
    ),
    (
        r'(?:Empty nested key|Spaces not allowed in keys): (".*")',
        "cannot use {0} as an option; see --help for the options",
    ),
    (r'Invalid option "([^"]*)" for (\S+)', "cannot use {0} as {1}; see --help for the options"),
)
_UNKNOWN = (
    r"unrecognized arguments: (\S*)",
    r"Group '([^']*)' does not accept option '([^']*)'",
    r"does not accept option '([^']*)'",
    r"Option '([^']*)' is not accepted(?! before)",
)


def plain(message: str, options: Iterable[str] = ()) -> str:
    """Translate a parser's message to one line: what cannot be used, for what, and what to give instead.

    Args:
        message: The report of jsonargparse, which may have several lines; reports on options of a nested class are
            indented below the option that names the class.
        options: Names of all options, among which one similar to an unknown one is suggested.
    """
    message = with_hint(message, options)
    if found := re.match(r'Parser key "([^"]+)"[^:\n]*:(.*)', message, re.S):
        return _unusable(found[1], found[2].splitlines())
    return _sentence(" ".join(message.split()))


def with_hint(message: str, options: Iterable[str]) -> str:
    """Return a message on an unknown option with a suggestion; return other messages unchanged."""
    for pattern in _UNKNOWN:
        if (found := re.search(pattern, message)) and not message.startswith("Parser key"):
            name = ".".join(found.groups()).split("=")[0]
            near = similar_option(name.lstrip("-"), options)
            hint = f"did you mean {'--' * name.startswith('--')}{near}?" if near else "see --help for the options"
            return f"there is no option {_short(name)}; {hint}"
    return message


def _sentence(message: str) -> str:
    for pattern, sentence in _SENTENCES:
        if found := re.search(pattern, message):
            return sentence.format(*found.groups())
    return message


def _unusable(key: str, lines: list[str]) -> str:
    """Return a message on the value of an option that cannot be used, from the lines of the report on it."""
    if key == "config":
        return _no_config(" ".join(line.strip() for line in lines))
    for number, line in enumerate(lines):
        if found := re.match(r'[\s-]*Parser key "([^"]+)"', line):
            inner = [other for other in lines[number + 1 :] if _indent(other) > _indent(line)]
            inner_key = found[1] if f"{found[1]}.".startswith(f"{key}.") else f"{key}.{found[1]}"
            return _unusable(inner_key, inner or lines[:number])
    reports = [line.strip().removeprefix("- ") for line in lines]
    for report in reports:
        if report.startswith("cannot "):  # said by this program, to a reader of values
            return report
        if found := re.match(r"there is no option (\S*); (?:did you mean (.*)\?)?", report):
            hint = f"did you mean {key}.{found[2]}?" if found[2] else "see --help for the options"
            return f"there is no option {key}.{found[1]}; {hint}"
        if found := re.search(r"arguments are required: (.+)", report):
            missing = " and ".join(f"--{key}.{name.strip()}" for name in found[1].split(","))
            return f"cannot make {key} without {found[1]}; give {missing}"
    if found := re.search(r"Unable to load config (?:'([^']*)'|\"([^\"]*)\")\n?(.*)", "\n".join(reports)):
        value, reason = found[1] or found[2] or "nothing", found[3] or "it is neither a mapping nor a config file"
        return f"cannot use {_short(value)} as {key}, because {reason}; give its options"
    key, value = _value(key, reports)
    expected = _expected(reports)
    if reason := _reason(reports, expected):
        return f"cannot use {value} as {key}, because {reason}"
    if expected:
        return f"cannot use {value} as {key}; give {expected}"
    return f"cannot use {value} as {key}; see --help for the options"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _no_config(reason: str) -> str:
    if found := re.search(r"(?:File|Path) (does not exist|is not a file|is not readable): '([^']*)'", reason):
        why = {
            "does not exist": "there is no such file; check the path",
            "is not a file": "it is not a file; give the path of one",
            "is not readable": "it may not be read; change its permissions",
        }[found[1]]
        return f"cannot read the config {found[2]}, because {why}"
    said = _sentence(reason)
    return said if said.startswith("cannot") else f"cannot read the config, because {said}; correct it"


def _value(key: str, reports: list[str]) -> tuple[str, str]:
    """Return the option and the value that cannot be used, which may be nested in the reported option."""
    given = [found[1] for line in reports if (found := re.search(r"(?:Given|Got) value: (.*)$", line))]
    paths = [found[1] for line in reports if (found := re.match(r"Expected a path but (.*) either not acc", line))]
    value = (given[-1:] or paths or ["what is given"])[0]
    if found := re.fullmatch(r"NestedArg\(key='([^']+)', val=(.*)\)", value):
        key, value = f"{key}.{found[1]}", found[2].strip("'")
    return key, _short(value) if value else "nothing"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _expected(reports: list[str]) -> str:
    """Return the types of an option in words."""
    for pattern in (
        r"Subtypes: \[(.*)\]$",
        r"(?:Expected an?|Not a valid subclass of) (.*?)\.? Got value",
        r"Expected an? (<class .*>|typing\..*)$",
        r"Not a valid subclass of (\w+)",
    ):
        for report in reports:
            if found := re.match(pattern, report):
                return in_words(found[1])
    return ""


def in_words(text: str) -> str:
    """Return types in words that jsonargparse prints as in ``<class 'int'>, typing.Literal['full']``."""
    if union := re.fullmatch(r"typing\.Union\[(.*)\]", text):
        text = union[1]
    text = text.replace(" | ", ", ")
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text.replace("typing.", "").replace("collections.abc.", ""))
    text = re.sub(r"Literal\[([^\]]*)\]", lambda found: " or ".join(re.findall(r"'([^']*)'", found[1])), text)
    parts = map(_word, values_of(text))
    return " or ".join(dict.fromkeys(part for part in parts if part))


def _word(name: str) -> str:
    """Return a type in words; "" for types whose values cannot be typed on a command line."""
    if found := re.fullmatch(r"tuple with (\d+) elements", name):
        return f"a list of {found[1]}"
    if name in _LISTS:
        return _LISTS[name]
    head = name.partition("[")[0].rpartition(".")[2]
    if head in _UNTYPABLE:
        return ""
    if head[:1].isupper():
        return _WORDS.get(head) or f"the class path of {'an' if head[0] in 'AEIO' else 'a'} {head}"
    return _WORDS.get(head, name)


def _reason(reports: list[str], expected: str) -> str | None:
    """Return the reason why a class path cannot be used; "" if the report is not about one."""
    text = "\n".join(reports)
    if found := re.search(r"correspond to a subclass of (\w+)", text) or re.search(
        r"Expected '.*' to be a (?:function that returns|subclass of) <class '(\w+)'>", text
    ):
        return f"it is not a subclass of {found[1]}; give the class path of one"
    if "Expected an instantiatable class" in text:
        return "it is an abstract class; give the class path of a subclass"
    if found := re.search(r"Multiple subclasses with name .*: (.*)\.", text):
        return f"there are several of that name; give one of {found[1]}"
    name = re.search(r"Expected a dot import path string: ([A-Za-z_]\w*$)?", text, re.M)
    if name and (not expected or (name[1] and "class path" in expected)):
        return "there is no such class; give its name or class path, see --help"
    if found := re.search(r"Importing '(.*)' is not allowed", text):
        return f"{found[1]} may not be named in a config; use it in Python"
    if re.search(r"Unexpected import path format|No module named|(?:module|type object) '.*' has no attribute", text):
        return "it cannot be imported; check its name and where it is installed"
    return None
