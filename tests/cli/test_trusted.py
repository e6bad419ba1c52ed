"""What a config or a checkpoint of a stranger can name: classes of the right type; nothing else is called."""

from __future__ import annotations

import json
import socket
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from torch import Tensor, nn

from gd_lightning import Problem, SteepLine
from tests.conftest import CommandLine

HERE = "tests.cli.test_trusted"
MARKER = Path("code ran")
SHELL = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(MARKER)]}}


def run(*_: Any, **__: Any) -> Any:
    MARKER.touch()


def problem() -> SteepLine:
    run()
    return SteepLine()


def callback() -> Callback:
    run()
    return Callback()


def network(in_features: int, out_features: int) -> nn.Module:
    run()
    return nn.Linear(in_features, out_features)


class Runner:
    def __init__(self, *_: Any, **__: Any) -> None:
        run()

    def __call__(self, *_: Any) -> nn.Module:
        return nn.Linear(1, 1)

    @classmethod
    def callback(cls) -> Callback:
        return callback()


class Taking(Callback):
    """Takes anything, and a function of the author's choice."""

    def __init__(self, thing: Any = None, untyped=None, function: Any = run) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self.thing, self.untyped, self.function = thing, untyped, function


class OneNumber(nn.Module):
    def __init__(self, in_features: int, out_features: int, start: float = 0.0, function: Any = torch.relu) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((out_features,), start))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), len(self.value))


AN_OBJECT = SteepLine()
RUNNER = {"class_path": f"{HERE}.Runner"}
NOT_ALLOWED: dict[str, dict[str, Any]] = {
    "a command as problem": {"data": {"problem": {"class_path": "os.system", "init_args": {"command": "ls"}}}},
    "a process as problem": {"data": {"problem": SHELL}},
    "another class as problem": {"data": {"problem": RUNNER}},
    "a function as problem": {"data": {"problem": {"class_path": f"{HERE}.problem"}}},
    "an object as problem": {"data": {"problem": f"{HERE}.AN_OBJECT"}},
    "a class as seed of a problem": {"data": {"problem": {"class_path": "SteepLine", "init_args": {"seed": RUNNER}}}},
    "a class as path of a table": {"data": {"problem": {"class_path": "Table", "init_args": {"path": RUNNER}}}},
    "a process as callback": {"trainer": {"callbacks": SHELL}},
    "a process among callbacks": {"trainer": {"callbacks": [SHELL]}},
    "a function as callback": {"trainer": {"callbacks": [f"{HERE}.callback"]}},
    "a method as callback": {"trainer": {"callbacks": [f"{HERE}.Runner.callback"]}},
    "a class for anything": {
        "trainer": {"callbacks": {"class_path": f"{HERE}.Taking", "init_args": {"thing": RUNNER}}}
    },
    "a process for anything": {
        "trainer": {"callbacks": {"class_path": f"{HERE}.Taking", "init_args": {"thing": SHELL}}}
    },
    "a class in a list for anything": {
        "trainer": {"callbacks": {"class_path": f"{HERE}.Taking", "init_args": {"untyped": [RUNNER]}}}
    },
    "a class beside the arguments": {
        "trainer": {"callbacks": {"class_path": f"{HERE}.Taking", "dict_kwargs": {"other": RUNNER}}}
    },
    "a function to call": {
        "trainer": {"callbacks": {"class_path": "LambdaCallback", "init_args": {"on_fit_start": f"{HERE}.run"}}}
    },
    "an object to call": {
        "trainer": {"callbacks": {"class_path": "LambdaCallback", "init_args": {"on_fit_start": RUNNER}}}
    },
    "a class as logger": {"trainer": {"logger": RUNNER}},
    "a process among loggers": {"trainer": {"logger": [SHELL]}},
    "a class as strategy": {"trainer": {"strategy": RUNNER}},
    "a class as plugin": {"trainer": {"plugins": RUNNER}},
    "a class among plugins": {"trainer": {"plugins": [RUNNER]}},
    "a class as profiler": {"trainer": {"profiler": RUNNER}},
    "a class as accelerator": {"trainer": {"accelerator": RUNNER}},
    "a class as directory": {"trainer": {"default_root_dir": RUNNER}},
    "a process as optimizer": {"optimizer": SHELL},
    "a class as optimizer": {"optimizer": RUNNER},
    "a function as optimizer": {"optimizer": {"class_path": f"{HERE}.run"}},
    "a class as lr": {"optimizer": {"class_path": "SGD", "init_args": {"lr": RUNNER}}},
    "a class among defaults": {"optimizer": {"class_path": "Optimizer", "init_args": {"defaults": {"lr": RUNNER}}}},
    "a class as lr_scheduler": {"lr_scheduler": RUNNER},
    "a function as schedule": {"lr_scheduler": {"class_path": "LambdaLR", "init_args": {"lr_lambda": f"{HERE}.run"}}},
    "an object as schedule": {"lr_scheduler": {"class_path": "LambdaLR", "init_args": {"lr_lambda": [RUNNER]}}},
    "a class as the model's optimizer": {"model": {"optimizer": RUNNER}},
    "a class as the model's lr_scheduler": {"model": {"lr_scheduler": RUNNER}},
    "a function as network": {"model": {"network": f"{HERE}.network"}},
    "a class that gives a network": {"model": {"network": f"{HERE}.Runner"}},
    "a process as network": {"model": {"network": SHELL}},
    "a class within a network": {
        "model": {"network": {"class_path": f"{HERE}.OneNumber", "init_args": {"function": RUNNER}}}
    },
    "a class as start": {"model": {"initialization": {"weight": RUNNER}}},
    "a class as title": {"recorder": {"title": RUNNER}},
    "a config on the net": {"config": "http://127.0.0.1:9/config.yaml"},
}
TAGS = (
    "data: !!python/object/apply:os.system ['touch marker']",
    "data: {problem: !!python/object/new:subprocess.Popen [[touch, marker]]}",
    "trainer: {callbacks: !!python/name:os.system }",
    "model: {network: !!python/module:antigravity }",
)


