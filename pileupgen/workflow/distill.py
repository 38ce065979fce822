"""Distilling a run: a student that translates in one evaluation."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.files import folder_written_whole, write_whole
from pileupgen.run import fingerprint, hash_file, versions
from pileupgen.workflow.model import choose_device, load_pipeline, model_identity
from pileupgen.workflow.run import Run
from pileupgen.workflow.student import (
    DESCRIPTION,
    WEIGHTS,
    KnownStudent,
    folder_of,
    read_student,
)
from pileupgen.workflow.translate import chosen_settings, configured, with_release

if TYPE_CHECKING:
    from pileupgen.diffusion.settings import Settings
    from pileupgen.workflow.agreement import Agreement


@dataclass(frozen=True)
class Distilled:
    """A student on disk."""

    folder: Path
    settings: Settings
    """The settings that it was distilled for, the release chosen."""
    agreement: Agreement
    """How far it is from its teacher on validation events."""
    is_new: bool
    """Whether it was distilled by this call."""


def distill(
    run: Run,
    *,
    pairs: int | None = None,
    training_steps: int | None = None,
    n_events: int = 300,
    seed: int | None = None,
    device: str | None = None,
    force: bool = False,
    **given: Any,
) -> Distilled:
    """Distil a student for one setting of the translation, unless it is there.

    Interrupted, it continues with the next pairs or from the newest checkpoint.

    Parameters
    ----------
    run : Run
        Trained.
    pairs, training_steps : int, optional
        In place of the config's ``distill.pairs`` and ``distill.steps``.
    n_events : int
        Validation events of mc and of data at most, on which student and teacher are compared.
    seed : int, optional
        The config's if not given.
    device : str, optional
    force : bool
        Whether to train again although the student is current.
    **given
        Fields of :class:`~pileupgen.diffusion.settings.Settings` in place of the config's.

    Raises
    ------
    ConfigError
        If one evaluation cannot follow these settings.
    RunError
        If there is no trained model.
    """
    run = configured(run, given).with_changes(distill={"pairs": pairs, "steps": training_steps})
    directory, listener = run.directory, run.listener
    model = model_identity(directory)
    run.adopt()
    stores = run.store("mc"), run.store("data")
    settings = chosen_settings(run, given)
    chosen_seed = run.config.seed if seed is None else seed
    chosen_device = choose_device(device)
    listener.read(directory.model)
    pipeline = load_pipeline(directory, "cpu")
    settings = with_release(
        settings, directory, directory.translated, model, pipeline, chosen_seed, listener
    )

    from pileupgen.diffusion.teacher import new_student, require_distillable

    require_distillable(pipeline, settings)
    folder, config = folder_of(directory, settings), run.config.distill
    provenances = [store.provenance for store in stores]
    making = [settings.solver_settings(), model, chosen_seed, config.model_dump(), provenances]
    made_from = fingerprint([*making, n_events])
    record = f"distill-{folder.name}"
    if not force and directory.is_current(record, made_from, [folder / DESCRIPTION]):
        listener.current("distill", folder)
        return Distilled(folder, settings, read_student(folder).agreement(), is_new=False)

    from pileupgen.training.checkpoints import Making
    from pileupgen.training.distillation import Apprenticeship, Teacher, distil
    from pileupgen.training.symmetries import augmentation_of
    from pileupgen.workflow.agreement import compared

    listener.tell("teacher", f"{settings.describe()}: {settings.n_evaluations} evaluations")
    student = new_student(pipeline, settings, chosen_seed, config.width, config.n_blocks)
    for network in (pipeline.autoencoder, pipeline.denoiser, pipeline.ratio):
        network.to(chosen_device)
    # Pairs and checkpoints of other makings lie elsewhere, so that none of them is continued.
    checkpoints = directory.checkpoints / f"distill-{fingerprint(making)}"
    if force:
        shutil.rmtree(checkpoints, ignore_errors=True)
    result = distil(
        Teacher(pipeline, settings, stores[0], chosen_seed),
        student,
        config,
        run.config.training,
        Apprenticeship(
            checkpoints,
            directory.logs / f"student-{folder.name}.jsonl",
            Making(fingerprint(making), {"distill": config.model_dump()}),
            augmentation_of(run.config, stores, stores[0].grid),
        ),
        listener,
    )
    description = {
        "model": model,
        "solver_settings": settings.solver_settings(),
        "settings": settings.provenance(),
        "distill": config.model_dump(),
        "seed": chosen_seed,
        "seconds": result.seconds,
        "losses": result.history,
        "versions": versions("torch", "diffusers", "numpy"),
    }
    # A student has its name only once it is known how far it is from its teacher.
    with folder_written_whole(folder) as aside:
        student.save_pretrained(aside)
        agreement = compared(
            directory,
            model,
            pipeline,
            settings,
            KnownStudent(aside, hash_file(aside / WEIGHTS)[:16], description),
            n_events=n_events,
            seed=chosen_seed,
            listener=listener,
        )
        text = json.dumps(
            {**description, "agreement": asdict(agreement)}, indent=2, ensure_ascii=False
        )
        write_whole(aside / DESCRIPTION, text + "\n")
    directory.finish(record, made_from, {"student": str(folder)})
    shutil.rmtree(checkpoints, ignore_errors=True)
    listener.wrote(folder, "translate takes it for these settings, unless --exact is given")
    return Distilled(folder, settings, agreement, is_new=True)
