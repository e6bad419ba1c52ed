"""Groups, rows and findings of a comparison, from runs that are written down here."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from gd_lightning import InputError, compare
from gd_lightning.experiments import Comparison
from gd_lightning.experiments.comparison.findings import findings
from gd_lightning.experiments.comparison.table import as_csv, as_markdown, as_text, as_values, rows
from gd_lightning.problems import Problem
from gd_lightning.records.history import History, Outcome
from gd_lightning.tracking.run_reader import FinishedRun

LEAST = 0.5
Settings = Mapping[str, Any]


def _run(
    losses: Sequence[float],
    own: Mapping[str, Any] | None = None,
    *,
    batch_size: int = 8,
    seed: int = 0,
    pace: float = 1.0,
) -> Any:
    history = History()
    per_epoch = 8 // batch_size
    for i, loss in enumerate(losses):
        history.append(update=per_epoch * i, epoch=i, samples=8 * i, seconds=pace * i, train_loss=loss, lr=0.1)
    diverged = not math.isfinite(losses[-1])
    history.outcome = Outcome.DIVERGED if diverged else Outcome.COMPLETED
    history.reason = "the loss grew; use less." if diverged else "max_epochs reached"
    history.add_to_last_row({"gradient_variance": 9.0 / batch_size - 9.0 / 8})
    variant = {8: "batch", 1: "stochastic"}.get(batch_size, "mini-batch")
    summary = {"variant": variant, "batch_size": batch_size, "least_squares_loss": LEAST}
    summary |= {"train_loss_first": losses[0], "largest_stable_lr": 0.2, "predicted_floor": "inf" if diverged else 0.25}
    options = {"model.lr": 0.1, "data.batch_size": "full" if batch_size == 8 else batch_size, "seed_everything": seed}
    return FinishedRun(
        f"b{batch_size}-{seed}", history, "history.csv", summary, {**options, "data.seed": seed, **(own or {})}
    )


def _runs() -> list[Any]:
    return [
        _run([8, 4, 2, 1], seed=0),
        _run([8, 4, 2, 1], seed=1),
        _run([8, 2, 0.6, 0.504], batch_size=2, seed=0, pace=2),
        _run([8, 3, 1.0, 0.8], batch_size=2, seed=1, pace=3),
        _run([8, math.inf], batch_size=1, seed=0),
        _run([8, 0.5, 0.5, 0.5], batch_size=1, seed=1, pace=9),
    ]


def test_runs_that_differ_in_their_seed_alone_are_a_group() -> None:
    comparison = Comparison.of(_runs())
    assert [group.label for group in comparison.groups] == ["batch", "mini-batch 2", "stochastic"]
    assert [len(group.histories) for group in comparison.groups] == [2, 2, 2]
    assert [group.predicted_loss for group in comparison.groups] == [0.75, 0.75, math.inf]
    assert {group.limit for group in comparison.groups} == {0.2}
    assert comparison.target == pytest.approx(1.01 * LEAST)


def test_labels_say_what_sets_groups_apart_and_no_more() -> None:
    tanh, relu = (_run([2, 1], {"model.activation": name}, seed=seed) for seed, name in enumerate(("tanh", "relu")))
    assert [group.label for group in Comparison.of([tanh, relu]).groups] == ["activation tanh", "activation relu"]
    both = [_run([2, 1], {"model.lr": lr}, batch_size=size) for size in (8, 1) for lr in (0.1, 0.25)]
    labels = ["batch, lr 0.1", "batch, lr 0.25", "stochastic, lr 0.1", "stochastic, lr 0.25"]
    assert [group.label for group in Comparison.of(both).groups] == labels
    followed = [_run([2, 1], {"model.lr": lr}, batch_size=size) for size, lr in ((8, 0.1), (1, 0.25))]
    assert [group.label for group in Comparison.of(followed).groups] == ["batch", "stochastic"]
    assert [group.label for group in Comparison.of([tanh]).groups] == ["batch"]


def test_rows_are_means_and_deviations_of_what_the_runs_came_to() -> None:
    batch, mini, sgd = rows(Comparison.of(_runs()))
    assert (batch.train_loss.mean, batch.train_loss.std, batch.reached) == (1, 0, 0)
    assert math.isnan(batch.to_target["samples"].mean)
    assert mini.train_loss.mean == pytest.approx(np.mean([0.504, 0.8]))
    assert mini.train_loss.std == pytest.approx(np.std([0.504, 0.8], ddof=1))
    assert mini.excess.mean == pytest.approx(np.mean([0.504, 0.8]) - LEAST)
    assert (mini.reached, mini.to_target["samples"].mean, mini.to_target["seconds"].mean) == (1, 24, 6)
    assert mini.seconds_per_epoch == 2.5  # the median of 2, 2, 3 and 3
    assert (sgd.outcome, sgd.train_loss.mean, sgd.reached) == ("diverged 1 of 2, completed 1 of 2", 0.5, 1)
    assert (mini.gradient_variance.mean, mini.updates.mean, mini.lr) == (9 / 2 - 9 / 8, 12, 0.1)


def test_findings_are_computed() -> None:
    comparison = Comparison.of(_runs())
    said = findings(comparison, rows(comparison))
    assert said == [
        "None reached the target of 0.505 (1 % above the least-squares loss) in all of its runs.",
        "mini-batch 2 reached it in 1 of 2 runs.",
        "stochastic reached it in 1 of 2 runs.",
        "batch did not reach it.",
        "Lowest final train loss: 2 seeds are too few to tell mini-batch 2 (0.652 ± 0.21) from batch (1); about 4 "
        "would suffice if means and standard deviations stay the same.",
        "batch is the smoothest, stochastic the noisiest: the gradient variance over batches at the start is 0 and "
        "7.875.",
        "stochastic diverged in 1 of 2 runs: the loss grew; use less.",
    ]
    comparison = Comparison.of(_runs(), target=0.1)
    assert findings(comparison, rows(comparison))[0] == "None reached the target of 0.1 (as asked for)."
    alike = Comparison.of([_run([8, 1]), _run([8, 1], {"model.lr": 0.3})], target=2.0)
    assert findings(alike, rows(alike)) == [
        "lr 0.1 and lr 0.3 reached the target of 2 (as asked for) in the fewest samples, 8.",
        "lr 0.1 and lr 0.3 reached it in the least time, 1 s.",
        "lr 0.1 and lr 0.3 had the lowest final train loss, 1.",
    ]


def test_what_all_seeds_reach_comes_before_what_one_of_them_does() -> None:
    comparison = Comparison.of(_runs(), target=1.5)
    assert findings(comparison, rows(comparison))[:3] == [
        "Fewest samples to the target of 1.5 (as asked for): 2 seeds are too few to tell mini-batch 2 (16) from batch "
        "(24); about 4 would suffice if means and standard deviations stay the same.",  # one step apart, in two runs
        "Least time to it: 2 seeds are too few to tell batch (3 s) from mini-batch 2 (5 ± 1.4 s); about 5 would "
        "suffice if means and standard deviations stay the same.",
        "stochastic reached it in 1 of 2 runs.",
    ]


def test_without_least_squares_the_target_is_what_all_reach_that_do_not_diverge() -> None:
    runs = _runs()
    for run in runs:
        run.summary["least_squares_loss"] = None
    comparison = Comparison.of(runs)
    assert comparison.target == 1.0
    found = rows(comparison)
    assert [row.reached for row in found] == [2, 2, 1]
    assert "above least squares" not in as_text(found)
    exact = [_run([8, 1]), _run([8, 1], batch_size=1)]
    for run in exact:
        run.summary["least_squares_loss"] = 0.0
    assert Comparison.of(exact).target == pytest.approx(8e-6)


def test_the_table_says_the_same_in_every_form() -> None:
    found = rows(Comparison.of(_runs()))
    text, markdown = as_text(found), as_markdown(found)
    for row in found:
        assert row.label in text
        assert str(row.train_loss) in text
        assert f"| {row.label} | {row.batch_size} |" in markdown
    assert len({line.count("|") for line in markdown.splitlines()}) == 1
    assert "not reached" in text
    assert "3 (1 of 2 runs)" in text  # what the survivors of a group came to is marked, on every axis
    assert "24 (1 of 2 runs)" in text
    assert "0.5 (1 of 2 runs)" in text
    table, values = list(csv.DictReader(io.StringIO(as_csv(found)))), json.loads(json.dumps(as_values(found)))
    for line, row, value in zip(table, found, values, strict=True):
        assert float(line["train_loss_mean"]) == row.train_loss.mean == value["train_loss_mean"]
        assert line["outcome"] == row.outcome == value["outcome"]
    assert table[0]["samples_to_target_mean"] == ""
    assert values[0]["samples_to_target_mean"] is None


def test_what_only_some_groups_have_is_a_column_of_all() -> None:
    runs = [_run([8, 1]), _run([8, math.inf], batch_size=1)]
    for run, parameters in zip(runs, ({"w": 3.0}, None), strict=True):
        run.summary["parameters"] = parameters
    line, diverged = rows(Comparison.of(runs))
    assert line.value("weight_norm") == 3
    assert math.isnan(diverged.value("weight_norm"))
    assert "weight norm" in as_text([line, diverged], ["weight_norm"])
    runs[1].summary["parameters"] = {"w": math.inf}
    assert math.isnan(rows(Comparison.of(runs))[1].value("weight_norm"))
    alone = rows(Comparison.of(runs[1:]))  # nothing to show is not a reason to fail
    assert "weight norm" not in as_text(alone, ["weight_norm"])


def test_no_run_is_refused() -> None:
    with pytest.raises(InputError, match="cannot compare without runs"):
        Comparison.of([])


def test_targets_of_a_large_mean_are_reached_by_what_is_learned_of_their_spread() -> None:
    """293.15 + 0.001 k, up to its own rounding: a millionth of the loss at the start is 600 times its spread."""

    class Temperatures(Problem):
        """Degrees in small steps."""

        def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
            k = torch.arange(40, dtype=torch.float64)[:, None]
            return k, 293.15 + 0.001 * k

    options = {"standardize": True}, {"precision": "64-true"}
    report = compare(Temperatures(), batch_sizes=["full"], seeds=1, max_epochs=2, data=options[0], trainer=options[1])
    spread = 1e-6 * np.arange(40).var()
    assert report.comparison.target == pytest.approx(1e-4 * spread, rel=1e-6)
    assert report.comparison.target_reason.startswith("a ten-thousandth of the loss of the best constant above")
