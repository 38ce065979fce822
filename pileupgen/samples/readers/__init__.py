"""Readers: one module a format, chosen by a card's ``format``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pileupgen.samples.readers.base import MuSource
from pileupgen.samples.readers.cms_ig import CmsIgOptions, CmsIgReader
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.readers.features import FeatureOptions, FeatureReader
from pileupgen.samples.readers.files import FileReader, Span
from pileupgen.samples.readers.hdf5 import CaloChallengeOptions, Hdf5Options, ImageArrayReader
from pileupgen.samples.readers.jetnet import JetNetOptions, JetNetReader
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.tree import TreeOptions, TreeReader

__all__ = ["FORMATS", "Format", "InputFile", "MuSource", "Reader", "Span"]

Reader = FileReader[Any]
"""Opens a sample's files one after another and yields their towers."""


@dataclass(frozen=True)
class Format:
    """A file format that cards may name.

    Attributes
    ----------
    options : type of pydantic model
        What a card may say in ``options``.
    mu : str
        Where μ comes from unless the card says so; see :meth:`MuSource.parse`.
    open : callable
        ``(files, options, mu, gev) -> Reader``; opens nothing yet.
    """

    options: type[BaseModel]
    mu: str
    open: Callable[[Sequence[InputFile], Any, MuSource, float], Reader]


FORMATS: dict[str, Format] = {
    "delphes": Format(DelphesOptions, "Vertex_size - 1", DelphesReader),
    "root": Format(TreeOptions, "unknown", TreeReader),
    "hdf5": Format(Hdf5Options, "unknown", ImageArrayReader),
    "calochallenge": Format(CaloChallengeOptions, "unknown", ImageArrayReader),
    "features": Format(FeatureOptions, "unknown", FeatureReader),
    "jetnet": Format(JetNetOptions, "unknown", JetNetReader),
    "cms_ig": Format(CmsIgOptions, "unknown", CmsIgReader),
}
