"""How near translated events come to real ones: the comparison, its page and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen import __version__
from pileupgen.compare.records import InputFile
from pileupgen.compare.results import SCHEMA_VERSION, Comparison
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.source_check import source_check
from pileupgen.compare.validation import validate_stores
from pileupgen.diffusion.settings import OPERATING_POINT
from pileupgen.errors import InputError, MissingInputError
from pileupgen.files import write_whole
from pileupgen.report.metrics_file import read_metrics
from pileupgen.report.page import NAME, write_report
from pileupgen.run import fingerprint, hash_file, versions
from pileupgen.samples.store import ImageStore
from pileupgen.simulate.measured.check import GeneratorCheck
from pileupgen.simulate.produce import default_cache
from pileupgen.workflow.against_measurements import against_measurements, find_check
from pileupgen.workflow.event_path import event_path
from pileupgen.workflow.events_of import described_events
from pileupgen.workflow.model import choose_device, read_release_scan
from pileupgen.workflow.run import Run
from pileupgen.workflow.student import agreement_in_words, student_of_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from pileupgen.compare.records import OverlayEffects
    from pileupgen.compare.validation import Validation
    from pileupgen.parallel import Executor
    from pileupgen.parallel.farm import Farm
    from pileupgen.workflow.overlay_effects import OverlaidEvent

PRELOAD = ("pileupgen.compare.validation", "sklearn.ensemble")
"""Modules that worker processes of a comparison load once."""
_CONTROL = "control"
"""Role of controls' stores, before their number."""


@dataclass(frozen=True)
class Validated:
    """A comparison of translated with real events."""

    comparison: Comparison
    """All numbers, as ``metrics.json`` holds them."""
    folder: Path
    """Holds ``report.html``, ``metrics.json`` and the figures."""
    is_new: bool
    """Whether it was made by this call."""
    comparing: _Comparing

    @property
    def headline(self) -> dict[str, float]:
        """The headline numbers by name, such as ``mean_w1`` and ``shift_removed``."""
        return self.comparison.headline

    @property
    def report(self) -> Path:
        """The page with verdict, tables and figures."""
        return self.folder / NAME

    @property
    def validation(self) -> Validation:
        """The comparison with the samples that it was made from; measured again if it was kept."""
        return self.comparing.validation

    def figures(self) -> dict[str, Figure]:
        """Draw all figures of the report; of a comparison that was kept it is measured again."""
        return {name: draw() for name, draw in self.comparing.drawings()}


@dataclass(frozen=True)
class _Comparing:
    """Stores and settings of a comparison, made when first asked for."""

    run: Run
    stores: dict[str, ImageStore]
    settings: ComparisonSettings
    seed: int
    device: str
    farm: Farm | None
    signal: str | None = None
    """Hard scatters that are overlaid."""

    @cached_property
    def overlaid(self) -> tuple[OverlayEffects, OverlaidEvent] | None:
        """Hard scatters with the pileup of the samples, where they are given."""
        if self.signal is None:
            return None
        from pileupgen.workflow.overlay_effects import measure_overlay

        return measure_overlay(
            self.signal,
            self.stores,
            self.run.directory.path,
            weighted=self.settings.weighted,
            n_bootstrap=self.settings.n_bootstrap,
            seed=self.seed,
            listener=self.run.listener,
        )

    @cached_property
    def validation(self) -> Validation:
        """The comparison."""
        executor: Executor | None = None
        if self.farm is not None:
            executor = self.farm.open(*PRELOAD, logs=self.run.directory.logs)
            executor.require_visible([store.path.absolute() for store in self.stores.values()])
        stores = self.stores
        found = validate_stores(
            stores["target"],
            stores["source"],
            stores["translated"],
            self.settings,
            seed=self.seed,
            device=self.device,
            truth=stores.get("truth"),
            controls=[store for role, store in stores.items() if role.startswith(_CONTROL)],
            progress=self.run.listener.progress,
            executor=executor,
        )
        if executor is not None:
            executor.release()
        return found

    def drawings(self) -> Iterator[tuple[str, Callable[[], Figure]]]:
        """Yield the names of figures and what draws them."""
        from pileupgen.report.figures import (
            event_display_figure,
            overlay_figure,
            validation_figures,
        )

        source, translated = self.stores["source"], self.stores["translated"]
        display, directory = self.validation.display, self.run.directory
        path = event_path(directory, source, translated, display, self.run.listener)
        has_scan = (directory.model / "release.json").is_file()
        curve = read_release_scan(directory) if has_scan else None
        t_release = translated.provenance.get("t_release")
        marked = t_release if isinstance(t_release, int) else None
        yield from validation_figures(self.validation, curve, marked, path)
        if self.overlaid is not None:
            effects, event = self.overlaid
            images, titles = list(event.images), list(event.titles)
            yield (
                "overlaid_event",
                partial(event_display_figure, images, titles, event.grid, event.jets),
            )
            yield "overlay", partial(overlay_figure, effects)


