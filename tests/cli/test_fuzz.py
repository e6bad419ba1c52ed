"""Whatever is given to the command line: no exception, no traceback, an exit code that it documents, nothing left.

Hypothesis draws configs and options at random and from valid ones that it damages. What would start processes or take
long is overruled by options that come last; numbers are small or absurd, never merely large.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gd_lightning

SHORT = settings(derandomize=True, max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
VALID: dict[str, Any] = {
    "seed_everything": 0,
    "data": {
        "problem": {"class_path": "SteepLine", "init_args": {"seed": 0, "noise": 0.4}},
        "batch_size": 50,
        "order": "shuffled",
        "drop_last": False,
        "val_size": 10,
        "test_size": 0.1,
        "seed": 0,
        "standardize": True,
        "predict_inputs": None,
    },
    "model": {
        "lr": 0.1,
        "momentum": 0.5,
        "nesterov": False,
        "weight_decay": 0.0,
        "l1": 0.1,
        "loss": "huber",
        "huber_delta": 1.0,
        "hidden_sizes": [2],
        "activation": "tanh",
        "bias": True,
        "dropout": 0.1,
        "initialization": "he",
        "network": None,
        "in_features": 1,
        "out_features": 1,
    },
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "betas": [0.9, 0.99], "eps": 1e-8}},
    "lr_scheduler": {"class_path": "StepLR", "init_args": {"step_size": 2, "gamma": 0.5}},
    "recorder": {"every_n_updates": "auto", "title": "a title"},
    "checkpoint": {"interval": 60.0},
    "trainer": {
        "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "train_loss", "patience": 3}}],
        "logger": True,
        "precision": "32-true",
        "min_epochs": 1,
        "max_time": "00:00:01:00",
        "limit_val_batches": 1.0,
        "overfit_batches": 0,
        "val_check_interval": 1.0,
        "check_val_every_n_epoch": 1,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "accumulate_grad_batches": 1,
        "gradient_clip_val": 1.0,
        "gradient_clip_algorithm": "norm",
        "deterministic": False,
        "inference_mode": True,
        "profiler": None,
        "detect_anomaly": False,
        "barebones": False,
        "plugins": None,
        "sync_batchnorm": False,
        "reload_dataloaders_every_n_epochs": 0,
        "strategy": "auto",
        "devices": 1,
        "enable_checkpointing": True,
        "enable_progress_bar": False,
        "fast_dev_run": False,
    },
    "ckpt_path": None,
}
LAST = [
    *("--trainer.max_epochs=1", "--trainer.max_steps=2", "--trainer.min_steps=0"),
    *("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto", "--trainer.accelerator=cpu"),
    "--trainer.profiler=null",
]
NUMBERS = (0, 1, -1, 2, 5, 0.0, 0.5, 1.5, -0.5, 1e-300, 1e300, 10**30, -(10**30), float("nan"), float("inf"))
WORDS = (
    *("", " ", "null", "true", "nan", "1e400", "0x10", "~", "-", "--", "full", "last", "norm", "[", "{a", "a: b", "*a"),
    *("os.system", "subprocess.Popen", "torch.nn.Linear", "torch.nn.ReLU", "torch.optim.SGD", "SGD", "LBFGS", "StepLR"),
    *("ReduceLROnPlateau", "LambdaLR", "EarlyStopping", "ModelCheckpoint", "Callback", "Table", "Sine", "FourPoints"),
    *("gd_lightning", "gd_lightning.Problem", "tests.cli.test_trusted.callback", "nope.Nope", "a..b", ".", "a.b.c.d"),
    *("CSVLogger", "simple", "class_path", "init_args", "64-true", "bf16-mixed", "16-true", "00:00:00:00", "ﬀ½"),
    "\x1b[2J",
)
LETTERS = (*"{}[]:,-&*!|>'\"%@`#\t\n a0", "")
TEXTS = st.sampled_from(WORDS) | st.text(st.characters(exclude_characters="/\\", exclude_categories=["Cs"]), max_size=8)
LEAVES = st.sampled_from(NUMBERS) | st.sampled_from((None, True, False)) | TEXTS
KEYS = st.sampled_from(("class_path", "init_args", "dict_kwargs", "lr", "seed", "weight", "bias", "config")) | TEXTS
JUNK = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)


def _paths(values: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values in nested mappings and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path for key, value in items for path in ((*before, key), *_paths(value, (*before, key)))]


PATHS = _paths(VALID)
OPTIONS = sorted({".".join(str(key) for key in path if key != "init_args") for path in PATHS})


def _copied(values: Any, keep: Callable[[tuple[Any, ...]], bool], path: tuple[Any, ...] = ()) -> Any:
    if isinstance(values, dict):
        items = ((key, value) for key, value in values.items() if keep((*path, key)))
        return {key: _copied(value, keep, (*path, key)) for key, value in items}
    return [_copied(value, keep, (*path, i)) for i, value in enumerate(values)] if isinstance(values, list) else values


def _at(values: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a path, or None where one that was put in before leaves none."""
    for key in path:
        known = range(len(values)) if isinstance(values, list) else values if isinstance(values, dict) else ()
        values = values[key] if key in known else None
    return values


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """Draw some sections of a valid config, with values and keys that are replaced by others."""
    sections = draw(st.sets(st.sampled_from(sorted(VALID)), min_size=1, max_size=3))
    config: dict[str, Any] = _copied(VALID, lambda path: path[0] in sections)
    for path in draw(st.lists(st.sampled_from([path for path in PATHS if path[0] in sections]), max_size=3)):
        owner = _at(config, path[:-1])
        if isinstance(owner, dict):
            value = owner.pop(path[-1], None)
            kind = draw(st.integers(0, 5))
            key = draw(KEYS) if kind == 0 else path[-1]
            owner[key] = value if kind == 0 else draw(JUNK)
    return config


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw the text of a config, now and then with letters that are left out or put in."""
    text: str = yaml.safe_dump(draw(damaged()), allow_unicode=draw(st.booleans()), sort_keys=False)
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 3)))):
        at, removed, letter = draw(st.integers(0, len(text))), draw(st.integers(0, 2)), draw(st.sampled_from(LETTERS))
        text = text[:at] + letter + text[at + removed :]
    return text


ARGUMENTS = st.lists(
    st.tuples(st.sampled_from(OPTIONS) | TEXTS, LEAVES | JUNK).map(lambda pair: f"--{pair[0]}={_typed(pair[1])}")
    | TEXTS.filter(lambda text: not text.startswith(("-h", "--h"))),
    max_size=3,
)


def _typed(value: Any) -> str:
    """Write a value as it is typed behind an option."""
    return (
        value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6).split("\n")[0]
    )


def _check(capture: pytest.CaptureFixture[str], root: Path, config: str | None, arguments: list[str]) -> None:
    """Run a command line and check how it ends."""
    given = arguments
    if config is not None:
        (root / "config.yaml").write_bytes(config.encode("utf-8", errors="surrogatepass"))
        given = ["--config", str(root / "config.yaml"), *arguments]
    capture.readouterr()
    code = gd_lightning.main(["fit", *given, *LAST, f"--trainer.default_root_dir={root}"])
    out, err = capture.readouterr()
    assert code in (0, 1, 2, 3)
    assert "Traceback" not in out + err
    if code in (1, 2):
        assert err.startswith("gd_lightning: ")
        assert len(err.splitlines()) == 1
        assert len(err) < 640
    if code == 1:
        assert err.startswith("gd_lightning: cannot continue, because")
    if code == 2:
        assert not (root / "lightning_logs").exists()
    shutil.rmtree(root / "lightning_logs", ignore_errors=True)


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str | None, list[str]], None]:
    """Return the check, in a directory of the test."""
    monkeypatch.chdir(tmp_path)
    return lambda config, arguments: _check(capfd, tmp_path, config, arguments)


Check = Callable[[str | None, list[str]], None]


# What a framework warns of is no exception at the command line.
@pytest.mark.filterwarnings("default")
@SHORT
@given(text=texts())
def test_any_config_is_followed_or_refused_in_one_line(check: Check, text: str) -> None:
    check(text, [])


@pytest.mark.filterwarnings("default")
@SHORT
@given(arguments=ARGUMENTS)
def test_any_options_are_followed_or_refused_in_one_line(check: Check, arguments: list[str]) -> None:
    check(None, arguments)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@settings(SHORT, max_examples=3000)
@given(text=texts(), arguments=ARGUMENTS)
def test_any_config_with_any_options_is_followed_or_refused_in_one_line(
    check: Check, text: str, arguments: list[str]
) -> None:
    check(text, arguments)
