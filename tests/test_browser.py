"""What a person sees of the three variants in TensorBoard, in a real browser.

``GD_LIGHTNING_SCREENSHOTS=docs pytest -m browser`` renews the picture of the README.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import gd_lightning
from gd_lightning.records.groups import Group
from gd_lightning.records.history import History
from gd_lightning.tracking.tensorboard.groups_of_runs import write_aggregate
from tests.conftest import CONFIGS
from tests.headless_chromium import SECONDS, Browser, needs_chromium, wait_until

HOST = "127.0.0.1"

pytestmark = needs_chromium

RUNS = (
    "SteepLine-batch-b100-lr0.04-seed0",
    "SteepLine-mini-batch-b16-lr0.04-seed0",
    "SteepLine-stochastic-b1-lr0.04-seed0",
)

CARD = "scalar-card:has([title='samples/train_loss'])"

CHARTS = "tf-custom-scalar-dashboard"

# The whole of each curve, as it was measured, and room for it and for the names of the runs.
SETTINGS = {
    "ignoreOutliers": False,
    "scalarSmoothing": 0,
    "timeSeriesSettingsPaneOpened": False,
    "sideBarWidthInPercent": 26,
}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def served(command: list[str], log: Path) -> Iterator[int]:
    """Run a program that serves on ``--port``, from when it listens; gives the port."""
    port = free_port()
    with (
        log.open("wb") as output,
        subprocess.Popen([*command, f"--port={port}"], stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or listens(port), lambda: f"{command} listens")
            assert process.poll() is None, log.read_text()
            yield port
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


def tensorboard_of(logs: Path) -> list[str]:
    return [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", HOST]


@pytest.fixture(scope="module")
def tensorboard(directory: Path) -> Iterator[str]:
    """Train the three variants, and serve their runs; gives the address."""
    for name in ("batch", "mini_batch", "stochastic"):
        config = str(CONFIGS / f"{name}.yaml")
        assert gd_lightning.main(["fit", "--config", config, "--trainer.default_root_dir", str(directory)]) == 0
    with served(tensorboard_of(directory / "lightning_logs"), directory / "tensorboard.log") as port:
        yield f"http://{HOST}:{port}/"


@pytest.fixture(scope="module")
def browser(directory: Path) -> Iterator[Browser]:
    with closing(Browser(directory)) as browser:
        yield browser


def test_time_series_overlay_the_variants_on_the_samples_axis(
    tensorboard: str, browser: Browser, tmp_path: Path
) -> None:
    url = f"{tensorboard}?tagFilter=%5Esamples%2Ftrain_loss%24#timeseries"
    browser.open(url)
    browser.run("localStorage.setItem('_tb_global_settings', arguments[0])", json.dumps(SETTINGS))
    browser.open(url)
    table = browser.text(f"{CARD} scalar-card-data-table", *RUNS)
    assert table.count("2,000") == len(RUNS)  # each run ends after 20 epochs of 100 samples, whatever its batch size
    folder = Path(os.environ.get("GD_LIGHTNING_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tensorboard.png").write_bytes(photograph_card(browser))


def photograph_card(browser: Browser) -> bytes:
    """Return a screenshot of the card at full width and on a logarithmic scale."""
    browser.resize(1200, 680)
    browser.click(f"{CARD} [aria-label='Toggle full size mode']")
    browser.click(f"{CARD} [aria-label='More line chart options']")
    browser.click("[role=menuitem][aria-label*='log scale']")
    browser.run("document.activeElement.blur()")
    return browser.screenshot()


def test_hparams_list_the_variants_with_their_final_train_loss(tensorboard: str, browser: Browser) -> None:
    browser.open(f"{tensorboard}#hparams")
    browser.text("tf-hparams-table-view", *RUNS, "batch_size", "final/train_loss")
    assert "hp_metric" not in browser.text("body")


def test_images_show_the_fit_and_the_loss_surface_of_each_variant(tensorboard: str, browser: Browser) -> None:
    browser.open(f"{tensorboard}#images")
    browser.text("tf-image-loader", "data and fit", "loss surface", *RUNS)
    loaded = "return search('img').filter(image => image.naturalWidth > 0).length"
    wait_until(lambda: browser.run(loaded) >= 2 * len(RUNS), lambda: "two pictures of each run")


AXES = ("epochs", "updates", "samples", "microseconds")


def geometric_run(rate: float) -> History:
    history = History()
    for epoch in range(20):
        history.append(update=epoch, epoch=epoch, samples=100 * epoch, seconds=0.1 * epoch, train_loss=rate**epoch)
    return history


def test_custom_scalars_overlay_the_groups_first_and_have_a_band_of_each(browser: Browser, tmp_path: Path) -> None:
    rates = {"batch": (0.7, 0.8), "mini-batch 16": (0.5, 0.6)}
    groups = [Group(label, tuple(map(geometric_run, of_runs))) for label, of_runs in rates.items()]
    write_aggregate(tmp_path, groups)
    with served(tensorboard_of(tmp_path), tmp_path / "tensorboard.log") as port:
        browser.open(f"http://{HOST}:{port}/#custom_scalars")
        titles = [f"train loss against {axis}: {what}" for axis in AXES for what in ("mean", "mean ± std")]
        browser.text(CHARTS, *titles, *(f"aggregate/{label}" for label in rates))
        wait_until(lambda: browser.text(CHARTS).count("Matches (2)") == len(titles), lambda: browser.text(CHARTS))
        headings = browser.run("return search('tf-category-paginated-view').map(view => view.category.name)")
        assert headings == ["train loss, all variants", *rates]
        browser.run("search('tf-category-paginated-view')[1].shadowRoot.querySelector('button').click()")
        wait_until(lambda: browser.text(CHARTS).count("Matches (1)") == len(AXES), lambda: browser.text(CHARTS))
        assert "missing" not in browser.text(CHARTS)
