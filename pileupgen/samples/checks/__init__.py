"""Checks between reading and training: what cannot be physics, and what may be a mistake.

Each check has a name. A finding that cannot be physics is an error unless its name is allowed
(``preprocess.allow`` in the config, ``--allow``); all others are warnings with their numbers.
"""

from pileupgen.samples.checks.finding import ERRORS, Finding, judge, require_known
from pileupgen.samples.checks.one_sample import check_sample
from pileupgen.samples.checks.two_samples import check_matching, check_pair, check_profiles

__all__ = [
    "ERRORS",
    "Finding",
    "check_matching",
    "check_pair",
    "check_profiles",
    "check_sample",
    "judge",
    "require_known",
]
