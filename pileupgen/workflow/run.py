"""A run as one object: open or create it, and take its stages one by one.

The commands are thin callers of this class, and so are scripts and notebooks::

    run = Run.create("demo")
    run.preprocess()
    run.train()
    run.translate(t_release=300, w=2.0)
    run.validate().figures()["observables"]
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.config import Config, parse_config, read_config
from pileupgen.errors import ConfigError, MissingInputError, RunError
from pileupgen.progress import SILENT, Listener
from pileupgen.resources import find_file
from pileupgen.run import RunDirectory

if TYPE_CHECKING:
    from pileupgen.diffusion.direction import Domain
    from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
    from pileupgen.diffusion.onnx_export import OnnxAgreement
    from pileupgen.parallel.farm import Farm
    from pileupgen.samples.store import ImageStore
    from pileupgen.workflow.distill import Distilled
    from pileupgen.workflow.estimate import Plan
    from pileupgen.workflow.export import Exported, Format
    from pileupgen.workflow.preprocess import Preprocessed
    from pileupgen.workflow.scan import Scanned
    from pileupgen.workflow.train import Trained
    from pileupgen.workflow.translate import Split, Translated
    from pileupgen.workflow.validate import Validated

DEFAULT_CONFIG = "demo"


@dataclass(frozen=True)
class Run:
    """A checked config and the run directory that it belongs to.

    Nothing is written before the first stage; a stage that is done already for the same inputs and
    settings is not done again.

    Examples
    --------
    >>> run = Run.create({"name": "sketch", "translate": {"w": 1.0}})
    >>> run.directory.path.as_posix(), run.config.translate.w
    ('runs/sketch', 1.0)
    >>> run.with_changes(translate={"t_release": 600}).config.translate.describe()
    'partial, t = 600, w = 1, 15 steps, dpmsolver++'
    """

    config: Config
    """All settings."""
    directory: RunDirectory
    """Paths and records."""
    config_path: Path
    """Path of the config, from which relative paths of cards are taken, too."""
    listener: Listener = SILENT
    """Told what is read, written and done; silent by default."""
    arguments: str = ""
    """Options that name the config and the run, for the command to run next."""
    configured: frozenset[str] = frozenset()
    """Settings of a translation that the config gives a value of its own."""

    @classmethod
    def open(cls, path: Path | str, *, listener: Listener = SILENT) -> Run:
        """Open a run that was begun before, with its own config.

        Raises
        ------
        RunError
            If the directory holds no run.
        ConfigError
            If its config does not fit this version.
        """
        place = Path(path) / "config.yaml"
        if not place.is_file():
            raise RunError(
                f"No run at {path}: it has no config.yaml.",
                "Begin one with Run.create(config, path), or 'pileupgen preprocess'.",
            )
        return choose_run(None, Path(path), listener=listener)

    @classmethod
    def create(
        cls,
        config: Config | Mapping[str, Any] | Path | str = DEFAULT_CONFIG,
        path: Path | str | None = None,
        *,
        listener: Listener = SILENT,
    ) -> Run:
        """Begin a run, or go on with one of the same config.

        Parameters
        ----------
        config : Config, mapping, path or name
            A config, plain values, a YAML file, or the name of a shipped config.
        path : path, optional
            Run directory; ``runs/<config name>`` if not given.
        listener : Listener, optional

        Raises
        ------
        ConfigError
            If the config does not fit; all faults are named.
        """
        if isinstance(config, Path | str):
            place = None if path is None else Path(path)
            return choose_run(Path(config), place, listener=listener)
        parsed = config if isinstance(config, Config) else parse_config(dict(config), "the config")
        given = set() if isinstance(config, Config) else set(config.get("translate") or {})
        place = Path("runs") / parsed.name if path is None else Path(path)
        arguments = f" --run {place}"
        return cls(
            parsed, RunDirectory(place), Path("config.yaml"), listener, arguments, frozenset(given)
        )

    def with_changes(self, seed: int | None = None, **sections: Mapping[str, Any]) -> Run:
        """The same run with other settings; None values change nothing.

        Parameters
        ----------
        seed : int or None
            Replaces the config's seed.
        **sections
            ``section={key: value}``.

        Raises
        ------
        ConfigError
            If a change does not fit; all faults are named.
        """
        values = self.config.to_dict()
        if seed is not None:
            values["seed"] = seed
        for section, changes in sections.items():
            given = {key: value for key, value in changes.items() if value is not None}
            values[section] = {**values[section], **given}
        return replace(self, config=parse_config(values, str(self.config_path)))

    def adopt(self) -> None:
        """Bind the directory to the config.

        Raises
        ------
        RunError
            If it is bound to another.
        """
        import yaml

        values = self.config.to_dict()
        self.directory.adopt(values, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def store(self, domain: Domain) -> ImageStore:
        """The preprocessed images of ``mc`` or ``data``.

        Raises
        ------
        MissingInputError
            If there are none yet.
        """
        return open_store(self.directory.images(domain), f"pileupgen preprocess{self.arguments}")

    def pipeline(self, device: str | None = None) -> PileupTranslationPipeline:
        """The trained pipeline with its networks on a device, the best there is if not given.

        Raises
        ------
        RunError
            If there is none, or it is damaged.
        ConfigError
            If the device does not exist here.
        """
        from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
        from pileupgen.workflow.model import choose_device, move

        chosen = choose_device(device)
        pipeline = PileupTranslationPipeline.from_pretrained(self.directory.model)
        move(pipeline, chosen)
        return pipeline

    def preprocess(self, **options: Any) -> Preprocessed:
        """Turn the towers of the config's two samples into image stores.

        See :func:`pileupgen.workflow.preprocess.preprocess` for the options.
        """
        from pileupgen.workflow.preprocess import preprocess

        return preprocess(self, **options)

    def train(self, *, device: str | None = None, force: bool = False) -> Trained:
        """Train calibration, autoencoder, latent denoiser and density-ratio classifier.

        See :func:`pileupgen.workflow.train.train`.
        """
        from pileupgen.workflow.train import train

        return train(self, device=device, force=force)

    def distill(self, **options: Any) -> Distilled:
        """Distil a student that translates in one evaluation.

        See :func:`pileupgen.workflow.distill.distill` for the options.
        """
        from pileupgen.workflow.distill import distill

        return distill(self, **options)

    def scan(self, **options: Any) -> Scanned:
        """Measure settings of the translation on validation events and recommend one.

        See :func:`pileupgen.workflow.scan.scan` for the options.
        """
        from pileupgen.workflow.scan import scan

        return scan(self, **options)

    def translate(
        self,
        *,
        split: Split = "test",
        shard: str | None = None,
        source: Domain = "mc",
        target: Domain = "data",
        events: Path | str | None = None,
        output: Path | str | None = None,
        ensemble: Sequence[Path | str] = (),
        seed: int | None = None,
        device: str | None = None,
        force: bool = False,
        farm: Farm | None = None,
        **settings: Any,
    ) -> Translated:
        """Translate events.

        Parameters
        ----------
        split : str
            ``test``, ``validation``, ``train`` or ``all`` events.
        shard : str, optional
            ``i/n``: only the i-th of n parts, which :meth:`merge` joins.
        source, target : str
            Domains of the events before and after, ``mc`` or ``data``.
        events : path, optional
            Image store of the events; the run's own of the source if not given.
        output : path, optional
            Store to write; ``<run>/translated/<source>_to_<target>.h5`` if not given.
        ensemble : sequence of path
            Further trained runs, members of an ensemble beside this one.
        seed : int, optional
            The config's if not given.
        device : str, optional
            Device of the networks, such as ``cuda:1``; the best there is if not given.
        force : bool
            Whether to translate again although the output is current.
        farm : Farm, optional
            Where blocks of events are translated; in this process if not given.
        **settings
            Fields of :class:`~pileupgen.diffusion.settings.Settings` in place of the config's,
            such as ``t_release=300`` and ``w=2.0``. Without any of the operating point, what
            :meth:`scan` recommends is taken.

        Raises
        ------
        ConfigError
            If a setting does not fit.
        RunError
            If there is no trained model.
        """
        from pileupgen.workflow.translate import Request, translate

        request = Request.of(
            self, split, shard, source, target, events, output, ensemble, seed, device, force
        )
        return translate(self, request, settings, farm)

    def plan_preprocess(self) -> Plan:
        """What :meth:`preprocess` would do, and how long it may take."""
        from pileupgen.workflow.estimate import plan_preprocess

        return plan_preprocess(self)

    def plan_train(self) -> Plan:
        """What :meth:`train` would do, and how long it may take."""
        from pileupgen.workflow.estimate import plan_train

        return plan_train(self)

    def plan_translate(self, **options: Any) -> Plan:
        """What :meth:`translate` would do with these options, and how long it may take."""
        from pileupgen.workflow.estimate import plan_translate
        from pileupgen.workflow.translate import Request

        names = inspect.signature(Request.of).parameters
        request = {key: options.pop(key) for key in [*options] if key in names}
        return plan_translate(self, Request.of(self, **request), options)

    def merge(self, shards: Sequence[Path] | None = None, output: Path | None = None) -> Translated:
        """Join the shards of one translation; see :func:`pileupgen.workflow.merge.merge`."""
        from pileupgen.workflow.merge import merge

        return merge(self, shards, output)

    def validate(self, **options: Any) -> Validated:
        """Compare translated with real events, beside reference and source.

        See :func:`pileupgen.workflow.validate.validate` for the options.
        """
        from pileupgen.workflow.validate import validate

        return validate(self, **options)

    def export(self, kind: Format = "root", **options: Any) -> Exported:
        """Write a store for other software.

        See :func:`pileupgen.workflow.export.export` for the options.
        """
        from pileupgen.workflow.export import export

        return export(self, kind, **options)

    def export_onnx(self, folder: Path, *, store: Path | None = None) -> OnnxAgreement:
        """Write the translation that made a store, for ONNX Runtime.

        See :func:`pileupgen.workflow.export_onnx.export_onnx`.
        """
        from pileupgen.workflow.export_onnx import export_onnx

        return export_onnx(self, folder, store=store)


def choose_run(
    config: Path | None,
    run: Path | None,
    seed: int | None = None,
    listener: Listener = SILENT,
    **sections: Mapping[str, Any],
) -> Run:
    """Load the config, apply changes to it and choose the run directory, as commands do.

    Parameters
    ----------
    config : Path or None
        A path or the name of a shipped config; None takes the run's own, else ``demo``.
    run : Path or None
        Run directory; None takes ``runs/<config name>``.
    seed : int or None
        Replaces the config's seed.
    **sections
        ``section={key: value}``; None values change nothing.

    Raises
    ------
    ConfigError
        If the config or a change does not fit.
    """
    own = run / "config.yaml" if run is not None else None
    if config is None and own is not None and own.is_file():
        path = own
    else:
        path = find_file(str(config or DEFAULT_CONFIG), "configs")
    read = read_config(path)
    loaded = parse_config(read, str(path))
    configured = set(read.get("translate") or {})
    if path == own:
        # A run's own config spells out the defaults too.
        values, defaults = loaded.translate, type(loaded.translate)()
        configured = {k for k in configured if getattr(values, k) != getattr(defaults, k)}
    directory = RunDirectory(run or Path("runs") / loaded.name)
    if directory.path.name.startswith("-"):
        raise ConfigError(f"--run is missing its value (got '{directory.path}').")
    given = [("--config", config), ("--run", run)]
    arguments = "".join(f" {name} {value}" for name, value in given if value is not None)
    found = Run(loaded, directory, path, listener, arguments, frozenset(configured))
    return found.with_changes(seed, **sections)


def open_store(path: Path, command: str) -> ImageStore:
    """Open an image store, or say which command makes it.

    Raises
    ------
    MissingInputError
        If there is none.
    """
    from pileupgen.samples.store import ImageStore

    if not path.is_file():
        raise MissingInputError(
            f"No image store at {path}.", f"Run '{command}' first, or correct the path."
        )
    return ImageStore(path)
