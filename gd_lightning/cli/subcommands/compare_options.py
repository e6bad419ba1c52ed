"""The options of ``compare``, and their parsing."""

from __future__ import annotations

from collections.abc import Sequence

from gd_lightning.cli.options.config_text import text_of


class CompareOptions:
    """The method whose arguments are the options of the subcommand."""

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
        panels: str | list[str] | None = None,
        formats: str | list[str] = "png,svg",
        workers: int = 1,
        animate: str | None = None,
    ) -> None:
        """Train variants side by side, from the same start on the same data, and compare them; or compare runs.

        Args:
            runs: Directories of finished runs to compare instead, of this or of another Lightning project; they can be
                given without the name of this option.
            batch_sizes: The variants, such as full,16,1; null: these, or the configured one if another option is
                varied.
            seeds: Number of seeds of each variant, counted up from the configured one. A seed changes the order of
                samples, and the initial weights if they are random.
            vary_data: Whether a seed also changes the data that the problem draws.
            lrs: Learning rates: one for all variants, one for each, such as 0.1,0.05,0.01, or best: by theory of a
                linear regressor the fastest to its target within these epochs, else the lowest loss at their end. Null:
                the configured one; best if no learning rate is configured.
            vary: An option and its values, such as model.momentum=0,0.5,0.9 or optimizer=SGD,Adam; repeat --vary for
                more options. In a config, a mapping from options to lists of values.
            target: The train loss that the runs should reach; null: 1 % above the least-squares loss if it is
                known, else the highest final train loss of all runs that do not diverge, in variants that end below
                every initial loss.
            directory: Directory of the runs and the comparison; null: a directory in lightning_logs. Runs that are
                finished there are not trained again.
            columns: Names of further quantities to show, such as [distance_to_truth, val_r2]; table.csv has all of
                them.
            claims: Claims to test, each with its expectation, such as {"0.1 is faster than 0.01": "epochs_to_target: lr
                0.1 < lr 0.01"}; the findings say whether the results agree.
            panels: The panels of the picture, such as epochs,val_epochs,paths: the train loss against epochs, updates,
                samples or seconds, on a linear scale with _linear appended; the validation loss with val_ in front;
                paths, fits and variances. Null: a choice of those with data.
            formats: Formats of the picture: png, svg and pdf.
            workers: Number of processes that train in parallel, each with a share of the threads; the results are those
                of one process with as many threads. A further process takes seconds to start, so it pays from some ten
                seconds of training. The same command, started again while it runs, also on another machine with the
                same directory, trains some of the runs.
            animate: Show paths, fits and losses of all variants in motion: html, gif or mp4 (which needs the program
                ffmpeg) for a file in the directory, or the name of a new file; --animate alone means html.
        """


def with_own_options(args: Sequence[str]) -> list[str]:
    """Return the arguments of compare with directories of runs, and all values of --vary, written as options.

    Args:
        args: The arguments after ``compare``.
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
    """Whether the next argument is the value of the last of these."""
    return bool(before) and before[-1].startswith("--") and "=" not in before[-1]
