from __future__ import annotations

import threading

import pytest

from pileupgen.training.ahead import Ahead


def test_the_next_step_is_made_in_a_thread_and_no_step_beyond_the_last():
    made = []

    def make(step: int) -> int:
        made.append((step, threading.current_thread().name))
        return step * step

    ahead = Ahead(make, 4)
    assert [ahead(step) for step in (1, 2, 3)] == [1, 4, 9]
    ahead.close()
    assert [step for step, _ in made] == [1, 2, 3]
    assert made[0][1] == "MainThread"
    assert all(name.startswith("batch") for _, name in made[1:])


def test_a_step_out_of_turn_and_a_fault_are_as_without_a_thread():
    def make(step: int) -> int:
        if step == 3:
            raise ValueError("three")
        return step

    ahead = Ahead(make, 10)
    assert ahead(0) == 0
    assert ahead(2) == 2
    with pytest.raises(ValueError, match="three"):
        ahead(3)
    ahead.close()
