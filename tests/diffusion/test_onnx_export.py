"""The exported translation against torch, both in single precision."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin

pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

from pileupgen.diffusion import onnx_export, onnx_graphs, run_onnx
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.onnx_export import OnnxAgreement, export_translation
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.diffusion.settings import Settings, timesteps_between
from pileupgen.diffusion.solver_plan import plan_steps
from pileupgen.diffusion.solvers import solve
from pileupgen.errors import ConfigError, RunError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.codec import EventNoise
from pileupgen.models.common_modes import CommonModes
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.transformer import TransformerDenoiser
from pileupgen.samples.store import Images
from tests.conftest import SMALL_GRID, make_energies

T = 1000


def make_pipeline(autoencoder: ModelMixin, denoiser: ModelMixin) -> PileupTranslationPipeline:
    """Networks with random weights everywhere, so that nothing is hidden by zeros."""
    torch.manual_seed(0)
    samples = [make_energies(300, domain, seed=60) for domain in (0, 1)]
    calibration = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=2, n_layer_bins=4)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    ratio = RatioClassifier(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    for network in (autoencoder, denoiser, ratio):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    denoiser.field.fit([torch.randn(200, 8, 4, 6) + 0.1 * shift for shift in range(2)])
    ratio.field.load_state_dict(denoiser.field.state_dict())
    return PileupTranslationPipeline(
        calibration, autoencoder, denoiser, ratio, make_scheduler(T), SMALL_GRID.to_dict()
    )


@pytest.fixture(scope="module")
def pipeline() -> PileupTranslationPipeline:
    return make_pipeline(
        Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2),
        Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2)),
    )


@pytest.fixture
def graphs_once(
    pipeline: PileupTranslationPipeline,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same networks for all settings, traced once."""
    folder = tmp_path_factory.getbasetemp() / "onnx-graphs"
    if not folder.exists():
        folder.mkdir()
        onnx_graphs.write_graphs(pipeline, None, folder)

    def copy(
        _: PileupTranslationPipeline, common: CommonModes | None, place: Path
    ) -> dict[str, str]:
        assert common is None
        shutil.copytree(folder, place, dirs_exist_ok=True)
        return {path.stem: path.name for path in folder.iterdir()}

    monkeypatch.setattr(onnx_export, "write_graphs", copy)


@pytest.fixture(scope="module")
def events() -> Events:
    energy, mu = make_energies(7, 0, seed=61)
    mu[3], mu[0], mu[6] = np.nan, 20.0, 140.0
    energy[2, 0, 3, 4], energy[4, 1, 5, 6], energy[5, 1, 2, 2] = 900.0, 5000.0, 0.2
    return Events(energy, mu, EventKeys(np.array([5, 2, 11, 2**40, 0, 7, 8]), 3))


def assert_within_tolerances(found: OnnxAgreement) -> None:
    assert found.differences.keys() == run_onnx.TOLERANCES.keys()
    for name, tolerance in run_onnx.TOLERANCES.items():
        assert found.differences[name] <= tolerance, name


def correction_of(pipeline: PileupTranslationPipeline, settings: Settings) -> FieldCorrection:
    sample, (energy, mu) = make_energies(100, 0, seed=62), make_energies(100, 1, seed=63)
    real = Images(energy, SMALL_GRID, {"mu": mu, "event_id": np.arange(100)})
    with_map = dataclasses.replace(settings, correction="correlations")
    found = pipeline.fit_correction(*sample, np.arange(100), 1, with_map, real=real)
    assert isinstance(found, FieldCorrection)
    return found


PARTIAL = Settings(num_inference_steps=6)
CASES = {
    "partial": PARTIAL,
    "unguided ancestral": dataclasses.replace(PARTIAL, w=0.0, sampler="ancestral"),
    "ddim, ratio guided": dataclasses.replace(
        PARTIAL, sampler="ddim", eta=0.3, guidance="ratio", guidance_schedule="cosine"
    ),
    "invert": dataclasses.replace(PARTIAL, mode="invert", t_release=900, w=0.5),
    "invert+sde": dataclasses.replace(PARTIAL, mode="invert+sde", guidance_interval=(50, 200)),
    "partly inverted": dataclasses.replace(PARTIAL, fresh_noise=0.2),
    "two passes": dataclasses.replace(
        PARTIAL, guidance="classifier-free", correction="correlations"
    ),
    "generate": dataclasses.replace(PARTIAL, mode="generate", w=1.0),
    "calibrate": dataclasses.replace(PARTIAL, mode="calibrate"),
    "no release": dataclasses.replace(PARTIAL, t_release=0),
}


