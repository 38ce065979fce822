"""Models in the layout of diffusers, config and safetensors, read and written without it.

Importing diffusers takes longer than all else that a translation begins with. Its pipelines load
and use these models all the same: of a class that is not its own, diffusers asks that the class'
module also holds a base of it that is called ``ModelMixin``.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pileupgen.files import write_whole, written_whole

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_N_NAMED = 3

Model = TypeVar("Model", bound="ModelMixin")
P = ParamSpec("P")


class MissingTensorsError(ValueError):
    """A model's file lacks tensors of the model."""

    def __init__(self, folder: Path, missing: list[str]) -> None:
        more = f" and {len(missing) - _N_NAMED} more" if len(missing) > _N_NAMED else ""
        self.folder, self.missing = folder, f"{', '.join(missing[:_N_NAMED])}{more}"
        super().__init__(f"{folder.name} lacks {self.missing}")


class ModelConfig(Mapping[str, Any]):
    """Arguments that a model was made with, as items and as attributes."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        # While it is being copied or unpickled it has no values yet.
        values = self.__dict__.get("_values", MappingProxyType({}))
        if name not in values:
            raise AttributeError(f"{name} is no argument of the model")
        return values[name]


def register_to_config(
    init: Callable[Concatenate[Model, P], None],
) -> Callable[Concatenate[Model, P], None]:
    """Keep the arguments of a model's constructor, defaults included, as its ``config``."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def made(self: Model, /, *args: P.args, **kwargs: P.kwargs) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()
        self.register_to_config(**dict(arguments))
        init(self, *args, **kwargs)

    return made


class ModelMixin(nn.Module):
    """A module that knows what it was made with, and is saved and loaded with it.

    A subclass wraps its constructor in :func:`register_to_config`.
    """

    may_lack: ClassVar[frozenset[str]] = frozenset()
    """Tensors that a file may be without, since earlier versions wrote none."""

    @property
    def config(self) -> ModelConfig:
        """Arguments that it was made with."""
        return ModelConfig(self.__dict__.get("_arguments", {}))

    def register_to_config(self, **arguments: Any) -> None:
        """Change what the config says it was made with."""
        self.__dict__["_arguments"] = {**self.__dict__.get("_arguments", {}), **arguments}

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        return next(iter(self.state_dict().values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its tensors."""
        tensors = self.state_dict().values()
        return next((one.dtype for one in tensors if one.is_floating_point()), torch.float32)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and the tensors to a folder.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        head = {"_class_name": type(self).__name__, "_diffusers_version": version("diffusers")}
        text = json.dumps({**head, **self.config}, indent=2, sort_keys=True)
        write_whole(path / CONFIG, text + "\n")
        tensors = {name: one.contiguous() for name, one in self.state_dict().items()}
        with written_whole(path / WEIGHTS) as aside:
            save_file(tensors, aside, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        torch_dtype: torch.dtype | None = None,
        **_: Any,
    ) -> Self:
        """Load a model that :meth:`save_pretrained` wrote, to compute with, not to train.

        Parameters
        ----------
        folder : path
        torch_dtype : torch.dtype, optional
            Precision, that of the model if not given. What else diffusers asks for has no meaning
            here.

        Raises
        ------
        MissingTensorsError
            If the file lacks tensors of the model.
        OSError, ValueError, TypeError, RuntimeError, SafetensorError
            If the folder is missing, incomplete or damaged.
        """
        path = Path(folder)
        written = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        known = inspect.signature(cls.__init__).parameters
        # Weights are drawn before they are loaded: that is not to change anybody's random numbers.
        with torch.random.fork_rng(devices=[]):
            model = cls(**{name: value for name, value in written.items() if name in known})
        tensors = load_file(path / WEIGHTS)
        missing = sorted(model.state_dict().keys() - tensors.keys() - cls.may_lack)
        if missing:
            raise MissingTensorsError(path, missing)
        model.load_state_dict(tensors, strict=False)
        if torch_dtype is not None:
            model.to(torch_dtype)
        return model.eval()
