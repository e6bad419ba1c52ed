"""The settings of a run that decide which runs are compared as one group: all that may change its results."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gd_lightning.tracking.run_reader import FinishedRun

Settings = dict[str, Any]
SEEDS = ("seed_everything", "data.seed", "data.problem.seed")  # names of settings without init_args
# Settings of what a run writes and shows, which do not change its results.
_OUTPUT = ("trainer.default_root_dir", "trainer.logger", "trainer.enable_", "trainer.log_")
_OTHERS = ("checkpoint", "recorder", "on_divergence", "divergence_factor", "ckpt_path", "data.predict_inputs")
_IGNORED = (*SEEDS, *_OUTPUT, *_OTHERS, "data.micro_batch_size")
_SHOWING = (
    "PrintUpdates",
    "Pictures",
    "GradientVariance",
    "LongRunProgress",
    "SharpnessMonitor",
)  # callbacks that do not change the results
CALLBACKS = "trainer.callbacks"


def comparable(run: FinishedRun, apart: Collection[str]) -> Settings:
    """Return the settings of a run that may change its results, and those that tell runs apart in any case.

    Args:
        run: The run.
        apart: Names of settings that are kept in any case.
    """
    settings = {name: value for name, value in run.settings.items() if name in apart or not name.startswith(_IGNORED)}
    for name in ("optimizer", "lr_scheduler"):  # both are saved twice: as settings of the model and on their own
        chosen = _pop_class(settings, f"model.{name}")
        settings[name] = _pop_class(settings, name) or chosen
    callbacks = specs_of(_pop_class(settings, CALLBACKS))
    settings[CALLBACKS] = [spec for spec in callbacks if class_name(spec) not in _SHOWING]
    if run.summary is not None and run.summary.get("batch_size") is not None:
        settings["data.batch_size"] = run.summary["batch_size"]  # the number also replaces full
    return settings


def _pop_class(settings: Settings, name: str) -> Any:
    """Remove and return the class chosen by an option from flat settings; None if there is none."""
    own = {key[len(name) + 1 :]: settings.pop(key) for key in list(settings) if key.startswith(f"{name}.")}
    whole = settings.pop(name, None)
    return {"class_path": own.pop("class_path"), "init_args": own} if "class_path" in own else whole


def specs_of(chosen: Any) -> list[dict[str, Any]]:
    """Return the classes that an option chooses: none, one or several."""
    several = chosen if isinstance(chosen, list) else [chosen]
    return [spec if isinstance(spec, dict) else {"class_path": str(spec)} for spec in several if spec is not None]


def class_name(spec: dict[str, Any]) -> str:
    """Return the name of a chosen class, without its module."""
    return str(spec.get("class_path")).rpartition(".")[2]
