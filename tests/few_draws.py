"""Two-sample tests with fewer batches and trees, for whoever imports this: workers of a farm, too.

An FPD is a mean over 20 batches a size, and gradient boosting has 80 trees: both are most of a
comparison of few events. Tests that ask what such a test tells take ``thorough``.
"""

from __future__ import annotations

from pileupgen.compare import physics_distance, two_sample

FPD_BATCHES, physics_distance.N_BATCHES = physics_distance.N_BATCHES, 1
ALL_TREES, two_sample.MAX_ITER = two_sample.MAX_ITER, 16
