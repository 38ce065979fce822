from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.models.calibration.scaling import SignedLogScaling
from tests.conftest import make_energies

MU = torch.tensor([60.0])


def fitted(shift: float = 0.4) -> SignedLogScaling:
    scaling = SignedLogScaling(2)
    energies = [make_energies(50, domain, 1)[0] for domain in (0, 1)]
    energies = [energy - np.float32(shift) * (energy > 0) for energy in energies]
    scaling.fit(energies, [])
    return scaling


def there_and_back(scaling: SignedLogScaling, energy: torch.Tensor) -> torch.Tensor:
    return scaling.decode(scaling.encode(energy, 0, MU, torch.zeros_like(energy)), 1, MU)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=2))
def test_any_energy_comes_back_for_either_domain(values):
    energy = torch.tensor(values, dtype=torch.float32).view(1, 2, 1, 1)
    back = there_and_back(fitted(), energy)
    assert torch.equal(back == 0, energy == 0)
    torch.testing.assert_close(back, energy, rtol=2e-5, atol=1e-6)


def test_hits_are_standardised_over_both_domains_and_odd_about_zero():
    scaling = fitted()
    logs, masks = [], []
    for domain in (0, 1):
        energy = torch.from_numpy(make_energies(50, domain, 1)[0])
        energy = energy - 0.4 * (energy > 0)
        logs.append(scaling.encode(energy, domain, MU, energy)[:, :2])
        masks.append(energy != 0)
    for layer in (0, 1):
        hits = torch.cat(
            [log[:, layer][mask[:, layer]] for log, mask in zip(logs, masks, strict=True)]
        )
        assert float(hits.mean()) == pytest.approx(0, abs=1e-3)
        assert float(hits.std()) == pytest.approx(1, abs=1e-3)
    probe = torch.linspace(-30, 30, 61).repeat(2, 1)[None, :, None]
    zero = scaling.encode(torch.zeros(1, 2, 1, 1), 0, MU, MU)[:, :2]
    odd = scaling.encode(probe, 0, MU, MU)[:, :2] - zero
    torch.testing.assert_close(odd, -odd.flip(3), atol=1e-5, rtol=1e-5)


def test_bits_are_signs_and_only_where_there_are_null_cells():
    scaling = fitted()
    assert scaling.n_channels == 4
    energy = torch.tensor([0.0, -0.3, 0.0, 2.0]).view(1, 2, 1, 2)
    scores = scaling.encode(energy, 0, MU, energy)
    assert scores[0, 2:].flatten().tolist() == [-1, 1, -1, 1]
    scores[:, 2:] *= 0.1
    torch.testing.assert_close(scaling.decode(scores, 0, MU), energy)
    noisy = [np.random.default_rng(1).normal(1, 2, (9, 2, 4, 4)).astype(np.float32)] * 2
    scaling.fit(noisy, [])
    assert scaling.n_channels == 2
    torch.testing.assert_close(
        there_and_back(scaling, torch.from_numpy(noisy[0])), torch.from_numpy(noisy[0])
    )


def test_saved_and_loaded_is_the_same(tmp_path):
    scaling = fitted()
    scaling.save_pretrained(tmp_path / "scaling")
    again = SignedLogScaling.from_pretrained(tmp_path / "scaling")
    energy = torch.from_numpy(make_energies(4, 0, 2)[0])
    assert torch.equal(there_and_back(scaling, energy), there_and_back(again, energy))
    assert torch.equal(scaling.encode(energy, 0, MU, MU), again.encode(energy, 0, MU, MU))
