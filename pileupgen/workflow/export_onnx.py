"""The translation that made a store, for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pileupgen.diffusion.settings import Settings
from pileupgen.errors import RunError, StoreError
from pileupgen.samples.store import ImageStore
from pileupgen.workflow.model import load_pipeline, model_identity
from pileupgen.workflow.run import Run, open_store
from pileupgen.workflow.student import student_of_store

if TYPE_CHECKING:
    from pileupgen.diffusion.events import Events
    from pileupgen.diffusion.onnx_export import OnnxAgreement

N_CHECKED = 8
"""Events that the export is tried on."""


def export_onnx(run: Run, folder: Path, *, store: Path | None = None) -> OnnxAgreement:
    """Write the networks and the procedure by which the run's model made a store.

    Parameters
    ----------
    run : Run
        That translated.
    folder : Path
        To write.
    store : Path, optional
        Translated; the run's own if not given.

    Returns
    -------
    OnnxAgreement
        How ONNX Runtime and torch compare.

    Raises
    ------
    StoreError
        If the store was not translated, or by an ensemble.
    RunError
        If the run's model is not the one that made the store, or ONNX Runtime disagrees with torch.
    ConfigError
        If settings or model have no counterpart in ONNX.
    """
    from pileupgen.diffusion.onnx_export import export_translation, require_exportable
    from pileupgen.workflow.correction import ready_member

    directory, listener = run.directory, run.listener
    translated = open_store(store or directory.translated, f"pileupgen translate{run.arguments}")
    settings, made_by = _settings_of(translated), translated.provenance
    model = model_identity(directory)
    if made_by["model"] != model:
        raise RunError(
            f"{translated.path} was translated by another model than {directory.model}.",
            f"Run 'pileupgen translate{run.arguments}' again, or choose the --run it is of.",
        )
    listener.read(translated.path, settings.describe())
    listener.read(directory.model)
    pipeline = load_pipeline(directory, "cpu")
    seed, student = int(made_by["seed"]), None
    if made_by["students"][0] is not None:
        student = student_of_store(directory, made_by)
        if student is None:
            raise RunError(
                f"{translated.path} was translated by a student that is not in {directory.path}.",
                f"Run 'pileupgen translate{run.arguments}' again.",
            )
        pipeline = pipeline.taught(student.load("cpu"))
    require_exportable(pipeline, settings)
    member = ready_member(
        directory, model, pipeline, settings, seed, listener=listener, student=student
    )
    agreement = export_translation(
        pipeline,
        settings,
        folder,
        _some_events(ImageStore(directory.images("mc")), seed),
        correction=member.correction,
        provenance={"model": model, "store": made_by},
    )
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    listener.wrote(folder, f"{size:.1f} MB")
    listener.tell(
        "agrees",
        f"with torch in fp32 on {agreement.n_events} events: scores to "
        f"{agreement.differences['translated score']:.1e}, ln r to "
        f"{agreement.differences['ln r']:.1e}, {100 * agreement.differing_cells:.2g} % of cells on "
        "the other side of a threshold",
    )
    listener.next(
        f"python {folder / 'run_onnx.py'} --check; what to do in C++ is in translation.json"
    )
    return agreement


def _settings_of(store: ImageStore) -> Settings:
    made_by = store.provenance
    if "t_release" not in made_by:
        raise StoreError(
            f"{store.path} was not written by 'pileupgen translate'.",
            "Translate first: the export repeats what made a store.",
        )
    if store.domain != "mc_to_data":
        raise StoreError(f"{store.path} holds {store.domain}.", "Only mc to data can be exported.")
    if len(made_by.get("ensemble", [])) > 1:
        raise StoreError(
            f"{store.path} was translated by an ensemble.", "Export its members one by one."
        )
    return Settings.from_dict(made_by)


def _some_events(store: ImageStore, seed: int) -> Events:
    from pileupgen.diffusion.events import EventKeys, Events

    images = store.read(store.indices("test", N_CHECKED))
    return Events(images.energy, images.mu, EventKeys(images.event_id, seed))
