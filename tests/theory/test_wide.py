"""Tables with more features than samples: what is said is that of D x D matrices, and none of them is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gd_lightning.affine import Affine
from gd_lightning.engine.drawn_orders import draws_as_torch
from gd_lightning.errors import InputError
from gd_lightning.identifiability import undetermined
from gd_lightning.linear_least_squares import least_squares
from gd_lightning.models import Standardize
from gd_lightning.theory import LinearLoss, OutcomePredictor, Rounding, Verdict
from gd_lightning.theory.rounding import _data_variance, _variance
from gd_lightning.update_rule import UpdateRule
from gd_lightning.variants import Variant
from tests.conftest import CommandLine

N, D = 6, 40
SCALES = torch.logspace(-6, 6, D, dtype=torch.float64)
TABLES: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "far from 0": lambda x: x + 1000,
    "of all sizes": lambda x: x * SCALES,
    "of all sizes and far from 0": lambda x: (x + 100) * SCALES,
    "constant columns": lambda x: torch.where(torch.arange(D) < 30, x, 3.25),
    "collinear columns": lambda x: torch.cat([x[:, :20], 2 * x[:, :20]], dim=1),
    "two equal rows": lambda x: torch.cat([x[:-1], x[:1]]),
    "few dimensions": lambda x: x[:, :3] @ x[:3],
}


class Largest(TorchDispatchMode):
    """Keeps how many numbers the largest tensor has that is made meanwhile."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return made


def _data(seed: int = 0, n: int = N, d: int = D, outputs: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, size, dtype=torch.float64, generator=generator) for size in (d, outputs))
    return x, y


def _symmetric_sums(values: list[Fraction]) -> list[Fraction]:
    """Return the sums of products of one, two, ... of some values."""
    sums = [Fraction(1)]
    for value in values:
        sums = [a + value * b for a, b in zip([*sums, Fraction(0)], [Fraction(0), *sums], strict=True)]
    return sums[1:]


def _coefficients(matrix: list[list[Fraction]]) -> list[Fraction]:
    """Return these sums of a matrix's eigenvalues, by the method of Faddeev and LeVerrier, without rounding."""
    size = len(matrix)
    found, power = list[Fraction](), [[Fraction(int(i == j)) for j in range(size)] for i in range(size)]
    for k in range(1, size + 1):
        columns = list(zip(*power, strict=True))
        product = [[sum(map(Fraction.__mul__, row, column), Fraction(0)) for column in columns] for row in matrix]
        last = -sum((product[i][i] for i in range(size)), Fraction(0)) / k
        found.append(last * (-1) ** k)
        power = [[value + last * (i == j) for j, value in enumerate(row)] for i, row in enumerate(product)]
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_eigenvalues_have_all_their_digits(name: str, bias: bool) -> None:
    x, y = _data()
    x = TABLES[name](x)
    loss = LinearLoss.of(x, y, bias)
    # Z Z' and Z' Z have the same eigenvalues but for those that are 0.
    design = [[*map(Fraction, row), *([Fraction(1)] if bias else [])] for row in x.tolist()]
    gram = [[sum(map(Fraction.__mul__, a, b), Fraction(0)) * 2 / N for b in design] for a in design]
    expected = _coefficients(gram)[: len(loss.eigenvalues)]
    rank = {"two equal rows": N - 1, "few dimensions": 3}.get(name, N)
    # With a bias, the means take one direction of those of N rows, and add theirs.
    assert len(loss.eigenvalues) == (4 if name == "few dimensions" and bias else rank)
    sums = _symmetric_sums([Fraction(value) for value in loss.eigenvalues.tolist()])
    # Without a bias a common mean hides the spread: there is no centred factor that has its digits.
    rtol = 1e-12 if bias or "far" not in name else 1e-7
    for found, exact in zip(sums, expected, strict=True):
        assert abs(found / exact - 1) < rtol


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_directions_are_those_of_the_d_by_d_hessian(name: str, bias: bool) -> None:
    x, y = _data(1, outputs=2)
    x = TABLES[name](x)
    loss = LinearLoss.of(x, y, bias)
    design = np.column_stack([x.numpy(), np.ones(N)]) if bias else x.numpy()
    hessian = design.T @ design / N  # 2 / K is 1
    np.testing.assert_allclose(loss.hessian, hessian, rtol=0, atol=1e-13 * np.abs(hessian).max())
    directions = loss.directions.numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(len(loss.eigenvalues)), atol=1e-12)
    start = Affine(torch.ones(2, D, dtype=torch.float64), torch.ones(2, dtype=torch.float64) if bias else None)
    prediction = start(x)
    excess = loss.excess(loss.error(start)).item()
    assert loss.least_squares + excess == pytest.approx((prediction - y).square().mean().item(), rel=1e-9)
    fitted = np.linalg.lstsq(design / np.linalg.norm(design, axis=0), y.numpy(), rcond=1e-13)[0]
    residual = design / np.linalg.norm(design, axis=0) @ fitted - y.numpy()
    assert loss.least_squares == pytest.approx(float(np.square(residual).mean()), abs=1e-16, rel=1e-6)


