"""``plan`` on the command line: table, JSON, advice, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch

import gd_lightning
from gd_lightning import Affine, SteepLine
from gd_lightning.cli.command import Command
from gd_lightning.cli.subcommands import plan as plan_command
from gd_lightning.theory import LinearLoss, OutcomePredictor, Verdict, advice
from tests.conftest import CONFIGS

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _without_a_trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a plan makes no Trainer")

    monkeypatch.setattr(Command, "instantiate_trainer", refuse)


def _plan(capfd: Capture, *options: str) -> dict[str, Any]:
    assert gd_lightning.main(["plan", *options, "--map", "false", "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_the_table_of_system_1(capfd: Capture) -> None:
    assert gd_lightning.main(["plan", "--data.batch_size", "1", "--model.lr", "0.1"]) == 0
    out = capfd.readouterr().out
    assert "> stochastic" in out
    assert "for samples drawn with replacement" not in out  # the order is shuffled, and it is said so
    assert "as if drawn with replacement; shuffled samples have a lower floor" in out
    advice, _, map_line = out.splitlines()[-3:]
    assert "best for" in out.splitlines()[2]
    assert out.count("loss after 20 epochs") == 4  # three rows, and the advice
    assert "best lr  by theory, as for lr best: the lr that reaches the target (see epochs) first" in out
    assert map_line == "map  lightning_logs/plan-SteepLine-b1-lr0.1.png"
    assert advice.startswith(
        "lr 0.1 is above 0.06418, the limit for batch_size 1 on these data; use lr 0.00182 (the lowest loss after "
    )
    assert advice.endswith(" above the least-squares loss) or batch_size 5 (ends 0.83 above the least-squares loss).")


def test_json_for_programs(capfd: Capture) -> None:
    found = _plan(capfd, "--data.batch_size", "16", "--model.lr", "0.01", "--trainer.max_epochs", "400")
    assert [row["batch_size"] for row in found["rows"]] == [100, 16, 10, 1]
    assert [row["configured"] for row in found["rows"]] == [False, True, False, False]
    assert found["rows"][0]["largest_stable_lr"] == pytest.approx(0.11997, abs=5e-6)
    assert found["rows"][0]["verdict"] == "converges"
    assert found["lambda_max"] == pytest.approx(16.67068, rel=1e-6)
    assert found["rows"][3]["epochs"] is None
    assert found["order"] == "shuffled"


@pytest.mark.parametrize(
    ("options", "verdict", "advice"),
    [
        (["--model.lr", "0.1"], "slow", "takes 28 epochs, and the run has 20"),
        (["--model.lr", "0.1", "--trainer.max_epochs", "30"], "converges", "has converged after 28 epochs: train."),
        (["--model.lr", "0.1", "--trainer.max_steps", "30"], "converges", "has converged after 28 epochs"),
        (
            ["--model.lr", "0.1", "--data.batch_size", "10"],
            "reaches its floor",
            "use lr 0.0013 (about 240 epochs), batch_size 100 (28 epochs) or an",
        ),
        (["--model.lr", "0.2"], "diverges", "lr 0.2 is above 0.12, the limit for batch_size 100 on these data; use lr"),
        (["--config", str(CONFIGS / "stochastic_diverging.yaml")], "diverges", "is above 0.06418"),
    ],
)
def test_verdict_and_advice(capfd: Capture, options: list[str], verdict: str, advice: str) -> None:
    found = _plan(capfd, *options)
    (row,) = (row for row in found["rows"] if row["configured"])
    assert row["verdict"] == verdict
    assert advice in found["advice"]


def test_a_learning_rate_that_only_the_sequential_order_makes_diverge() -> None:
    loss = LinearLoss.of(*SteepLine().sample())
    predictor = OutcomePredictor(loss, Affine(torch.zeros(1, 1), torch.zeros(1)), max_epochs=20, sequential=True)
    row = replace(predictor.predict(1, 0.06), verdict=Verdict.DIVERGES, growth=1234.0)
    assert advice(predictor, row) == (
        "lr 0.06 is too large for the sequential order: an error can grow 1.2e+03 times within an epoch; use lr "
        "0.0012 (the fastest: 16 epochs)."
    )


def test_standardised_features_are_planned_as_the_regressor_sees_them(capfd: Capture) -> None:
    """With one standardised feature the Hessian is 2 I: lr 0.5 converges in one update."""
    found = _plan(capfd, "--data.standardize", "true", "--model.lr", "0.5", "--trainer.precision", "64-true")
    assert found["lambda_min"] == pytest.approx(2, rel=1e-12)
    assert found["condition_number"] == pytest.approx(1, rel=1e-12)
    assert found["rows"][0]["epochs"] == 1
    assert found["rows"][0]["asymptotic_lr"] == pytest.approx(0.5, rel=1e-12)
    assert found["rows"][0]["best_lr"] == pytest.approx(0.5, rel=0.05)  # as fast as others, and lowest there
    assert found["rows"][0]["best_for"].endswith("after 1 epoch")


def test_the_digits_that_rounding_leaves(capfd: Capture) -> None:
    standardised = ["--data.problem", "ExamScores", "--data.standardize", "true", "--model.lr", "0.5"]
    digits = _plan(capfd, *standardised)["digits"]
    assert {precision: list(by_name) for precision, by_name in digits.items()} == {
        "float32": ["w", "b"],
        "float64": ["w", "b"],
    }
    assert digits == _plan(capfd, *standardised, "--trainer.precision", "64-true")["digits"]
    # A learning rate that is not stable is not asked about: that of no run.
    assert digits == _plan(capfd, *standardised[:-1], "1.5")["digits"]
    assert gd_lightning.main(["plan", *standardised]) == 0
    assert "        w 7, b 7 in float32; w 16, b 16 in float64" in capfd.readouterr().out
    assert gd_lightning.main(["plan", "--data.problem", "LinearProblem", "--data.problem.n_features", "12"]) == 0
    assert "the fewest of 13 parameters, in float32" in capfd.readouterr().out


def test_momentum(capfd: Capture) -> None:
    """A limit of 2 (1 + mu) / lambda_max, with Nesterov's 2 (1 + mu) / ((1 + 2 mu) lambda_max), lambda_max 16.67."""
    for nesterov, limit in (("false", 0.18), ("true", 0.09)):
        options = ["--model.momentum", "0.5", "--model.nesterov", nesterov, "--data.batch_size", "10"]
        batch, mini_batch, stochastic = _plan(capfd, *options, "--model.lr", "0.02")["rows"]
        assert batch["largest_stable_lr"] == pytest.approx(limit, rel=1e-3)
        assert limit > mini_batch["largest_stable_lr"] > stochastic["largest_stable_lr"] > 0.02


