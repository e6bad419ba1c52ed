"""A history of which no line has all columns is refused in a sentence: the walk cut a line break out of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gd_lightning import InputError, RegressionDataModule, SteepLine
from gd_lightning.records.csv_columns import read_csv


def test_a_header_that_is_longer_than_every_line(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("update,loss,more\n0,1.5\n1,0.5\n")
    with pytest.raises(InputError, match="because of line 1: it names more columns than any line has cells"):
        read_csv(tmp_path / "history.csv", ["update"])


def test_micro_batches_beyond_what_a_computer_counts() -> None:
    with pytest.raises(InputError, match="use a whole number from 1"):
        RegressionDataModule(SteepLine(), micro_batch_size=2**63)
