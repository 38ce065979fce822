"""The translation on made fields, with the closed-form denoiser alone: its answer is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from safetensors.torch import load_file, save_file

from pileupgen.diffusion import translate
from pileupgen.diffusion.events import Translation, micro_batches
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.guidance import LabelContrast, Predictor, Strength
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.diffusion.settings import SAMPLERS, Settings, timesteps_between
from pileupgen.diffusion.solvers import solve
from pileupgen.errors import ConfigError, RunError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.codec import EventNoise
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import DATA, MC, NULL
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.samples.store import Images
from tests.conftest import SMALL_GRID, make_energies

PER_EVENT = Settings("partial", 300, 0.0, 2, release="per-event", tolerance=1.0)


def neighbour_correlation(energy: np.ndarray) -> float:
    e = np.log(energy.clip(0.3))
    e = e - e.mean(axis=0)
    return float((e * np.roll(e, 1, axis=3)).mean() / (e**2).mean())


def test_inversion_carries_correlations_over_and_keeps_the_event(pipeline, events):
    target = neighbour_correlation(make_energies(400, 1, seed=51)[0])
    source = neighbour_correlation(events[0])
    calibrated = pipeline(*events, settings=Settings("calibrate")).energy
    inverted = pipeline(*events, settings=Settings("invert", 995, 0.0, 20)).energy
    assert target - source > 0.1
    left = target - neighbour_correlation(inverted)
    assert abs(left) < 0.25 * (target - neighbour_correlation(calibrated))
    assert np.corrcoef(inverted.ravel(), events[0].ravel())[0, 1] > 0.85


def test_a_later_release_keeps_less_of_the_event(pipeline, events):
    kept = [
        np.corrcoef(
            pipeline(*events, settings=Settings("partial", t, 0.0, 8)).energy.ravel(),
            events[0].ravel(),
        )[0, 1]
        for t in (50, 300, 900)
    ]
    assert kept[0] > kept[1] + 0.05 > kept[2] + 0.1


def test_inverting_as_mc_and_decoding_as_mc_is_the_identity(pipeline, events):
    z = torch.randn(50, 8, 4, 6, generator=torch.Generator().manual_seed(3))
    predict = Predictor(pipeline.denoiser, pipeline.scheduler, MC, torch.full((50,), 60.0))
    errors = []
    for n in (10, 80):
        steps = timesteps_between(900, n)
        x_t = solve(z, steps[::-1], predict, pipeline.scheduler, "dpmsolver++")
        back = solve(x_t, steps, predict, pipeline.scheduler, "dpmsolver++")
        errors.append(float((back - z).abs().max()))
    assert errors[1] < 0.03
    assert errors[1] < 0.5 * errors[0]


def test_a_pipeline_that_remembers_inverts_once_and_changes_nothing(pipeline, events, monkeypatch):
    few = [values[:40] for values in events]
    asked = Settings("invert", 600, 1.0, 3)
    fresh = Settings("partial", 600, 1.0, 3, fresh_noise=0.2)
    remembering = pipeline.remembering()
    assert pipeline.inversions is None
    solved = []

    def counted(*given, **named):
        solved.append(given)
        return solve(*given, **named)

    monkeypatch.setattr(translate, "solve", counted)
    for first in (asked, fresh):
        for alike in (first, replace(first, w=0.0), replace(first, switch_class=False)):
            plain = pipeline(*few, settings=alike).energy
            solved.clear()
            assert np.array_equal(remembering(*few, settings=alike).energy, plain)
            n_inverted = 1 if alike is first else 0
            assert len(solved) == len(list(micro_batches(few[2], alike))) * (1 + n_inverted)
    # Other timesteps, and other ranks of null cells, are other inversions.
    for other, seed in ((replace(asked, t_release=500), 1), (asked, 2)):
        plain = pipeline(*few, seed=seed, settings=other).energy
        assert np.array_equal(remembering(*few, seed=seed, settings=other).energy, plain)


def test_guidance_extrapolates_from_the_null_label(pipeline):
    x, mu, nothing = torch.randn(10, 8, 4, 6), torch.full((10,), 60.0), torch.zeros(10, 8, 4, 6)
    eps = {}
    for w in (0.0, 1.5):
        guides = (LabelContrast(Strength(w), NULL),)
        predict = Predictor(pipeline.denoiser, pipeline.scheduler, DATA, mu, guides)
        eps[w], x_0 = predict(x, 300, nothing)
        alpha_bar = pipeline.scheduler.alphas_cumprod[300]
        torch.testing.assert_close(alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps[w], x)
    free, _ = Predictor(pipeline.denoiser, pipeline.scheduler, NULL, mu)(x, 300, nothing)
    torch.testing.assert_close(eps[1.5], 2.5 * eps[0.0] - 1.5 * free, atol=1e-4, rtol=1e-4)


def test_an_event_does_not_depend_on_its_batch(pipeline, events):
    energy, mu, event_id = events
    whole = pipeline(energy[:120], mu[:120], event_id[:120])
    order = np.random.default_rng(0).permutation(120)[:37]
    part = pipeline(energy[order], mu[order], event_id[order])
    assert np.array_equal(part.energy, whole.energy[order])
    assert np.array_equal(part.log_ratio, whole.log_ratio[order])
    other = pipeline(energy[:120], mu[:120], event_id[:120], seed=2)
    assert not np.array_equal(other.energy, whole.energy)


@pytest.mark.parametrize("settings", [Settings("partial", 300, 2.0, 2), PER_EVENT])
def test_an_event_does_not_depend_on_the_number_of_threads(pipeline, events, real_events, settings):
    real = Images(real_events[0], SMALL_GRID, {"mu": real_events[1], "event_id": real_events[2]})
    found = []
    for n in (1, 3):
        torch.set_num_threads(n)
        correction = pipeline.fit_correction(*events, 1, settings, real=real)
        found.append(pipeline(*events, 1, settings, correction))
        assert torch.get_num_threads() == n
    torch.set_num_threads(1)
    assert np.array_equal(found[0].energy, found[1].energy)
    assert np.array_equal(found[0].log_ratio, found[1].log_ratio)
    assert np.array_equal(found[0].t_release, found[1].t_release)


def test_events_of_a_call_change_last_bits_only(pipeline, events):
    settings = Settings("partial", 300, 2.0, 4)
    many = pipeline(*events, settings=settings)
    few = pipeline(*events, settings=replace(settings, micro_batch=7))
    fewer = pipeline(*(part[:10] for part in events), settings=replace(settings, micro_batch=7))
    assert np.array_equal(few.energy[:10], fewer.energy)
    np.testing.assert_allclose(few.energy, many.energy, rtol=0.05, atol=0.05)
    assert np.corrcoef(few.energy.ravel(), many.energy.ravel())[0, 1] > 0.9999


def test_what_is_translated_is_told(pipeline, events):
    told: list[int] = []
    pipeline(*(part[:120] for part in events), settings=Settings("calibrate"), advance=told.append)
    assert told == [50, 50, 20]


def test_release_at_zero_is_the_calibration(pipeline, events):
    zero = pipeline(*events, settings=Settings("partial", 0, 0.0, 5))
    calibrated = pipeline(*events, settings=Settings("calibrate"))
    np.testing.assert_allclose(zero.energy, calibrated.energy, rtol=1e-3, atol=1e-3)


ROUND_TRIP = Settings("partial", 0, 0.0, 5)


@pytest.fixture(scope="module")
def real_events():
    energy, mu = make_energies(400, 1, seed=54)
    return energy, mu, np.arange(1000, 1400)


def mean_error(first: np.ndarray, second: np.ndarray) -> float:
    """Mean |ΔE| in the events' standard deviation."""
    return float(np.abs(first - second).mean() / second.std())


