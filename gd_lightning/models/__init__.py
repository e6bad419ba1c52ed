"""Linear and multilayer-perceptron regressors, and their initialization (layer 1)."""

from gd_lightning.models.initialization import Scheme, from_seed, given_start, initialize, set_parameters
from gd_lightning.models.regressors import Activation, LinearRegressor, MLPRegressor
from gd_lightning.models.standardize import Standardize, Standardized, standardized_before, standardized_by

__all__ = [
    "Activation",
    "LinearRegressor",
    "MLPRegressor",
    "Scheme",
    "Standardize",
    "Standardized",
    "from_seed",
    "given_start",
    "initialize",
    "set_parameters",
    "standardized_before",
    "standardized_by",
]