def validate(
    run: Run,
    *,
    translated: Path | str | None = None,
    truth: Path | str | None = None,
    controls: Sequence[Path | str] = (),
    overlay: str | None = None,
    quick: bool = False,
    seed: int | None = None,
    device: str | None = None,
    farm: Farm | None = None,
    **settings: Any,
) -> Validated:
    """Compare translated with real events, unless the same comparison is there.

    Only events that no stage was trained on enter. The reference is real against other real
    events, the source is simulation as it is.

    Parameters
    ----------
    run : Run
    translated : path, optional
        Translated store; the run's own if not given.
    truth : path, optional
        Store of the same interactions in the data's detector, event by event with the mc store.
    controls : sequence of path
        Stores translated from data to data, or from mc to mc.
    overlay : str, optional
        Hard scatters, a card or an image store: they are overlaid with mc, translated and data
        pileup, and what an analysis sees of them is compared.
    quick : bool
        No two-sample tests and no ladder.
    seed : int, optional
        The config's if not given.
    device : str, optional
        Device of the test on cells.
    farm : Farm, optional
        Where events are measured and compared; the numbers do not depend on it.
    **settings
        Fields of :class:`~pileupgen.compare.settings.ComparisonSettings` in place of the config's,
        such as ``cells=True``.

    Raises
    ------
    ConfigError
        If a setting does not fit.
    MissingInputError
        If a store is missing; names the command that makes it.
    StoreError
        If stores do not belong together.
    """
    run = run.with_changes(validate=settings)
    stores = _open_stores(run, translated, truth, controls)
    run.adopt()
    directory, chosen = run.directory, run.config.validate_
    is_default = stores["translated"].path == directory.translated
    name = stores["translated"].path.stem
    folder = directory.validation if is_default else directory.validation / name
    stage = "validate" if is_default else f"validate-{name}"
    how = replace(chosen, n_seeds=0, cells=False, ladder=False) if quick else chosen
    if how.ladder and not _can_climb(run, stores):
        how = replace(how, ladder=False)
    device = choose_device(device) if device or how.cells else "cpu"
    comparing = _Comparing(
        run, stores, how, run.config.seed if seed is None else seed, device, farm, overlay
    )
    hashes = {role: hash_file(store.path) for role, store in stores.items()}
    release = directory.model / "release.json"
    check = find_check(stores["source"].provenance, default_cache())
    made_from = fingerprint(
        {
            "inputs": hashes,
            "settings": [vars(how), comparing.seed, device],
            "release": hash_file(release) if release.is_file() else None,
            "schema": [__version__, SCHEMA_VERSION],
            "check": None if check is None else check[0].fingerprint,
            **({} if overlay is None else {"overlay": described_events(overlay)}),
        }
    )
    path = folder / "metrics.json"
    # What was compared before and is whole is not compared again.
    if directory.is_current(stage, made_from, [path, folder / "figures"]):
        with suppress(InputError):
            comparison = read_metrics(path)
            if all((folder / figure).is_file() for figure in comparison.figures):
                _report(run, comparison, folder, again=False)
                run.listener.current(stage, path)
                return Validated(comparison, folder, False, comparing)
    comparison = _write(comparing, hashes, folder, check)
    directory.finish(stage, made_from, {"inputs": hashes, "outputs": [str(path)]})
    return Validated(comparison, folder, True, comparing)


