"""Command lines that nobody should give, drawn from what the parsers know.

Every option of every subcommand, and every parameter of the classes that can be named, goes through values of the wrong
type, of the wrong range and at the edge; every kind of file that is read through truncation, swap and noise. A number
stands for a command line: the same one each time.
"""

from __future__ import annotations

import functools
import random
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gd_lightning.cli.command import Command
from gd_lightning.cli.options.parser import Parser
from gd_lightning.cli.options.trusted import _classes

STAGES = ("fit", "validate", "test", "predict", "plan", "compare", "sweep", "explore")
VALUES = (
    *("", " ", "[]", "{}", "null", "~", "nan", ".nan", "inf", ".inf", "-.inf", "-1", "-0.0", "0", "1", "2", "0.5"),
    *("1e39", "1e300", "1e-320", "-1e300", str(2**31), str(2**32), str(2**63), "1" + 400 * "0", "1e400", "1e3"),
    *("²", "٣", "½", "1:30", "-1:30:00", "00:00:00:01", "yes", "off", "True", "1_000", "0o17", "017", "0x10", "0b1"),
    *("2026-01-01", "2026-01-01 10:00:00", "😀", "a\0b", "\udcff", "x" * 30_000, "[" * 200, "1," * 300 + "1", "éé"),
    *("[1,2]", "[[1]]", "[null]", "[nope]", "[a, 1]", "{a: 1}", "{1: 2}", "{null: null}", "a,b", "1,,2", "a=b", "="),
    *("{class_path: Nope}", "{class_path: 3}", "{class_path: null}", "{class_path: []}", "{init_args: {}}", ","),
    *("{class_path: torch.nn.Linear, init_args: 3}", "{class_path: SteepLine, dict_kwargs: {a: 1}}", "class_path"),
    *("Nope", "nope.Nope", "os.system", "gd_lightning.Problem", "SGD", "Adam", "Table", "Sine", "StepLR"),
    *("EarlyStopping", "[EarlyStopping]", "torch.nn.Linear", "true", "false", "'1'", '"', "'", "#", "@", "|", "\t"),
    *("!!python/name:os.system", "!!float x", "!!binary x", "&a [*a]", "*a", "- 1", "--", "-", "a b", "\x1b[31m"),
    *("$\\frac{", "%s {} {0}", "\n", "a: b: c", "full", "last", "best", "auto", "log(1,2,3)", "log(1,0,3)", "log("),
    *("linear(1,2,1e9)", "1,2,4,...,64", "...", "a_directory", "nothing", "fifo", "dangling", "loop", "/", "/dev/null"),
    *("/dev/full", ".", "..", "../..", "run", "empty.csv", "table.csv", "table.npz", "noise.csv", "s3://b/x"),
    *("http://127.0.0.1:9/x", "file:///x", "run/checkpoints/last.ckpt"),
)
PATHS = ("a_directory", "nothing", "fifo", "dangling", "loop", "/dev/null", "/dev/full", "/", "", "a\0b", "x" * 300)
TABLES = ("csv", "tsv", "npy", "npz", "parquet")
# Options that hold the path of a file to read.
_READ = ("config", "ckpt_path", "data.problem.path", "data.predict_inputs", "data", "model", "trainer", "runs")
# Options whose large values make runs long or processes many, as they should; absurd ones are tried.
# Lightning's SpikeDetection keeps as many losses as its window is long, and makes room for all of them at once.
_LONG = re.compile(r"(window|max_epochs|max_steps|num_nodes|devices|seeds|n_samples|workers|max_time)$")
# Loggers that reach the network, where they are installed.
_REACH_OUT = ("WandbLogger", "CometLogger", "NeptuneLogger", "MLFlowLogger", "LitLogger")
_RUN_FILES = ("run/config.yaml", "run/summary.json", "run/history.csv")
_TABLE_RUN = "--ckpt_path=table_run"
_CONFIG = "walk.yaml"
BASE: dict[str, list[str]] = {
    "fit": ["--trainer.max_epochs=1"],
    "plan": ["--trainer.max_epochs=1", "--map=false"],
    "compare": ["--trainer.max_epochs=1", "--seeds=1", "--batch_sizes=full,50"],
    "sweep": ["--trainer.max_epochs=1", "--seeds=1", "--lrs=0.1,0.01", "--batch_sizes=full"],
    "explore": ["--trainer.max_epochs=1"],
    "validate": ["--ckpt_path=run"],
    "test": ["--ckpt_path=run"],
    "predict": ["--ckpt_path=run"],
}


@dataclass(frozen=True)
class Case:
    """A command line.

    Args:
        arguments: Of the program.
        files: What is written before, by names.
        variables: Of the environment.
    """

    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [text if len(text) < 200 else f"{text[:60]}... ({len(text)} letters)" for text in self.arguments]
        files = {name: content[:300] for name, content in self.files.items()}
        return f"{shown!r} {files or ''} {self.variables or ''}".rstrip()


