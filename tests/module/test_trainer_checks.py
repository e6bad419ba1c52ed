"""What a Trainer can be told beside ``batch_size``: it changes nothing, does exactly what it says, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder
from torch import Tensor, nn

from gd_lightning import HistoryRecorder, LinearProblem, RegressionDataModule, RegressionModule, compare, sweep
from gd_lightning.data.order import epoch_orders
from gd_lightning.errors import InputError
from tests.conftest import MakeTrainer, without_address
from tests.other_projects import ModuleWithoutForward


def _data(**options: Any) -> RegressionDataModule:
    return RegressionDataModule(LinearProblem(n_samples=50, n_features=3), **{"batch_size": 16, **options})


def _vector(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


class Accumulate(Callback):
    """Has the Trainer accumulate from a hook on."""

    def __init__(self, hook: str, epoch: int) -> None:
        def set_it(trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch == epoch:
                trainer.accumulate_grad_batches = 2

        vars(self)[hook] = set_it


HOOKS = ["on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end"]


@pytest.mark.parametrize("engine", ["autograd", "auto"])
@pytest.mark.parametrize(("hook", "epoch"), [*((hook, 0) for hook in HOOKS), *((hook, 2) for hook in HOOKS[2:])])
def test_accumulation_that_a_callback_sets_is_refused(
    make_trainer: MakeTrainer, hook: str, epoch: int, engine: Any
) -> None:
    trainer = make_trainer(max_epochs=4, callbacks=[Accumulate(hook, epoch)])
    with pytest.raises(InputError, match=r"accumulate_grad_batches 2.*data.micro_batch_size"):
        trainer.fit(RegressionModule(engine=engine), _data())
    assert trainer.global_step <= 4 * epoch + 1  # no update more


@pytest.mark.parametrize("scheduling", [{0: 2}, {4: 2}, {0: 1, 2: 3}])
def test_a_scheduler_of_accumulation_is_refused_before_the_first_update(
    make_trainer: MakeTrainer, scheduling: dict[int, int]
) -> None:
    trainer = make_trainer(max_epochs=6, callbacks=[GradientAccumulationScheduler(scheduling)])
    with pytest.raises(InputError, match=r"GradientAccumulationScheduler.*data.micro_batch_size"):
        trainer.fit(RegressionModule(), _data())
    assert trainer.global_step == 0
    harmless = GradientAccumulationScheduler({0: 1})
    make_trainer(max_epochs=1, callbacks=[harmless]).fit(RegressionModule(), _data())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overfit_batches": 2}, "overfit_batches 2, because"),
        ({"overfit_batches": 0.5}, r"overfit_batches 0\.5, because"),
        ({"callbacks": [BatchSizeFinder()]}, "BatchSizeFinder, because"),
        ({"callbacks": [LearningRateFinder()]}, "LearningRateFinder, because"),
    ],
    ids=without_address,
)
def test_what_trains_otherwise_is_refused_before_the_first_update(
    make_trainer: MakeTrainer, options: dict[str, Any], message: str
) -> None:
    trainer, module = make_trainer(max_epochs=1, **options), RegressionModule()
    with pytest.raises(InputError, match=message) as refusal:
        trainer.fit(module, _data())
    assert "\n" not in str(refusal.value)
    assert trainer.global_step == 0
    assert module.hparams["lr"] == 0.1


def test_what_the_refusals_advise_works(make_trainer: MakeTrainer) -> None:
    make_trainer(max_epochs=2, limit_train_batches=2).fit(RegressionModule(), _data(micro_batch_size=4))
    compare(LinearProblem(), batch_sizes=[16], lrs="best", seeds=1, max_epochs=1)
    sweep(LinearProblem(), batch_sizes=[16], lrs=[0.1, 0.01], seeds=1, max_epochs=1)


def test_a_limit_of_batches_makes_the_first_updates_of_each_epoch(make_trainer: MakeTrainer) -> None:
    module, recorder, data = RegressionModule(lr=0.05), HistoryRecorder(), _data()
    make_trainer(max_epochs=3, limit_train_batches=2, precision="64-true", callbacks=[recorder]).fit(module, data)
    network = RegressionModule(in_features=3, out_features=1)
    network.double()
    for epoch in range(3):
        rows = epoch_orders("shuffled", 50, data.seed, epoch)
        for batch in (rows[:16], rows[16:32]):
            loss = nn.functional.mse_loss(network(data.train.x[batch]), data.train.y[batch])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                    parameter.sub_(0.05 * gradient)
    torch.testing.assert_close(_vector(module), _vector(network), rtol=1e-12, atol=1e-14)
    assert [recorder.history.last(name) for name in ("update", "samples")] == [6, 96]


@pytest.mark.parametrize("order", ["shuffled", "with_replacement"])
@pytest.mark.parametrize(
    "options", [{"reload_dataloaders_every_n_epochs": 1}, {"use_distributed_sampler": False}], ids=without_address
)
def test_these_change_no_bit(make_trainer: MakeTrainer, order: Any, options: dict[str, Any]) -> None:
    ends = []
    for added in (options, {}):
        module = RegressionModule(lr=0.05)
        make_trainer(max_epochs=3, **added).fit(module, _data(order=order))
        ends.append(_vector(module))
    assert torch.equal(ends[0], ends[1])


def test_a_module_of_another_project_may_accumulate(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=2, callbacks=[GradientAccumulationScheduler({0: 2})])
    trainer.fit(ModuleWithoutForward(nn.Linear(3, 1)), _data())
    assert trainer.global_step == 4