@pytest.mark.parametrize(
    "denoiser",
    [
        lambda: TransformerDenoiser(8, 4, 6, 16, 1, n_heads=2, patch=(2, 2)),
        lambda: LocalDenoiser(8, 4, 6, width=8, n_blocks=2, patch=(2, 2)),
    ],
    ids=["transformer", "local"],
)
def test_other_denoisers_on_cells_agree_too(
    denoiser: Callable[[], ModelMixin], events: Events, tmp_path: Path
) -> None:
    pipeline = make_pipeline(CellPatches(2, 8, 12), denoiser())
    found = export_translation(pipeline, PARTIAL, tmp_path / "out", events)
    assert_within_tolerances(found)


def test_a_common_scale_that_is_mapped_agrees_too(events: Events, tmp_path: Path) -> None:
    """Events and ln r are others than without the map, in both alike."""
    pipeline = make_pipeline(
        CellPatches(2, 8, 12), LocalDenoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    )
    eigenvalues = pipeline.denoiser.field.eigenvalues
    eigenvalues[:2, 0, -1] = torch.tensor([30.0, 60.0])
    settings = dataclasses.replace(PARTIAL, map_scale=True)
    found = {}
    for name, one in (("plain", PARTIAL), ("mapped", settings)):
        assert_within_tolerances(export_translation(pipeline, one, tmp_path / name, events))
        found[name] = np.load(tmp_path / name / "check.npz")
    assert np.abs(found["plain"]["scores"] - found["mapped"]["scores"]).max() > 0.05
    assert np.abs(found["plain"]["log_ratio"] - found["mapped"]["log_ratio"]).max() > 0.05


def test_a_denoiser_that_sees_the_source_is_refused() -> None:
    pipeline = make_pipeline(
        CellPatches(2, 8, 12), Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2), has_coarse=True)
    )
    with pytest.raises(ConfigError, match="sees the source event"):
        onnx_export.require_exportable(pipeline, PARTIAL)


def test_an_autoencoder_with_coarse_content_agrees_too(events: Events, tmp_path: Path) -> None:
    pipeline = make_pipeline(
        Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2, has_coarse=True),
        Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2)),
    )
    found = export_translation(pipeline, PARTIAL, tmp_path / "out", events)
    assert_within_tolerances(found)


@pytest.mark.usefixtures("graphs_once")
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_onnx_runtime_and_torch_agree_on_every_cell(
    pipeline: PileupTranslationPipeline, events: Events, settings: Settings, tmp_path: Path
) -> None:
    correction = None
    if settings is PARTIAL:
        sample = make_energies(100, 0, seed=62)
        correction = pipeline.fit_correction(*sample, np.arange(100), 1, settings)
        assert isinstance(correction, MarginalCorrection)
    elif settings is CASES["two passes"]:
        correction = correction_of(pipeline, settings)
    found = export_translation(pipeline, settings, tmp_path / "out", events, correction=correction)
    assert isinstance(found, OnnxAgreement)
    assert_within_tolerances(found)
    assert found.differing_cells < 1e-3
    assert found.n_events == 7
    plan = json.loads((tmp_path / "out" / "translation.json").read_text())
    n_steps = [len(phase["steps"]) for phase in plan["phases"]]
    expected = {"calibrate": [], "invert": [6, 6], "invert+sde": [6, 6]}
    n = expected.get(settings.mode, [6 if settings.t_release else 0])
    if settings.fresh_noise < 1:
        n = [6, 6]
    assert n_steps == n


@pytest.mark.usefixtures("graphs_once")
def test_scores_that_networks_shift_are_encoded_with_tables_as_they_are(
    pipeline: PileupTranslationPipeline, events: Events, tmp_path: Path
) -> None:
    models = pipeline.calibration, pipeline.autoencoder, pipeline.denoiser, pipeline.ratio
    uncalibrated = PileupTranslationPipeline(
        *models, pipeline.scheduler, SMALL_GRID.to_dict(), calibrate_before=False
    )
    correction = MarginalCorrection(2, 8)
    correction.hit_knots += 0.2
    found = export_translation(
        uncalibrated, PARTIAL, tmp_path / "out", events, correction=correction
    )
    assert_within_tolerances(found)
    assert found.differing_cells < 1e-3