@pytest.mark.parametrize("mode", ["partial", "invert"])
@pytest.mark.parametrize("domain", ["mc", "data"])
def test_a_control_released_at_zero_is_the_codecs_round_trip(
    pipeline, events, real_events, domain, mode
):
    energy, mu, event_id = events if domain == "mc" else real_events
    settings = Settings(mode, 0, 0.0, 5)
    out = pipeline(energy, mu, event_id, settings=settings, source=domain, target=domain)
    label = ("mc", "data").index(domain)
    uniform = EventNoise(1, event_id).uniform(energy.shape[1:])
    codec, mus = pipeline.codec, torch.from_numpy(mu)
    latents = codec.encode(torch.from_numpy(energy), label, mus, uniform)
    expected = codec.decode(latents, label, mus).numpy()
    assert np.mean(np.isclose(out.energy, expected, rtol=1e-4, atol=1e-4)) > 0.999
    assert mean_error(out.energy, energy) < 0.01
    other = pipeline(energy, mu, event_id, settings=settings, source=domain, target="mc")
    assert (mean_error(other.energy, energy) > 0.1) == (domain == "data")


@pytest.mark.parametrize("domain", ["mc", "data"])
def test_inverting_and_decoding_in_one_domain_is_the_round_trip_to_solver_error(
    pipeline, events, real_events, domain
):
    given = tuple(part[:100] for part in (events if domain == "mc" else real_events))
    ways = {"source": domain, "target": domain}
    exact = pipeline(*given, settings=ROUND_TRIP, **ways).energy
    errors = [
        mean_error(pipeline(*given, settings=Settings("invert", 900, 0.0, n), **ways).energy, exact)
        for n in (8, 80)
    ]
    assert errors[1] < 0.01
    assert errors[1] < 0.2 * errors[0]


