"""Reading tables from Parquet files, with pyarrow if installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gd_lightning.errors import InputError
from gd_lightning.problems.named_columns import Block, TableFile, check_digits, no_number


class ParquetFile(TableFile):
    """Columns of a Parquet file."""

    def _read_names(self) -> list[str]:
        try:
            from pyarrow import parquet, types
        except ImportError:
            raise InputError(
                f"cannot read {self.path} without pyarrow; install it with: pip install 'gd-lightning[parquet]'"
            ) from None
        # Columns are decoded as they are asked for; a buffer would hold whole row groups beside them.
        self._file, self._types = parquet.ParquetFile(self.path, memory_map=True, pre_buffer=False), types
        return list(self._file.schema_arrow.names)

    @property
    def index(self) -> Sequence[str]:
        """The index of the data frame that pandas wrote."""
        columns = (self._file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        return [name for name in columns if isinstance(name, str)]

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield the rows of some columns, block by block."""
        # By their places: a schema that is asked for each name takes time with the square of the columns.
        schema = self._file.schema_arrow
        kinds = dict(zip(schema.names, schema.types, strict=True))
        for name in names:
            self._check_type(name, kinds[name])
        rows = 0
        for batch in self._file.iter_batches(self.rows_at_once, columns=list(names), use_threads=False):
            block = np.empty((batch.num_rows, len(names)))
            place = {name: i for i, name in enumerate(batch.schema.names)}
            for i, name in enumerate(names):
                column = batch.column(place[name])
                if self._types.is_dictionary(column.type):
                    column = column.dictionary_decode()
                if column.null_count:
                    row = rows + column.is_null().to_pylist().index(True) + 1
                    raise InputError(
                        f"cannot use column {name!r} of {self.path}, because row {row} of the data is null; remove or "
                        "fill the rows without a value"
                    )
                values = column.to_numpy(zero_copy_only=False)
                check_digits(values, rows, name, self.path)
                block[:, i] = values
            rows += len(block)
            yield block

    def _check_type(self, name: str, kind: Any) -> None:
        types = self._types
        values = kind.value_type if types.is_dictionary(kind) else kind
        tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        if not any(test(values) for test in tests):
            raise no_number(name, self.path, kind, types.is_temporal(values))
