"""The package as others get it: a wheel in an environment of its own, and a project beside it."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CONFIGS, ROOT

TIMEOUT = 300


def _run(*command: str | Path, cwd: Path) -> str:
    """Run a program without PYTHONPATH, which would hide the wheel."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if "fit" in command:
        assert result.stderr == ""
    return result.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment that has the built wheel.

    The dependencies, gigabytes to copy, are lent by the environment that the tests run in; that all of them are
    declared is tested beside, and CI installs them anew.
    """
    directory = tmp_path_factory.mktemp("environment")
    build: list[str | Path] = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        directory,
        ROOT,
    ]
    _run(sys.executable, *build, cwd=directory)
    (wheel,) = directory.glob("gd_lightning-*.whl")
    home = directory / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    _run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=directory,
    )
    (packages,) = home.glob("lib/python*/site-packages")
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "lent.pth").write_text("\n".join(lent))
    return python


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_directory(environment: Path, tmp_path: Path) -> None:
    where = _run(environment, "-c", "import gd_lightning; print(gd_lightning.__file__)", cwd=tmp_path)
    assert str(environment.parent.parent) in where
    shown = _run(environment, "-m", "gd_lightning", "fit", cwd=tmp_path)
    assert "0.22152576" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["lightning_logs"]
    pages = (
        "from gd_lightning.plots.interactive.page import html_page;"
        "print(len(html_page('explore.html', {}, 'a page', {{}})))"
    )
    assert int(_run(environment, "-c", pages.format(["descent.js", "panels.js", "explore.js"]), cwd=tmp_path)) > 30_000
    assert (
        int(_run(environment, "-c", pages.format(["player.js"]).replace("explore.h", "animation.h"), cwd=tmp_path))
        > 5_000
    )
    assert _run(environment.parent / "gd-lightning", "--version", cwd=tmp_path).startswith("gd_lightning ")


def _wheel(environment: Path) -> Path:
    (wheel,) = environment.parent.parent.parent.glob("gd_lightning-*.whl")
    return wheel


def test_the_wheel_has_the_configs_as_they_are_and_no_link_that_leads_nowhere(environment: Path) -> None:
    with zipfile.ZipFile(_wheel(environment)) as archive:
        shipped = {
            name.removeprefix("gd_lightning/configs/"): archive.read(name)
            for name in archive.namelist()
            if name.startswith("gd_lightning/configs/")
        }
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert shipped == {path.relative_to(CONFIGS).as_posix(): path.read_bytes() for path in CONFIGS.rglob("*.yaml")}
    description = metadata.partition("\n\n")[2]
    assert "gradient-descent laboratory" in description
    for target in re.findall(r"\]\(([^)]*)\)", description):
        assert target.startswith("https://"), target


# It is no module of a package, but part of the build.
MADE = runpy.run_path(str(ROOT / "docs" / "package_metadata.py"))
address_in, long_description = MADE["address_in"], MADE["long_description"]
README_TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_of_the_long_description_lead_to_the_address_of_the_repository() -> None:
    address = address_in("title: x\nrepository-code: 'https://example.org/gd/'\n")
    assert address == "https://example.org/gd"
    assert address_in("# Add `repository-code: https://...` here") == ""
    text = long_description(README_TEXT, address)
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", README_TEXT)
    assert len(links) > 10
    for image, target in links:
        assert f"({address}/{'raw' if image else 'blob'}/main/{target})" in text
    assert not re.search(r"\]\((?!https://)", text)
    nameless = long_description(README_TEXT, "")
    assert "](" not in nameless
    assert "Architecture, security, changes;" in nameless


@pytest.mark.slow
def test_what_is_built_twice_is_the_same_file_and_passes_the_checks_of_pypi(tmp_path: Path) -> None:
    """The wheel of the source distribution is that of the repository, too."""
    for tool in ("build", "twine"):
        pytest.importorskip(tool, reason="a release is checked where its extra, release, is installed")
    for name in ("first", "second"):
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / name, ROOT, cwd=tmp_path)
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert len(files) == 2
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    (source,) = (tmp_path / "first").glob("*.tar.gz")
    with tarfile.open(source) as archive:
        shipped = {Path(name).parts[1] for name in archive.getnames()}
    assert {path.name for path in ROOT.glob("*.md")} | {".ci", ".github", "tests", "docs", "configs"} <= shipped
    direct = tmp_path / "direct"
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", direct, ROOT, cwd=tmp_path)
    assert {path.name: path.read_bytes() for path in direct.iterdir()}.items() <= files.items()
    shown = _run(sys.executable, "-m", "twine", "check", "--strict", *(tmp_path / "first").iterdir(), cwd=tmp_path)
    assert shown.count("PASSED") == 2


@pytest.mark.slow
def test_the_package_is_imported_and_trains_from_the_archive_itself(environment: Path, tmp_path: Path) -> None:
    wheel = _wheel(environment)
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import gd_lightning; print(gd_lightning.__file__);"
        "sys.exit(gd_lightning.main(['fit', '--config', 'mini_batch']))"
    )
    shown = _run(environment, "-c", code, cwd=tmp_path)
    assert shown.startswith(str(wheel))
    assert "batch_size 16 of 100 samples" in shown


@pytest.mark.slow
def test_the_commands_of_the_readme_work_from_the_wheel_in_an_empty_directory(
    environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "scores.csv").write_text("hours,score\n10,480\n20,520\n30,710\n40,680\n50,790\n")  # one's own
    commands = [shlex.split(found) for found in re.findall(r"python -m gd_lightning (\w+.*)", README_TEXT)]
    assert len(commands) >= 6
    for command in ([], *commands, ["fit", "--config", "noisy_line"], ["fit", "--config", "configs/batch.yaml"]):
        _run(environment, "-m", "gd_lightning", *(command or ["fit"]), cwd=tmp_path)


PROJECT = '''
"""A project of its own: another module, another problem, the Trainer, and no command line."""

from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from gd_lightning import HistoryRecorder, Problem, RegressionDataModule, RegressionModule


@dataclass
class Cubic(Problem):
    n_samples: int = 200
    seed: int = 0

    def sample(self) -> tuple[Tensor, Tensor]:
        x = 2 * torch.rand(self.n_samples, 1, generator=torch.Generator().manual_seed(self.seed)) - 1
        return x, self.function(x)

    def function(self, x: Tensor) -> Tensor:
        return x**3


class Features(nn.Module):
    def __init__(self, in_features: int, out_features: int, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.layer = nn.Linear(in_features * degree, out_features)

    def forward(self, x: Tensor) -> Tensor:
        powers = torch.cat([x ** (i + 1) for i in range(self.degree)], dim=1)
        prediction: Tensor = self.layer(powers)
        return prediction


class PolynomialModule(RegressionModule):
    def __init__(self, degree: int = 3, lr: float = 0.1) -> None:
        super().__init__(lr=lr)
        self.degree = degree
        self.save_hyperparameters("degree")

    def build_network(self, in_features: int, out_features: int) -> nn.Module:
        return Features(in_features, out_features, self.degree)


def main() -> None:
    seed_everything(0)
    recorder = HistoryRecorder()
    data = RegressionDataModule(Cubic(), batch_size=20, val_size=0.2, seed=1)
    module = PolynomialModule(degree=3, lr=0.3)
    trainer = Trainer(
        max_epochs=100,
        accelerator="cpu",
        callbacks=[recorder],
        logger=TensorBoardLogger("logs", default_hp_metric=False),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    print(data.variant)
    trainer.save_checkpoint("mine.ckpt", weights_only=False)
    again = PolynomialModule.load_from_checkpoint("mine.ckpt", weights_only=True)
    x = torch.tensor([[0.5]])
    assert torch.equal(again(x), module(x))
    assert again.degree == 3
    assert recorder.history.last("val_loss") < 1e-4
    print("cubic", float(again(x)[0, 0]))


if __name__ == "__main__":
    main()
'''


@pytest.mark.slow
def test_another_project_builds_on_it_and_is_typed(environment: Path, tmp_path: Path) -> None:
    project = tmp_path / "mine"
    (project / "src" / "cubic").mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "cubic"\nversion = "1"\ndependencies = ["gd-lightning"]\n'
    )
    (project / "src" / "cubic" / "__init__.py").write_text(PROJECT)
    install: list[str | Path] = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", project]
    packages = next(environment.parent.parent.glob("lib/python*/site-packages"))
    _run(sys.executable, "-m", "pip", *install, "--target", packages, cwd=tmp_path)
    shown = _run(environment, "-c", "import cubic; cubic.main()", cwd=tmp_path)
    assert "mini-batch gradient descent: batch_size 20 of 160 samples" in shown
    assert float(shown.split("cubic")[1]) == pytest.approx(0.125, abs=0.01)
    _run(sys.executable, "-m", "mypy", "--strict", "--python-executable", environment, project / "src", cwd=tmp_path)
