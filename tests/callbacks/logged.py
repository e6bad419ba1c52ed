"""What loggers of four kinds have of their runs, read from their files as their own programs would."""

from __future__ import annotations

import csv
import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto import wandb_internal_pb2

from tests.conftest import TIMEOUT


@dataclass
class Logged:
    """What a logger has of a run.

    Args:
        series: Value by step, by name.
        settings: As text, by name.
        results: Those that are called ``final/...``.
    """

    series: dict[str, dict[int, float]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        if name.startswith("final/"):
            self.results[name] = value
        else:
            assert step not in self.series.setdefault(name, {}), f"{name} at {step} twice"
            self.series[name][step] = value


class Kind(NamedTuple):
    """How to make a logger, what the command line needs for it, and how to read what it has written."""

    make: Callable[[Path], Logger]
    options: Callable[[Path], dict[str, Any]]
    read: Callable[[Path], list[Logged]]


def _read_tensorboard(root: Path) -> list[Logged]:
    found = []
    for directory in sorted({file.parent for file in root.rglob("*tfevents*")}):
        events = EventAccumulator(str(directory), {"scalars": 0}).Reload()
        logged = Logged()
        for tag in events.Tags()["scalars"]:
            family, _, name = tag.partition("/")
            if family in ("updates", "final"):
                for event in events.Scalars(tag):
                    logged.add(name if family == "updates" else tag, event.step, event.value)
        start = HParamsPluginData.FromString(
            events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        ).session_start_info.hparams
        for name, value in start.items():
            plain = getattr(value, str(value.WhichOneof("kind")))
            logged.settings[name] = f"{plain:g}" if isinstance(plain, float) else str(plain)
        found.append(logged)
    return found


def _read_csv(root: Path) -> list[Logged]:
    found = []
    for file in sorted(root.rglob("metrics.csv")):
        logged = Logged(settings=_as_text(yaml.unsafe_load(file.with_name("hparams.yaml").read_text(encoding="utf-8"))))
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            step = int(row.pop("step"))
            for name, text in row.items():
                if text:
                    logged.add(name, step, float(text))
        found.append(logged)
    return found


def _read_mlflow(root: Path) -> list[Logged]:
    client, found = MlflowClient(f"file:{root}"), []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]):
            logged = Logged(settings={**run.data.params, "outcome": run.data.tags["outcome"]})
            for name in run.data.metrics:
                for metric in client.get_metric_history(run.info.run_id, name):
                    logged.add(name, metric.step, metric.value)
            found.append(logged)
    return found


def _read_wandb(root: Path) -> list[Logged]:
    found = {}
    for file in root.rglob("*.wandb"):
        logged, settings, start = Logged(), dict[str, Any](), 0
        for record in _wandb_records(file):
            start = max(start, record.run.start_time.ToNanoseconds())
            settings |= {_key(each): json.loads(each.value_json) for each in record.config.update}
            row = {_key(each): json.loads(each.value_json) for each in record.history.item}
            for name, value in row.items():
                if not name.startswith("_") and name != "trainer/global_step":
                    logged.add(name, row["trainer/global_step"], float(value))
        settings.pop("_wandb", None)
        logged.settings = _as_text(settings)
        found[start] = logged
    return [found[start] for start in sorted(found)]


def _wandb_records(file: Path) -> list[Any]:
    """Return the records of a run, when its last one is there: another process writes them, a moment later."""
    for _ in range(TIMEOUT * 20):
        records = [wandb_internal_pb2.Record.FromString(data) for data in _parts(file.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.05)
    raise AssertionError(f"{file} has no end")


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: blocks of 32 KiB, in which each part has its checksum, length and type."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if at + 7 + length > len(data):
            return  # it is being written
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield parts
            parts = b""


def _as_text(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as plain text, those in a class that was chosen by their own names, as MLflow has them."""
    plain: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            plain |= _as_text(value, f"{prefix}{name}/")
        else:
            plain[f"{prefix}{name}"] = str(value)
    return plain


KINDS = {
    "TensorBoard": Kind(
        lambda root: TensorBoardLogger(root, default_hp_metric=False),
        lambda root: {"class_path": "TensorBoardLogger", "init_args": {"save_dir": str(root)}},
        _read_tensorboard,
    ),
    "CSV": Kind(CSVLogger, lambda root: {"class_path": "CSVLogger", "init_args": {"save_dir": str(root)}}, _read_csv),
    "MLflow": Kind(
        lambda root: MLFlowLogger(tracking_uri=f"file:{root}"),
        lambda root: {"class_path": "MLFlowLogger", "init_args": {"tracking_uri": f"file:{root}"}},
        _read_mlflow,
    ),
    "W&B": Kind(
        lambda root: WandbLogger(save_dir=root, offline=True),
        lambda root: {"class_path": "WandbLogger", "init_args": {"save_dir": str(root), "offline": True}},
        _read_wandb,
    ),
}
