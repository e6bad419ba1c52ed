"""Runs in motion: what is in the frames, the files that are written, and what is refused."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gd_lightning
from gd_lightning import History, InputError, Outcome, Run, SteepLine
from gd_lightning.plots.interactive.animation import Animation
from gd_lightning.plots.interactive.animation_content import MOST_FRAMES, MOST_TRACKS, Line, LineLoss, Track
from gd_lightning.plots.interactive.animation_drawing import pictures
from tests.conftest import CommandLine
from tests.plots.page_content import content_of

X = np.linspace(-5, 4.9, 20)


@pytest.fixture(scope="module")
def run() -> Run:
    return gd_lightning.fit(batch_size=16, lr=0.05, epochs=10)


def small(runs: int = 2, updates: int = 3, factor: float = 0.8, **changes: Any) -> Animation:
    """Return runs that approach the least squares of a line, or leave them, without any training."""
    loss = LineLoss(mean=0.0, sd=2.0, w=1.0, b=0.5, least=0.1)
    line = Line(X, X + 0.5, "x", "y", loss, (1.0, 0.5))
    tracks = []
    for i in range(runs):
        history = History()
        for update in range(updates):
            w, b = 1 + factor**update, 0.5 + (factor / (i + 1)) ** update
            seen = float(update * (i + 1))
            history.append(update=update, epoch=seen, samples=seen, seconds=0.0, train_loss=float(loss(w, b)), w=w, b=b)
        history.outcome = Outcome.DIVERGED if factor > 1 else Outcome.COMPLETED
        tracks.append(Track.of(f"run {i}", history, line))
    return Animation("small", tracks, **{"data": line, "least_squares": 0.1, "per_epoch": 20, **changes})


def test_frames_are_in_samples_and_of_a_bounded_number(run: Run) -> None:
    frames = run.animate().frames
    assert (frames[0], frames[-1]) == (0, 1000)
    assert len(frames) == MOST_FRAMES + 1
    assert max(np.diff(frames)) - min(np.diff(frames)) <= 1


def test_a_page_has_the_path_and_its_losses(run: Run) -> None:
    content = content_of(run.animate().html())
    (track,) = content["tracks"]
    assert track["w"] == run.history["w"].tolist()
    assert track["samples"] == run.history["samples"].tolist()
    x, y = (values[:, 0].double().numpy() for values in SteepLine().sample())
    w, b = run.history["w"], run.history["b"]
    direct = np.square(np.outer(w, x) + b[:, None] - y).mean(axis=1)  # the loss of each line, from the data themselves
    np.testing.assert_allclose(track["losses"], direct, rtol=1e-6)
    assert (content["perEpoch"], content["line"]["truth"]) == (100, [-5, 0])
    for name, start in (("w", -10), ("b", -20)):
        low, high = content["ranges"][name]
        assert low < start < high
    assert run.animate().note == "Path, data and fit, and train loss."


def test_the_loss_of_a_line_is_the_mean_squared_error(run: Run) -> None:
    line = run.animate().line
    assert line is not None
    assert line.loss is not None
    for w, b in ((0.0, 0.0), (-5.0, 3.0), (2.5, -40.0)):
        assert line.loss(w, b) == pytest.approx(np.square(w * line.x + b - line.y).mean(), rel=1e-9)


def test_pages_load_nothing_and_are_shown_in_notebooks(run: Run) -> None:
    page = run.animate().html()
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert run.animate()._repr_html_().startswith("<iframe title=")
    assert "121 frames" in repr(run.animate())


def test_gif_and_page_are_written_by_their_endings(tmp_path: Path) -> None:
    animation = small(1, updates=12)
    for name in ("new/moving.gif", "moving.HTML"):
        assert animation.save(tmp_path / name) == tmp_path / name
    assert (tmp_path / "moving.HTML").read_text(encoding="utf-8") == animation.html()
    with Image.open(tmp_path / "new" / "moving.gif") as image:
        assert image.n_frames > 10
        lasts = []
        for i in range(image.n_frames):
            image.seek(i)
            lasts.append(image.info["duration"])
    assert sum(lasts) == 100 * (len(animation.frames) - 1) + 2000  # milliseconds; equal frames are one that lasts
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["moving.HTML", "moving.gif"]


@pytest.mark.parametrize(
    "options",
    [
        {"runs": 1},
        {"runs": 1, "data": None},
        pytest.param({"runs": 3, "updates": 4, "factor": 1.5}, marks=pytest.mark.slow),
        pytest.param({"runs": MOST_TRACKS}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_pictures_move_upon_what_stays(options: dict[str, Any]) -> None:
    frames = pictures(small(**options))
    first = next(frames)
    *_, last = frames
    assert first.shape == last.shape
    changed = (first != last).any(axis=2).mean()
    assert 0 < changed < 0.2  # of the pixels


FFMPEG = """#!/bin/sh
for last; do :; done
cat > "$last"
echo "$*" > arguments.txt
"""


def _program(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "ffmpeg"
    program.write_text(text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.chdir(directory)


def test_ffmpeg_gets_all_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, FFMPEG, monkeypatch)
    animation = small(1, data=None)
    film = animation.save(tmp_path / "film.mp4").read_bytes()
    frames = [frame.tobytes() for frame in pictures(animation)]
    assert film == b"".join(frames)
    height, width = next(pictures(animation)).shape[:2]
    assert f"-s {width}x{height}" in (tmp_path / "arguments.txt").read_text()


def test_what_ffmpeg_says_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "#!/bin/sh\ncat > /dev/null\necho no encoder >&2\nexit 3\n", monkeypatch)
    with pytest.raises(InputError, match=r"ffmpeg refuses to \(no encoder\)"):
        small(1, data=None).save(tmp_path / "film.mp4")
    assert not list(tmp_path.glob("*.mp4"))


def test_models_that_record_no_path_show_their_loss_alone() -> None:
    for options in ({"hidden_sizes": [3]}, {"bias": False}):
        animation = gd_lightning.fit(epochs=3, **options).animate()
        assert animation.note.startswith("Train loss alone")
        assert content_of(animation.html())["tracks"][0]["w"] is None
    two = gd_lightning.fit(gd_lightning.LinearProblem(n_features=3, n_targets=2), epochs=3).animate()
    assert two.note.startswith("Train loss alone")


@pytest.mark.parametrize(
    "options",
    [
        {"standardize": "both", "batch_size": 16},
        pytest.param({"standardize": "none", "bias": False, "lr": 1e-5}, marks=pytest.mark.slow),
        pytest.param({"standardize": "features", "batch_size": 1, "lr": 0.01}, marks=pytest.mark.slow),
        pytest.param({"standardize": "both", "lr": 3.0, "epochs": 500}, marks=pytest.mark.slow),  # which diverges
    ],
)
@pytest.mark.filterwarnings("ignore:lr 3 is above:UserWarning")
def test_several_features_show_what_is_predicted_against_what_is_true(options: dict[str, Any]) -> None:
    """At the end these are the predictions of the network itself, at the start those of the first recorded weights."""
    random = np.random.default_rng(0)
    x = random.normal(size=(450, 3)) * [1, 30, 0.1] + [0, 100, 3]
    data = {"a": x[:, 0], "b": x[:, 1], "a_b": x[:, 2], "price": x @ [5.0, 0.2, -40.0] + random.normal(size=450)}
    run = gd_lightning.fit(data, **{"epochs": 3, **options})
    animation = run.animate()
    assert animation.note == "Predicted against true, and train loss."
    content = content_of(animation.html())
    (track,), shown = content["tracks"], slice(None, None, 3)
    assert content["several"] == {"target": "price", "y": pytest.approx(data["price"][shown].tolist(), rel=1e-6)}
    assert len(track["predicted"]) == len(content["frames"])
    first = x @ [run.history.first(f"w_{name}") for name in ("a", "b", "a_b")]
    first = first + (run.history.first("b") if "b" in run.history else 0.0)
    np.testing.assert_allclose(track["predicted"][0], first[shown], rtol=1e-4, atol=0.01)
    last = np.asarray(run.predict(x))[shown].ravel()
    if np.isfinite(last).all() and np.abs(last).max() < 1e6:
        np.testing.assert_allclose(track["predicted"][-1], last, rtol=1e-4, atol=0.01)
    updates, samples = run.history.curve("train_loss")[1], track["lossSamples"]
    assert len(updates) == len(samples)  # the loss at every update
    *_, picture = pictures(animation)
    assert picture.ndim == 3


@pytest.mark.slow
def test_a_comparison_of_several_features_has_a_panel_of_each_variant() -> None:
    problem = gd_lightning.LinearProblem(n_features=3)
    report = gd_lightning.compare(problem, batch_sizes=["full", 16], seeds=1, max_epochs=3, lrs=0.05)
    content = content_of(report.animate().html())
    assert [len(track["predicted"][0]) for track in content["tracks"]] == [len(content["several"]["y"])] * 2
    assert content["line"] is None
    first, *_ = pictures(report.animate())
    alone, *_ = pictures(gd_lightning.fit(problem, epochs=3).animate())
    assert first.shape[0] > alone.shape[0]  # panels of runs above that of the losses


def test_another_loss_has_no_surface() -> None:
    animation = gd_lightning.fit(loss="mae", epochs=3).animate()
    assert animation.note == "Train loss, data and fit."
    assert content_of(animation.html())["ranges"]["w"] is None


def test_a_loaded_run_is_the_same_in_motion(run: Run, tmp_path: Path) -> None:
    loaded = gd_lightning.load(run.save(tmp_path / "run"))
    assert loaded.animate().html() == run.animate().html()
    x, y = np.arange(5.0), np.arange(5.0)
    of_arrays = gd_lightning.fit((x, y), epochs=2, lr=0.01)
    again = gd_lightning.load(of_arrays.save(tmp_path / "arrays"))
    with pytest.raises(InputError, match="give problem="):
        again.animate()
    assert again.animate(problem=(x, y)).note == of_arrays.animate().note == "Path, data and fit, and train loss."


def test_a_path_of_many_updates_is_thinned_by_samples() -> None:
    history = History()
    for update in range(5000):
        history.append(update=update, epoch=update, samples=update, seconds=0.0, train_loss=1.0, w=float(update), b=0.0)
    track = Track.of("long", history, Line(X, X, "x", "y"))
    assert track.w is not None
    assert 1000 < len(track.w) <= 1500
    assert (track.w[0], track.w[-1]) == (0, 4999)


def test_a_run_without_losses_is_refused() -> None:
    history = History()
    history.append(update=0, epoch=0, samples=0, seconds=0.0, batch_loss=1.0)
    with pytest.raises(InputError, match="no train loss against samples"):
        Track.of("run", history, None)


def test_infinite_numbers_are_gaps_of_a_page() -> None:
    track = Track(
        "run", np.arange(2.0), np.array([1.0, math.inf]), np.ones(2), np.arange(2.0), np.array([1.0, math.nan])
    )
    content = content_of(Animation("gap", [track], small().line).html())
    assert content["tracks"][0]["w"] == [1.0, None]
    assert content["tracks"][0]["losses"] == [1.0, None]


def test_compare_animates_all_variants_side_by_side(tmp_path: Path) -> None:
    report = gd_lightning.compare(batch_sizes=["full", 10], lrs=0.1, seeds=1, max_epochs=3)
    content = content_of(report.animate().html())
    assert [track["label"] for track in content["tracks"]] == list(report.histories)
    for track, (history,) in zip(content["tracks"], report.histories.values(), strict=True):
        assert track["w"] == history["w"].tolist()


def test_the_command_line_writes_beside_the_run_or_into_a_file(command_line: CommandLine, tmp_path: Path) -> None:
    run = command_line.fit("--animate", "--trainer.max_epochs=2")
    assert len(content_of((run / "animation.html").read_text(encoding="utf-8"))["tracks"]) == 1
    assert "animation.html: Path, data and fit" in command_line.out
    chosen = tmp_path / "moving.html"
    command_line.fit("--trainer.max_epochs=2", "--animate", chosen)
    assert command_line("fit", "--animate", chosen) == 2
    assert "already exists; give another name" in command_line.err
    for given in ("nope", "film.avi", ""):
        assert command_line("fit", f"--animate={given}") == 2
        assert "use html, gif or mp4" in command_line.err


@pytest.mark.slow
def test_the_command_line_compares_in_motion(command_line: CommandLine, tmp_path: Path) -> None:
    options = ["--trainer.max_epochs=1", "--seeds=1", "--batch_sizes=full,50"]
    assert command_line("compare", *options, "--animate") == 0, command_line.err
    (page,) = (tmp_path / "lightning_logs").glob("compare-*/animation.html")
    assert len(content_of(page.read_text(encoding="utf-8"))["tracks"]) == 2
    assert not list((tmp_path / "lightning_logs").glob("compare-*/*/animation.html"))


def test_a_film_needs_ffmpeg(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for stage in ("fit", "compare"):
        assert command_line(stage, "--animate", "mp4") == 2
        assert "ffmpeg is not installed; use html or gif" in command_line.err
    assert not command_line.root.joinpath("lightning_logs").exists()