def test_what_is_inverted_and_decoded_with_labels_reversed_comes_back(pipeline, events):
    given = tuple(part[:100] for part in events)
    settings = Settings("invert", 995, 0.0, 40)
    there = pipeline(*given, settings=settings).energy
    back = pipeline(there, *given[1:], settings=settings, source="data", target="mc").energy
    once_more = pipeline(there, *given[1:], settings=settings).energy
    exact = pipeline(*given, settings=ROUND_TRIP, source="mc", target="mc").energy
    assert mean_error(back, exact) < 0.15 * mean_error(there, exact)
    assert mean_error(once_more, exact) > mean_error(there, exact)


def test_weights_are_of_the_target_against_the_source(pipeline, events, real_events):
    settings = Settings("partial", 300, 0.0, 2)
    forth = pipeline(*events, settings=settings)
    back = pipeline(*events, settings=settings, source="mc", target="mc")
    assert np.abs(forth.log_ratio).max() > 0.1
    assert not back.log_ratio.any()
    assert np.all(back.weight == 1)
    assert np.array_equal(back.t_release, forth.t_release)
    reverse = pipeline(*real_events, settings=settings, source="data", target="mc")
    # ln p_mc / p_data of data events: below 0 on average, as a Kullback-Leibler distance tells.
    assert reverse.log_ratio.mean() < 0
    assert forth.log_ratio.mean() < 0


@pytest.mark.parametrize("guidance", ["classifier-free", "closed-form", "ratio", "classifier"])
def test_guidance_leads_to_the_target_whichever_it_is(pipeline, events, real_events, guidance):
    calibrated = neighbour_correlation(make_energies(400, 1, seed=51)[0])
    original = neighbour_correlation(events[0])
    free, guided = (Settings("invert", 600, w, 10, guidance=guidance) for w in (0.0, 0.5))

    def found(given, settings, **ways):
        few = (part[:150] for part in given)
        return neighbour_correlation(pipeline(*few, settings=settings, **ways).energy)

    assert calibrated > original
    assert found(events, guided) > found(events, free)
    ways = {"source": "data", "target": "mc"}
    assert found(real_events, guided, **ways) < found(real_events, free, **ways)


