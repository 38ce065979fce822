from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.samples.steadyfile import SteadyFile


def fail_after(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    """Let the disk be full after so many bytes."""
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        room = max(n_bytes - offset, 0)
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:room], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@settings(max_examples=50)
@given(
    writes=st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=100)), max_size=15),
    room=st.none() | st.integers(0, 200),
)
def test_what_is_written_is_read_back_with_a_full_disk_or_without(
    tmp_path_factory: pytest.TempPathFactory,
    writes: list[tuple[int, bytes]],
    room: int | None,
) -> None:
    path = tmp_path_factory.mktemp("steady") / "f"
    expected = bytearray(500)
    with pytest.MonkeyPatch.context() as patch, SteadyFile(path) as file:
        if room is not None:
            fail_after(patch, room)
        for offset, data in writes:
            file.seek(offset)
            assert file.write(data) == len(data)
            expected[offset : offset + len(data)] = data
        file.seek(0)
        buffer = bytearray(500)
        assert file.readinto(memoryview(buffer)) == 500
        end = max((offset + len(data) for offset, data in writes if data), default=0)
        assert file.seek(0, os.SEEK_END) == end
        failed = room is not None and end > room
        assert (file.error is not None) == failed
    assert buffer == expected
    if not failed:
        assert path.read_bytes() == bytes(expected[:end])


@pytest.mark.parametrize("n_bytes", [0, 100, 5_000, 100_000])
def test_hdf5_closes_quietly_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    fail_after(monkeypatch, n_bytes)
    sink = SteadyFile(tmp_path / "f.h5")
    with sink, h5py.File(sink, "w") as file:
        data = file.create_dataset("x", (0, 1000), "f8", maxshape=(None, 1000), chunks=(10, 1000))
        for step in range(20):
            data.resize(10 * step + 10, axis=0)
            data[10 * step :] = np.random.default_rng(step).random((10, 1000))
        file.create_group("g").attrs["a"] = "b"
    assert isinstance(sink.error, OSError)
    assert sink.error.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        sink.check()