class _ParsersError(Exception):
    """Carries the parsers out of a command line that goes no further."""


class _OnlyParsers(Command):
    def parse_arguments(self, parser: Any, args: Any) -> None:
        raise _ParsersError(self._subcommand_parsers)


@functools.cache
def parsers() -> dict[str, Any]:
    """Return the parser of each subcommand."""
    try:
        _OnlyParsers([])
    except _ParsersError as found:
        return dict(found.args[0])
    raise AssertionError


@functools.cache
def options(stage: str) -> tuple[str, ...]:
    """Return the names of all options of a subcommand."""
    names = {option for action in parsers()[stage]._actions for option in action.option_strings}
    return tuple(sorted(name[2:] for name in names if name.startswith("--") and not name.endswith("help")))


@functools.cache
def pluggable(stage: str) -> dict[str, tuple[str, ...]]:
    """Return the options of a subcommand that take a class, and the classes that there are."""
    found = {}
    for action in parsers()[stage]._actions:
        hint = getattr(action, "_typehint", None)
        classes = sorted({_path(cls) for base in _classes(hint) for cls in _below(base)})
        if classes and action.option_strings and not action.dest.endswith("help"):
            found[action.dest] = tuple(path for path in classes if not path.endswith(_REACH_OUT))
    return found


def _below(cls: Any) -> Iterator[type]:
    """Yield a class and all that inherit from it, of those that a person can name."""
    if _is_public(cls):
        yield cls
    for child in cls.__subclasses__():
        yield from _below(child)


def _is_public(cls: type) -> bool:
    known = ("gd_lightning.", "lightning.pytorch.", "lightning.fabric.", "torch.optim.", "torch.nn.modules.")
    return cls.__module__.startswith(known) and not cls.__name__.startswith("_") and "<" not in cls.__qualname__


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@functools.cache
def parameters(path: str) -> tuple[str, ...]:
    """Return the names of the parameters of a class, as the parser knows them."""
    module, _, name = path.rpartition(".")
    parser = Parser(exit_on_error=False)
    try:
        parser.add_class_arguments(getattr(sys.modules[module], name), fail_untyped=False)
    except Exception:  # jsonargparse cannot describe it
        return ()
    return tuple(action.dest for action in parser._actions if action.dest != "help")


def case(number: int, sound: Mapping[str, bytes]) -> Case:
    """Return the command line that a number stands for.

    Args:
        number: Any.
        sound: The content of sound files by their names, to be damaged.
    """
    draw = random.Random(f"walk {number}")
    stage = STAGES[number % len(STAGES)]
    kind = draw.choices((_option, _class, _special, _twice, None), (11, 4, 2, 1, 4))[0]
    return _file(draw, stage, sound) if kind is None else kind(draw, stage)


def _value(draw: random.Random, name: str) -> str:
    """Draw a value; of options that make runs long, none that asks for it."""
    values: tuple[str, ...] = VALUES
    if _LONG.search(name):
        values = tuple(value for value in VALUES if not re.fullmatch(r"[\d_]{2,}|1e3|0x10|0o17|-1", value))
    return draw.choice(values)


def _option(draw: random.Random, stage: str) -> Case:
    """Draw an option and its value."""
    name = draw.choice(options(stage))
    return _given(draw, stage, {name: _value(draw, name)})


def _given(draw: random.Random, stage: str, values: dict[str, str]) -> Case:
    """Draw how values are given: behind their options, in a config, or in the environment."""
    base = _base(stage, values)
    way = draw.choice(("=", "=", "=", " ", " ", "config", "config", "quoted", "variable"))
    is_plain = all("\0" not in value for value in values.values())
    if way == "variable" and is_plain and not any(name.endswith("+") for name in values):
        named = {f"PL_{stage}__{name.replace('.', '__')}".upper(): value for name, value in values.items()}
        return Case((stage, *base), variables=named)
    if way in ("config", "quoted"):
        return Case((stage, f"--config={_CONFIG}", *base), {_CONFIG: _as_config(values, way == "quoted")})
    pairs = [[f"--{name}={value}"] if way == "=" else [f"--{name}", value] for name, value in values.items()]
    own = [argument for pair in pairs for argument in pair]
    return Case((stage, *base, *own) if draw.random() < 0.5 else (stage, *own, *base))


def _base(stage: str, values: Mapping[str, str]) -> list[str]:
    """Return what makes a run that ends soon, as far as it is not given otherwise."""
    base = [option for option in BASE[stage] if option[2:].partition("=")[0] not in values]
    is_open = stage in ("fit", "compare") and "trainer.max_epochs" in values
    return [*base, "--trainer.max_steps=2"] if is_open else base


