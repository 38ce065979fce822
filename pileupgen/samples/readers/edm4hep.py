"""EDM4hep files of podio: collections of calorimeter hits, in trees or RNTuples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import Collection, LayerRule, long_form
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.root import RootTree


class HitCollection(StrictModel):
    """A collection of calorimeter hits; by default all of its hits are in one layer."""

    layers: str | dict[str, list[int]] = Field(
        min_length=1, description="the layer; or layer: list of values of layer_index"
    )
    layer_index: Annotated[LayerRule, BeforeValidator(long_form)] | None = Field(
        None, description="how hits are told apart: a field of the cellID, or a depth in mm"
    )
    unit: Literal["GeV", "MeV", "TeV"] | None = Field(None, description="if it is not GeV")
    scale: float = Field(1.0, gt=0, description="factor on the energies, 1 / sampling fraction")

    @model_validator(mode="after")
    def _is_a_collection(self) -> HitCollection:
        if isinstance(self.layers, str) and self.layer_index is not None:
            raise ValueError("layer_index is for layers that are lists of its values")
        try:
            self.cells("hits")
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        return self

    def cells(self, name: str) -> Collection:
        """Give the columns of podio's layout."""
        values: dict[str, Any] = {axis: f"{name}.position.{axis}" for axis in "xyz"}
        values |= {"unit": self.unit, "scale": self.scale}
        if isinstance(self.layers, str):
            return Collection(**values, layers={self.layers: f"{name}.energy"})
        rule = self.layer_index
        if rule is not None and rule.field is not None and rule.cell_id is None:
            rule = rule.model_copy(update={"cell_id": f"{name}.cellID"})
        return Collection(**values, energy=f"{name}.energy", layers=self.layers, layer_index=rule)


class Edm4hepOptions(StrictModel):
    """Options of a card for EDM4hep files."""

    tree: str = Field("events", description="podio's category")
    collections: dict[str, HitCollection] = Field(
        min_length=1, description="collections of (Sim)CalorimeterHits by name"
    )

    def parts(self) -> dict[str, Collection]:
        """Collections by name, as columns of cells."""
        return {name: hits.cells(name) for name, hits in self.collections.items()}


class Edm4hepReader(CellsReader[RootTree]):
    """Calorimeter hits of EDM4hep, seen from the origin."""

    def _open(self, path: InputFile) -> RootTree:
        return RootTree(path, self._options.tree)


FORMAT = Format(
    Edm4hepOptions, "unknown", Edm4hepReader, weights=("EventHeader.weight",), unit="GeV"
)
