"""The options of ``compare``, and their parsing."""

from __future__ import annotations

from collections.abc import Sequence

from gd_lightning.cli.options.config_text import text_of


class CompareOptions:
    """Where the subcommand's own options are found; each of its runs has a Trainer of its own."""

    def compare(
        self,
        runs: list[str] | None = None,
        batch_sizes: str | int | list[int | str] | None = None,
        seeds: int = 3,
        vary_data: bool = False,
        lrs: str | float | list[float | str] | None = None,
        # Of a list[Any] jsonargparse makes classes, with all of their arguments, wherever it finds a class_path.
        vary: str | list[str] | dict[str, list] | None = None,  # type: ignore[type-arg]
        target: float | None = None,
        directory: str | None = None,
        columns: list[str] | None = None,
        claims: dict[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        """Train variants side by side, from the same start on the same data, and compare them; or compare runs.

        Args:
            runs: Directories of finished runs to compare instead, of this or of another Lightning project; they can be
                given without the name of this option.
            batch_sizes: The variants, such as full,16,1; null: these, or the configured one where something else is
                varied.
            seeds: From how many seeds each is trained: the configured one and those that follow. A seed changes the
                start, and the order of samples.
            vary_data: Whether a seed changes the data that the problem draws, too.
            lrs: Learning rates: one for all variants, one for each, such as 0.1,0.05,0.01, or best, which is what
                theory says of a linear regressor.
            vary: Any option and its values, such as model.momentum=0,0.5,0.9 or optimizer=SGD,Adam; more options with
                more --vary. In a config, a mapping from options to lists of values.
            target: The train loss whose first crossing is compared; null: 1 % above the least squares where they are
                known, else what all variants reach that do not diverge and get below every start.
            directory: Where the runs and the comparison are; null: a directory in lightning_logs. Runs that are
                finished there are not made again.
            columns: Names of other figures to show, such as [distance_to_truth, val_r2]; table.csv has all of them.
            claims: What somebody claims, each with what it expects of the figures, such as {"0.1 is faster than 0.01":
                "epochs_to_target: lr 0.1 < lr 0.01"}; whether it agrees is said with the findings.
            workers: How many processes train at the same time, with a share of the threads each; the numbers are those
                of one process of as many threads. Another process takes seconds to start, so that more than one pays
                from some ten seconds of training. The same command, started again while it runs, also on another
                machine with the same directory, takes part.
        """


def with_own_options(args: Sequence[str]) -> list[str]:
    """Return the arguments of compare with directories of runs, and each --vary, as the options that they are.

    Args:
        args: What was given behind ``compare``.
    """
    runs: list[str] = []
    varied: list[str] = []
    others: list[str] = []
    at = 0
    while at < len(args):
        argument = args[at]
        if argument == "--vary" and at + 1 < len(args):
            varied.append(args[at + 1])
            at += 1
        elif argument.startswith("--vary="):
            varied.append(argument.partition("=")[2])
        elif not argument.startswith("-") and not _is_value(others):
            runs.append(argument)
        else:
            others.append(argument)
        at += 1
    lists = {"runs": runs, "vary": varied}
    return [*others, *(f"--{name}={text_of(values)}" for name, values in lists.items() if values)]


def _is_value(before: Sequence[str]) -> bool:
    """Whether what follows some arguments is the value of the last of them."""
    return bool(before) and before[-1].startswith("--") and "=" not in before[-1]
