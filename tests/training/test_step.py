from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pileupgen.errors import ConfigError, TrainingError
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.training.objectives import Reconstruction
from pileupgen.training.replicas import Replicas
from pileupgen.training.step import new_accelerator, optimise, require_divisible, share


@dataclass
class Process:
    """As much of an accelerator as tells which process this is."""

    process_index: int
    num_processes: int


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return new_accelerator("cpu")


@dataclass(frozen=True)
class Broken:
    """An objective whose loss is not finite for some events."""

    bad: Tensor
    name: str = "denoiser"

    def draw(self, batch, rng):
        return {}

    def loss(self, network, batch, drawn):
        loss = network(batch.mu[:, None]).squeeze(1)
        return torch.where(torch.isin(batch.event_id, self.bad), torch.nan, loss)


def alone(network: nn.Module) -> Replicas:
    return Replicas(network, [], map)


def test_processes_share_a_batch_without_overlap_and_each_has_both_domains(sample):
    whole = sample.batch(0, 16, seed=1)
    drawn = {"t": torch.arange(16)}
    parts = [share(whole, drawn, Process(index, 2)) for index in (0, 1)]
    assert [part.label.bincount().tolist() for part, _ in parts] == [[4, 4], [4, 4]]
    assert torch.equal(torch.cat([part.scores for part, _ in parts]), whole.scores)
    assert torch.equal(torch.cat([numbers["t"] for _, numbers in parts]), drawn["t"])


def test_a_batch_that_processes_cannot_share_is_refused():
    require_divisible(64, Process(0, 4))
    with pytest.raises(ConfigError, match="64 cannot be shared among 3"):
        require_divisible(64, Process(0, 3))


def test_accumulated_gradients_are_those_of_the_big_batch(sample, accelerator):
    torch.manual_seed(1)
    first = Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2)
    for parameter in first.parameters():  # zeroed branches would hide differences
        nn.init.normal_(parameter, std=0.05)
    objective = Reconstruction(first.latent_shape, 0.1, (4, 6))
    batch = sample.batch(0, 16, seed=1)
    drawn = objective.draw(batch, torch.Generator().manual_seed(1))
    results, updated = [], []
    for micro_batch, n_replicas in ((None, 1), (8, 1), (5, 1), (1, 1), (None, 2), (3, 4)):
        network = copy.deepcopy(first)
        optimizer = accelerator.prepare(torch.optim.SGD(network.parameters(), lr=1.0))
        with Replicas.of(network, accelerator, n_replicas) as replicas:
            results.append(
                optimise(
                    replicas,
                    objective,
                    optimizer,
                    batch,
                    drawn,
                    accelerator,
                    grad_clip=1e9,
                    micro_batch=micro_batch,
                )
            )
        updated.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    start = torch.cat([p.detach().flatten() for p in first.parameters()])
    assert float((updated[0] - start).norm()) > 0.1
    for result, weights in zip(results[1:], updated[1:], strict=True):
        assert result.loss == pytest.approx(results[0].loss, rel=1e-6)
        assert result.gradient_norm == pytest.approx(results[0].gradient_norm, rel=1e-5)
        assert float((weights - updated[0]).norm() / (updated[0] - start).norm()) < 1e-5


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_replicas_stay_the_same_network_from_step_to_step(sample, precision):
    accelerator = new_accelerator("cpu", precision)
    torch.manual_seed(1)
    first = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 1))

    class Quadratic(Broken):
        def loss(self, network, batch, drawn):
            return (network(batch.mu[:, None] / 60).float().squeeze(1) - batch.label).square()

    found = []
    for n in (1, 3):
        model = copy.deepcopy(first)
        network, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 0.01))
        with Replicas.of(network, accelerator, n) as replicas:
            assert len(replicas) == n
            losses = [
                optimise(
                    replicas,
                    Quadratic(torch.empty(0)),
                    optimizer,
                    sample.batch(step, 16, seed=1),
                    {},
                    accelerator,
                    grad_clip=1.0,
                ).loss
                for step in range(5)
            ]
        found.append((losses, torch.cat([p.detach().flatten() for p in model.parameters()])))
    assert found[0][0][-1] != found[0][0][0]
    tolerance = 1e-6 if precision == "no" else 1e-3
    assert found[1][0] == pytest.approx(found[0][0], rel=max(tolerance, 1e-5))
    torch.testing.assert_close(found[1][1], found[0][1], atol=20 * tolerance, rtol=1e-4)


def test_events_with_a_loss_that_is_not_finite_are_named_and_nothing_is_changed(
    sample, accelerator
):
    batch = sample.batch(0, 16, seed=1)
    network = nn.Linear(1, 1)
    before = network.weight.clone()
    optimizer = accelerator.prepare(torch.optim.SGD(network.parameters(), lr=1.0))
    bad = batch.event_id[batch.label == 1][3:4]
    with pytest.raises(TrainingError, match=f"denoiser's loss is nan for events .*data {int(bad)}"):
        optimise(alone(network), Broken(bad), optimizer, batch, {}, accelerator, grad_clip=1.0)
    assert torch.equal(network.weight, before)


def test_a_gradient_that_is_not_finite_stops(sample, accelerator):
    class Cusp(Broken):
        def loss(self, network, batch, drawn):
            return (network(batch.mu[:, None]) * 0).abs().sqrt().squeeze(1)

    batch = sample.batch(0, 16, seed=1)
    network = nn.Linear(1, 1)
    optimizer = accelerator.prepare(torch.optim.SGD(network.parameters(), lr=1.0))
    with pytest.raises(TrainingError, match="gradient is nan"):
        optimise(
            alone(network), Cusp(torch.empty(0)), optimizer, batch, {}, accelerator, grad_clip=1.0
        )


def test_a_process_may_train_with_one_precision_after_another():
    found = [new_accelerator("cpu", kind).mixed_precision for kind in ("no", "bf16", "no")]
    assert found == ["no", "bf16", "no"]