@pytest.mark.usefixtures("graphs_once")
def test_the_folder_runs_without_pileupgen(
    pipeline: PileupTranslationPipeline, events: Events, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    export_translation(pipeline, PARTIAL, folder, events)
    given = {"energy": events.energy, "mu": events.mu, "event_id": events.keys.event_id}
    np.savez(tmp_path / "in.npz", **given)
    code = (
        "import sys, runpy; sys.modules['pileupgen'] = sys.modules['torch'] = None; "
        "sys.argv = ['run_onnx.py', *sys.argv[1:]]; "
        f"runpy.run_path({str(folder / 'run_onnx.py')!r}, run_name='__main__')"
    )
    out = subprocess.run([sys.executable, "-c", code, "--check"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert [line.split(":")[0].split()[-1] for line in out.stdout.splitlines()] == ["agrees"] * 6
    arguments = [str(tmp_path / name) for name in ("in.npz", "out.npz")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    with np.load(tmp_path / "out.npz") as there, np.load(folder / "check.npz") as here:
        close = np.isclose(there["energy"], here["translated"], rtol=1e-3)
        assert close.mean() > 0.999
        np.testing.assert_allclose(there["log_ratio"], here["log_ratio"], atol=1e-4)


@pytest.mark.usefixtures("graphs_once")
def test_a_wrong_result_is_noticed(
    pipeline: PileupTranslationPipeline,
    events: Events,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_onnx, "ndtri", lambda p: 1.001 * np.asarray(p))
    with pytest.raises(RunError, match="differ from torch's"):
        export_translation(pipeline, PARTIAL, tmp_path / "out", events)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def exported(
    pipeline: PileupTranslationPipeline, events: Events, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_translation(
        pipeline, PARTIAL, folder, events, correction=correction_of(pipeline, PARTIAL)
    )
    return folder


def change_table(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / f"{name}.bin"
        values = np.fromfile(path, dtype="<f4")
        path.write_bytes(change(values).astype("<f4").tobytes())

    return apply


def change_plan(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        plan = json.loads((folder / "translation.json").read_text("utf-8"))
        change(plan)
        (folder / "translation.json").write_text(json.dumps(plan), "utf-8")

    return apply


def change_known(name: str, value: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with np.load(folder / "check.npz") as arrays:
            known = dict(arrays)
        known[name].flat[0] += value
        np.savez(folder / "check.npz", **known)

    return apply


def source(values: np.ndarray) -> np.ndarray:
    return values[: values.size // 2]


def target(values: np.ndarray) -> np.ndarray:
    return values[values.size // 2 :]


CORRUPTIONS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "map of zeros": (
        change_table("correction.0.map", np.zeros_like),
        {"corrected score"},
    ),
    "mean after the map": (
        change_table("correction.1.mean_to", lambda values: values + 0.01),
        {"corrected score"},
    ),
    "knots of the correction": (
        change_table("correction.1.knots", lambda values: values + 0.01),
        {"corrected score"},
    ),
    "energies of the target": (
        change_table("calibration.log_energy", lambda v: np.r_[source(v), target(v) + 1e-3]),
        {"energy"},
    ),
    "null mass of the target": (
        change_table("calibration.null_mass", lambda v: np.r_[source(v), 0.9 * target(v)]),
        {"energy", "cells with energy"},
    ),
    "energies of the source": (
        change_table("calibration.log_energy", lambda v: np.r_[source(v) + 0.1, target(v)]),
        {"encoded score", "translated score", "ln r"},
    ),
    "noise level of the ratio": (
        change_plan(lambda plan: plan["phases"][-1]["ratio"].update(sigma=0.1)),
        {"ln r"},
    ),
    "a step of the solver": (
        change_plan(lambda plan: plan["phases"][-1]["steps"][-1].update(x_0=0.99)),
        {"translated score"},
    ),
    "torch's encoded score": (change_known("encoded", 1e-3), {"encoded score"}),
    "torch's score": (change_known("scores", 1e-3), {"translated score", "corrected score"}),
    "torch's ln r": (change_known("log_ratio", 1e-3), {"ln r"}),
    "torch's corrected score": (change_known("corrected", 1e-2), {"corrected score", "energy"}),
    "torch's energy": (change_known("translated", 1e-3), {"energy"}),
}


@pytest.mark.parametrize(("corrupt", "expected"), CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_the_check_notices_what_is_corrupted(
    exported: Path, tmp_path: Path, corrupt: Callable[[Path], None], expected: set[str]
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    corrupt(folder)
    different = {line.split(":")[0] for line in run_onnx.too_different(run_onnx.check(folder))}
    assert different == expected


@pytest.mark.usefixtures("graphs_once")
def test_the_check_of_a_corrupted_folder_fails_from_the_command_line(
    exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    change_table("correction.0.map", np.zeros_like)(folder)
    command = [sys.executable, str(folder / "run_onnx.py"), "--check"]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 1, out.stderr
    assert "corrected score    DIFFERS" in out.stdout


def test_ln_r_is_the_same_for_one_event_and_for_fifty(
    pipeline: PileupTranslationPipeline, exported: Path
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported / "ratio.onnx"))
    x = torch.randn(50, 8, 4, 6, generator=torch.Generator().manual_seed(1))
    mu, t = torch.full((50,), 60.0), torch.full((50,), 300)
    level = torch.full((50,), 0.5**0.5)

    def of_graph(rows: slice) -> np.ndarray:
        one = {"t": t[:1], "alpha": level[:1], "sigma": level[:1]}
        fed = {name: value.numpy() for name, value in one.items()}
        return session.run(None, {"x_t": x[rows].numpy(), "mu": mu[rows].numpy(), **fed})[0]

    def of_torch(rows: slice) -> np.ndarray:
        with torch.no_grad():
            return pipeline.ratio(x[rows], t[rows], mu[rows], level[rows], level[rows]).numpy()

    whole = of_torch(slice(None))
    for evaluate in (of_torch, of_graph):
        for size in (1, 7, 50):
            found = [evaluate(slice(begin, begin + size)) for begin in range(0, 50, size)]
            np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"release": "per-event"}, "per-event release"),
        ({"guidance": "classifier"}, "no gradients"),
        ({"t_release": T}, "outside 0"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    pipeline: PileupTranslationPipeline, events: Events, change: dict, words: str, tmp_path: Path
) -> None:
    settings = dataclasses.replace(PARTIAL, **change)
    with pytest.raises(ConfigError, match=words):
        export_translation(pipeline, settings, tmp_path / "out", events)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmsolver++", "sde-dpmsolver++"])
def test_the_plan_of_a_solver_is_the_solver(sampler: str) -> None:
    scheduler, times = make_scheduler(T), timesteps_between(700, 7)
    draws = iter(torch.randn(20, 5, dtype=torch.float64))
    noises = [next(draws) for _ in times]

    def predict(x, t, x_0):
        alpha_bar = float(scheduler.alphas_cumprod[t])
        v = torch.sin(x) + 0.1 * x_0
        return (1 - alpha_bar) ** 0.5 * x + alpha_bar**0.5 * v, alpha_bar**0.5 * x - (
            1 - alpha_bar
        ) ** 0.5 * v

    start, used = torch.randn(5, dtype=torch.float64), iter(noises)
    expected = solve(start, times, predict, scheduler, sampler, lambda: next(used))
    x, x_0, used = start, torch.zeros(5, dtype=torch.float64), iter(noises)
    for step in plan_steps(times, scheduler, sampler):
        before = x_0
        eps, x_0 = predict(x, step.t, x_0)
        x = step.x * x + step.x_0 * x_0 + step.x_0_before * before + step.eps * eps
        if step.draws_noise:
            x = x + step.noise * next(used)
    torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)


def test_the_noise_is_as_described() -> None:
    """Philox4x64-10 written out, against what the pipeline draws."""

    def block(counter: list[int], key: list[int]) -> list[int]:
        m, mask = (0xD2E7470EE14C6C93, 0xCA5A826395121157), 2**64 - 1
        w = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
        for _ in range(10):
            first, second = m[0] * counter[0], m[1] * counter[2]
            counter = [
                (second >> 64) ^ counter[1] ^ key[0],
                second & mask,
                (first >> 64) ^ counter[3] ^ key[1],
                first & mask,
            ]
            key = [(key[i] + w[i]) & mask for i in range(2)]
        return counter

    numbers = [n for i in (1, 2) for n in block([i, 0, 0, 6], [3, 2**40])]
    halves = [half for n in numbers for half in (n & 0xFFFFFFFF, n >> 32)]
    drawn = EventNoise(3, np.array([2**40]), 6).uniform((16,))
    assert drawn[0].tolist() == [(half >> 8) / 2**24 for half in halves]


def test_the_normal_distribution_is_to_the_digit() -> None:
    from scipy import special

    p = np.concatenate([10.0 ** -np.linspace(0.1, 60, 500), 1 - 10.0 ** -np.linspace(0.4, 12, 99)])
    np.testing.assert_allclose(run_onnx.ndtri(p), special.ndtri(p), rtol=1e-12, atol=1e-14)
    x = np.linspace(-15, 8, 500)
    np.testing.assert_allclose(run_onnx.ndtr(x), special.ndtr(x), rtol=1e-13)
