"""The page of `explore`: what is put into it, and what it refuses. What it computes: tests/test_pages_in_browser.py."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gd_lightning
from gd_lightning import InputError, LinearProblem, RegressionDataModule, SteepLine, Table, explore
from gd_lightning.experiments.exploration import MOST_SAMPLES
from tests.conftest import CommandLine
from tests.plots.page_content import content_of


def test_a_page_has_the_data_the_start_and_the_orders_of_a_run(tmp_path: Path) -> None:
    made = explore(batch_size=16, lr=0.05, momentum=0.5, seed=3, epochs=7)
    page = made.save(tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert page == made.html()
    content = content_of(page)
    x, y = SteepLine().sample()
    assert (content["x"], content["y"]) == (x[:, 0].tolist(), y[:, 0].tolist())
    settings = content["settings"]
    assert [settings[name] for name in ("lr", "batchSize", "momentum", "epochs", "w", "b")] == [
        0.05,
        16,
        0.5,
        7,
        -10,
        -20,
    ]
    data = RegressionDataModule(SteepLine(), batch_size=50, seed=3)
    of_epoch = [value for x, _ in data.train_dataloader() for value in x[:, 0].tolist()]
    assert [content["x"][row] for row in content["orders"]["shuffled"][0]] == of_epoch


def test_a_page_loads_nothing_from_elsewhere() -> None:
    page = explore().html()
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "http" not in page.replace("http-equiv", "")


def test_names_of_columns_end_no_script() -> None:
    hostile = '</script><b onclick="x()">\u202e'
    made = explore({hostile: [1.0, 2.0, 4.0], "price": [1.0, 2.0, 3.0]}, standardize=False)
    assert made.html().count("</script>") == explore().html().count("</script>")
    assert content_of(made.html())["feature"] == hostile.replace("\u202e", "\\u202e")


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    made = explore(epochs=2)
    frame = re.fullmatch(r'<iframe .*? srcdoc="(.*)"></iframe>', made._repr_html_(), re.S)
    assert frame is not None
    assert html.unescape(frame[1]) == made.html()
    assert "save(path)" in repr(made)


def test_standardised_features_are_those_that_the_network_sees() -> None:
    x = np.array([10.0, 20.0, 40.0])
    content = explore((x, 2 * x), standardize=True).content
    assert content["x"] == pytest.approx((x - x.mean()) / x.std(), rel=1e-12)
    assert content["y"] == pytest.approx(2 * x - 2 * x.mean(), rel=1e-12)  # so losses are in original units
    assert content["units"] == pytest.approx({"mean": x.mean(), "scale": x.std(), "targetMean": 2 * x.mean()})
    assert content["command"]["text"] == "problem, standardize=True"


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (LinearProblem(n_features=2), {}, "2 features and 1 targets"),
        (None, {"hidden_sizes": [3]}, "mean squared error and SGD"),
        (None, {"loss": "huber"}, "mean squared error and SGD"),
        (None, {"weight_decay": 0.1}, "mean squared error and SGD"),
        (None, {"optimizer": "Adam"}, "mean squared error and SGD"),
        (
            None,
            {"lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2}}},
            "SGD",
        ),
        (None, {"bias": False}, "without bias"),
        (([1.0, 1.0], [1.0, 2.0]), {}, "all 2 values of the feature are 1"),
        (([1e90, 2e90], [1.0, 2.0]), {"precision": "64-true", "standardize": False}, "beyond float64"),
        ((np.arange(MOST_SAMPLES + 1.0), np.arange(MOST_SAMPLES + 1.0)), {}, "each time a slider is moved"),
    ],
)
def test_what_is_no_line_is_refused(problem: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explore(problem, **options)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="that is a directory"):
        explore().save(tmp_path)


def test_the_command_line_writes_a_new_file_and_names_the_same_run(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("hours,score\n1,2\n2,3\n4,9\n")
    table = ["--data.problem=Table", f"--data.problem.path={tmp_path / 'scores.csv'}", "--data.standardize=false"]
    for _ in range(2):
        assert command_line("explore", *table, "--model.lr", "0.01", "--data.batch_size=1") == 0, command_line.err
    logs = tmp_path / "lightning_logs"
    assert sorted(path.name for path in logs.iterdir()) == ["explore-Table-2.html", "explore-Table.html"]
    assert "rows" in command_line.out
    assert "explore-Table-2.html" in command_line.out
    content = content_of((logs / "explore-Table.html").read_text(encoding="utf-8"))
    assert content["command"]["text"].endswith(f"fit {' '.join(table)}")
    assert (content["settings"]["lr"], content["settings"]["batchSize"], content["feature"]) == (0.01, 1, "hours")
    start = gd_lightning.fit(Table(str(tmp_path / "scores.csv")), lr=0.01, max_steps=1, standardize=False).history
    assert (content["settings"]["w"], content["settings"]["b"]) == (start["w"][0], start["b"][0])


def test_a_file_of_ones_own_is_new(command_line: CommandLine, tmp_path: Path) -> None:
    chosen = tmp_path / "page.html"
    assert command_line("explore", "--file", chosen) == 0, command_line.err
    assert isinstance(content_of(chosen.read_text(encoding="utf-8"))["x"], list)
    assert command_line("explore", "--file", chosen) == 2
    assert "it already exists; give another name" in command_line.err
    assert command_line("explore", "--file", tmp_path / "other.html") == 0