# Options that take a path, with the class that has it, and everything that fsspec takes for another place.
PLACES: dict[str, dict[str, Any]] = {
    "trainer.callbacks.dirpath": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": None}}]},
    "trainer.callbacks.filename": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"filename": None}}]},
    "trainer.callbacks.thing": {"callbacks": [{"class_path": f"{HERE}.Taking", "init_args": {"thing": None}}]},
    "trainer.callbacks.thing.deep": {
        "callbacks": [{"class_path": f"{HERE}.Taking", "init_args": {"thing": [{"deep": [None]}]}}]
    },
    "trainer.logger.save_dir": {"logger": {"class_path": "CSVLogger", "init_args": {"save_dir": None}}},
    "trainer.logger.name": {"logger": [{"class_path": "CSVLogger", "init_args": {"save_dir": "here", "name": None}}]},
    "trainer.logger.sub_dir": {
        "logger": {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "here", "sub_dir": None}}
    },
    "trainer.profiler.dirpath": {"profiler": {"class_path": "SimpleProfiler", "init_args": {"dirpath": None}}},
    "trainer.strategy.init_method": {"strategy": {"class_path": "DDPStrategy", "dict_kwargs": {"init_method": None}}},
    "data.problem.path": {"problem": {"class_path": "Table", "init_args": {"path": None}}},
    "data.predict_inputs": {"predict_inputs": None},
    "model.network.function": {"network": {"class_path": f"{HERE}.OneNumber", "init_args": {"function": None}}},
}
ADDRESSES = (
    *("http://127.0.0.1:9/x", "s3://bucket/x", "gs://bucket", "memory://x", "file:///tmp/x", "zip://a.csv::b.zip"),
    *("hdfs:///a/b", "HTTPS://a/b", "simplecache::http://127.0.0.1:9/x", "tcp://127.0.0.1:9", "abfs://a@b/c"),
)
PROGRAMS = (
    *("lib2to3.__main__.X", "this.X", "antigravity.X", "idlelib.idle.X", "test.regrtest.X", "turtledemo.__main__.X"),
    *("pip.__main__.X", "pytest.__main__.X", "numpy.f2py.__main__.X", "torch.utils.model_dump.__main__.main"),
    *("lightning.__main__.X", "gd_lightning.__main__.run", "webbrowser.X", "setuptools.X"),
)


