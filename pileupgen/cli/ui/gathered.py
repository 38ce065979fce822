"""Options that several commands share, gathered into one argument.

A command that takes ``given`` is decorated by :func:`~pileupgen.cli.ui.settings.with_settings`,
one that takes ``farm`` by :func:`~pileupgen.cli.ui.farm.with_farm`: on the command line the
argument is the options, each with help, limits and type of its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer

Command = Callable[..., None]


def option(kind: Any, default: Any, *names: str, text: str, **more: Any) -> inspect.Parameter:
    """Make a parameter that is an option on the command line.

    Parameters
    ----------
    *names : str
        The option's names, the first giving the parameter's.
    **more
        As :func:`typer.Option` takes it.
    """
    name = names[0].partition("/")[0].removeprefix("--").replace("-", "_")
    shown = typer.Option(*names, help=text, show_default=default is not None, **more)
    return parameter(name, Annotated[kind, shown], default)


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Make a parameter that is given by its name."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def gathered(
    argument: str,
    options: Sequence[inspect.Parameter],
    gather: Callable[[Mapping[str, Any]], AbstractContextManager[Any]],
) -> Callable[[Command], Command]:
    """Put options in the place of a command's argument.

    Parameters
    ----------
    argument : str
        Argument of the command.
    gather : callable
        From the values of the options to a context that gives the argument.
    """
    names = [one.name for one in options]

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        shown: list[inspect.Parameter] = []
        for one in own:
            shown += (
                options
                if one.name == argument
                else [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            )
        defaults = {one.name: one.default for one in options}

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            values = {name: arguments.pop(name, defaults[name]) for name in names}
            with gather(values) as found:
                command(**arguments, **{argument: found})

        # typer reads what a command takes from these two.
        vars(run)["__signature__"] = inspect.Signature(shown)
        run.__annotations__ = {one.name: one.annotation for one in shown}
        return run

    return decorate