def test_dead_cells_are_those_of_the_target(events):
    samples = [make_energies(600, domain, seed=44) for domain in (0, 1)]
    samples[1][0][:, :, 2, 3] = 0.0
    calibration = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=1, n_layer_bins=1)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    dead = PileupTranslationPipeline(
        calibration,
        CellPatches(2, 8, 12, (1, 1)),
        LocalDenoiser(2, 8, 12, width=4, n_blocks=1),
        RatioClassifier(2, 8, 12, width=8, n_blocks=1),
        make_scheduler(1000),
        SMALL_GRID.to_dict(),
    )
    few = tuple(part[:50] for part in (*samples[1], np.arange(600)))
    for target in ("mc", "data"):
        out = dead(*few, settings=Settings("partial", 300, 0.0, 2), source="data", target=target)
        assert np.any(out.energy[:, :, 2, 3]) == (target == "mc")


def test_correction_of_a_control_is_towards_its_own_marginals(pipeline, real_events):
    settings, ways = Settings("partial", 400, 4.0, 6), {"source": "data", "target": "data"}
    correction = pipeline.fit_correction(*real_events, 1, settings, **ways)
    fresh = (*make_energies(400, 1, seed=55), np.arange(400, 800))

    def distance(energy: np.ndarray) -> float:
        hits = fresh[0][fresh[0] > 0]
        return abs(float(np.log(energy[energy > 0]).std() - np.log(hits).std()))

    raw = distance(pipeline(*fresh, settings=settings, **ways).energy)
    corrected = pipeline(*fresh, settings=settings, correction=correction, **ways).energy
    assert distance(corrected) < 0.5 * raw + 0.005


def test_an_unknown_domain_is_named(pipeline, events):
    with pytest.raises(ConfigError, match="No source domain 'monte carlo'"):
        pipeline(*events, source="monte carlo")


@pytest.mark.parametrize(
    ("mode", "sampler"),
    [("partial", s) for s in SAMPLERS] + [("invert", "ddim"), ("invert", "dpmsolver++")],
)
def test_explicit_timesteps_that_are_the_even_ones_change_no_byte(pipeline, events, mode, sampler):
    few = tuple(part[:20] for part in events)
    even = Settings(mode, 300, 0.5, 4, sampler)
    explicit = replace(even, timesteps=(300, 225, 150, 74), num_inference_steps=99)
    assert even.decoding_timesteps(300) == explicit.decoding_timesteps(300)
    assert explicit.n_evaluations == even.n_evaluations
    first, second = (pipeline(*few, settings=settings) for settings in (even, explicit))
    assert first.energy.tobytes() == second.energy.tobytes()
    assert first.log_ratio.tobytes() == second.log_ratio.tobytes()
    other = pipeline(*few, settings=replace(even, timesteps=(300, 200, 100, 40)))
    assert other.energy.tobytes() != first.energy.tobytes()


@pytest.mark.parametrize(
    "settings",
    [
        Settings("partial", 300, 0.0, 3),
        Settings("partial", 300, 0.0, 3, fresh_noise=0.2),
        Settings("partial", 300, 1.0, 3, guidance="classifier-free", fresh_noise=0.2),
        Settings("invert", 300, 1.0, 3, guidance="closed-form"),
        Settings("generate", 300, 0.0, 3),
        Settings("transport"),
    ],
    ids=lambda settings: f"{settings.mode}-{settings.w:g}-{settings.fresh_noise:g}",
)
def test_an_event_takes_as_many_evaluations_as_its_settings_say(
    pipeline, events, monkeypatch, settings
):
    kind, calls = type(pipeline.denoiser), []
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
    pipeline(*(part[:2] for part in events), settings=settings)
    assert len(calls) == settings.n_evaluations


def test_weights_are_clipped():
    image, t = np.zeros((1, 1, 1, 1), np.float32), np.array([300])
    for limit in (5.0, 2.0):
        weight = Translation(image, np.array([50.0]), t, limit).weight
        assert weight[0] == pytest.approx(np.exp(limit))


