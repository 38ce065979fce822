from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pileupgen.errors import CardError
from pileupgen.run import fingerprint
from pileupgen.samples.mu_profile import read_mu_profile
from pileupgen.simulate.generators import generator_version
from pileupgen.simulate.response import RESPONSES
from pileupgen.simulate.spec import SAMPLE_VERSION, SampleSpec
from pileupgen.simulate.tunes import TUNES


def test_defaults_are_monash_minimum_bias_at_13_tev() -> None:
    spec = SampleSpec.parse({}, "card")
    assert (spec.generator, spec.process, spec.tune) == ("pythia8", "inelastic", 14)
    assert (spec.sqrt_s, spec.mu, spec.response) == (13600, 60, "mc")
    assert spec == SampleSpec()


def test_tunes_are_numbers_or_names() -> None:
    given = [14, "14", "ET7", " et7 "]
    specs = [SampleSpec.parse({"tune": tune}, "card") for tune in given]
    assert [spec.tune for spec in specs] == [14, 14, "ET7", "ET7"]
    assert specs[0].fingerprint() == specs[1].fingerprint() != specs[2].fingerprint()
    for tune in ("ET8", -1, 1.5):
        with pytest.raises(CardError, match="tune"):
            SampleSpec.parse({"tune": tune}, "card")


def test_the_values_of_a_named_tune_are_part_of_the_fingerprints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = SampleSpec(tune="ET7")
    before = (spec.fingerprint(), spec.pool_fingerprint())
    other = replace(TUNES["ET7"], settings={"MultipartonInteractions:pT0Ref": "2.5"})
    monkeypatch.setitem(TUNES, "ET7", other)  # type: ignore[arg-type]
    assert spec.fingerprint() != before[0]
    assert spec.pool_fingerprint() != before[1]


def test_tune_is_pythias_alone() -> None:
    assert SampleSpec.parse({"generator": "sibyll"}, "card").tune is None
    assert SampleSpec.parse({"tune": None}, "card").tune == 14
    with pytest.raises(CardError, match="tune is a setting of pythia8"):
        SampleSpec.parse({"generator": "sibyll", "tune": 14}, "card")


@pytest.mark.parametrize("name", ["SoftQCD:nonDiffractive", "nondiffractive", "NonDiffractive"])
def test_process_goes_by_pythias_name_too(name: str) -> None:
    assert SampleSpec.parse({"process": name}, "card").process == "nondiffractive"


def test_minbias_is_inelastic() -> None:
    assert SampleSpec.parse({"process": "minbias"}, "card").process == "inelastic"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_event": 3}, "unknown key 'n_event'. Did you mean 'n_events'?"),
        ({"generator": "pithia8"}, "Did you mean 'pythia8'"),
        ({"process": "inelstic"}, "Did you mean 'inelastic'?"),
        (
            {"generator": "sibyll", "process": "nsd"},
            "sibyll has no process 'nsd'. Known: inelastic.",
        ),
        ({"process": "tops"}, "Did you mean 'top'?"),
        ({"process": "dijets"}, "Did you mean 'dijet'?"),
        ({"process": "zee", "pt_min": 20}, "pt_min is a setting of dijet, not of zee"),
        ({"process": "dijet", "generator": "sibyll"}, "sibyll has no process 'dijet'"),
        ({"readout": "raw"}, "readout: "),
        ({"mu": -1}, "mu: "),
        ({"mu": float("nan")}, "mu: "),
        ({"n_events": 0}, "n_events: "),
        ({"mu_spread": "gauss"}, "mu_spread: "),
        ({"mu_profile": []}, "at least one"),
        ({"mu_profile": [[10, -1]]}, "negative"),
        ({"mu_profile": [[10, 0]]}, "not all zero"),
        ({"mu_profile": [[10, 1, 2]]}, "mu_profile.0"),
        ({"mu_profile": "nowhere.csv"}, "nowhere.csv"),
        ({"response": "mcc"}, "Did you mean 'mc'?"),
        ({"sqrt_s": 7}, "sqrt_s"),
    ],
)
def test_faults_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(CardError) as caught:
        SampleSpec.parse(values, "data_cards/x.yaml, generate")
    assert words in str(caught.value)


