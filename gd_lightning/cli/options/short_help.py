"""The text that ``--help`` prints: the examples of a subcommand, and the most important options, on one screen.

It is plain text, so that it is printed at once: nothing here imports torch, Lightning or jsonargparse. A test compares
it with the parsers: each option exists, and has the default that is written here. ``--help-all`` prints what parsers
know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gd_lightning.cli.options.examples import EXAMPLES
from gd_lightning.cli.program import as_typed, program_that_runs, typed

_COLUMN = 38  # where descriptions begin


class Option(NamedTuple):
    """An option as the help shows it.

    Args:
        name: The name of the option, without dashes.
        value: Placeholder of its value; "" if it needs none.
        says: The description of the option.
        default: The default of the option; "" if the description says it.
    """

    name: str
    value: str
    says: str
    default: str = ""


_OWN: dict[str, tuple[Option, ...]] = {
    "plan": (
        Option("json", "", "print JSON for programs instead of a table"),
        Option("map", "true|false", "draw a map of the outcomes of all learning rates", "true"),
    ),
    "compare": (
        Option("batch_sizes", "SIZES", "the variants, such as full,16,1"),
        Option("lrs", "RATES", "one learning rate, one for each batch size, or best"),
        Option("vary", "OPTION=VALUES", "vary any other option, such as model.momentum=0,0.5,0.9"),
        Option("seeds", "N", "from how many seeds each variant is trained", "3"),
        Option("vary_data", "true|false", "whether a seed changes the data, too", "false"),
        Option("target", "LOSS", "the train loss that the runs should reach"),
        Option("claims", "MAPPING", "claims to test, each with the order it expects"),
        Option("directory", "DIR", "the directory of the runs; finished ones are kept"),
        Option("workers", "N", "how many processes train at the same time", "1"),
    ),
    "sweep": (
        Option("model.lr", "VALUES", "learning rates; log(1e-4,1,40) if they are not given"),
        Option("data.batch_size", "VALUES", "batch sizes; 1,2,4,...,full if they are not given"),
        Option("model.momentum", "VALUES", "values of the momentum", "0.0"),
        Option("model.weight_decay", "VALUES", "values of the L2 penalty", "0.0"),
        Option("model.l1", "VALUES", "values of the L1 penalty", "0.0"),
        Option("seeds", "N", "from how many seeds each combination is trained", "3"),
        Option("directory", "DIR", "the directory of the results; a new one if not given"),
        Option("workers", "N", "how many processes train at the same time", "1"),
    ),
    "explore": (Option("file", "FILE", "the file of the page; a new one in lightning_logs if not given"),),
}
_DATA = (
    Option("data.problem", "CLASS", "SteepLine, Parabola, Table, ..., or your own class", "SteepLine"),
    Option("data.problem.path", "FILE", "the file of a Table: CSV, Parquet, Excel and others"),
    Option("data.batch_size", "N", "samples per update: full, 1, or a number between", "full"),
    Option("data.order", "ORDER", "shuffled, sequential or with_replacement", "shuffled"),
    Option("data.val_size", "PART", "held out for validation: a fraction, or a number"),
    Option("data.standardize", "WHAT", "features, targets, both or none; both for tables if not given"),
)
_MODEL = (
    Option("model.lr", "RATE", "the learning rate; less for a network below batch_size 32", "0.1"),
    Option("model.momentum", "FACTOR", "momentum of SGD", "0.0"),
    Option("model.hidden_sizes", "[N,...]", "a multilayer perceptron with these layers; else linear"),
    Option("model.activation", "NAME", "activation of the hidden layers", "relu"),
    Option("model.loss", "NAME", "the loss that is minimised, such as mae or huber", "mse"),
    Option("model.initialization", "START", "initial weights: auto, zero, xavier, he, ...", "auto"),
    Option("model.engine", "NAME", "how updates are computed: auto, autograd or fused", "auto"),
    Option("optimizer", "CLASS", "another optimiser than SGD, such as Adam, with --optimizer.lr"),
    Option("lr_scheduler", "CLASS", "a scheduler of torch, such as StepLR, with its arguments"),
)
_ROOT = Option("trainer.default_root_dir", "DIR", "where lightning_logs is; here if not given")
_TRAINING = (
    Option("trainer.max_epochs", "N", "passes over the data", "20"),
    Option("trainer.precision", "NAME", "64-true for float64; float32 if not given"),
    Option("trainer.callbacks+", "CLASS", "add a callback, such as LossBelow or EarlyStopping"),
    Option("on_divergence", "WHAT", "stop or continue", "stop"),
    Option("seed_everything", "N", "seed of the initial weights", "0"),
    _ROOT,
)
_CKPT = Option("ckpt_path", "RUN", "a directory of a run, a checkpoint, last or best")
_ANIMATE = Option("animate", "html|gif|mp4", "show the run in motion; html if no format is given")
_FORMATS = Option("formats", "png,svg,pdf", "formats of the picture", "png")
_CONFIG = (
    Option("config", "FILE", "a YAML file, or a config of the package such as noisy_line"),
    Option("print_config", "", "print all options with their values, and exit"),
)
_TRAINED = {
    "Data and algorithm (options of gd_lightning)": _DATA,
    "Model and optimiser (options of gd_lightning)": _MODEL,
    "Training (the Trainer's options are Lightning's)": _TRAINING,
}
_INPUTS = Option("data.predict_inputs", "FILE", "a table with new inputs; those of the run if not given")
_OWN_OPTIONS = "Options of this subcommand"
# What each subcommand shows, group by group.
SHOWN: dict[str, dict[str, tuple[Option, ...]]] = {
    "fit": {**_TRAINED, "Runs, files and configs": (_ANIMATE, _FORMATS, _CKPT, *_CONFIG)},
    **{
        stage: {
            _OWN_OPTIONS: own,
            **{
                title: tuple(option for option in options if option.name not in {each.name for each in own})
                for title, options in _TRAINED.items()
            },
            "Configs": _CONFIG,
        }
        for stage, own in _OWN.items()
    },
    **{
        stage: {
            "The run": (_CKPT, _ROOT, Option("data.problem.path", "FILE", "another table with the same columns")),
            "Configs": _CONFIG,
        }
        for stage in ("validate", "test")
    },
    "predict": {"The run": (_CKPT, _ROOT, _INPUTS), "Configs": _CONFIG},
}
_SUMMARIES = {stage: text.partition(" Example")[0] for stage, text in EXAMPLES.items()}
_MORE = """\
More help:
  {0} --help-all
      every option, Lightning's and torch's included
  {0} --data.problem.help Table
      the arguments of a class, which are options, too; so are --optimizer.help Adam and
      --trainer.callbacks.help EarlyStopping
  PL_{1}__MODEL__LR=0.05 in the environment is --model.lr 0.05, and so for every option.
