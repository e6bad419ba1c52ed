"""What the pages of `explore` and of animations compute and show, in a real browser: headless Chromium."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from gd_lightning import LinearProblem, SteepLine, compare, explore, fit
from gd_lightning.affine import Affine
from gd_lightning.theory import LinearLoss, OutcomePredictor
from gd_lightning.update_rule import UpdateRule
from tests.headless_chromium import Browser, needs_chromium, wait_until

pytestmark = needs_chromium

X, Y = SteepLine().sample()
OWN = {"size": np.array([1.0, 2.0, 4.0, 3.0, 7.0, 5.5, 6.0]), "price": np.array([2.0, 1.0, 3.0, 5.0, 8.0, 6.0, 8.5])}


# What a person does with the inputs of the page.
MOVE = """
const move = moved => {
  for (const [id, value] of Object.entries(moved)) {
    const field = document.getElementById(id);
    if (field.type === 'checkbox') field.checked = value; else field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true}));
  }
};
const text = selector => document.querySelector(selector).textContent;
"""


def run(browser: Browser, page: str, script: str, given: object = None) -> Any:
    """Show a page, and return what JavaScript returns in it, which may ``move`` inputs and has a ``given`` value."""
    browser.show(page)
    result = browser.run(f"{MOVE}const given = arguments[0];{script}", given)
    assert browser.faults == []
    return result


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with closing(Browser(tmp_path_factory.mktemp("pages"))) as browser:
        yield browser


def test_the_slider_of_the_learning_rate_crosses_the_limit(browser: Browser) -> None:
    found = run(
        browser,
        explore(epochs=200).html(),
        """return given.map(inputs => {
          move(inputs);
          const [last, before] = explored.path.loss.slice(-2).reverse();
          return [document.getElementById('lr').value, text('#verdict strong'), last <= before, text('#limit strong')];
        })""",
        [{"lr": "0.12"}, {"lr": "0.119"}, {"lr": "0.1"}, {"batch-number": 1}],
    )
    assert found == [
        ["0.12", "Diverges", False, "0.11997"],
        ["0.119", "Converges slowly", True, "0.11997"],
        ["0.1", "Converges", True, "0.11997"],
        ["0.1", "Diverges", False, "0.064183"],
    ]


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        (None, {"batch_size": "full", "lr": 0.1}),
        (None, {"batch_size": "full", "lr": 0.05, "momentum": 0.9}),
        (None, {"batch_size": 16, "lr": 0.04, "order": "sequential"}),
        (None, {"batch_size": 16, "lr": 0.04, "drop_last": True}),
        (None, {"batch_size": 1, "lr": 0.01, "momentum": 0.5, "nesterov": True, "seed": 4}),
        (None, {"batch_size": 10, "lr": 0.05, "order": "with_replacement"}),
        (OWN, {"batch_size": 2, "lr": 0.02, "initialization": {"weight": 0.25, "bias": -1.5}}),
        (OWN, {"batch_size": 3, "lr": 0.1, "initialization": "zero"}),
        (OWN, {"batch_size": 3, "lr": 0.1, "standardize": "features", "initialization": "zero"}),
        (OWN, {"batch_size": "full", "lr": 0.01, "standardize": "none", "initialization": "zero"}),
    ],
)
def test_a_path_is_that_of_fit(browser: Browser, problem: Any, options: dict[str, Any]) -> None:
    path, units = run(browser, explore(problem, epochs=8, **options).html(), "return [explored.path, problem.units]")
    history = fit(problem, epochs=8, trainer={"precision": "64-true"}, **options).history
    w, b = np.array(path["w"]), np.array(path["b"])
    np.testing.assert_allclose(w / units["scale"], history["w"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        b - w * units["mean"] / units["scale"] + units["targetMean"], history["b"], rtol=1e-6, atol=1e-6
    )
    updates, losses = history.series("train_loss")
    np.testing.assert_allclose(np.array(path["loss"])[updates.astype(int)], losses, rtol=1e-6)
    assert path["samples"] == history["samples"].tolist()


def test_limit_floor_and_epochs_are_those_of_the_theory(browser: Browser) -> None:
    loss, start = LinearLoss.of(X.double(), Y.double()), Affine(torch.tensor([[-10.0]]), torch.tensor([-20.0]))
    orders, sizes, lrs = ("sequential", "shuffled", "with_replacement"), (100, 16, 10, 1), (0.12, 0.119, 0.05, 0.01)
    rules = ((0.0, False), (0.9, False), (0.5, True))
    names = ("order", "batchSize", "lr", "momentum", "nesterov")
    cases = [(order, size, lr, *rule) for order, size, lr, rule in itertools.product(orders, sizes, lrs, rules)]
    script = "return given.map(asked => explored.theory.outcome({...explored.settings, ...asked}))"
    asked = [dict(zip(names, case, strict=True)) for case in cases]
    for case, found in zip(cases, run(browser, explore().html(), script, asked), strict=True):
        order, size, lr, momentum, nesterov = case
        predictor = OutcomePredictor(
            *(loss, start, 20, UpdateRule(momentum=momentum, nesterov=nesterov), order == "sequential"),
            with_replacement=order == "with_replacement",
        )
        expected = predictor.predict(size, lr)
        # JSON has no infinity.
        limit, floor, epochs = (
            math.inf if found[name] is None else found[name] for name in ("limit", "floor", "epochs")
        )
        assert limit == pytest.approx(expected.largest_stable_lr, rel=1e-6), case
        assert floor == pytest.approx(expected.floor, rel=1e-5, abs=1e-12), case
        assert (epochs, found["verdict"]) == (expected.epochs, expected.verdict.value), case
        losses = [loss for loss in found["losses"] if loss is not None and loss < 1e100]
        curve = predictor.losses(size, lr, 20)[: len(losses)].tolist()
        assert losses == pytest.approx(curve, rel=1e-5), case


def test_the_start_follows_the_pointer_and_everything_the_keyboard(browser: Browser) -> None:
    script = """
      const canvas = document.getElementById('surface'), box = canvas.getBoundingClientRect();
      canvas.setPointerCapture = () => {};
      const middle = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, buttons: 1};
      canvas.dispatchEvent(new PointerEvent('pointerdown', middle));
      const fields = [...document.querySelectorAll('input, select, button')];
      return {
        start: [explored.settings.w, explored.settings.b],
        command: text('#command'),
        reached: fields.every(field => field.tabIndex === 0),
        named: fields.every(field => field.labels?.length || field.ariaLabel || field.textContent),
      }"""
    found = run(browser, explore().html(), script)
    (w, b), command = found["start"], found["command"]
    assert abs(w + 5) < 3
    assert abs(b) < 10
    assert f'initialization={{"weight": {w:g}, "bias": {b:g}}}' in command
    assert found["reached"]
    assert found["named"]


def test_an_animation_plays_steps_and_follows_its_slider(browser: Browser) -> None:
    report = compare(batch_sizes=["full", 16, 1], lrs=[0.05, 0.05, 0.1], seeds=1, max_epochs=5)
    script = """
      const press = id => document.getElementById(id).click();
      const seen = [{...shown}];
      press('step'); press('step'); press('back');
      seen.push({...shown});
      move({frame: 120, speed: 4});
      seen.push({...shown});
      const said = text('#now');
      press('play');
      seen.push({...shown});
      document.dispatchEvent(new KeyboardEvent('keydown', {key: ' ', bubbles: true}));
      seen.push({...shown});
      const page = document.documentElement;
      const size = [page.scrollWidth, page.scrollHeight, window.innerWidth, window.innerHeight];
      return {seen, said, size, canvases: document.querySelectorAll('canvas').length}"""
    found = run(browser, report.animate().html(), script)
    assert [(each["frame"], each["isPlaying"]) for each in found["seen"]] == [
        (0, False),
        (1, False),
        (120, False),
        (0, True),  # from the beginning, as it stood at the end
        (0, False),
    ]
    assert found["seen"][2]["samples"] == 500
    assert found["said"] == "500, epoch 5.0; stochastic diverged"
    assert found["size"][:2] == found["size"][2:]
    assert found["canvases"] == 3 + 2


def test_an_animation_goes_on_by_itself_to_its_end(browser: Browser) -> None:
    page = fit(batch_size=16, lr=0.05, epochs=2).animate().html()
    run(browser, page, "move({speed: 4}); document.getElementById('play').click();")
    wait_until(lambda: bool(browser.run("return shown.frame === 120 && !shown.isPlaying")), lambda: "the end")
    assert browser.run("return {...shown}") == {"frame": 120, "samples": 200, "isPlaying": False}


def test_an_animation_of_several_features_draws_their_predictions(browser: Browser) -> None:
    report = compare(LinearProblem(n_features=3), batch_sizes=["full", 16], seeds=1, max_epochs=3, lrs=0.05)
    script = """
      const colours = panel => {
        const {width, height} = panel.canvas, shown = panel.context.getImageData(0, 0, width, height).data;
        let found = 0;
        for (let i = 0; i < shown.length; i += 4) found += shown[i] < 40 && shown[i + 2] > 150;
        return found;
      };
      const before = colours(predictions[0]);
      move({frame: 120});
      return [predictions.length, before > 0, colours(predictions[0]) !== before, fits, text('#note')]"""
    found = run(browser, report.animate().html(), script)
    assert found == [2, True, True, None, "Predicted against true, and train loss."]


def test_a_picture_of_the_page_shows_its_colours(browser: Browser, tmp_path: Path) -> None:
    """``GD_LIGHTNING_SCREENSHOTS=docs pytest -m browser`` renews that of the documentation."""
    folder = Path(os.environ.get("GD_LIGHTNING_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    browser.show(explore(batch_size=1, lr=0.05).html())
    (folder / "explore.png").write_bytes(browser.screenshot())
    colors = {tuple(color) for color in (imread(folder / "explore.png")[..., :3] * 255).round().reshape(-1, 3)}
    for name in ("#0072B2", "#00795A", "#B5460F"):
        assert tuple(255 * channel for channel in to_rgb(name)) in colors, name


def test_the_page_fits_on_one_screen_and_has_no_faults(browser: Browser) -> None:
    script = """
      const page = document.documentElement, size = [page.scrollWidth, page.scrollHeight];
      for (const order of ['sequential', 'shuffled', 'with_replacement']) for (const momentum of [0, 0.9])
        for (const size of [1, 7, 100]) {
          move({order, 'momentum-number': momentum, 'batch-number': size, nesterov: true, seed: 5});
        }
      return [size, [window.innerWidth, window.innerHeight]]"""
    browser.resize(1280, 700)  # what bars of a browser leave of the smallest screens of laptops
    size, shown_size = run(browser, explore().html(), script)
    browser.resize(1280, 800)
    assert size == shown_size == [1280, 700]
