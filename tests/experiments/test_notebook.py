"""A notebook on a data frame: nothing on stderr, and every last expression is a table or a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

CELLS = [
    """
import numpy as np
import pandas as pd

import gd_lightning as gd

random = np.random.default_rng(0)
frame = pd.DataFrame(random.normal(size=(120, 3)).round(3), columns=["size", "age", "distance"])
frame["heated"] = random.random(120) < 0.5
frame["district"] = random.choice(["north", "south", "west"], 120)
frame["price"] = 3 * frame["size"] - frame["age"] + 2 * frame["heated"] + (frame["district"] == "west")
frame.head()
""",
    'gd.plan(frame, targets="price", categories="auto", batch_size=16, lr=0.05)',
    'gd.plan(frame, targets="price", categories="auto", batch_size=16, lr=0.05).plot()',
    'run = gd.fit(frame, targets="price", categories="auto", batch_size=16, lr=0.05, epochs=30, val_size=0.2)\nrun',
    "run.plot()",
    "run.history.to_pandas().tail()",
    'pd.DataFrame({"price": frame["price"], "predicted": run.predict(frame)}).head()',
    'gd.compare(frame, targets="price", categories="auto", batch_sizes=["full", 16], lrs=0.05, seeds=2, epochs=10)',
    'gd.sweep(frame, targets="price", categories="auto", lrs="log(0.001,1,6)", batch_sizes="8,full", seeds=1)',
    'gd.fit(frame, targets="price", categories="auto", hidden_sizes=[4], batch_size=8, lr="best", epochs=2)',
    'loaded = gd.load(run.save())\ngd.fit(frame, targets="price", ckpt_path=loaded.directory, epochs=40)',
]
_SHOWN = ("<table", "data:image/png;base64,")


@pytest.mark.slow
def test_a_notebook_shows_tables_and_pictures_and_nothing_else(tmp_path: Path) -> None:
    reason = "a notebook needs a kernel, which is no part of the tests' dependencies"
    pytest.importorskip("pandas", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    nbclient, nbformat = (pytest.importorskip(name, reason=reason) for name in ("nbclient", "nbformat"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells:
        assert [output.output_type for output in cell.outputs] == ["execute_result"], (cell.source, cell.outputs)
        shown = cell.outputs[0].data
        html = shown.get("text/html", "")
        assert "image/png" in shown or any(each in html for each in _SHOWN), (cell.source, list(shown))
