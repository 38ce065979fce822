"""Execution of independent tasks: in this process, in several, or on a Dask farm.

Results never depend on it: a task gives the same where and whenever it runs, and what comes back is
put together in the order of the tasks.
"""

from pileupgen.parallel.executor import Executor, Processes, Serial, local_executor
from pileupgen.parallel.farm import Farm

__all__ = ["Executor", "Farm", "Processes", "Serial", "local_executor"]
