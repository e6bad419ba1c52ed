"""Why a network without an exact theory diverged, and the rate that is advised, followed."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from gd_lightning import Sine, fit
from gd_lightning.callbacks.divergence_cause import KeptWeights

CASES: list[tuple[dict[str, Any], Any]] = [
    ({"hidden_sizes": [10], "activation": "relu", "lr": 20.0}, "full"),
    ({"hidden_sizes": [10], "activation": "relu", "lr": 5.0, "momentum": 0.9}, 20),
    ({"hidden_sizes": [30, 30], "activation": "tanh", "lr": 30.0}, 10),
    ({"hidden_sizes": [20], "activation": "relu", "lr": 5.0, "weight_decay": 0.1}, 1),
    ({"l1": 0.01, "lr": 5.0}, "full"),
]


@pytest.mark.parametrize(
    "case", [case if i in (0, 1, 4) else pytest.param(case, marks=pytest.mark.slow) for i, case in enumerate(CASES)]
)
def test_the_advised_rate_does_not_diverge(case: tuple[dict[str, Any], Any]) -> None:
    options, batch_size = case
    run = fit(Sine(n_samples=60), batch_size=batch_size, max_epochs=30, model=options)
    said = run.summary.reason
    found = re.search(
        r"lr \S+ is above (\S+), the limit for batch_size \d+ by the curvature at .*; use lr (\S+)$", said
    )
    assert found is not None, said
    limit, advised = map(float, found.groups())
    assert advised < limit < options["lr"]
    again = fit(Sine(n_samples=60), batch_size=batch_size, max_epochs=60, model={**options, "lr": advised})
    assert str(again.summary.outcome) == "completed"
    losses = again.history.series("train_loss")[1]
    assert losses[-1] < losses[0]


def test_weights_are_kept_after_few_epochs() -> None:
    """Each end of a chunk takes the time of a hundred compiled updates: 20 in a million epochs, not one in each."""
    epochs = [0]
    while epochs[-1] < 10**6:
        trainer: Any = SimpleNamespace(global_step=7 * epochs[-1], num_training_batches=7)
        epochs.append(epochs[-1] + KeptWeights().epochs_to_next(trainer))
    assert epochs[1:] == [2**n for n in range(21)]