def _as_config(values: Mapping[str, str], is_quoted: bool = False) -> bytes:
    lines: list[str] = []
    for name, value in values.items():
        parts = name.removesuffix("+").split(".")
        lines += [f"{'  ' * depth}{part}:" for depth, part in enumerate(parts)]
        lines[-1] += f" {value!r}" if is_quoted else f" {value}"
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _class(draw: random.Random, stage: str) -> Case:
    """Draw a class that an option takes, and values of its parameters."""
    known = pluggable(stage)
    name = draw.choice(sorted(known))
    path = draw.choice(known[name])
    own = parameters(path)
    arguments = {each: _value(draw, each) for each in draw.sample(own, min(len(own), draw.choice((0, 1, 1, 1, 2))))}
    if path.endswith("Table"):
        arguments.setdefault("path", "table.csv")
    base = _base(stage, {name: path})
    if draw.random() < 0.3:
        text = ", ".join(f"{key}: {value}" for key, value in arguments.items())
        config = f"{{class_path: {path}, init_args: {{{text}}}}}"
        config = f"[{config}]" if name == "trainer.callbacks" else config
        return Case((stage, f"--config={_CONFIG}", *base), {_CONFIG: _as_config({name: config})})
    chosen = f"--{name}={draw.choice((path, path.rpartition('.')[2]))}"
    return Case((stage, chosen, *(f"--{name}.{key}={value}" for key, value in arguments.items()), *base))


def _special(draw: random.Random, stage: str) -> Case:
    """Draw something that is not a file, or no path, where one is read or written."""
    known = (*options(stage), "data.problem.path")
    names = [name for name in (*_READ, "directory", "trainer.default_root_dir") if name in known]
    name, path = draw.choice(names), draw.choice(PATHS)
    path = f"{path}.{draw.choice(TABLES)}" if "data." in name and draw.random() < 0.5 else path
    values = {"data.problem": "Table", name: path} if name == "data.problem.path" else {name: path}
    return _given(draw, stage, values)


def _twice(draw: random.Random, stage: str) -> Case:
    """Draw an option that is given twice, or in two places."""
    name = draw.choice(options(stage))
    first, value = _given(draw, stage, {name: _value(draw, name)}), _value(draw, name)
    if draw.random() < 0.5:
        other = {**first.files, "other.yaml": _as_config({name: value})}
        return Case((*first.arguments, "--config=other.yaml"), other, first.variables)
    return Case((*first.arguments, f"--{name}={value}"), first.files, first.variables)


def _file(draw: random.Random, stage: str, sound: Mapping[str, bytes]) -> Case:
    """Draw a file that is damaged, or of another kind than its name says."""
    judges, base = stage in ("validate", "test", "predict"), _base(stage, {})
    kind = draw.choice(("table", "table", "config", "run", "checkpoint"))
    if kind == "config":
        return Case((stage, f"--config={_CONFIG}", *base), {_CONFIG: _damaged(draw, sound["config.yaml"])})
    if kind == "table":
        ending = draw.choice(TABLES)
        content = _damaged(draw, sound[f"table.{draw.choice((ending, ending, ending, *TABLES))}"])
        option = "data.predict_inputs" if stage == "predict" else "data.problem.path"
        run = [_TABLE_RUN] if judges else ["--data.problem=Table", *base]
        return Case((stage, *run, f"--{option}=walk.{ending}"), {f"walk.{ending}": content})
    name = "run/checkpoints/last.ckpt" if kind == "checkpoint" else draw.choice(_RUN_FILES)
    damaged = {name: _damaged(draw, sound[name])}
    if stage == "compare":
        return Case((stage, "run", "table_run"), damaged)
    if judges or stage == "fit":
        more = ["--trainer.max_epochs=4"] if stage == "fit" else []
        return Case((stage, f"--ckpt_path={draw.choice(('run', 'run', name))}", *more), damaged)
    return Case((stage, f"--config={name}", *base), damaged)


def _damaged(draw: random.Random, content: bytes) -> bytes:
    """Return a file's content, cut, repeated, with noise in it, or in another encoding."""
    noise = 3 * ("noise",)
    how = draw.choice((*noise, "cut", "cut out", "twice", "empty", "UTF-16", "sound", "zeros", "lines"))
    data = bytearray(content)
    at = draw.randrange(len(data) + 1)
    if how == "noise":
        for _ in range(draw.choice((1, 1, 2, 10, 100))):
            byte = draw.choice((draw.randrange(256), ord(draw.choice("0123456789,;\n:[]{}'\"- "))))
            data[draw.randrange(len(data))] = byte
    elif how == "lines":
        lines = content.split(b"\n")
        draw.shuffle(lines)
        return b"\n".join(lines)
    found = {
        "cut": content[:at],
        "cut out": content[:at] + content[at + draw.choice((1, 10, 1000)) :],
        "twice": 2 * content,
        "empty": b"",
        "UTF-16": content.decode("latin-1").encode("utf-16"),
        "zeros": content[:at] + bytes(50) + content[at + 50 :],
    }
    return found.get(how, bytes(data))
