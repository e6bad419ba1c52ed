"""The additional options of ``sweep``, and their parsing."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import Namespace

from gd_lightning.experiments.sweeps.ranges import BATCH_SIZES, LRS, numbers

# The options of fit that take a grid here, and the own options that hold it.
GRIDS = {
    "data.batch_size": "batch_sizes",
    "model.lr": "lrs",
    "model.momentum": "momentums",
    "model.weight_decay": "weight_decays",
    "model.l1": "l1s",
}


class SweepOptions:
    """The method whose arguments are the options of the subcommand."""

    def sweep(
        self,
        lrs: str | float | list[float | str] | None = None,
        batch_sizes: str | int | list[int | str] | None = None,
        momentums: str | float | list[float | str] | None = None,
        weight_decays: str | float | list[float | str] | None = None,
        l1s: str | float | list[float | str] | None = None,
        seeds: int = 3,
        directory: str | None = None,
        formats: str | list[str] = "png",
        workers: int = 1,
    ) -> None:
        """Train every combination of some settings, many runs at once, and map the results.

        Args:
            lrs: Learning rates, such as 0.01,0.1 or log(1e-4,1,40), which has equal ratios; the same as --model.lr.
                Null: log(1e-4,1,40).
            batch_sizes: Batch sizes, such as 1,2,4,...,full; the same as --data.batch_size. Null: these.
            momentums: Values of the momentum, such as 0,0.5,0.9; the same as --model.momentum.
            weight_decays: Values of the L2 penalty; the same as --model.weight_decay.
            l1s: Values of the L1 penalty; the same as --model.l1.
            seeds: Number of seeds of each combination, counted up from the configured one. A seed changes the order of
                samples, and the initial weights if they are random.
            directory: Directory of the results; null: a new one in lightning_logs.
            formats: Formats of the map: png, svg and pdf.
            workers: Number of processes that train in parallel, each with a share of the threads; the results are those
                of one process with as many threads. Processes take seconds to start, and compiled runs use all threads
                of one process, so several pay only if a sweep takes longer than some ten seconds and is not compiled.
        """


def with_grids(args: Sequence[str]) -> list[str]:
    """Return the arguments of sweep, with swept options of fit replaced by the options of sweep for their values.

    Args:
        args: The arguments after ``sweep``.

    Example:
        >>> with_grids(["--model.lr", "0.1,0.2", "--data.batch_size=1,2,4,...,full", "--seeds", "2"])
        ['--lrs=0.1,0.2', '--batch_sizes=1,2,4,...,full', '--seeds', '2']
    """
    found: list[str] = []
    for argument in args:
        before = found[-1].removeprefix("--") if found and found[-1].startswith("--") else ""
        name, is_there, value = argument.partition("=")
        if before in GRIDS and not argument.startswith("--"):
            found[-1] = f"--{GRIDS[before]}={argument}"
        elif is_there and name.startswith("--") and name[2:] in GRIDS:
            found.append(f"--{GRIDS[name[2:]]}={value}")
        else:
            found.append(argument)
    return found


def settle_grids(config: Namespace, given: Namespace) -> None:
    """Set the default values of swept options, and give the module one of the values, so that it is checked.

    Args:
        config: All options; changed.
        given: The options that were given in arguments, configs or the environment.
    """
    if config.batch_sizes is None and given.get("data.batch_size") is None:
        config.batch_sizes = BATCH_SIZES
    if config.lrs is None and given.get("model.lr") is None and given.get("optimizer.init_args.lr") is None:
        config.lrs = LRS
    for option, own in GRIDS.items():
        if option.startswith("model.") and config[own] is not None:
            config[option] = numbers(own, config[own])[-1]
