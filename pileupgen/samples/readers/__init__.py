"""Readers: one module a format, chosen by a card's ``format``.

A reader's module has a :class:`~pileupgen.samples.readers.base.Format`; ``_PLACES`` says where. It
is imported when a card asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.files import FileReader, Span
from pileupgen.samples.readers.remote import InputFile

__all__ = ["FORMATS", "Format", "InputFile", "MuSource", "Reader", "Span"]

Reader = FileReader[Any]
"""Opens a sample's files one after another and yields their towers."""

_PLACES = {
    "delphes": "pileupgen.samples.readers.delphes:FORMAT",
    "root": "pileupgen.samples.readers.tree:FORMAT",
    "hdf5": "pileupgen.samples.readers.hdf5:FORMAT",
    "calochallenge": "pileupgen.samples.readers.hdf5:CALOCHALLENGE",
    "showerdata": "pileupgen.samples.readers.showerdata:FORMAT",
    "features": "pileupgen.samples.readers.features:FORMAT",
    "jetnet": "pileupgen.jets.reader:FORMAT",
    "edm4hep": "pileupgen.samples.readers.edm4hep:FORMAT",
    "parquet": "pileupgen.samples.readers.parquet:FORMAT",
    "npz": "pileupgen.samples.readers.npz:FORMAT",
    "cms_ig": "pileupgen.samples.readers.cms_ig:FORMAT",
}


class _Formats(Mapping[str, Format]):
    """Formats by name, imported when asked for."""

    def __getitem__(self, name: str) -> Format:
        module, _, attribute = _PLACES[name].partition(":")
        found: Format = getattr(import_module(module), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


FORMATS: Mapping[str, Format] = _Formats()