def _can_climb(run: Run, stores: dict[str, ImageStore]) -> bool:
    """Whether the translation can be made again with parts left out; a warning says so if not."""
    from pileupgen.workflow import ladder

    if ladder.is_ours(run.directory, stores["translated"]):
        return True
    run.listener.warn("no ladder: the store was not translated by this run's model from mc to data")
    return False


def _open_stores(
    run: Run,
    translated: Path | str | None,
    truth: Path | str | None,
    controls: Sequence[Path | str],
) -> dict[str, ImageStore]:
    images, path = run.directory.images, Path(translated or run.directory.translated)
    needed = [
        ("target", images("data"), "preprocess"),
        ("source", images("mc"), "preprocess"),
        ("translated", path, "translate"),
    ]
    stores = {}
    for role, place, command in needed:
        if not place.is_file():
            raise MissingInputError(
                f"No image store at {place}.",
                f"Run 'pileupgen {command}{run.arguments}' first, or correct the path.",
            )
        stores[role] = ImageStore(place)
    if truth is not None:
        stores["truth"] = ImageStore(Path(truth))
    for number, control in enumerate(controls, 1):
        stores[f"{_CONTROL} {number}"] = ImageStore(Path(control))
    for role, store in stores.items():
        run.listener.read(store.path, f"{role}, {len(store):,} events")
    return stores


def _write(
    comparing: _Comparing,
    hashes: dict[str, str],
    folder: Path,
    check: tuple[GeneratorCheck, str] | None,
) -> Comparison:
    """Compare, draw, and write metrics and page."""
    from pileupgen.report.figures import write_figure
    from pileupgen.workflow.ladder import ladder_of

    run, stores, listener = comparing.run, comparing.stores, comparing.run.listener
    validation, ladder = comparing.validation, None
    samples = validation.samples
    source, translated = stores["source"], stores["translated"]
    if comparing.settings.ladder:
        ladder = ladder_of(
            run.directory,
            source,
            translated,
            samples,
            comparing.settings,
            comparing.device,
            listener,
        )
    drawings = list(comparing.drawings())
    figures: list[Path] = []
    with listener.progress("draw", len(drawings), "figures") as advance:
        for name, draw in drawings:
            figures += write_figure(draw(), folder / "figures", name)
            advance(1, name)
    provenance = translated.provenance
    notes = validation.comparison.notes
    student = student_of_store(run.directory, provenance, listener)
    if student is not None:
        notes = (*notes, agreement_in_words(student))
    comparison = validation.comparison.model_copy(
        update={
            "notes": notes,
            "inputs": {
                role: InputFile(path=str(store.path), sha256=hashes[role], n_events=len(store))
                for role, store in stores.items()
            },
            "translation": {key: provenance[key] for key in provenance if key in OPERATING_POINT},
            "ladder": ladder,
            "source_check": source_check(translated),
            "overlay": None if comparing.overlaid is None else comparing.overlaid[0],
            "measurements": None
            if check is None or validation.comparison.kind != "images"
            else against_measurements(*check, samples.source, samples.target, samples.translated),
            "versions": versions("numpy", "scipy", "scikit-learn"),
            "figures": tuple(str(path.relative_to(folder)) for path in figures),
        }
    )
    place = folder / "metrics.json"
    write_whole(place, comparison.to_json())
    listener.wrote(place)
    listener.wrote(folder / "figures", f"{len(figures) // 2} figures, PNG and PDF")
    _report(run, comparison, folder, again=True)
    return comparison


def _report(run: Run, comparison: Comparison, folder: Path, *, again: bool) -> None:
    """Write the page, unless it is there and nothing is new."""
    if again or not (folder / NAME).is_file():
        run.listener.wrote(write_report(comparison, folder), "open it in a browser")
