"""The common scale of events, mapped before a release that would leave the source's."""

from __future__ import annotations

import pytest
import torch

from pileupgen.models.common_modes import CommonModes
from pileupgen.models.field import StationaryField

ALPHA, SIGMA = 0.6, 0.8


def events(n: int, spread: float, seed: int) -> torch.Tensor:
    """White cells and a scale of the event that all of them share."""
    rng = torch.Generator().manual_seed(seed)
    cells = torch.randn(n, 2, 6, 8, generator=rng)
    return cells + spread * torch.randn(n, 1, 1, 1, generator=rng)


@pytest.fixture(scope="module")
def field() -> StationaryField:
    fitted = StationaryField(2, 6, 8)
    fitted.fit([events(4000, 0.5, 1), events(4000, 0.8, 2)])
    return fitted


def test_the_spread_of_the_common_scale_becomes_the_targets_and_nothing_else_moves(field):
    common = CommonModes(field, 0, 1, ALPHA, SIGMA)
    assert common.n_modes == 1
    before = events(4000, 0.5, 3)
    after = common.move(before)
    scale, wanted = after.mean(dim=(1, 2, 3)), events(4000, 0.8, 4).mean(dim=(1, 2, 3))
    assert float(scale.std() / wanted.std()) == pytest.approx(1.0, abs=0.03)
    assert float(before.mean(dim=(1, 2, 3)).std() / wanted.std()) < 0.7
    shape_before, shape_after = (x - x.mean(dim=(1, 2, 3), keepdim=True) for x in (before, after))
    assert float((shape_after - shape_before).std()) < 0.03


def test_the_reverse_map_brings_events_back(field):
    there = CommonModes(field, 0, 1, ALPHA, SIGMA).move(events(50, 0.5, 5))
    back = CommonModes(field, 1, 0, ALPHA, SIGMA).move(there)
    torch.testing.assert_close(back, events(50, 0.5, 5), atol=2e-2, rtol=1e-2)


def test_noise_that_reaches_all_modes_leaves_none_to_be_mapped(field):
    common = CommonModes(field, 0, 1, 0.1, 0.995)
    assert common.n_modes == 0
    x = events(5, 0.5, 6)
    torch.testing.assert_close(common.move(x), x, atol=1e-5, rtol=1e-5)
    assert float(common.log_ratio(x).abs().max()) == 0


def test_moved_events_are_no_longer_told_from_the_target_by_their_scale(field):
    """What the density ratio of the fields says of noised events is nearly all of it the scale."""
    common = CommonModes(field, 0, 1, ALPHA, SIGMA)
    moved = common.move(events(3000, 0.5, 7))
    noise = torch.randn(moved.shape, generator=torch.Generator().manual_seed(8))
    x_t = ALPHA * moved + SIGMA * noise
    levels = torch.full((len(x_t),), ALPHA), torch.full((len(x_t),), SIGMA)
    whole = field.log_ratio(x_t, *levels)
    # The rest is what the fit of other modes does not know.
    assert float((whole - common.log_ratio(x_t)).std()) < 0.2 * float(whole.std())
