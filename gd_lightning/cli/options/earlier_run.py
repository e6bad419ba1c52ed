"""The options of a run to evaluate or continue, and which of them may be changed."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace

from gd_lightning.cli.checkpoint_argument import EarlierRun, differences
from gd_lightning.errors import InputError
from gd_lightning.tracking.yaml_and_json import plain_copy

# Options that may change when a run is continued.
_PATH = "data.problem.path"
_FREE_OPTIONS = {"predict_inputs", "micro_batch_size", "engine"}


def settings_for(stage: str, run: EarlierRun) -> dict[str, Any]:
    """Return the options of a run that a subcommand needs; fit, which continues the run, needs all of them."""
    settings = run.settings
    if stage == "fit":
        return settings
    names = ("seed_everything", "model", "data", "optimizer", "lr_scheduler")
    needed: dict[str, Any] = {name: settings[name] for name in names if name in settings}
    precision = settings["trainer"].get("precision")
    return needed if precision is None else {**needed, "trainer": {"precision": precision}}


def refuse_another_run(stage: str, options: Namespace, run: EarlierRun) -> None:
    """Refuse model and data that differ from those of the run that is evaluated or continued.

    Args:
        stage: The subcommand.
        options: The options of the continued run.
        run: The run.

    Raises:
        InputError: An option differs from that of the earlier run.
    """
    for section in {"model", "data"} & set(run.settings):
        settings, made_with = plain_copy(options[section].as_dict()), run.settings[section]
        # Options that a checkpoint does not contain cannot be compared.
        compared = set(settings) & set(made_with) - _FREE_OPTIONS
        comparable = {key: value for key, value in settings.items() if key in compared}
        for option, value, before in differences(comparable, made_with, f"{section}."):
            if option == _PATH and stage != "fit":
                continue  # the samples to evaluate or to predict may come from another table
            raise InputError(
                f"cannot {stage} with {option} {value}, because the run was made with {before}; leave the option out, "
                "or start a new run without --ckpt_path"
            )


def take_whole_table(options: Namespace, run: EarlierRun) -> None:
    """Use all rows of a table other than that of the run, in one batch, since the run was not trained on them.

    Args:
        options: The options of ``validate``, ``test`` or ``predict``.
        run: The run.
    """
    problem = plain_copy(options.data.as_dict()).get("problem") or {}
    if run.has_other_table((problem.get("init_args") or {}).get("path")):
        options.data.val_size, options.data.test_size, options.data.batch_size = None, 0, "full"


def refuse_fewer_epochs(epochs: int | None, run: EarlierRun) -> None:
    """Refuse to continue a run to fewer epochs than it has completed.

    Args:
        epochs: The last epoch; None or -1 for no limit.
        run: The run.

    Raises:
        InputError: The run has completed more epochs.
    """
    if epochs is not None and -1 < epochs < run.epochs:
        raise InputError(
            f"cannot continue {run.name} to trainer.max_epochs {epochs}, because it has completed {run.epochs}; give "
            f"trainer.max_epochs {run.epochs} or more, or start a new run without --ckpt_path"
        )


def refuse_to_diverge_again(options: Namespace, run: EarlierRun) -> None:
    """Refuse to continue a run that was stopped by divergence with the same options of divergence.

    Args:
        options: The options of fit.
        run: The run.

    Raises:
        InputError: The run diverged, and would diverge again.
    """
    is_as_before = all(
        options[name] == run.settings.get(name, options[name]) for name in ("on_divergence", "divergence_factor")
    )
    if options.on_divergence == "stop" and is_as_before and run.goes_on_in_place and run.divergence:
        raise InputError(
            f"cannot continue {run.name}, because it diverged: {run.divergence}; start a new run with a "
            "smaller model.lr, or continue it all the same with --on_divergence continue"
        )