def _with(value: object, text: str) -> Any:
    """Return nested values with a text in the place of None."""
    if isinstance(value, dict):
        return {key: _with(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_with(item, text) for item in value]
    return text if value is None else value


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was reached")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", NOT_ALLOWED)
def test_a_config_can_call_nothing_but_classes_of_the_right_type(command_line: CommandLine, case: str) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(NOT_ALLOWED[case]))
    assert command_line("fit", "--config", "config.yaml") == 2
    assert len(command_line.err.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(("name", "address"), list(zip(PLACES, cycle(ADDRESSES), strict=False)))
def test_a_config_names_no_place_beyond_this_machine(command_line: CommandLine, name: str, address: str) -> None:
    Path("config.yaml").write_text(yaml.safe_dump({name.partition(".")[0]: _with(PLACES[name], address)}))
    assert command_line("fit", "--config", "config.yaml") == 2
    if "dict_kwargs" not in str(PLACES[name]):
        assert command_line.err == (
            f"gd_lightning: cannot use {address} as {name}, because it is the address of a place outside this machine; "
            "give a plain path\n"
        )
    assert len(command_line.err.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_is_seen_as_one(command_line: CommandLine, address: str) -> None:
    assert command_line("compare", "--directory", address) == 2
    assert command_line.err.startswith(f"gd_lightning: cannot use {address} as directory, because it is the address of")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["a b", "a:b", "\U0001f600", "a@b#c?d=e"])
def test_directories_may_have_any_other_name(command_line: CommandLine, name: str) -> None:
    command_line.root /= name
    command_line.fit("--trainer.max_epochs", "1", "--recorder.title", "http://a/b")


def test_a_table_and_its_columns_may_be_called_like_an_address(command_line: CommandLine) -> None:
    Path("a::b.csv").write_text("http://a/b,y\n1,2\n3,4\n5,7\n")
    options = ["--data.problem", "Table", "--data.problem.path", "a::b.csv", "--data.problem.features", "[http://a/b]"]
    assert command_line("plan", *options, "--map", "false") == 0, command_line.err


class Sending(Callback):
    """Sends something somewhere."""

    def __init__(self, tracking_uri: str | None = None) -> None:
        pass


@pytest.mark.usefixtures("_no_network")
def test_only_who_types_the_address_of_a_server_may_use_it(command_line: CommandLine) -> None:
    sending = {"class_path": f"{HERE}.Sending", "init_args": {"tracking_uri": "http://127.0.0.1:9"}}
    Path("config.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": sending, "max_epochs": 1}}))
    assert command_line("fit", "--config", "config.yaml") == 2
    advised = "--trainer.callbacks.tracking_uri"
    assert f"because a config may not send anything away from this machine; give {advised} on the" in command_line.err
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]
    assert command_line("fit", "--config", "config.yaml", advised, "http://127.0.0.1:9") == 0, command_line.err
    for local in ("file:./here", "file:///tmp/here", "sqlite:///here.db", "here"):
        sending["init_args"] = {"tracking_uri": local}
        Path("config.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": sending, "max_epochs": 1}}))
        assert command_line("fit", "--config", "config.yaml") == 0, command_line.err


