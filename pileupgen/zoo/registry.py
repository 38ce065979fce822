"""Systems by name. Looking one up loads no other, and listing them loads none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pileupgen.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pileupgen.zoo.base import FittedSystem

TRAINING_FREE = ("steps", "sampler", "post", "calibrated", "collisions")
"""Options that change what is done with a network, not how it is trained."""
YARDSTICK, POINT_YARDSTICK = "marginals", "point-marginals"
"""What others are compared with: of images, and of sets."""


@dataclass(frozen=True)
class Entry:
    """A system that can be asked for."""

    name: str
    module: str
    """In :mod:`pileupgen.zoo`."""
    kind: str
    """Class in it."""
    family: str
    what: str
    """In a few words."""
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: int = 0
    """Raised when the training changes, so that what was trained otherwise is trained anew."""

    def make(self) -> FittedSystem:
        """The system, not fitted yet.

        Raises
        ------
        DependencyError
            If it needs a package that is not installed.
        """
        found: FittedSystem = getattr(import_module(f"pileupgen.zoo.{self.module}"), self.kind)(
            **self.options
        )
        return found

    @property
    def training(self) -> dict[str, Any]:
        """What its training depends on: entries of which this is the same share one training."""
        options = {k: v for k, v in self.options.items() if k not in TRAINING_FREE}
        recipe = {"recipe": self.recipe} if self.recipe else {}
        return {"kind": self.kind, "options": options, **recipe}


_DIVERSE = {"diversity": 0.1}
SYSTEMS = {
    entry.name: entry
    for entry in (
        Entry(YARDSTICK, "marginals", "Marginals", "yardstick", "independent cells"),
        Entry(
            "autoregressive",
            "autoregressive",
            "Autoregressive",
            "autoregressive",
            "Knothe–Rosenblatt map through all cells, in 18 groups",
        ),
        Entry("pixelcnn", "pixelcnn", "PixelCnn", "autoregressive", "gated PixelCNN"),
        Entry("flow", "flows", "Flow", "flow", "affine couplings"),
        Entry(
            "spline-flow",
            "flows",
            "Flow",
            "flow",
            "rational-quadratic couplings",
            {"spline": True},
        ),
        Entry(
            "l2lflows",
            "l2lflows",
            "L2LFlows",
            "flow",
            "a flow for layer energies, then one for the cells of layer after layer",
        ),
        Entry("gan", "gan", "Gan", "adversarial", "conditional GAN"),
        Entry("sdi-gan", "gan", "Gan", "adversarial", "with a diversity term", _DIVERSE),
        Entry(
            "sdi-gan-intensity",
            "gan",
            "Gan",
            "adversarial",
            "with diversity and intensity terms",
            {**_DIVERSE, "intensity": 0.3},
        ),
        Entry(
            "sdi-gan-regressor",
            "gan",
            "Gan",
            "adversarial",
            "with diversity and intensity terms and a regressor",
            {**_DIVERSE, "intensity": 0.3, "regressor": 0.1},
        ),
        Entry("cvae", "vae", "Cvae", "variational", "conditional VAE"),
        Entry(
            "corrvae",
            "corrvae",
            "CorrVae",
            "variational",
            "conditional VAE with latents for ΣE and occupancy",
        ),
        Entry(
            "bib-ae",
            "bibae",
            "BibAe",
            "variational",
            "autoencoder with critics and a post-processor of cells",
            {"post": True},
            recipe=1,
            # The post-processor last.
        ),
        Entry(
            "bib-ae-plain",
            "bibae",
            "BibAe",
            "variational",
            "the same networks without the post-processor",
            {"post": False},
            recipe=1,
        ),
        Entry(
            "ddpm",
            "diffusion",
            "Ddpm",
            "diffusion",
            "DDPM, cosine schedule, 100 steps",
            {"schedule": "cosine", "sampler": "ddpm", "steps": 100},
        ),
        Entry(
            "ddim",
            "diffusion",
            "Ddpm",
            "diffusion",
            "the same network, DDIM, 25 steps",
            {"schedule": "cosine", "sampler": "ddim", "steps": 25},
        ),
        Entry(
            "ddpm-linear",
            "diffusion",
            "Ddpm",
            "diffusion",
            "linear schedule, DDIM, 25 steps",
            {"schedule": "linear", "sampler": "ddim", "steps": 25},
        ),
        Entry(
            "ddim-unconditional",
            "diffusion",
            "Ddpm",
            "diffusion",
            "cosine schedule, a network that is not told μ, DDIM, 25 steps",
            {"schedule": "cosine", "sampler": "ddim", "steps": 25, "conditional": False},
        ),
        Entry(
            "ddim-attention",
            "diffusion",
            "Ddpm",
            "diffusion",
            "cosine schedule, blocks attend to each other and to μ, DDIM, 25 steps",
            {"schedule": "cosine", "sampler": "ddim", "steps": 25, "attention": True},
        ),
        Entry(
            "latent-diffusion",
            "latent",
            "LatentDiffusion",
            "diffusion",
            "on an autoencoder's latents, DDIM, 25 steps",
            {"schedule": "cosine", "sampler": "ddim", "steps": 25},
        ),
        Entry(
            "flow-matching",
            "flow_matching",
            "FlowMatching",
            "flow matching",
            "straight lines, midpoint rule, 21 evaluations",
            {"steps": 10},
        ),
        Entry(
            "bridge",
            "bridge",
            "Bridge",
            "flow matching",
            "lines from mc, or from noise, to data, midpoint rule, 16 evaluations",
            {"steps": 8},
        ),
        Entry(
            "sliced-transport",
            "sliced",
            "SlicedTransport",
            "translator",
            "optimal transport between Gaussian fields, then along slices; translates only",
        ),
        Entry(
            "cycle",
            "cycle",
            "Cycle",
            "translator",
            "cycle-consistent adversarial translation; translates only",
        ),
        Entry(
            "perfekt",
            "perfekt",
            "Perfekt",
            "translator",
            "regression on pairs and an ensemble term; translates only, needs --pairs",
        ),
        Entry(
            POINT_YARDSTICK,
            "point_marginals",
            "PointMarginals",
            "yardstick",
            "independent hits, as many as a layer has",
        ),
        Entry(
            "epic-gan", "epic_gan", "EpicGan", "points", "sets of hits, EPiC layers, adversarial"
        ),
        Entry(
            "epic-fm",
            "epic_fm",
            "EpicFlow",
            "points",
            "sets of hits, EPiC layers, straight lines, midpoint rule, 20 evaluations",
            {"steps": 10},
        ),
        Entry(
            "caloclouds",
            "caloclouds",
            "CaloClouds",
            "points",
            "hits by themselves given a latent vector, DDPM, 100 steps",
            {"steps": 100},
        ),
        Entry(
            "caloclouds2",
            "caloclouds2",
            "CaloClouds2",
            "points",
            "hits by themselves, EDM, Heun's rule, 25 evaluations",
            {"steps": 13},
        ),
        Entry(
            "caloclouds2-teacher",
            "caloclouds2",
            "CaloClouds2",
            "points",
            "the same, trained for half of the time, 25 evaluations",
            {"steps": 13, "distilled": 0.5},
            recipe=1,
        ),
        Entry(
            "caloclouds2-cm",
            "caloclouds2",
            "CaloClouds2",
            "points",
            "its consistency student, 1 evaluation",
            {"distilled": 0.5, "sampler": "consistency"},
            # Through few noise levels first.
            recipe=1,
        ),
    )
}
"""In the order of tables."""


def find_system(name: str) -> Entry:
    """The entry of a name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in SYSTEMS:
        raise ConfigError(f"There is no system '{name}'.", did_you_mean(name, list(SYSTEMS)))
    return SYSTEMS[name]


def chosen_systems(text: str) -> list[Entry]:
    """Entries of a list with commas, or of ``all``; each name once, in the order of tables.

    Raises
    ------
    ConfigError
        If a name is unknown.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if "all" in names:
        return list(SYSTEMS.values())
    if not names:
        raise ConfigError("No system is named.", f"Known: all, {', '.join(SYSTEMS)}.")
    wanted = {find_system(name).name for name in names}
    return [entry for entry in SYSTEMS.values() if entry.name in wanted]
