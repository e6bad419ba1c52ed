"""A page on which a person moves learning rate, batch size, momentum and start over a line of one feature.

Letters: N training samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gd_lightning.affine import Affine
from gd_lightning.data import RegressionDataModule
from gd_lightning.data.order import Order, epoch_orders
from gd_lightning.errors import InputError
from gd_lightning.escaping import in_one_line
from gd_lightning.experiments.options import sections, untrained_run
from gd_lightning.models import Standardize
from gd_lightning.module import RegressionModule, quadratic_network
from gd_lightning.plots.interactive.page import html_page, in_notebook
from gd_lightning.problems import ProblemLike
from gd_lightning.records.divergence_bound import DIVERGENCE_FACTOR
from gd_lightning.tracking.atomic_writes import write_text
from gd_lightning.tracking.run_directory import as_path

MOST_SAMPLES = 10_000  # a browser computes with all of them in every epoch, each time a slider is moved
_MOST_EPOCHS = 1_000
_ORDERED = 20_000  # samples whose order is put into the page, for each kind of order
# Options that the page sets: they are left out of the call that trains the same run.
_SET = ("batch_size", "order", "seed", "lr", "momentum", "nesterov", "max_epochs")


@dataclass(frozen=True, repr=False)
class Exploration:
    """A page that trains a line in the browser; a notebook shows it.

    Args:
        title: The title of the page.
        content: The data, the first settings and the orders of samples, as plain values.
    """

    title: str
    content: Mapping[str, Any]

    def html(self) -> str:
        """Return the page as text: one HTML file, which needs no network."""
        return html_page("explore.html", ["descent.js", "panels.js", "explore.js"], self.title, self.content)

    def save(self, path: str | Path) -> Path:
        """Write the page into a file, which any browser opens.

        Args:
            path: Such as ``explore.html``.

        Returns:
            The path.

        Raises:
            InputError: The path is that of a directory, or is invalid.
        """
        file = as_path(path)
        if file.is_dir():
            raise InputError(f"cannot write a page to {file}, because that is a directory; give the name of a file")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, self.html())
        return file

    def __repr__(self) -> str:
        return f"<Exploration of {self.title}: a page for a browser, which save(path) writes>"

    def _repr_html_(self) -> str:
        """Return the page for a notebook."""
        return in_notebook(self.html(), self.title)


def explore(
    problem: ProblemLike | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    **options: Any,
) -> Exploration:
    """Make a page on which learning rate, batch size, momentum and start are moved, and everything follows at once.

    It shows the path over the loss surface, the loss curve, the line over the data, the largest stable learning rate
    and the noise floor. All of it is computed in the page, in float64, with the updates that ``fit`` makes.

    Args:
        problem: A problem, or data, as for :func:`~gd_lightning.as_problem`; None: the steep line. There is
            one feature and one target.
        data: Options of :class:`~gd_lightning.RegressionDataModule`.
        model: Options of :class:`~gd_lightning.RegressionModule`.
        trainer: Options of Lightning's ``Trainer``: ``max_epochs``, ``max_steps`` and ``precision``.
        options: Options of any of the three by their names alone, as for :func:`~gd_lightning.fit`: the first settings
            of the page.

    Returns:
        The :class:`~gd_lightning.Exploration`, which a notebook shows, and ``save("page.html")`` writes.

    Raises:
        InputError: The options do not train a line over one feature.

    Example:
        >>> explore(batch_size=10, lr=0.05)
        <Exploration of SteepLine: a page for a browser, which save(path) writes>
    """
    given = sections(options, data, model, trainer)
    with untrained_run(problem, given) as (module, datamodule, epochs):
        return make_exploration(module, datamodule, epochs, _call(problem is not None, given), is_call=True)


def make_exploration(
    module: RegressionModule,
    data: RegressionDataModule,
    max_epochs: float,
    command: str,
    *,
    is_call: bool = False,
    is_complete: bool = True,
) -> Exploration:
    """Make the page of a module and its data.

    Args:
        module: With the first learning rate and momentum; its network is made for the data.
        data: With the first batch size, order and seed.
        max_epochs: The first number of epochs; more than 1,000 are 1,000.
        command: The command that trains such a run, or the arguments of ``gd_lightning.fit``; the page adds settings.
        is_call: Whether they are arguments.
        is_complete: Whether the command leaves those settings that it does not name at their defaults.

    Raises:
        InputError: The options do not train a line.
    """
    module.configure_for(data)
    layer, targets = module.standardize, module.standardize_targets
    x, y, start = _trained_on(module, *_samples(data))
    _check_numbers(x, y)
    content = {
        **_description(data, layer, targets),
        "x": x.tolist(),
        "y": y.tolist(),
        "seed": data.seed,
        "orders": _orders(len(x), data.seed),
        "divergenceFactor": DIVERGENCE_FACTOR,
        "command": {"text": command, "isCall": is_call, "isComplete": is_complete},
        "settings": _settings(module, data, max_epochs, start),
    }
    return Exploration(type(data.problem).__name__, content)


def _trained_on(module: RegressionModule, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Affine]:
    """Return samples as the page trains on them, shape (N,), and the line that it starts from."""
    start, layer, targets = _line(module), module.standardize, module.standardize_targets
    if layer is not None:
        x = layer.standardized(x[:, None])[:, 0]
    if targets is not None:
        start, y = targets.undivided(start), y - targets.mean
    return x, y, start


def _settings(module: RegressionModule, data: RegressionDataModule, epochs: float, start: Affine) -> dict[str, Any]:
    """Return the first settings of the page."""
    options, (w, b) = module.hparams, _pair(start)
    return {
        **{name: options[name] for name in ("lr", "momentum", "nesterov")},
        "batchSize": data.variant.batch_size,
        "order": data.order,
        "seed": data.seed,
        "epochs": int(min(max(1, epochs), _MOST_EPOCHS)),
        "dropLast": data.drop_last,
        "w": w,
        "b": b,
    }


def _orders(n: int, seed: int) -> dict[str, list[list[int]]]:
    """Return the orders of the first epochs, as a run has them."""
    epochs = max(1, min(_MOST_EPOCHS, _ORDERED // n))
    kinds: tuple[Order, ...] = ("shuffled", "with_replacement")
    return {kind: epoch_orders(kind, n, seed, 0, epochs).view(epochs, n).tolist() for kind in kinds}


def _call(has_problem: bool, given: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the arguments of a call that trains what is explored, without those that the page sets."""
    others = {name: value for options in given.values() for name, value in options.items() if name not in _SET}
    named = (f"{name}={value!r}" for name, value in others.items())
    return in_one_line(", ".join([*(["problem"] if has_problem else []), *named]))