def test_profile_is_read_beside_the_card(tmp_path: Path) -> None:
    card = tmp_path / "card.yaml"
    card.touch()
    (tmp_path / "mu.csv").write_text("mu, probability\n# run 3\n40, 0.25\n50; 0.75\n\n60\t1e-3\n")
    spec = SampleSpec.parse({"mu_profile": "mu.csv"}, str(card))
    assert spec.mu_profile == ((40, 0.25), (50, 0.75), (60, 1e-3))


def test_profile_names_the_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "mu.txt"
    path.write_text("40 0.25\n50 many\n")
    with pytest.raises(CardError, match="line 2"):
        read_mu_profile(path)


def test_fingerprint_follows_every_value() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"generator": "sibyll"},
        {"process": "nsd"},
        {"tune": 21},
        {"sqrt_s": 13000},
        {"pool_size": 10},
        {"n_events": 10},
        {"mu": 30},
        {"mu_profile": [[30, 1]]},
        {"mu_spread": "fixed"},
        {"mirror_eta": True},
        {"separate_pools": [[0.5, 2], [0.5, 1]]},
        {"response": "data"},
        {"seed": 2},
    ]
    prints = [SampleSpec.parse(change, "x").fingerprint() for change in changes]
    assert len(set(prints)) == len(prints)
    assert SampleSpec().fingerprint() == prints[0]


def test_fingerprint_follows_the_response_cards_content(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    values = yaml.safe_load((RESPONSES / "mc.yaml").read_text())
    path.write_text(yaml.safe_dump(values))
    spec = SampleSpec.parse({"response": "own.yaml"}, "card", folder=tmp_path)
    assert spec.fingerprint() == SampleSpec().fingerprint()
    values["em"]["energy_min"] = 0.7
    path.write_text(yaml.safe_dump(values))
    assert spec.fingerprint() != SampleSpec().fingerprint()


def test_pool_is_shared_by_what_does_not_change_it() -> None:
    base = SampleSpec().pool_fingerprint()
    for change in ({"response": "data"}, {"mu": 3}, {"n_events": 7}, {"mirror_eta": True}):
        assert SampleSpec.parse(change, "x").pool_fingerprint() == base
    for change in ({"tune": 21}, {"seed": 2}, {"pool_size": 7}, {"sqrt_s": 900.0}):
        assert SampleSpec.parse(change, "x").pool_fingerprint() != base


def test_a_hard_scatter_comes_without_pileup_unless_it_is_asked_for() -> None:
    spec = SampleSpec.parse({"process": "dijet", "n_events": 7}, "card")
    assert (spec.mu, spec.pt_min) == (0, 30)
    assert {kind: one.pool_size for kind, one in spec.pools().items()} == {"hard": 7}
    both = SampleSpec.parse({"process": "ttbar", "n_events": 7, "mu": 20}, "card").pools()
    assert [(kind, one.process, one.pool_size) for kind, one in both.items()] == [
        ("hard", "ttbar", 7),
        ("pileup", "inelastic", 12_000),
    ]
    soft = SampleSpec.parse({"mu": 20}, "card")
    # The pool of a sample of pileup alone serves.
    assert both["pileup"].pool_fingerprint() == soft.pool_fingerprint()


def test_samples_made_before_there_were_hard_scatters_keep_their_fingerprints() -> None:
    spec = SampleSpec()
    fields = ("generator", "process", "tune", "sqrt_s", "pool_size", "seed")
    plain = {name: getattr(spec, name) for name in fields}
    plain |= {"sample_version": SAMPLE_VERSION, "version": generator_version("pythia8")}
    assert spec.pool_fingerprint() == fingerprint(plain)
    others = [spec.model_copy(update={"readout": one}) for one in ("unsuppressed", "noiseless")]
    assert len({one.fingerprint() for one in (spec, *others)}) == 3
