"""What is claimed, beside figures that are written down here."""

from __future__ import annotations

import math

import pytest

from gd_lightning import InputError
from gd_lightning.experiments.comparison.claims import check, judged
from gd_lightning.experiments.comparison.table import Row
from gd_lightning.experiments.tables import Spread

NOTHING = Spread(math.nan, math.nan)


def _row(label: str, train_loss: float, outcome: str = "completed", wide: float = 0.001, **others: float) -> Row:
    known = {name: Spread(value, 0.5) for name, value in others.items()}
    return Row(
        label=label,
        variant="batch",
        batch_size=8,
        lr=0.1,
        runs=2,
        updates=Spread(10, 0),
        samples=Spread(80, 0),
        train_loss=Spread(train_loss, 0.25),
        excess=NOTHING,
        reached=0,
        to_target={"epochs": NOTHING, "samples": NOTHING, "seconds": NOTHING},
        seconds_per_epoch=0.01,
        gradient_variance=NOTHING,
        outcome=outcome,
        others=known,
        per_run={
            "train_loss": (train_loss - 0.25 * wide, train_loss + 0.25 * wide),
            **{name: (value - 0.5, value + 0.5) for name, value in others.items()},
        },
    )


ROWS = [_row("a", 1.0, weight_norm=3.0), _row("b, lr 1", 2.0), _row("c", math.nan, "diverged 1 of 2, stopped 1 of 2")]
ROWS.append(_row("near", 1.25, wide=1))


def _verdict(expectation: str) -> str:
    (sentence,) = judged({"so it is": expectation}, ROWS)
    return sentence


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ("train_loss: a < b, lr 1", "agrees (train_loss: 1 < 2)"),
        ("train_loss: a > b, lr 1", "does not agree (train_loss: 1 and 2)"),
        ("train_loss: a < b, lr 1 < c", "agrees (train_loss: 1 < 2 < not reached)"),
        ("train_loss: a < c <= b, lr 1", "does not agree (train_loss: 1 and not reached and 2)"),
        ("train_loss: a < near", "agrees (train_loss: 1 < 1.25; seeds differ by more)"),
        ("train_loss: a < near < b, lr 1", "agrees (train_loss: 1 < 1.25 < 2; seeds differ by more)"),
        ("train_loss: near < a", "does not agree (train_loss: 1.25 and 1; seeds differ by more)"),
        ("train_loss: a = 1", "agrees (train_loss: 1 = 1)"),
        ("train_loss: a >= 1e0", "agrees (train_loss: 1 >= 1)"),
        ("train_loss_deviation: b, lr 1 = 0.25", "agrees (train_loss_deviation: 0.25 = 0.25)"),
        ("weight_norm: a <= 3", "agrees (weight_norm: 3 <= 3)"),
        ("epochs_to_target: a < 1", "does not agree (epochs_to_target: not reached and 1)"),
        ("outcome: c = diverged", "agrees (outcome: c diverged 1 of 2, stopped 1 of 2)"),
        ("outcome: a = diverged", "does not agree (outcome: a completed)"),
    ],
)
def test_a_claim_is_judged_by_the_figures(expectation: str, said: str) -> None:
    assert _verdict(expectation) == f'"so it is": {said}'


@pytest.mark.parametrize("expectation", ["", "train_loss", "train_loss: a", "train_loss: a <", "train_loss: < a"])
def test_what_is_no_expectation_is_refused_before_there_are_rows(expectation: str) -> None:
    with pytest.raises(InputError, match=f"cannot read {expectation!r}; write a quantity, a colon, and labels"):
        check({"so it is": expectation})


@pytest.mark.parametrize(
    ("expectation", "reason"),
    [
        ("train_loss: a < d", "there is no 'd' in this comparison; there are a, b, lr 1, c, near"),
        ("speed: a < c", "there is no quantity 'speed'; there are label, "),
        ("outcome: d = diverged", "there is no 'd' in this comparison"),
    ],
)
def test_what_cannot_be_judged_is_said_beside_the_others(expectation: str, reason: str) -> None:
    unjudged, other = judged({"so it is": expectation, "and so": "train_loss: a = 1"}, ROWS)
    assert unjudged.startswith(f'"so it is": cannot be judged, because {reason}')
    assert other == '"and so": agrees (train_loss: 1 = 1)'
