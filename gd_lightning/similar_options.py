"""The option that a person may mean who gives one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ELSEWHERE = {
    "bs": "batch_size",
    "epoch": "epochs",
    "eta0": "lr",
    "hidden_layer_sizes": "hidden_sizes",
    "lambda": "weight_decay",
    "layers": "hidden_sizes",
    "learning_rate": "lr",
    "learning_rate_init": "lr",
    "max_iter": "epochs",
    "n_epochs": "epochs",
    "random_state": "seed",
}
"""What options are called in scikit-learn, Keras and the literature, and here."""


def similar_option(name: str, known: Iterable[str]) -> str | None:
    """Return the known option that a name is likely to mean; None if there is none.

    Args:
        name: A name that is no option, with or without the section that it is in.
        known: The options; those of the command line have their sections, as ``model.lr`` has.

    Example:
        >>> options = ["data.batch_size", "model.lr", "trainer.max_epochs"]
        >>> [similar_option(name, options) for name in ("lr", "learning_rate", "epochs", "data.bach_size", "noise")]
        ['model.lr', 'model.lr', 'trainer.max_epochs', 'data.batch_size', None]
    """
    options = [option for option in known if option != name]
    last = _last(name.replace("-", "_"))
    last = _ELSEWHERE.get(last, last)
    for wanted in (last, f"max_{last}"):
        if found := [option for option in options if _last(option) == wanted]:
            section = name.rpartition(".")[0]
            return min(found, key=lambda option: (option.rpartition(".")[0] != section, option.count(".")))
    return next(iter(difflib.get_close_matches(name, options, n=1)), None)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
