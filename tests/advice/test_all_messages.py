"""No message advises what no test follows."""

from __future__ import annotations

from tests.advice import on_the_command_line, test_in_python, test_with_arrays, test_with_runs, test_with_sklearn
from tests.advice.messages import messages

# Parts of messages that nothing here can bring about or follow, and why.
EXEMPT = {
    "as arguments; give a list of texts": "tests/cli/test_one_line.py",
    "there is not enough memory; give a smaller data.micro_batch_size": "would need more memory than there is",
    "of memory are free; use a smaller network, or SGD without": "tests/test_memory_checks.py",
    "the program ffmpeg is not installed; use html or gif": "there may be one: tests/plots/test_animation.py",
    "because ffmpeg refuses to ({}); use .html or .gif": "needs an ffmpeg that fails: tests/plots/test_animation.py",
    "{}; choose another directory with --trainer.default_root_dir": "needs another user: tests/cli/test_faults.py",
    "it may not be read; change its permissions": "needs another user",
    "because another process is writing there; wait": "needs another process: tests/cli/test_two_at_once.py",
    "another process has just done so; repeat the command": "needs another process: tests/cli/test_two_at_once.py",
    "because its copies share one run of W&B; give a": "tests/callbacks/test_other_loggers.py",
    "runs; repeat the command for the others": "tests/cli/test_compare.py",
    "another process of the run ended; continue with": "needs another process: tests/cli/test_processes.py",
    "; continue a run with --ckpt_path": "needs a full disk: tests/cli/test_faults.py",
    "leave run_id out": "tests/callbacks/test_other_loggers.py",
    "give other options of trainer.logger, or leave it out": "tests/callbacks/test_other_loggers.py",
    "leave it out of trainer.logger, or repair its destination": "needs a server",
    "no directory for compiled code can be written; set NUMBA_CACHE_DIR": "tests/engine/test_compilation_notice.py",
    "Numba cannot cache the code of a package in an archive; install it": "installs a package",
    "; install that version": "it is of a later version, which is not there yet: tests/cli/test_damaged_checkpoints.py",
    "without openpyxl; install it": "installs a package",
    "checkpoints do not contain the arrays that a run was trained on; use fit": "tests/experiments/test_single_run.py",
    "checkpoints do not contain the arrays of a run; give problem=": "tests/advice/test_with_arrays.py",
    "there are several of that name; give one of {}": "a second class of that name would be there for all other tests",
    "cannot continue without {0}; give it, or see --help": "no option of the program is required",
    "; see --help for the options": "says where to read",
    "{} may not be named in a config; use it in Python": "names what no program would do: tests/cli/test_trusted.py",
    "a config may not send anything away from this machine": "needs a server: tests/cli/test_trusted.py",
    "use batch_size full, or fewer features": "takes seconds: tests/theory/test_wide.py",
    "but neither functions nor objects; use it in Python": "names what no program would do: tests/cli/test_trusted.py",
    "{} is used without {}; name it in features to use it": "tests/problems/test_row_numbers.py",
    "{}; use {}{}{}.": "said by plan, and followed in tests/theory/test_verdicts.py",
    "use --data.standardize both, or train in float64 with": "tests/data/test_lost_digits.py",
    "is likely to be far too large for {}; use {}": "followed in tests/models/test_standardized_targets.py",
    "cannot find the best lr, because {}; give a number": "never shown: compare then takes the configured lr",
    "none is found by trial; give a number": "tests/callbacks/test_known_loss.py trains mae at one",
    "because every lr that was tried diverges; give a small lr": "no data are known on which all diverge",
    "by the curvature {}: sharpness": "of a run that diverged, followed in tests/callbacks/test_divergence_cause.py",
    "No local limit exists": "said by plan, and followed in tests/cli/test_local_plan.py",
    "nor TensorBoard event files with a loss; give a run that logs one": "tests/tracking/test_run_reader.py",
    "cannot read the TensorBoard event files in {}": "tests/tracking/test_run_reader.py",
    "cannot train in several processes, because an object cannot be sent": "tests/cli/test_workers.py",
    "this one is not in a file; write it to a file": "tests/experiments/test_imported_main.py",
    "would start others in line {}; put what": "tests/experiments/test_imported_main.py",
    "in the last half of the epochs; train longer": "tests/tracking/test_longer_training.py",
    "the train loss ended above its start; use a smaller lr": "tests/tracking/test_rising_loss.py",
    "cannot send the runs to the executor's workers": "tests/experiments/test_compare.py",
    "as executor, because it has no submit; give an executor": "tests/experiments/test_compare.py",
}


def test_every_advice_is_followed() -> None:
    followed = {
        **on_the_command_line.ADVICE,
        **test_in_python.ADVICE,
        **test_with_arrays.ADVICE,
        **test_with_runs.ADVICE,
        **test_with_sklearn.ADVICE,
        **EXEMPT,
    }
    missing = [f"{place}: {text}" for text, place in messages().items() if not any(part in text for part in followed)]
    assert not missing, "\n".join(missing)


def test_no_part_is_of_a_message_that_is_gone() -> None:
    parts = [
        *on_the_command_line.ADVICE,
        *test_in_python.ADVICE,
        *test_with_arrays.ADVICE,
        *test_with_runs.ADVICE,
        *test_with_sklearn.ADVICE,
        *EXEMPT,
    ]
    assert [part for part in parts if not any(part in text for text in messages())] == []
