"""What a card says of a collection of cells: where they are, their energies, their layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pileupgen.calo.geometry import TWO_PI
from pileupgen.calo.presets import PRESETS
from pileupgen.errors import did_you_mean
from pileupgen.faults import StrictModel

DEPTHS = ("radius", "abs_z", "distance")
"""Depths that are made of x, y and z: from the beam, along it, and from the origin."""

_PART = re.compile(r"\s*(?P<name>\w+)(?::(?P<offset>\d+))?:(?P<width>-?\d+)\s*")


class Positions(StrictModel):
    """Place where positions lie once, for the cells of all events."""

    file: str | None = Field(None, description="another file, relative to the card")
    tree: str | None = Field(None, description="another tree of it, in ROOT files")
    index: str | None = Field(
        None, description="column with the row of each cell, where an event has not all of them"
    )

    @field_validator("file")
    @classmethod
    def _is_relative_to_the_card(cls, file: str | None, info: ValidationInfo) -> str | None:
        resolve: Callable[[str], str] | None = (info.context or {}).get("resolve")
        return file if file is None or resolve is None else resolve(file)


class LayerRule(StrictModel):
    """Source of the number of a cell's layer."""

    column: str | None = Field(None, description="column that holds it")
    field: str | None = Field(None, description="part of a cell identifier that holds it")
    cell_id: str | None = Field(None, description="column with the cell identifiers")
    encoding: str | None = Field(
        None, description="name:width or name:offset:width of the identifier's parts, by commas"
    )
    bins_of: str | None = Field(
        None, description="depth that is binned: radius, abs_z, distance, or a column"
    )
    edges: tuple[float, ...] | None = Field(None, description="ends of the bins; the first is 0")

    @model_validator(mode="after")
    def _is_one_of_three(self) -> LayerRule:
        given = [name for name in ("column", "field", "bins_of") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give a column; a field of a cell_id; or bins_of with their edges")
        if (self.edges is not None) != (self.bins_of is not None):
            raise ValueError("bins_of and edges go together")
        if self.edges is not None and (len(self.edges) < 2 or np.any(np.diff(self.edges) <= 0)):
            raise ValueError("edges must ascend")
        if self.encoding is not None and self.field is not None:
            find_bits(self.encoding, self.field)
        return self

    def __str__(self) -> str:
        return str(self.column or self.field or f"{self.bins_of} bin")


def long_form(value: Any) -> Any:
    """Write a layer rule that is the name of a column as a mapping."""
    return {"column": value} if isinstance(value, str) else value


class Collection(StrictModel):
    """Cells of an event: columns with their places, energies and layers.

    Parameters are what a card says of it. Cells are at ``eta`` and ``phi``, at ``x``, ``y`` and
    ``z``, between ``corners``, or are those of a grid.
    """

    eta: str | None = Field(None, description="column with the cells' η")
    phi: str | None = Field(None, description="column with the cells' φ in rad, in any convention")
    x: str | None = Field(None, description="column with the cells' x; in mm where depths matter")
    y: str | None = Field(None, description="column with the cells' y")
    z: str | None = Field(None, description="column with the cells' z")
    corners: tuple[str, ...] | None = Field(
        None, min_length=3, description="columns with the points around a cell, x, y and z each"
    )
    eta_width: str | float | None = Field(None, description="width in η: a number or a column")
    phi_width: str | float | None = Field(None, description="width in φ: a number or a column")
    positions: Positions | None = Field(
        None, description="where the places are, if they are kept once for all events"
    )
    grid: str | None = Field(None, description="preset whose cells an array of images has")
    eta_range: tuple[float, float] | None = Field(None, description="η of the rings, all alike")
    eta_edges: tuple[float, ...] | str | None = Field(
        None, description="η of the rings, one by one, or the column that holds them once"
    )
    phi_edges: str | None = Field(
        None, description="column that holds the edges in φ once, in place of phi_range"
    )
    phi_range: tuple[float, float] = Field((-np.pi, np.pi), description="φ in rad, of images")
    axes: Literal["eta_phi", "phi_eta"] = Field("eta_phi", description="order of an image's axes")
    channels: Literal["last", "first"] = Field("last", description="(N, H, W, C) or (N, C, H, W)")
    energy: str | None = Field(
        None, description="column with the energy, where layers are values or channels"
    )
    layers: dict[str, str] | dict[str, list[int]] | tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="layer: column with its energy, or values of layer_index; or the channels",
    )
    layer_index: Annotated[LayerRule, BeforeValidator(long_form)] | None = Field(
        None, description="column with the number of a cell's layer, or a rule"
    )
    inner: Literal["cells", "layers"] = Field(
        "cells", description="what the inner lists of nested lists are"
    )
    quantity: Literal["E", "ET"] = Field("E", description="what the energies are")
    unit: Literal["GeV", "MeV", "TeV"] | None = Field(
        None, description="unit of the energies, where it is not the card's"
    )
    scale: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="factor on the energies, 1 / sampling fraction"
    )

    @field_validator("grid")
    @classmethod
    def _grid_is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(f"no geometry preset '{name}'. {did_you_mean(name, PRESETS)}")
        return name

    @model_validator(mode="after")
    def _is_whole(self) -> Collection:
        if getattr(self, "collections", None) is None:
            self._require_places()
            self._require_layers()
        return self

    @property
    def is_image(self) -> bool:
        """Whether the cells are those of a grid."""
        return not (self.grid is None and self.eta_range is None and self.eta_edges is None)

    @property
    def energies(self) -> tuple[str, ...]:
        """Columns with energy, one a layer, or one for all."""
        if self.energy is not None:
            return (self.energy,)
        layers = self.layers if isinstance(self.layers, dict) else {}
        return tuple(column for column in layers.values() if isinstance(column, str))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Layers that the cells are in."""
        return tuple(self.layers or ())

    @property
    def layer_values(self) -> tuple[tuple[int, ...], ...] | None:
        """Values of the layer rule in each layer; None where layers have columns of their own."""
        layers = self.layers if isinstance(self.layers, dict) else {}
        values = [tuple(numbers) for numbers in layers.values() if isinstance(numbers, list)]
        return tuple(values) or None

    def _require_places(self) -> None:
        forms = {
            "eta and phi": (self.eta, self.phi),
            "x, y and z": (self.x, self.y, self.z),
            "corners": (self.corners,),
        }
        given = [name for name, columns in forms.items() if any(columns)]
        halves = [name for name in given if not all(forms[name])]
        if halves:
            raise ValueError(f"{halves[0]} go together")
        grids = [name for name in ("grid", "eta_range", "eta_edges") if getattr(self, name)]
        if len(grids) > 1:
            raise ValueError(f"give either {' or '.join(grids)}")
        if len(given) + len(grids) != 1:
            raise ValueError(
                "say once where the cells are: eta and phi; x, y and z; corners; or, for images, "
                "grid, eta_range or eta_edges"
            )
        if grids:
            self._require_grid()
        if grids and self.positions is not None:
            raise ValueError("a grid says where the cells are: it does not go with positions")

    def _require_grid(self) -> None:
        known = self.eta_edges if isinstance(self.eta_edges, tuple) else self.eta_range
        edges = np.asarray(known or (0, 1))
        if len(edges) < 2 or np.any(np.diff(edges) <= 0):
            raise ValueError("eta_range and eta_edges must ascend")
        if not 0 < self.phi_range[1] - self.phi_range[0] <= TWO_PI * (1 + 1e-6):
            raise ValueError("phi_range must ascend and be no wider than a turn")

    def _require_layers(self) -> None:
        if self.layers is None:
            raise ValueError("layers are missing: layer: column with its energy")
        if isinstance(self.layers, tuple):
            if len(set(self.layers)) != len(self.layers):
                raise ValueError("layers must be distinct")
            if not self.is_image or self.energy is None:
                raise ValueError("layers that are a list are the channels of an array of images")
            return
        values, is_inner = self.layer_values, self.inner == "layers"
        if values is None:
            if self.energy is not None or self.layer_index is not None or is_inner:
                raise ValueError(
                    "energy and layer_index are for layers that are lists of layer_index values"
                )
            return
        if self.energy is None or (self.layer_index is None) == (not is_inner):
            raise ValueError("layers by layer_index take both energy and layer_index")
        numbers = [number for one in values for number in one]
        if len(set(numbers)) != len(numbers) or not all(values):
            raise ValueError("every value of layer_index belongs to one layer, every layer has one")
        rule = self.layer_index
        if rule is not None and rule.bins_of in DEPTHS and self.x is None:
            raise ValueError(f"{rule.bins_of} is made of x, y and z, which the card does not name")


class CollectionOptions(Collection):
    """Options of a format whose events are one collection of cells, or several."""

    collections: dict[str, Collection] | None = Field(
        None, min_length=1, description="several collections by name, in place of all the above"
    )

    @model_validator(mode="after")
    def _is_one_or_several(self) -> CollectionOptions:
        if self.collections is not None:
            extra = sorted(self.model_fields_set & set(Collection.model_fields))
            if extra:
                raise ValueError(f"{', '.join(extra)} belong into each of the collections")
        return self

    def parts(self) -> dict[str, Collection]:
        """Collections by name; the only one of a card without any has none."""
        return {"": self} if self.collections is None else dict(self.collections)

    def position_files(self) -> tuple[str, ...]:
        """Other files that hold positions."""
        found = [part.positions.file for part in self.parts().values() if part.positions]
        return tuple(dict.fromkeys(file for file in found if file is not None))


def has_places(options: Any) -> bool:
    """Whether a card's options say where cells are, or are no mapping of options at all."""
    places = ("collections", "eta", "x", "corners", "grid", "eta_range", "eta_edges")
    return not isinstance(options, dict) or any(name in options for name in places)


