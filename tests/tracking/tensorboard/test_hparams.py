"""The HParams tab: whichever run TensorBoard takes the columns from, they are those of what was varied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gd_lightning import compare, fit, sweep
from tests.conftest import CommandLine
from tests.tracking.tensorboard.test_groups_of_runs import _provider


def _context(directory: Path) -> Context:
    return Context(TBContext(logdir=str(directory), data_provider=_provider(directory)))


def _columns(directory: Path) -> list[list[str]]:
    """Return what the page shows at first, if it takes the columns of each run that announces some."""
    context, found = _context(directory), []
    for run, contents in context.hparams_metadata(RequestContext(), "").items():
        if "_hparams_/experiment" in contents:
            experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment
            infos = sorted(experiment.hparam_infos, key=lambda info: (not info.differs, info.name))
            found.append([info.name for info in infos[:5]])
            assert len({info.name for info in infos}) == len(infos), run
    return found


def _rows(directory: Path) -> dict[str, Any]:
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=99, allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]
    )
    handler = list_session_groups.Handler(RequestContext(), _context(directory), "", request)
    return {group.name: dict(group.hparams) for group in handler.run().session_groups}


def _compared(command_line: CommandLine, directory: Path, *varied: str) -> dict[str, set[object]]:
    """Compare two by two runs; returns the values in the columns of what was varied."""
    given = [part for each in varied for part in ("--vary", each)]
    options = ["--seeds", "1", "--trainer.default_root_dir", str(directory)]
    options += [] if "max_epochs" in str(varied) else ["--trainer.max_epochs", "1"]
    options += ["--model.momentum", "0.5"] if "nesterov" in str(varied) else []
    assert command_line("compare", *given, *options) == 0
    columns, rows = _columns(directory), _rows(directory).values()
    assert (len(columns), len(rows)) == (4 + 1, 4)
    names = [each.partition("=")[0].removeprefix("model.").removeprefix("data.") for each in varied]
    assert all(set(names) <= set(each) for each in columns), columns
    return {name: {row[name].string_value or row[name].number_value for row in rows} for name in names}


def test_the_columns_of_a_comparison_are_what_was_varied(command_line: CommandLine, tmp_path: Path) -> None:
    """Also what comes late in the alphabet."""
    found = _compared(command_line, tmp_path, "model.weight_decay=0,0.1", "data.problem.noise=0.5,1")
    assert found == {"weight_decay": {0.0, 0.1}, "problem.noise": {0.5, 1.0}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("varied", "values"),
    [
        (("optimizer=SGD,Adam", "trainer.max_epochs=1,2"), [{"SGD", "Adam"}, {"1", "2"}]),
        (("data.standardize=none,both", "model.nesterov=false,true"), [{"none", "both"}, {"False", "True"}]),
        (("data.batch_size=full,10", "model.lr=0.01,0.02"), [{100.0, 10.0}, {0.01, 0.02}]),
        (("data.order=shuffled,sequential", "model.loss=mse,mae"), [{"shuffled", "sequential"}, {"mse", "mae"}]),
    ],
)
def test_so_they_are_for_other_options(
    varied: tuple[str, ...], values: list[set[object]], command_line: CommandLine, tmp_path: Path
) -> None:
    assert list(_compared(command_line, tmp_path, *varied).values()) == values


def test_the_columns_of_a_comparison_in_python_and_of_a_sweep(tmp_path: Path) -> None:
    compare(vary={"model.weight_decay": [0.0, 0.1]}, seeds=1, epochs=1, directory=tmp_path / "a")
    assert all("weight_decay" in each for each in _columns(tmp_path / "a"))
    swept = sweep(lrs=0.01, batch_sizes="full", weight_decays=[0.0, 0.1], l1s=[0.0, 0.1], seeds=1, epochs=1)
    swept.save(tmp_path / "b")
    (columns,) = _columns(tmp_path / "b")
    assert {"weight_decay", "l1", "outcome"} <= set(columns)
    assert {row["weight_decay"].number_value for row in _rows(tmp_path / "b").values()} == {0.0, 0.1}


def test_a_run_has_columns_of_what_it_has_no_value_of(tmp_path: Path) -> None:
    """Others may have one, and TensorBoard may take the columns from this run."""
    fit(lr=0.05, epochs=1, directory=tmp_path)
    (columns,) = _columns(tmp_path)
    assert columns == ["batch_size", "lr", "outcome", "problem", "seed"]
    metadata = _context(tmp_path).hparams_metadata(RequestContext(), "")
    experiment = HParamsPluginData.FromString(metadata["."]["_hparams_/experiment"]).experiment
    assert {"lr_scheduler", "val_size", "micro_batch_size"} <= {info.name for info in experiment.hparam_infos}
