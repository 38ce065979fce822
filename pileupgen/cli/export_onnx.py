"""`pileupgen export --onnx`: the translation that made a store, for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileupgen.cli.ui.session import Session
    from pileupgen.diffusion.events import Events
    from pileupgen.diffusion.settings import Settings
    from pileupgen.samples.store import ImageStore

N_CHECKED = 8
"""Events that the export is tried on."""


def export_onnx(session: Session, store: ImageStore, folder: Path) -> None:
    """Write the networks and the procedure by which the run's model made a store.

    Parameters
    ----------
    session : Session
        Of the run that translated.
    store : ImageStore
        Translated.
    folder : Path
        To write.

    Raises
    ------
    StoreError
        If the store was not translated, or by an ensemble.
    RunError
        If the run's model is not the one that made the store, or ONNX Runtime disagrees with torch.
    ConfigError
        If settings or model have no counterpart in ONNX.
    """
    from pileupgen.cli.translation_job import load_pipeline, ready_member
    from pileupgen.cli.ui.console import console, say_next, say_read, say_wrote
    from pileupgen.cli.ui.translation_options import model_identity
    from pileupgen.diffusion.onnx_export import export_translation, require_exportable
    from pileupgen.errors import RunError
    from pileupgen.samples.store import ImageStore

    made_by = store.provenance
    settings = _settings_of(store)
    model = model_identity(session.run)
    if made_by["model"] != model:
        raise RunError(
            f"{store.path} was translated by another model than {session.run.model}.",
            f"Run 'pileupgen translate{session.arguments}' again, or choose the --run it is of.",
        )
    say_read(f"{store.path}  {settings.describe()}")
    say_read(session.run.model)
    pipeline = load_pipeline(session.run, "cpu")
    require_exportable(pipeline, settings)
    seed = int(made_by["seed"])
    member = ready_member(session.run, model, pipeline, settings, seed)
    agreement = export_translation(
        pipeline,
        settings,
        folder,
        _some_events(ImageStore(session.run.images("mc")), seed),
        correction=member.correction,
        provenance={"model": model, "store": made_by},
    )
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    say_wrote(folder, f"{size:.1f} MB")
    console.print(
        f"[bold]agrees[/] with torch in fp32 on {agreement.n_events} events: scores to "
        f"{agreement.differences['translated score']:.1e}, ln r to "
        f"{agreement.differences['ln r']:.1e}, "
        f"{100 * agreement.differing_cells:.2g} % of cells on the other side of a threshold",
        soft_wrap=True,
    )
    say_next(f"python {folder / 'run_onnx.py'} --check; what to do in C++ is in translation.json")


def _settings_of(store: ImageStore) -> Settings:
    from pileupgen.diffusion.settings import Settings
    from pileupgen.errors import StoreError

    made_by = store.provenance
    if "t_release" not in made_by or "calibrate_after" not in made_by:
        raise StoreError(
            f"{store.path} was not written by this version's 'pileupgen translate'.",
            "Translate first: the export repeats what made a store.",
        )
    if store.domain != "mc_to_data":
        raise StoreError(f"{store.path} holds {store.domain}.", "Only mc to data can be exported.")
    if len(made_by.get("ensemble", [])) > 1:
        raise StoreError(f"{store.path} is of an ensemble.", "Export its members one by one.")
    return Settings.from_dict(made_by)


def _some_events(store: ImageStore, seed: int) -> Events:
    from pileupgen.diffusion.events import EventKeys, Events

    images = store.read(store.indices("test", N_CHECKED))
    return Events(images.energy, images.mu, EventKeys(images.event_id, seed))
