from __future__ import annotations

import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from gd_lightning.affine import Affine
from gd_lightning.errors import InputError
from gd_lightning.models import (
    LinearRegressor,
    MLPRegressor,
    Standardize,
    from_seed,
    given_start,
    initialize,
    set_parameters,
)


def test_a_linear_regressor_is_its_affine_function() -> None:
    for bias in (True, False):
        network, x = LinearRegressor(3, 2, bias=bias), torch.randn(5, 3)
        assert torch.allclose(network.affine()(x), network(x))


def test_an_mlp_is_a_chain_of_layers() -> None:
    network, x = MLPRegressor(2, 1, [4, 3], "tanh"), torch.randn(5, 2)
    weights = list(network.parameters())
    hidden = torch.tanh(torch.tanh(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3])
    assert torch.allclose(network(x), hidden @ weights[4].T + weights[5])
    assert [type(layer) for layer in MLPRegressor(1, 1, [2], dropout=0.5)] == [
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]


def test_a_seed_gives_pytorchs_own_start_in_every_precision_and_moves_no_generator() -> None:
    torch.manual_seed(5)
    plain = nn.Sequential(nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 1))
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        ours = from_seed(lambda: MLPRegressor(1, 1, [10]), seed=5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_schemes_have_the_spread_of_their_papers() -> None:
    def weights(scheme: str) -> torch.Tensor:
        network = MLPRegressor(300, 1, [200])
        initialize(network, scheme)
        first = network[0]
        assert isinstance(first, nn.Linear)
        assert scheme == "default" or not first.bias.any()
        return first.weight.detach()

    assert not weights("zero").any()
    assert weights("normal").std().item() == pytest.approx(1.0, rel=0.02)
    assert weights("xavier").std().item() == pytest.approx((2 / (300 + 200)) ** 0.5, rel=0.02)
    assert weights("he").std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.02)
    assert weights("default").std().item() == pytest.approx((1 / (3 * 300)) ** 0.5, rel=0.02)


def test_given_values_are_set_in_full_precision() -> None:
    network = LinearRegressor(2, 1).double()
    set_parameters(network, given_start({"weight": [[0.1, 0.2]], "bias": 1 / 3}))
    assert network.affine().named() == {"w_0": 0.1, "w_1": 0.2, "b": 1 / 3}
    set_parameters(network, given_start({"weight": -10}))
    assert network.affine().named() == {"w_0": -10, "w_1": -10, "b": 0}


def test_values_that_do_not_fit_are_refused() -> None:
    for values in ({"bias": 1}, {"weight": 1, "w": 2}, {"weight": "x"}, {"weight": [[1, 2], [3]]}):
        with pytest.raises(InputError):
            given_start(values)
    with pytest.raises(InputError, match="shape"):
        set_parameters(LinearRegressor(2, 1), given_start({"weight": [1, 2, 3]}))
    with pytest.raises(InputError, match="bias"):
        set_parameters(LinearRegressor(1, 1, bias=False), given_start({"weight": 1, "bias": 2}))
    set_parameters(LinearRegressor(1, 1, bias=False), Affine(torch.ones(1, 1), torch.zeros(1)))


@pytest.mark.parametrize(
    "options",
    [{"hidden_sizes": [0]}, {"hidden_sizes": [3], "activation": "step"}, {"hidden_sizes": [3], "dropout": 1.0}],
)
def test_networks_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        MLPRegressor(1, 1, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        initialize(LinearRegressor(1, 1), "lecun")


def test_standardisation_equals_scikit_learn() -> None:
    x = torch.randn(50, 3, dtype=torch.float64) * torch.tensor([1.0, 100.0, 1e-3]) + 7
    x[:, 1] = 3.0  # constant: only centred
    assert Standardize.fit(lambda: x.split(7)).double()(x).numpy() == pytest.approx(
        StandardScaler().fit_transform(x.numpy()), abs=1e-9
    )