@pytest.mark.parametrize("path", PROGRAMS)
def test_no_program_is_imported(command_line: CommandLine, path: str) -> None:
    module = path.rpartition(".")[0]
    before = module in sys.modules
    Path("config.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [{"class_path": path}]}}))
    for arguments in (["--config", "config.yaml"], ["--trainer.callbacks", path], ["--data.problem", path]):
        assert command_line("fit", *arguments) == 2
        assert len(command_line.err.splitlines()) == 1
        assert not command_line.out
    assert before or module not in sys.modules
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("text", TAGS)
def test_tags_make_no_objects(command_line: CommandLine, text: str) -> None:
    Path("config.yaml").write_text(text)
    assert command_line("fit", "--config", "config.yaml") == 2
    assert "cannot read the config config.yaml, because it is not valid YAML: line " in command_line.err
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("case", ["a function as callback", "a class for anything", "a function as network"])
def test_options_and_the_environment_can_name_no_more(
    command_line: CommandLine, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((section, options),) = NOT_ALLOWED[case].items()
    ((name, value),) = options.items()
    assert command_line("fit", f"--{section}.{name}", json.dumps(value)) == 2
    monkeypatch.setenv(f"PL_FIT__{section}__{name}".upper(), json.dumps(value))
    assert command_line("fit") == 2
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("option", "value"), [("optimizer", SHELL), ("trainer.callbacks", [SHELL]), ("data.problem", RUNNER)]
)
def test_what_is_varied_can_name_no_more(command_line: CommandLine, option: str, value: Any) -> None:
    Path("config.yaml").write_text(yaml.safe_dump({"vary": {option: [value]}}))
    assert command_line("compare", "--config", "config.yaml") == 2
    assert len(command_line.err.splitlines()) == 1
    assert not MARKER.exists()


@pytest.mark.parametrize("case", ["a function as problem", "an object as problem", "a process as problem"])
def test_a_run_of_a_stranger_can_name_no_more(command_line: CommandLine, case: str) -> None:
    run_directory = command_line.fit("--trainer.max_epochs", "1")
    config = yaml.safe_load((run_directory / "config.yaml").read_text())
    config["data"] |= NOT_ALLOWED[case]["data"]
    (run_directory / "config.yaml").write_text(yaml.safe_dump(config))
    for stage in ("test", "predict", "fit"):
        assert command_line(stage, "--ckpt_path", run_directory) == 2
        assert not MARKER.exists()


@pytest.mark.parametrize("name", ["optimizer", "lr_scheduler"])
def test_a_checkpoint_of_a_stranger_can_name_no_more(command_line: CommandLine, name: str) -> None:
    last = command_line.fit("--trainer.max_epochs", "1") / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["hyper_parameters"][name] = RUNNER
    del checkpoint["gd_lightning_schema"]["options"]  # else the change alone is refused
    torch.save(checkpoint, "stranger.ckpt")
    for stage in ("test", "predict", "fit"):
        assert command_line(stage, "--ckpt_path", "stranger.ckpt") == 2
        assert not MARKER.exists()


def test_classes_of_the_right_type_may_have_any_plain_arguments(command_line: CommandLine) -> None:
    taking = {"class_path": f"{HERE}.Taking", "init_args": {"thing": [1, {"a": "b"}], "untyped": 0.5}}
    one_number = {"class_path": f"{HERE}.OneNumber", "init_args": {"start": 2.0}}
    Path("config.yaml").write_text(
        yaml.safe_dump({"trainer": {"callbacks": [taking], "max_epochs": 1}, "model": {"network": one_number}})
    )
    made = command_line.fit("--config", "config.yaml")
    again = command_line.fit("--config", made / "config.yaml")
    assert (made / "history.csv").read_text().splitlines()[1].split(",")[4] == (
        (again / "history.csv").read_text().splitlines()[1].split(",")[4]
    )


class Line(Problem):
    def sample(self) -> tuple[Tensor, Tensor]:
        x = torch.linspace(0, 1, 10)[:, None]
        return x, 2 * x


def test_a_problem_of_ones_own_is_one_of_them(command_line: CommandLine) -> None:
    command_line.fit("--data.problem", f"{HERE}.Line", "--trainer.max_epochs", "1")