def test_correction_corrects_the_marginals_of_over_guided_events(pipeline, events):
    settings = Settings("partial", 400, 4.0, 6)
    correction = pipeline.fit_correction(*events, 1, settings)
    fresh = (*make_energies(400, 0, seed=52), np.arange(400, 800))
    target = make_energies(400, 1, seed=53)[0]

    def distance(energy: np.ndarray) -> float:
        return abs(float(np.log(energy[energy > 0]).std() - np.log(target[target > 0]).std()))

    raw = distance(pipeline(*fresh, settings=settings).energy)
    assert (
        distance(pipeline(*fresh, settings=settings, correction=correction).energy)
        < 0.5 * raw + 0.005
    )


def test_saved_and_loaded_it_translates_the_same(pipeline, events, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.bin"))
    again = PileupTranslationPipeline.from_pretrained(tmp_path / "model")
    few = tuple(part[:5] for part in events)
    assert np.array_equal(again(*few).energy, pipeline(*few).energy)
    assert again.geometry == SMALL_GRID
    light = TranslationPipeline.load(tmp_path / "model")
    assert np.array_equal(light(*few).energy, pipeline(*few).energy)
    assert np.array_equal(light(*few).log_ratio, pipeline(*few).log_ratio)
    assert light.geometry == SMALL_GRID


def test_diffusers_saves_loads_and_moves_what_it_has_no_classes_of(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "DDPMScheduler"]
    assert index["ratio"] == ["pileupgen.models.networks.ratio", "RatioClassifier"]
    again = PileupTranslationPipeline.from_pretrained(tmp_path).to("cpu", torch.float64)
    assert isinstance(again, DiffusionPipeline)
    assert isinstance(again.scheduler, DDPMScheduler)
    assert (again.device, again.dtype) == (torch.device("cpu"), torch.float64)
    assert set(again.components) == {*index, "event_check"} - {
        "_class_name",
        "_diffusers_version",
        "grid",
        "calibrate_before",
    }
    own = DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    replaced = PileupTranslationPipeline.from_pretrained(tmp_path, scheduler=own)
    assert replaced.scheduler is own


def test_a_model_of_a_class_that_is_not_ours_is_refused(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    path = tmp_path / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "ratio": ["torch.nn", "Linear"]}))
    with pytest.raises(RunError, match=r"torch\.nn\.Linear is no model of pileupgen"):
        TranslationPipeline.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(t_release=1000), "outside 0 … 999"),
        (Settings(t_release=-1), "outside"),
        (Settings(mode="sideways"), "No mode 'sideways'"),
        (Settings(num_inference_steps=0), "num_inference_steps must be ≥ 1"),
        (Settings(timesteps=(300, 100, 200)), "300,100,200 are not descending"),
        (Settings(timesteps=(300, 300)), "not descending"),
        (Settings(timesteps=()), "not descending"),
        (Settings(timesteps=(300, -1)), "not descending within 999 … 0"),
        (Settings("partial", 999, timesteps=(1000, 10)), "not descending within"),
        (Settings(timesteps=(200, 100)), "begin at 200, the decoding at 300"),
        (Settings("generate", timesteps=(300, 100)), "begin at 300, the decoding at 999"),
        (Settings(timesteps=(300, 9), release="per-event"), "do not go with one per event"),
    ],
)
def test_settings_that_make_no_sense_are_refused(pipeline, events, settings, words):
    with pytest.raises(ConfigError, match=words):
        pipeline(*events, settings=settings)


def test_a_model_that_lacks_tensors_is_refused_and_not_left_uncalibrated(pipeline, tmp_path, capfd):
    pipeline.save_pretrained(tmp_path)
    file = tmp_path / "ratio" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if k not in ("slope", "offset")}, file)
    with pytest.raises(RunError, match=r"another version: its ratio lacks offset, slope"):
        PileupTranslationPipeline.from_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"another version: its ratio lacks offset, slope"):
        TranslationPipeline.load(tmp_path)
    assert "newly initialized" not in capfd.readouterr().err


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(RunError, match="No trained model"):
        PileupTranslationPipeline.from_pretrained(tmp_path)
    with pytest.raises(RunError, match="No trained model"):
        TranslationPipeline.load(tmp_path)
