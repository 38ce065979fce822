"""Classifier reweighting (CARL): events keep their images, or calibrated ones, and take weights."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from benchmarks.baselines.contract import Floats, Problem, measured
from benchmarks.baselines.morphing import Identity, Morphing
from pileupgen.compare.quality import MethodOutput
from pileupgen.samples.store import Images

LIMIT = 10.0
N_FOLDS = 4


class Reweighting:
    """w = s / (1 − s) of gradient boosting on observables (Cranmer et al. 1506.02169).

    The log-odds are calibrated by a line fitted to the folds that did not train them, so that
    the mean weight of mc is 1 as far as the classifier can know. Weights are clipped to e^∓10.

    Parameters
    ----------
    calibrated : bool
        Whether mc is calibrated by chained quantile morphing first, as it is before our networks.
    """

    n_evaluations = 0
    is_slow = False

    def __init__(self, calibrated: bool) -> None:
        self.before = Morphing(chained=True) if calibrated else Identity()

    def fit(self, problem: Problem) -> None:
        self.before.fit(problem)
        mc, data = measured(self._before(problem.mc)), measured(problem.data)
        features = np.concatenate([mc, data])
        label = np.repeat([0, 1], [len(mc), len(data)])
        odds = np.empty(len(label))
        for fold, (train, test) in enumerate(
            StratifiedKFold(N_FOLDS, shuffle=True, random_state=problem.seed).split(features, label)
        ):
            trees = _trees(problem.seed + fold).fit(features[train], label[train])
            odds[test] = trees.decision_function(features[test])
        self.line = LogisticRegression().fit(odds[:, None], label)
        self.trees = _trees(problem.seed).fit(features, label)
        self.prior = float(np.log(len(data) / len(mc)))

    def translate(self, images: Images) -> MethodOutput:
        images = self._before(images)
        odds: Floats = self.trees.decision_function(measured(images))
        log_ratio = self.line.decision_function(odds[:, None]) - self.prior
        return MethodOutput(energy=images.energy, weight=np.exp(np.clip(log_ratio, -LIMIT, LIMIT)))

    def _before(self, images: Images) -> Images:
        return Images(self.before.translate(images).energy, images.grid, images.columns)

    @property
    def n_parameters(self) -> int:
        """Two numbers a node: where to split, and the value."""
        trees = 2 * sum(len(tree.nodes) for (tree,) in self.trees._predictors)
        return trees + self.before.n_parameters


def _trees(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.08, max_leaf_nodes=12, random_state=seed, early_stopping=False
    )
