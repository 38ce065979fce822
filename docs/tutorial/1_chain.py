"""
From simulated pileup to data-like events
=========================================

This page is a script that runs in seconds when the documentation is built: the chain of ``make
demo`` with a hundredth of its work. A few events instead of 4,000 and 20 training steps instead of
thousands show *how* it works, not how well; for that see :doc:`/measurements`.

The four commands ``pileupgen preprocess | train | translate | validate`` are thin callers of the
:class:`~pileupgen.workflow.run.Run` that is used here.
"""

# %%
# Two samples
# -----------
#
# A sample is described by a *data card*, a YAML file. The shipped cards ``demo_mc`` and
# ``demo_data`` ask for samples to be generated: Pythia 8 pileup through two different
# calorimeters. Here they are copied with fewer events, and without diffractive interactions, which
# take Pythia a few seconds to prepare.

import tempfile
from pathlib import Path

import yaml

from pileupgen import Run
from pileupgen.resources import find_file

folder = Path(tempfile.mkdtemp())
for domain in ("mc", "data"):
    card = yaml.safe_load(find_file(f"demo_{domain}", "data_cards").read_text())
    card["name"] = f"small_{domain}"
    card["generate"] |= {"n_events": 200, "pool_size": 300, "separate_pools": None}
    card["generate"]["process"] = "nondiffractive"
    (folder / f"small_{domain}.yaml").write_text(yaml.safe_dump(card))
    print(card["name"], "·", card["what"])

# %%
# A configuration
# ---------------
#
# It names the cards and says how to draw, train and translate; what it leaves out takes the
# default (:doc:`/reference/generated/config`). A YAML file does as well as a dictionary.

config = {
    "name": "small",
    "samples": {domain: str(folder / f"small_{domain}.yaml") for domain in ("mc", "data")},
    "preprocess": {
        "zero_suppression": 0.6,  # GeV
        "geometry": {
            "eta_edges": [-1.6, -1.2, -0.8, -0.4, 0, 0.4, 0.8, 1.2, 1.6],
            "n_phi": 18,
            "layers": ["em", "had"],
        },
    },
    "calibration": {"n_mu_bins": 1, "n_layer_bins": 4, "n_knots": 64},
    "codec": "cells",  # lossless: no autoencoder to train
    "autoencoder": {"patch": [1, 1]},
    "denoiser": {"width": 16, "n_blocks": 1, "steps": 20},
    "ratio": {"width": 16, "n_blocks": 1, "steps": 20},
    "translate": {"n_correction_events": 100},
}
run = Run.create(config, folder / "runs" / "small")

# %%
# Towers to images
# ----------------
#
# The samples are generated and drawn on the grid. An image has the axes (layer, η, φ); an event
# also has its number of interactions μ, a weight, and the split it belongs to.

made = run.preprocess()
events = made.mc.read(slice(0, 3))
print(len(made.mc), "simulated events, images of shape", events.energy.shape[1:], "in GeV")
print("first events: μ =", events.mu, " ΣE =", events.energy.sum((1, 2, 3)).round(), "GeV")

# %%
# Training
# --------
#
# The calibration is fitted, then the denoiser and the density ratio are trained. The ratio tells
# how well simulation and data can be told apart at each noise level: 0.5 is not at all.

trained = run.train(device="cpu")
for t, auc in list(zip(trained.release.t, trained.release.auc, strict=True))[::4]:
    print(f"t = {t:3}: AUC {auc:.2f}")

# %%
# Translation
# -----------
#
# Test events of ``mc`` are noised to the release time, their class label is switched, and they are
# denoised. Each translated event knows its source event.

translated = run.translate(t_release=300, w=2.0, num_inference_steps=3, device="cpu")
print(translated.n_events, "events of domain", translated.store.domain)
print("source events", translated.store.columns["source_event"][:5], "…")

# %%
# Validation
# ----------
#
# Translated events are compared with test events of data, beside the untranslated source and the
# reference (data against other data). ``run.validate()`` does so and writes a report with all
# figures and tests; here only the comparison is made, to save time. With so few events the
# intervals are wide.

from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import validate_stores

found = validate_stores(
    made.data, made.mc, translated.store, ComparisonSettings(n_bootstrap=20, n_seeds=0)
)
for row in (found.comparison.reference, found.comparison.source, found.comparison.translated):
    w1, removed = row.mean_w1, row.shift_removed
    print(f"{row.label:15} W1/σ {w1.value:.2f} [{w1.low:.2f}, {w1.high:.2f}]", end="   ")
    print(f"fraction of the shift removed {removed.value:.2f}")

# %%
# The same event before and after translation, beside an event of data:

from pileupgen.report.figures import event_display_figure

display = found.display
images = [display.source, display.translated, display.target]
shown = [event_display_figure(images, ["simulation", "translated", "data"], made.mc.grid)]

# %%
# Distances of all observables to data:

from pileupgen.measure.observables import ObservableSet
from pileupgen.report.figures import distance_figure

shown = [distance_figure(found.comparison, ObservableSet(made.mc.grid).records)]
