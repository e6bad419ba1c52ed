"""Trains every combination of network and batch size, whole or in parts, and writes where each ends; run by a test.

Started by torchrun, it does so on several processes.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from gd_lightning import LinearProblem, RegressionDataModule, RegressionModule

N, UPDATES = 101, 50
NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {"lr": 0.05},
    "linear with everything": {"lr": 0.05, "l1": 0.01, "momentum": 0.9, "weight_decay": 0.01},
    "mlp": {"lr": 0.01, "hidden_sizes": [8, 4], "activation": "tanh"},
}


def problem() -> LinearProblem:
    return LinearProblem(n_samples=N, n_features=5, n_targets=2)


def train(trainer: Trainer, micro_batch_size: int | None, batch_size: Any, order: Any, **options: Any) -> torch.Tensor:
    """Return the parameters at the end, shape (P,)."""
    torch.manual_seed(3)
    data = RegressionDataModule(problem(), batch_size=batch_size, micro_batch_size=micro_batch_size, order=order)
    module = RegressionModule(**options)
    trainer.fit(module, data)
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def main(out: Path) -> None:
    warnings.simplefilter("ignore")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    found = {}
    # Each batch size is whole with one network and in parts with the other; one process has them whole.
    for number, (name, batch_size) in enumerate(product(("linear with everything", "mlp"), ("full", 32, 2))):
        size = 7 if world_size > 1 and number % 2 else None
        trainer = Trainer(
            accelerator="cpu",
            devices=world_size,
            strategy="ddp" if world_size > 1 else "auto",
            use_distributed_sampler=False,
            max_steps=UPDATES,
            precision="64-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        found[f"{name}, {batch_size}"] = train(trainer, size, batch_size, "shuffled", **NETWORKS[name]).tolist()
    if int(os.environ.get("RANK", "0")) == 0:
        out.write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(0.2)  # gloo's threads abort the interpreter where it exits before they are gone


if __name__ == "__main__":
    main(Path(sys.argv[1]))