def _samples(data: RegressionDataModule) -> tuple[Tensor, Tensor]:
    """Return the feature and the target of the training samples, shape (N,) each, float64."""
    if (data.in_features, data.out_features) != (1, 1):
        raise InputError(
            f"cannot explore data of {data.in_features} features and {data.out_features} targets, because the page "
            "shows a line over one feature; give one feature and one target"
        )
    samples = data.parts_in(torch.float64)[0]
    if len(samples) > MOST_SAMPLES:
        raise InputError(
            f"cannot explore {len(samples):,} training samples, because a browser would compute with all of them each "
            f"time a slider is moved; give at most {MOST_SAMPLES:,}, for example by a larger val_size"
        )
    x, y = (values[:, 0].double().cpu() for values in samples.take(slice(None)))
    if (x == x[0]).all():
        raise InputError(
            f"cannot explore these data, because all {len(x)} values of the feature are {x[0]:g}; give data in which "
            "it varies"
        )
    return x, y


def _line(module: RegressionModule) -> Affine:
    """Return the parameters that a module begins with, in the units of its network."""
    network = quadratic_network(module)
    others = ("optimizer", "lr_scheduler", "weight_decay", "l1")
    if network is None or any(module.hparams[name] for name in others):
        raise InputError(
            "cannot explore this module, because the page trains a line by the mean squared error and SGD with "
            "momentum; leave out other losses, networks, penalties, optimizers and schedulers"
        )
    start = network.affine()
    if start.bias is None:
        raise InputError(
            "cannot explore a line without bias, because the page shows the loss over weight and bias; leave out "
            "model.bias"
        )
    return start


def _check_numbers(x: Tensor, y: Tensor) -> None:
    """Refuse numbers that no browser can compute with."""
    powers = (x - x.mean()).square().mean() * torch.cat([x, y]).square().max()
    if not (0 < powers < 1e150):
        raise InputError(
            "cannot explore these data, because squares of their numbers are beyond float64; set standardize, or give "
            "them in other units"
        )


def _description(data: RegressionDataModule, layer: Standardize | None, targets: Standardize | None) -> dict[str, Any]:
    """Return names, true line and units, where features and targets are standardised by layers or not."""
    problem = data.problem
    feature, target = (
        in_one_line(names[0]) if names else letter
        for names, letter in ((problem.feature_names, "x"), (problem.target_names, "y"))
    )
    truth = problem.true_parameters if layer is None and targets is None else None
    return {
        "feature": feature if layer is None else f"{feature}, standardised",
        "target": target if targets is None else f"{target} less its mean",
        "truth": None if truth is None else _pair(truth),
        "units": {
            "mean": 0.0 if layer is None else _number(layer.mean),
            "scale": 1.0 if layer is None else _number(layer.scale),
            "targetMean": 0.0 if targets is None else _number(targets.mean),
        },
    }


def _pair(line: Affine) -> list[float]:
    """Return weight and bias of a line; a line through the origin has bias 0."""
    return [_number(line.weight), 0.0 if line.bias is None else _number(line.bias)]


def _number(value: Tensor) -> float:
    return value.detach().double().item()
