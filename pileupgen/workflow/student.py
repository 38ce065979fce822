"""The students of a run: where they are kept, and the one that fits a translation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.diffusion.settings import Settings
from pileupgen.errors import RunError, first_line
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory, fingerprint, hash_file

if TYPE_CHECKING:
    from pileupgen.diffusion.direction import Direction
    from pileupgen.models.networks.student import Student
    from pileupgen.workflow.agreement import Agreement

DESCRIPTION = "student.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class KnownStudent:
    """A student on disk."""

    folder: Path
    identity: str
    """Fingerprint of its weights."""
    description: dict[str, Any]
    """What it was made from, and how far it is from its teacher."""

    def agreement(self) -> Agreement:
        """How far it is from its teacher, as it was measured after its training."""
        from pileupgen.workflow.agreement import Agreement

        return Agreement.from_dict(self.description["agreement"])

    def load(self, device: str) -> Student:
        """Load it, on a device.

        Raises
        ------
        RunError
            If it is damaged.
        """
        from pileupgen.diffusion.pipeline import LOADING_ERRORS
        from pileupgen.models.networks.student import Student

        try:
            student = Student.from_pretrained(self.folder)
        except LOADING_ERRORS as error:
            raise _damaged(self.folder, error) from error
        return student.requires_grad_(False).to(device)


def folder_of(directory: RunDirectory, settings: Settings) -> Path:
    """Folder of the student of a deterministic translation."""
    return directory.students / fingerprint(settings.solver_settings())


def read_student(folder: Path) -> KnownStudent:
    """Read what is written of a student.

    Raises
    ------
    RunError
        If it is damaged.
    """
    try:
        description = dict(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
        identity = hash_file(folder / WEIGHTS)[:16]
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder, error) from error
    if missing := {"model", "agreement"} - description.keys():
        raise _damaged(folder, f"{DESCRIPTION} lacks {', '.join(sorted(missing))}")
    return KnownStudent(folder, identity, description)


def students_of(directory: RunDirectory, settings: Settings, direction: Direction) -> list[str]:
    """Fingerprints of the students that may translate; all, where the release is to be chosen."""
    if settings.exact or not direction.is_usual:
        return []
    if settings.t_release == "auto":
        folders = sorted(directory.students.glob("*"))
    else:
        folders = [folder_of(directory, settings)] if settings.is_deterministic else []
    # Without a description it is not known yet how far a student is from its teacher.
    files = [folder / WEIGHTS for folder in folders if (folder / DESCRIPTION).is_file()]
    return [hash_file(file)[:16] for file in files if file.is_file()]


def student_for(
    directory: RunDirectory,
    model: str,
    settings: Settings,
    direction: Direction,
    listener: Listener = SILENT,
) -> KnownStudent | None:
    """Find the student that translates in the place of a model's solver, if there is one.

    One of another model is passed over with a warning.

    Parameters
    ----------
    settings : Settings
        With a release that is chosen.
    direction : Direction
        Students translate from mc to data.

    Raises
    ------
    RunError
        If its description is damaged.
    """
    if settings.exact or not direction.is_usual or not settings.is_deterministic:
        return None
    folder = folder_of(directory, settings)
    if not (folder / DESCRIPTION).is_file():
        return None
    known = read_student(folder)
    if known.description["model"] != model:
        listener.warn(
            f"{folder} was distilled from another model and is not used; run 'pileupgen distill' "
            "again."
        )
        return None
    return known


def student_of_store(
    directory: RunDirectory, provenance: Mapping[str, Any], listener: Listener = SILENT
) -> KnownStudent | None:
    """Find the student of a run that translated a store; None where the solver did."""
    identity = (provenance.get("students") or [None])[0]
    if identity is None:
        return None
    folder = folder_of(directory, Settings.from_dict(provenance))
    with suppress(RunError):
        known = read_student(folder)
        if known.identity == identity:
            return known
    listener.warn(f"the student {identity} that translated the store is not in {folder} any more")
    return None


def agreement_in_words(student: KnownStudent) -> str:
    """Tell how far a student is from its teacher, as it was measured after its training."""
    found = student.agreement()
    rises = found.rises()
    return (
        f"A student translated in one evaluation for {found.teacher.n_evaluations}. On "
        f"{found.student.n_events:,} validation events its normal scores are "
        f"{found.distance:.4f} off those of the solver, which moves them by {found.move:.3f}, and "
        f"ln r is {found.log_ratio_distance:.3f} off, of a spread of {found.log_ratio_spread:.2f} "
        f"(root mean squares); against the solver W1/σ is {rises['w1'].value:+.3f} ± "
        f"{rises['w1'].error:.3f}, the AUC {rises['auc'].value:+.3f} ± {rises['auc'].error:.3f}, "
        f"the source correlation {found.student.block.value - found.teacher.block.value:+.4f}."
    )


def _damaged(folder: Path, error: Exception | str) -> RunError:
    return RunError(
        f"The student in {folder} cannot be loaded: {first_line(error)}",
        "Distil it anew with 'pileupgen distill --force', or give --exact.",
    )