def find_bits(encoding: str, field: str) -> tuple[int, int, bool]:
    """Find a part of a cell identifier as DD4hep writes them.

    Parameters
    ----------
    encoding : str
        ``name:width`` or ``name:offset:width``, by commas; a negative width is that of a signed
        number. A part without an offset begins where the one before it ends.

    Returns
    -------
    offset, width : int
        Its first bit and number of bits.
    is_signed : bool

    Raises
    ------
    ValueError
        If the text is no encoding or does not have the part.

    Examples
    --------
    >>> find_bits("system:5,side:-2,layer:32:8", "side")
    (5, 2, True)
    """
    end, found = 0, dict[str, tuple[int, int, bool]]()
    for text in encoding.split(","):
        match = _PART.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' of the encoding '{encoding}' is not name:offset:width")
        offset = end if match["offset"] is None else int(match["offset"])
        width = int(match["width"])
        end = offset + abs(width)
        if not 0 < abs(width) <= 64 or end > 64:
            raise ValueError(f"'{text}' of the encoding '{encoding}' is not within 64 bits")
        found[match["name"]] = (offset, abs(width), width < 0)
    if field not in found:
        raise ValueError(
            f"the encoding '{encoding}' has no field '{field}'. {did_you_mean(field, found)}"
        )
    return found[field]