@pytest.mark.parametrize("config", ["batch", "mini_batch", "stochastic", "noisy_line", "four_points", "exam_scores"])
def test_the_shipped_configs_of_linear_regressors(capfd: Capture, config: str) -> None:
    found = _plan(capfd, "--config", str(CONFIGS / f"{config}.yaml"))
    assert sum(row["configured"] for row in found["rows"]) == 1
    assert all(row["verdict"] != "diverges" for row in found["rows"] if row["configured"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimizer", "Adam"], "cannot plan for an optimizer other than SGD"),
        (["--model.momentum", "1"], "cannot plan with momentum 1, because with 1 or more"),
        (["--data.batch_size", "1000"], "batch_size 1000, because there are only 100 training samples"),
        (["--ckpt_path", "last"], "there is no option --ckpt_path"),
        (["--trainer.max_epochs", "0"], "cannot train with trainer.max_epochs 0"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(capfd: Capture, options: list[str], message: str) -> None:
    assert gd_lightning.main(["plan", *options]) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""


def test_each_plan_draws_a_map_of_its_own(capfd: Capture, tmp_path: Path) -> None:
    options = ["plan", "--data.problem", "FourPoints", "--data.batch_size", "2", "--trainer.default_root_dir", "out"]
    assert gd_lightning.main(options) == 0
    first = tmp_path / capfd.readouterr().out.splitlines()[-1].removeprefix("map  ")
    written = first.read_bytes()
    height, width, _ = matplotlib.image.imread(first).shape
    assert height > 600
    assert width > 1000
    assert gd_lightning.main([*options, "--json"]) == 0
    second = tmp_path / json.loads(capfd.readouterr().out)["map"]
    assert {first, second} == set((tmp_path / "out" / "lightning_logs").iterdir())
    assert second.name == "plan-FourPoints-b2-lr0.1-2.png"
    assert first.read_bytes() == written == second.read_bytes()
    assert gd_lightning.main([*options, "--map", "false"]) == 0
    assert "map  " not in capfd.readouterr().out
    assert gd_lightning.main([*options, "--map", "false", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["map"] is None
    assert len(list((tmp_path / "out" / "lightning_logs").iterdir())) == 2


def test_a_map_in_several_formats_leaves_those_of_earlier_plans(tmp_path: Path, capfd: Capture) -> None:
    logs = tmp_path / "lightning_logs"
    logs.mkdir()
    (logs / "plan-SteepLine-b100-lr0.1.svg").write_text("of an earlier plan, in that format alone")
    assert gd_lightning.main(["plan", "--formats", "png,svg", f"--trainer.default_root_dir={tmp_path}"]) == 0
    names = ("plan-SteepLine-b100-lr0.1.png", "plan-SteepLine-b100-lr0.1-2.svg", "plan-SteepLine-b100-lr0.1.svg")
    assert {path.name for path in logs.iterdir()} == set(names)
    assert (logs / names[2]).read_text() == "of an earlier plan, in that format alone"
    assert all((logs / name).stat().st_size > 1000 for name in names[:2])


@pytest.mark.parametrize(
    "order", [pytest.param(name, marks=pytest.mark.slow) for name in ("shuffled", "with_replacement")] + ["sequential"]
)
def test_the_map_of_every_order_and_of_momentum(capfd: Capture, order: str) -> None:
    options = ["--data.problem", "FourPoints", "--data.batch_size", "3", "--data.order", order]
    assert gd_lightning.main(["plan", *options, "--model.momentum", "0.5", "--trainer.max_epochs", "-1"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "map  lightning_logs/plan-FourPoints-b3-lr0.1.png"


def test_a_short_last_batch_can_be_what_diverges(capfd: Capture) -> None:
    options = ["--data.problem", "FourPoints", "--data.batch_size", "3", "--map", "false"]
    found = _plan(capfd, *options, "--model.lr", "0.1")
    (row,) = (row for row in found["rows"] if row["configured"])
    assert row["verdict"] == "diverges"
    assert row["lr"] < row["largest_stable_lr"]
    assert "is too large for the last batch of an epoch, which has 1 sample; use lr 0.0" in found["advice"]
    cure = found["advice"].partition("use lr ")[2].partition(" ")[0]
    assert "diverges" not in [row["verdict"] for row in _plan(capfd, *options, "--model.lr", cure)["rows"][1:2]]


def test_where_no_map_can_be_written_the_rest_is_said(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lightning_logs").write_text("no folder")
    assert gd_lightning.main(["plan"]) == 1
    out, err = capfd.readouterr()
    assert "takes 28 epochs" in out.splitlines()[-1]
    assert f"{os.strerror(errno.EEXIST).lower()}: lightning_logs" in err
    assert len(err.splitlines()) == 1
    (tmp_path / "lightning_logs").unlink()

    def fill_the_disk(path: Path, image: Any) -> None:
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(plan_command, "save_figure", fill_the_disk)
    assert gd_lightning.main(["plan", "--json"]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["map"] is None
    assert os.strerror(errno.ENOSPC).lower() in err
    assert "free disk space, then repeat the command" in err
    assert not list((tmp_path / "lightning_logs").iterdir())
