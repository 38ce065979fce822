"""Fields of an RNTuple, read by clusters through uproot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from pileupgen.samples.readers.file_kind import reading
from pileupgen.samples.readers.flat import BlockColumn, Flat, flat_of
from pileupgen.samples.readers.remote import InputFile

_COLUMN = re.compile(r'"column-(\d+)')
"""Numbers of an RNTuple's columns in the form that uproot makes of a field."""


def field_leaves(ntuple: Any) -> Iterator[FieldLeaf]:
    """Fields that can be named: those at the top, and those of records and collections.

    A field of a record, or of a collection's items, is called ``hits.energy``. uproot's own list
    of names takes a time that grows with the square of their number: seconds for a NanoAOD.
    """
    for field in ntuple.all_fields:
        if field.top_level or not (field.is_anonymous or field.in_variant):
            yield FieldLeaf(ntuple, field)


class FieldLeaf:
    """A field of an RNTuple."""

    def __init__(self, ntuple: Any, field: Any) -> None:
        self._ntuple, self._field = ntuple, field
        self.name = str(field.name if field.top_level else field.path)

    @property
    def n_entries(self) -> int:
        """Number of entries."""
        return int(self._ntuple.num_entries)

    @property
    def kind(self) -> str:
        """``event`` for one number an event, ``tower`` for lists of numbers, else nothing."""
        if self._field.fields:
            return ""
        form = _form(self._ntuple, self._field).contents[0]
        numbers = form
        while not hasattr(numbers, "primitive") and (numbers.is_list or numbers.is_record):
            numbers = numbers.contents[0] if numbers.is_record else numbers.content
        if not hasattr(numbers, "primitive") or form.parameter("__array__"):
            return ""
        return "event" if form is numbers and not form.inner_shape else "tower"

    def open(self, path: InputFile) -> NTupleField:
        """Open it for reading."""
        return NTupleField(path, self.name, self._ntuple, self._field)


class NTupleField(BlockColumn):
    """A field, each cluster of it unpacked once.

    Numbers and lists of numbers are taken from uproot's columns as they are; all else through an
    awkward array, which takes as long again.
    """

    def __init__(self, path: InputFile, name: str, ntuple: Any, field: Any) -> None:
        sizes = [int(cluster.num_entries) for cluster in ntuple.cluster_summaries]
        ends = [0, *(int(end) for end in np.cumsum(sizes))]
        super().__init__(path, name, "field", ends, _n_bytes(ntuple, field))
        self._ntuple, self._field = ntuple, field
        self._plain = _plain_columns(ntuple, field)
        self._ahead = _Ahead()

    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``, whatever was read before."""
        with reading(self.path, f"field '{self.name}', entries {begin} to {end - 1}"):
            if self._plain is not None and begin < end:
                return self._read_plain(*self._plain, begin, end)
            self._ahead.cluster = int(np.searchsorted(self._ends, end, side="left"))
            array = self._array(begin, end)
            self._ahead.forget_others()
            return flat_of(array, self)

    def _read_plain(self, ends: int | None, numbers: int, begin: int, end: int) -> Flat:
        """Entries, from the columns with the ends of their lists, if any, and their numbers."""
        first = int(np.searchsorted(self._ends, begin, side="right")) - 1
        last = int(np.searchsorted(self._ends, end, side="left"))
        n_entries = int(self._ends[last] - self._ends[first])
        values = self._ntuple.read_cluster_range(numbers, first, last)
        if ends is None:
            flat, n_lists, n_numbers = Flat(values, None), len(values), n_entries
        else:
            found = self._ntuple.read_cluster_range(ends, first, last)
            counts = np.diff(found).astype(np.int64, copy=False)
            flat, n_lists = Flat(values, counts), len(counts)
            n_numbers = int(counts.sum()) if counts.min(initial=0) >= 0 else -1
        if n_lists != n_entries or n_numbers != len(values):
            raise ValueError("the lengths of its columns do not fit each other")
        at = int(self._ends[first])
        return flat.entries(begin - at, end - at)

    def _array(self, begin: int, end: int) -> Any:
        if self._field.top_level and "." in self.name:
            # uproot takes the dots of a field's own name for those between fields.
            arrays = self._ntuple.arrays(
                filter_field=lambda field: field is self._field,
                entry_start=begin,
                entry_stop=end,
                array_cache=self._ahead,
            )
            return arrays[self.name]
        return self._field.array(entry_start=begin, entry_stop=end, array_cache=self._ahead)


class _Ahead(dict[str, Any]):
    """Keeps what uproot reads of one cluster.

    uproot 5.7 unpacks the cluster that begins where a range of entries ends, and throws it away;
    it is kept for the range that follows.
    """

    cluster = -1

    def __setitem__(self, key: str, values: Any) -> None:
        if self._is_wanted(key):
            super().__setitem__(key, values)

    def forget_others(self) -> None:
        """Drop other clusters."""
        for key in [key for key in self if not self._is_wanted(key)]:
            del self[key]

    def _is_wanted(self, key: str) -> bool:
        return key.rsplit(":", 2)[1:2] == [str(self.cluster)]


def _plain_columns(ntuple: Any, field: Any) -> tuple[int | None, int] | None:
    """Columns of a field with the ends of its lists (None: one number an entry) and its numbers.

    None where the field is anything else, has no such columns in its first clusters, or has them in
    several representations of which one is wider.
    """
    if field.fields or not hasattr(ntuple, "get_field_metadata"):  # as older versions of uproot
        return None
    form = _form(ntuple, field).contents[0]
    lists, numbers = (
        (form, form.content) if form.is_list and hasattr(form, "offsets") else (None, form)
    )
    while numbers.is_record and len(numbers.contents) == 1 and not numbers.is_tuple:
        numbers = numbers.contents[0]
    if not hasattr(numbers, "primitive") or numbers.inner_shape:
        return None
    parts = [part for part in (lists, numbers) if part is not None]
    columns = [int(part.form_key.rpartition("-")[2]) for part in parts]
    if any(part.parameters for part in parts) or any(
        ntuple.column_records[number].first_element_index for number in columns
    ):
        return None
    dtype = ntuple.get_field_metadata(columns[-1]).dtype_result
    if dtype != np.dtype(numbers.primitive) or dtype.kind not in "fiub":
        return None
    return None if lists is None else columns[0], columns[-1]


def _form(ntuple: Any, field: Any) -> Any:
    if field.top_level and "." in field.name:
        return ntuple.to_akform(filter_field=lambda other: other is field)[0]
    return field.to_akform()[0]


def _n_bytes(ntuple: Any, field: Any) -> int:
    """Size of a field's numbers, from the pages of its columns."""
    numbers = {int(number) for number in _COLUMN.findall(_form(ntuple, field).to_json())}
    bits = 0
    for cluster in ntuple.page_link_list:
        for number in numbers:
            if number < len(cluster):
                n = sum(int(page.num_elements) for page in cluster[number].pages)
                bits += n * int(ntuple.column_records[number].nbits)
    return bits // 8