def _dense_deviations(rounding: Rounding, dtype: torch.dtype) -> Tensor:
    """Return the deviations by covariances of shape (C, C), with the Hessian's pseudo-inverse in the middle."""
    loss, x = rounding.loss, rounding.x.double()
    layer = rounding.layer
    z = x if layer is None else layer.standardized(x)
    has_bias, features, n = loss.optimum.bias is not None, x.shape[1], loss.n_samples
    rows = torch.cat([z, torch.ones_like(z[:, :1])], dim=1) if has_bias else z
    columns = rows.shape[1]
    units = torch.eye(columns, dtype=torch.float64)
    unit = Affine(units[:, :features], units[:, -1] if has_bias else None)
    affine = unit if layer is None else unit.in_original_units(layer.mean, layer.scale)
    back = affine.weight.T if affine.bias is None else torch.cat([affine.weight.T, affine.bias[None]])
    solve = back @ loss.directions / loss.eigenvalues @ loss.directions.T
    stays = back @ loss.directions * rounding._left() @ loss.directions.T
    of_features = _data_variance(x, dtype)
    if layer is not None:
        of_difference = _data_variance(x, torch.float64) + _variance(x - layer.mean, torch.float64)
        of_features = of_difference / layer.scale**2 + _variance(z, dtype)
    variances = []
    for output in range(loss.n_outputs):
        theta, y = rounding._theta[:, output], rounding.y[:, output].double()
        prediction = rows @ theta
        residual = y - prediction
        covariance = torch.zeros(columns, columns, dtype=torch.float64)
        own = torch.diag(torch.cat([torch.ones(features), torch.zeros(columns - features)])).double()
        weight = own @ theta
        for i in range(len(x)):  # of one sample, and one feature, after the other
            along = _variance(rows[i] * theta, dtype).sum() + _variance(prediction, dtype)[i]
            along = along + _variance(residual, dtype)[i] + _data_variance(y, dtype)[i]
            covariance += along * torch.outer(rows[i], rows[i])
            for d in range(features):
                gradient = own[d] * residual[i] - weight[d] * rows[i]
                covariance += of_features[i, d] * torch.outer(gradient, gradient)
        covariance /= len(x) * n
        alone = (torch.finfo(dtype).eps / 2) ** 2 / 6 * (rows * residual[:, None]).square().mean(dim=0)
        if layer is not None and not has_bias:
            alone = alone + residual.mean() ** 2 * _variance(layer.mean, torch.float64) / layer.scale**2
        covariance = (2 / loss.n_outputs) ** 2 * (covariance + torch.diag(alone))
        stalled = torch.diag(3 * _variance(theta, dtype))
        variance = (solve @ covariance @ solve.T + stays @ stalled @ stays.T).diagonal()
        variances.append(variance + rounding._noise_of_the_way_back(back @ theta))
    variance = torch.stack(variances)
    return torch.cat([variance[:, :features].flatten(), variance[:, features:].flatten()]).sqrt()


@pytest.mark.parametrize("standardize", [None, True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "d"), [(5, 12), (12, 5)])
def test_rounding_errors_are_those_of_d_by_d_covariances(n: int, d: int, bias: bool, standardize: bool | None) -> None:
    x, y = _data(2, n, d, outputs=2)
    x = x + 3
    layer = None if standardize is None else Standardize.fit(lambda: [x], centred=standardize)
    loss = LinearLoss.of(x if layer is None else layer.standardized(x), y, bias)
    rounding = Rounding(loss, x, y, UpdateRule(0.5 / loss.lambda_max, momentum=0.3), layer)
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(rounding.std(dtype), _dense_deviations(rounding, dtype), rtol=1e-8, atol=0)


def test_nothing_of_d_by_d_numbers_is_made() -> None:
    n, d = 5, 3000
    x, y = _data(3, n, d)
    with Largest() as largest:
        loss = LinearLoss.of(x, y)
        least_squares(x, y)
        assert undetermined([x]).all()
        layer = Standardize.fit(lambda: [x])
        predictor = OutcomePredictor(
            loss, Affine(torch.zeros(1, d), torch.zeros(1)), max_epochs=10, rule=UpdateRule(momentum=0.5)
        )
        for size in ("full", 2):
            predictor.predict(size, 1.0)
        Rounding(loss, x, y, UpdateRule(1e-4), layer).digits(torch.float32)
        Rounding(loss, x, y, UpdateRule(1e-4)).excess(torch.float32)
    assert d < largest.numbers <= 2 * (n + 2) * (d + 2)


