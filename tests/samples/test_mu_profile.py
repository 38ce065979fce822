from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
from scipy.stats import poisson

from pileupgen.errors import CardError, ConfigError
from pileupgen.samples.mu_profile import MuProfile, parse_mu_profile


def test_formulas() -> None:
    flat = parse_mu_profile("flat:19.5,80")
    assert (flat.mu[0], flat.mu[-1], flat.mean) == (20, 80, 50)
    found = parse_mu_profile("poisson:60")
    np.testing.assert_allclose(found.probability, poisson.pmf(found.mu, 60), rtol=1e-6)


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "mu.txt").write_text("mu p\n40 1\n40.4 1\n42 2\n")
    found = parse_mu_profile(str(tmp_path / "mu.txt"))
    assert found.mu.tolist() == [40, 42]
    assert found.probability.tolist() == [0.5, 0.5]


def test_a_histogram_in_a_root_file(tmp_path: Path) -> None:
    content, edges = np.array([0.0, 6.0, 3.0]), np.array([0.0, 1.0, 3.0, 4.5])
    with uproot.recreate(tmp_path / "mu.root") as file:
        file["pileup"] = (content, edges)
    found = parse_mu_profile(f"{tmp_path / 'mu.root'}:pileup")
    # [1, 3) has density 3, [3, 4.5) density 2.
    assert dict(zip(found.mu.tolist(), (9 * found.probability).tolist(), strict=True)) == (
        pytest.approx({1: 1.5, 2: 3, 3: 2.5, 4: 2})
    )


def test_events_of_unknown_mu_take_no_part() -> None:
    found = MuProfile.of(np.array([3.0, np.nan, 5.2, 5.0]), np.array([1.0, 9.0, 2.0, 0.0]))
    assert found.mu.tolist() == [3, 5]
    np.testing.assert_allclose(found.probability, [1 / 3, 2 / 3])


@pytest.mark.parametrize(
    "text",
    ["flat:3", "flat:9,3", "flat:3.2,3.8", "poisson:-1", "poisson:x", "poisson:nan", "none.txt",
     "none.root:h"],
)  # fmt: skip
def test_what_is_no_profile_says_so(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mu_profile(text)


@pytest.mark.parametrize("lines", ["", "3 0\n", "-1 2\n", "3 nan\n", "nan 3\n"])
def test_a_file_without_a_profile(tmp_path: Path, lines: str) -> None:
    (tmp_path / "mu.txt").write_text(lines)
    with pytest.raises((ConfigError, CardError)):
        parse_mu_profile(str(tmp_path / "mu.txt"))
