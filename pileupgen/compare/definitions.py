"""What the numbers of ``metrics.json`` mean, in words."""

from __future__ import annotations

from pileupgen.measure.bootstrap import LEVEL

DEFINITIONS = {
    "w1": "1D Wasserstein distance to the target over the target's standard deviation",
    "mean_w1": "mean of w1 over the observables that vary in the target",
    "reference": "target events outside the test split, in disjoint samples as large as the source "
    "sample, against the target events of the test split; mean over these samples",
    "shift_removed": "(mean_w1 of source − mean_w1) / (mean_w1 of source − mean_w1 of reference)",
    "separation": "½ Σ (h1 − h2)² / (h1 + h2) of unit-sum histograms with under- and overflow",
    "auc_features": "classifier two-sample test on the observables, cross-fitted gradient boosting",
    "auc_cells": "classifier two-sample test on the images, cross-fitted φ-periodic CNN",
    "fpd": "Fréchet physics distance on the observables, JetNet's definition (2211.10295); the "
    "reference's is the median over its samples, with their range",
    "kpd": "kernel physics distance on the observables, JetNet's definition (2211.10295); the "
    "reference likewise",
    "jsd": "Jensen-Shannon divergence over ln 2 from calibrated probabilities",
    "source_correlation": "correlation over events of energies in blocks (about 0.5 × 60°) or "
    "cells with the linked source event, layers summed, each place's mean removed",
    "control": "translated in its own domain and put in the place of the events it was made of, "
    "real ones in the reference, simulated ones in the source; rise is what that adds to mean_w1",
    "ess": "effective sample size (Σw)² / Σw² of the translated events' weights over their number",
    "significance": "most extreme of tests on observables, blocks, cells, spectrum and "
    "correlations in σ, after the number of tests (Bonferroni)",
    "interval": f"{100 * LEVEL:.2f} % from bootstrap over events, source and translated together",
}
FEATURE_DEFINITIONS = {
    **{key: text for key, text in DEFINITIONS.items() if key != "auc_cells"},
    "source_correlation": "correlation over events of each feature with that of the linked source "
    "event; block is the mean over the features",
    "significance": "most extreme of tests on features and their correlations in σ, after the "
    "number of tests (Bonferroni)",
}
"""The same for tables of features, which have neither blocks nor cells."""
SHOWER_DEFINITIONS = {
    **DEFINITIONS,
    "fpd": "Fréchet physics distance on the CaloChallenge's features, batches from 10,000",
    "kpd": "kernel physics distance on the CaloChallenge's features, batches of 10,000",
    "separation_challenge": "separation power in the CaloChallenge's histograms, what lies outside "
    "their edges dropped (2410.21611)",
}
"""The same for showers."""
DEFINITIONS_OF = {
    "images": DEFINITIONS,
    "features": FEATURE_DEFINITIONS,
    "showers": SHOWER_DEFINITIONS,
}