def test_directions_and_samples_change_places_without_another_outcome() -> None:
    """Features that are rotated into few coordinates make the same run."""
    x, y = _data(4)
    basis = torch.linalg.qr(x.T).Q  # shape (D, N)
    start = Affine(torch.zeros(1, D, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    rotated = Affine(start.weight @ basis, start.bias)
    wide, narrow = (
        OutcomePredictor(LinearLoss.of(features, y), begin, max_epochs=50)
        for features, begin in ((x, start), (x @ basis, rotated))
    )
    for size in (N, 3, 1):
        lr = 0.5 * narrow.largest_stable_lr(size)
        torch.testing.assert_close(wide.losses(size, lr, 10), narrow.losses(size, lr, 10), rtol=1e-8, atol=1e-12)
        assert wide.largest_stable_lr(size) == pytest.approx(narrow.largest_stable_lr(size), rel=1e-7)


def test_mini_batches_are_told_up_to_some_number_of_directions() -> None:
    x, y = _data(5, 300, 320)
    loss = LinearLoss.of(x, y)
    predictor = OutcomePredictor(loss, Affine(torch.zeros(1, 320), torch.zeros(1)), max_epochs=10)
    assert predictor.predict("full", 2.1 / loss.lambda_max).verdict is Verdict.DIVERGES
    assert not predictor.can_predict(Variant.of(10, 300))
    for ask in (predictor.largest_stable_lr, predictor.asymptotic_lr, lambda size: predictor.losses(size, 0.1, 2)):
        with pytest.raises(InputError, match="use batch_size full, or fewer features"):
            ask(10)


@pytest.fixture
def table(tmp_path: Path) -> Callable[[int, int], list[str]]:
    """Return a function that writes a table of so many rows and features, and returns its options."""

    def write(n: int, d: int) -> list[str]:
        x, y = _data(6, n, d)
        np.save(tmp_path / "t.npy", torch.cat([x, y], dim=1).numpy())
        return ["--data.problem", "Table", "--data.problem.path", str(tmp_path / "t.npy"), "--data.standardize", "none"]

    return write


def test_a_wide_run_that_diverges_is_explained(
    command_line: CommandLine, table: Callable[[int, int], list[str]]
) -> None:
    d = 5000
    with Largest() as largest:
        run = command_line.fit(*table(2, d), "--model.lr", "1", "--trainer.max_epochs", "20", code=3)
    assert largest.numbers < 20 * d
    summary = json.loads((run / "summary.json").read_text())
    x, _ = _data(6, 2, d)
    design = np.column_stack([x.float().numpy(), np.ones(2)])
    limit = 2 / np.linalg.eigvalsh(design @ design.T)[-1]  # the Hessian is 2 Z'Z / 2
    assert f"is above {limit:.4g}, the limit for batch_size 2" in summary["reason"]


@pytest.mark.parametrize(
    "options",
    [["plan"], pytest.param(["compare", "--batch_sizes", "full,2", "--seeds", "1"], marks=pytest.mark.slow), ["sweep"]],
)
def test_every_subcommand_takes_a_wide_table(
    command_line: CommandLine, table: Callable[[int, int], list[str]], options: list[str]
) -> None:
    d, few = 3000, ["--model.lr", "1e-4", "--trainer.max_epochs", "2"]
    if options == ["sweep"]:
        options, few = ["sweep", "--lrs", "1e-5,1e-4", "--batch_sizes", "full,2", "--seeds", "1"], few[2:]
    if find_spec("numba"):
        draws_as_torch()  # once in a process it draws orders of thousands of samples, however small a table is
    with Largest() as largest:
        assert command_line(*options, *table(4, d), *few) == 0, command_line.err
    assert largest.numbers < 50 * d


def test_of_many_directions_the_whole_set_alone_is_told(
    command_line: CommandLine, table: Callable[[int, int], list[str]]
) -> None:
    wide = table(280, 300)
    assert command_line("plan", *wide, "--model.lr", "1e-3") == 0, command_line.err
    assert "Mini-batches: no prediction, because these data vary in too many directions (280)." in command_line.out
    assert command_line.out.count("batch  ") == 1
    assert command_line("plan", *wide, "--model.lr", "1e-3", "--data.batch_size", "10") == 2
    assert "use batch_size full, or fewer features" in command_line.err
    features = json.dumps([str(i) for i in range(5)])
    followed = ["--data.batch_size", "10", "--data.problem.features", features, "--data.problem.targets", '["300"]']
    assert command_line("plan", *wide, "--model.lr", "1e-3", *followed, "--map", "false") == 0, command_line.err
    few = ["--data.batch_size", "10", "--trainer.max_epochs", "2"]
    command_line.fit(*wide, "--model.lr", "10", *few, code=3)
    grid = ["--lrs", "1e-4,1e-3", "--batch_sizes", "full,10", "--seeds", "1", "--trainer.max_epochs", "1"]
    assert command_line("sweep", *wide, *grid) == 0, command_line.err
