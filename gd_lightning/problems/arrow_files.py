"""Reading tables from files that pyarrow reads (Parquet, Feather, ORC), and from Excel workbooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gd_lightning.errors import InputError
from gd_lightning.problems.named_columns import NamedColumns, index_of


class ArrowFile(NamedColumns):
    """Columns of a file that has a schema.

    Args:
        path: The file.
        schema: The schema of the file.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        super().__init__(str(path), schema.names, index_of(schema))

    def columns(self, positions: Sequence[int]) -> Iterator[list[Any]]:
        """Yield blocks of some columns as Arrow arrays."""
        names = [self.header[i] for i in positions]
        # Columns are read by their names; if several have one name, all columns are read.
        by_name = not self.repeated.intersection(names)
        for batch in self._batches(names if by_name else None):
            places = {name: i for i, name in enumerate(batch.schema.names)}
            yield [batch.column(places[name] if by_name else i) for i, name in zip(positions, names, strict=True)]

    def _batches(self, names: list[str] | None) -> Iterator[Any]:
        """Yield batches of rows with these columns, or with all."""
        raise NotImplementedError


class ParquetFile(ArrowFile):
    """Columns of a Parquet file."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        # Columns are decoded when they are read; a buffer would hold whole row groups at the same time.
        self._file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False)
        super().__init__(path, self._file.schema_arrow)

    def _batches(self, names: list[str] | None) -> Iterator[Any]:
        yield from self._file.iter_batches(self.rows_at_once, columns=names, use_threads=False)


class ParquetFolder(ArrowFile):
    """Columns of the Parquet files in a folder, in the order of their names; ``name=value`` folders give a column."""

    def __init__(self, path: Path) -> None:
        from pyarrow import dataset

        files = sorted(
            str(file)
            for file in path.rglob("*.parquet")
            if file.is_file() and not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
        )
        if not files:
            raise InputError(
                f"cannot read the table {path}, because the folder contains no .parquet files; give a file"
            )
        self._dataset = dataset.dataset(files, format="parquet", partitioning="hive", partition_base_dir=str(path))
        super().__init__(path, self._dataset.schema)

    def _batches(self, names: list[str] | None) -> Iterator[Any]:
        yield from self._dataset.to_batches(
            columns=names, batch_size=self.rows_at_once, batch_readahead=1, fragment_readahead=1, use_threads=False
        )


class FeatherFile(ArrowFile):
    """Columns of an Arrow file or stream, such as Feather's."""

    def __init__(self, path: Path) -> None:
        self._source = pa.memory_map(str(path))
        try:
            reader = pa.ipc.open_file(self._source)
        except pa.ArrowInvalid:
            self._source.seek(0)
            reader = pa.ipc.open_stream(self._source)
        self._reader = reader
        super().__init__(path, reader.schema)

    def _batches(self, names: list[str] | None) -> Iterator[Any]:
        if hasattr(self._reader, "get_batch"):
            yield from map(self._reader.get_batch, range(self._reader.num_record_batches))
            return
        self._source.seek(0)
        yield from pa.ipc.open_stream(self._source)


class OrcFile(ArrowFile):
    """Columns of an ORC file."""

    def __init__(self, path: Path) -> None:
        from pyarrow import orc

        self._file = orc.ORCFile(path)
        super().__init__(path, self._file.schema)

    def _batches(self, names: list[str] | None) -> Iterator[Any]:
        for i in range(self._file.nstripes):
            yield self._file.read_stripe(i, columns=names)