"""


def short_help(
    stage: str,
    default_of: Callable[[Option], str | None] = lambda option: option.default,
    added: Sequence[Option] = (),
) -> str:
    """Return the text that ``--help`` of a subcommand prints.

    Args:
        stage: The subcommand.
        default_of: Returns the default of an option; None: the program that runs has no such option.
        added: Options that another project has added.
    """
    groups: Mapping[str, Sequence[Option]] = SHOWN[stage]
    if added:
        groups = {"Options of your own classes": added, **groups}
    lines = [EXAMPLES[stage], f"usage: {typed()} {stage} [options]", ""]
    for title, options in groups.items():
        known = [(option, default) for option in options if (default := default_of(option)) is not None]
        lines += [f"{title}:", *(_line(option, default) for option, default in known)]
    command = f"{typed()} {stage}"
    return as_typed("\n".join([*lines, "", _MORE.format(command, stage.upper())]))


def _line(option: Option, default: str) -> str:
    says = option.says + (f" (default {default})" if default else "")
    return f"  --{option.name} {option.value}".ljust(_COLUMN - 1) + f" {says}"


def help_of_the_program() -> str:
    """Return the text that ``--help`` without a subcommand prints."""
    own = program_that_runs().subcommands
    summaries = _SUMMARIES | {name: (what.__doc__ or "").partition("\n")[0] for name, what in own.items()}
    names = [f"  {name:10}{says}" for name, says in summaries.items()]
    return "\n".join(
        [
            f"usage: {typed()} {{{','.join(summaries)}}} [options]",
            "",
            "Gradient descent where batch_size is the algorithm. Subcommands:",
            "",
            *names,
            "",
            f"  {typed()} SUBCOMMAND --help",
            "      examples and the most important options; --help-all lists all of them",
            f"  {typed()} --version",
            "      the version",
            f"  {typed()} --config FILE SUBCOMMAND",
            "      a config with a section for each subcommand",
            "",
        ]
    )


def quick_help(args: Sequence[str]) -> str | None:
    """Return the help that arguments ask for; None without one, or if the help needs the program's own classes.

    Args:
        args: Arguments without the program's name.
    """
    *stage, last = [*args] or [""]
    program = program_that_runs()
    if last in ("-h", "--help", "--help-all") and not stage:
        return help_of_the_program()
    is_ours = program.module_class is None and program.data_class is None and not {*stage} & {*program.subcommands}
    if last in ("-h", "--help") and len(stage) == 1 and stage[0] in SHOWN and is_ours:
        return short_help(stage[0])
    return None
