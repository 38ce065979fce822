"""Training on a budget: it goes on where it was interrupted, and its random numbers are fixed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pileupgen.errors import TrainingError
from pileupgen.zoo import fitting
from pileupgen.zoo.contract import Budget
from pileupgen.zoo.fitting import TrainingStep, train
from pileupgen.zoo.flows import CouplingFlow

STEPS = 30


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(3))

    def loss(self, step: TrainingStep) -> Tensor:
        noise = torch.randn(3, generator=step.rng)
        return (self.value - torch.tensor([1.0, 2.0, 3.0]) + 0.1 * noise).square().sum()


def fitted(budget: Budget, stop_at: int | None = None) -> Toy:
    toy = Toy()

    def loss(step: TrainingStep) -> Tensor:
        if step.number == stop_at:
            raise KeyboardInterrupt
        return toy.loss(step)

    train(toy, [toy], [loss], budget, 4, rates=[0.1])
    return toy


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_EVERY", -1.0)
    whole = fitted(Budget(60, max_steps=STEPS))
    budget = Budget(60, max_steps=STEPS, state=tmp_path / "state.safetensors")
    with pytest.raises(KeyboardInterrupt):
        fitted(budget, stop_at=17)
    calls = []
    toy = Toy()
    train(toy, [toy], [lambda s: calls.append(s.number) or toy.loss(s)], budget, 4, rates=[0.1])
    assert calls == list(range(17, STEPS))
    assert torch.equal(toy.value, whole.value)


def test_what_is_trained_is_kept_for_what_comes_after(tmp_path: Path) -> None:
    budget = Budget(60, max_steps=STEPS, state=tmp_path / "state.safetensors")
    first, toy = fitted(budget), Toy()
    again = train(toy, [toy], [lambda _: pytest.fail("trained again")], budget, 4, rates=[0.1])
    assert again.steps == STEPS
    assert torch.equal(toy.value, first.value)


def test_a_state_that_is_damaged_or_of_another_network_begins_anew(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_EVERY", -1.0)
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"nothing of the kind")
    budget = Budget(60, max_steps=STEPS, state=path)
    assert torch.equal(fitted(budget).value, fitted(Budget(60, max_steps=STEPS)).value)
    other = nn.Linear(2, 1)
    done = train(
        other,
        [other],
        [lambda s: other(torch.randn(4, 2, generator=s.rng)).square().mean()],
        budget,
        4,
        rates=[0.1],
    )
    assert done.steps == STEPS


def test_a_state_without_averages_begins_anew(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_EVERY", -1.0)
    budget = Budget(60, max_steps=STEPS, state=tmp_path / "state.safetensors")
    whole = fitted(budget)
    with safe_open(budget.state, "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys() if "average" not in key}  # noqa: SIM118
        head = file.metadata()
    save_file(kept, budget.state, head)
    assert torch.equal(fitted(budget).value, whole.value)


def test_a_budget_in_seconds_ends_the_training():
    toy = Toy()
    done = train(toy, [toy], [toy.loss], Budget(0.3), 1, rates=[0.1])
    assert 0.3 <= done.seconds < 1.0
    assert done.steps > 10
    assert (toy.value - torch.tensor([1.0, 2.0, 3.0])).abs().max() < 0.3


def test_a_loss_that_is_no_number_ends_it_with_words():
    toy = Toy()
    with pytest.raises(TrainingError, match="step 0"):
        train(toy, [toy], [lambda s: toy.loss(s) / 0.0 * 0.0], Budget(1), 1, rates=[0.1])


@pytest.mark.parametrize("is_spline", [False, True])
def test_a_flow_is_inverted_and_its_determinant_is_that_of_its_jacobian(is_spline):
    if is_spline:
        pytest.importorskip("zuko")
    torch.manual_seed(0)
    shape = 2, 2, 4
    flow = CouplingFlow(shape, 2, is_spline=is_spline, is_ring=True, n_couplings=4, width=6).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape))
    x, conditions = torch.randn(1, *shape), torch.randn(1, 2)
    z, log_det = flow(x, conditions)
    assert (z - x).abs().max() > 0.05
    torch.testing.assert_close(flow.inverse(z, conditions), x, atol=1e-4, rtol=0)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: flow(flat.view(1, *shape), conditions)[0].flatten(), x.flatten()
    )
    _, expected = torch.linalg.slogdet(jacobian)
    assert log_det.item() == pytest.approx(expected.item(), abs=1e-3)
