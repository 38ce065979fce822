"""The model card: what a trained model is, in Markdown, beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pileupgen.calo.geometry import Grid
from pileupgen.diffusion.release import ReleaseScan
from pileupgen.run import versions
from pileupgen.samples.store import ImageStore

_PACKAGES = ("torch", "diffusers", "accelerate", "numpy", "scipy", "h5py", "safetensors")

_LOADING = """```python
from pileupgen import ImageStore, PileupTranslationPipeline

pipeline = PileupTranslationPipeline.from_pretrained("path/of/this/folder")
mc = ImageStore("mc.h5").read(slice(0, 10))
translation = pipeline(mc.energy, mc.mu, mc.event_id, seed=1)
```"""


def model_card(
    config: Mapping[str, Any],
    stores: Sequence[ImageStore],
    grid: Grid,
    parameters: Mapping[str, int],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    release: ReleaseScan,
    reconstruction: Sequence[Mapping[str, Any]] = (),
    denoising: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> str:
    """Write the card.

    Parameters
    ----------
    config : mapping
        Resolved config as plain values.
    stores : two ImageStores
        mc and data.
    reconstruction : sequence of mappings
        Two-sample tests of the codec, by domain, where they were made.
    denoising : mapping
        Errors over t on held-out events, where they were taken.
    seconds : mapping
        Wall time of each network's steps, where it is known.
    """
    parts = [
        f"# {config['name']}",
        "Translates simulated pileup (`mc`) into what a zero-bias trigger records (`data`): "
        "calibration, autoencoder, latent denoiser and density-ratio classifier of `pileupgen`, in "
        "the layout of diffusers. Weights are safetensors.",
        "## Load it",
        _LOADING,
        "`translation.energy` has shape (N, layers, η, φ) in GeV.",
        "## Data",
        *(_sample(store) for store in stores),
        "## Geometry",
        f"`{grid.name}`: {grid.n_layers} layers ({', '.join(grid.layers)}) × {grid.n_eta} rings × "
        f"{grid.n_phi} cells in φ, {grid.eta_edges[0]:g} ≤ η ≤ {grid.eta_edges[-1]:g}.",
        "## Networks",
        _networks(parameters, histories, seconds or {}),
        "## Held-out metrics",
        *_metrics(release, reconstruction, denoising),
        "## Versions",
        ", ".join(f"{name} {number}" for name, number in versions(*_PACKAGES).items()),
        "## Licence",
        "The software is Apache-2.0. The weights are derived from the samples above, whose "
        "licences stand with them.",
        "## Config",
        f"```yaml\n{yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _sample(store: ImageStore) -> str:
    provenance = store.provenance
    card = provenance.get("card", {})
    counts = ", ".join(
        f"{len(store.indices(split)):,} {split}" for split in ("train", "validation", "test")
    )
    lines = [
        f"### {store.path.stem}: {card.get('name', store.path.name)}",
        str(card.get("what", "")),
        f"- {len(store):,} events: {counts}",
    ]
    lines += [
        f"- {key.replace('_', ' ')}: {' '.join(str(card[key]).split())}"
        for key in ("how_made", "selection", "licence", "contact")
        if card.get(key)
    ]
    for entry in provenance.get("inputs", []):
        digest = entry.get("sha256") or entry.get("generated") or ""
        lines.append(f"- `{entry.get('name')}` {digest}".rstrip())
    return "\n".join(lines)


def _networks(
    parameters: Mapping[str, int],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    seconds: Mapping[str, float],
) -> str:
    rows = ["| network | parameters | steps | held-out loss | seconds |", "|---|---|---|---|---|"]
    for name, count in parameters.items():
        judged = [row for row in histories.get(name, ()) if "held_out" in row]
        steps = f"{judged[-1]['step']:,.0f}" if judged else "–"
        loss = f"{min(row['held_out'] for row in judged):.4f}" if judged else "–"
        spent = seconds.get(name)
        time = "–" if spent is None else f"{spent:,.0f}"
        rows.append(f"| {name} | {count:,} | {steps} | {loss} | {time} |")
    return "\n".join(rows)


def _metrics(
    release: ReleaseScan,
    reconstruction: Sequence[Mapping[str, Any]],
    denoising: Mapping[str, Any] | None,
) -> list[str]:
    found = [
        f"Two-sample test of reconstructed against original {test['domain']} events: "
        f"{test['in_words']}."
        for test in reconstruction
    ]
    if denoising is not None:
        columns = [denoising[key] for key in ("t", "trivial", "closed_form", "network")]
        rows = ["| t | trivial | closed form | network |", "|---|---|---|---|"]
        rows += [
            f"| {t} | {trivial:.4f} | {closed:.4f} | {network:.4f} |"
            for t, trivial, closed, network in zip(*columns, strict=True)
        ]
        found += ["Mean squared error of the velocity:", "\n".join(rows)]
    rows = ["| t | AUC [68 %] | ESS |", "|---|---|---|"]
    for index in range(0, len(release.t), max(len(release.t) // 8, 1)):
        interval = f"[{release.auc_low[index]:.3f}, {release.auc_high[index]:.3f}]"
        rows.append(
            f"| {release.t[index]} | {release.auc[index]:.3f} {interval} | "
            f"{release.ess[index]:.2f} |"
        )
    title = (
        f"Separability of {release.n_mc} mc and {release.n_data} data events by the ratio, "
        "noised to t:"
    )
    return [*found, title, "\n".join(rows)]
