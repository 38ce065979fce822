"""The `pileupgen` command."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from pileupgen import __version__
from pileupgen.cli import cards, config, demo
from pileupgen.cli.benchmark import benchmark
from pileupgen.cli.compare import compare
from pileupgen.cli.distill import distill
from pileupgen.cli.export import export
from pileupgen.cli.init import init
from pileupgen.cli.merge import merge
from pileupgen.cli.overlay import overlay
from pileupgen.cli.preprocess import preprocess
from pileupgen.cli.scan import scan
from pileupgen.cli.simulate import simulate
from pileupgen.cli.train import train
from pileupgen.cli.translate import translate
from pileupgen.cli.ui.interruption import interruptible
from pileupgen.cli.validate import validate
from pileupgen.errors import OutputError, PileupgenError

# Threads that spin while they wait slow each other up to tenfold where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="pileupgen",
    help="Translate simulated LHC pileup into what a zero-bias trigger records.",
    epilog="The demo, one after another:  pileupgen preprocess · pileupgen train · "
    "pileupgen translate --t-release 300 --w 2.0 · pileupgen validate",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"pileupgen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def _flowing(command: Callable[..., None]) -> str:
    """Help of a command whose paragraphs fill the terminal; those after \\b keep their lines."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else p.replace("\n", " ") for p in paragraphs)


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with interruptible():
            command(*args, **kwargs)

    return run


for _command in (
    init,
    simulate,
    preprocess,
    train,
    scan,
    distill,
    translate,
    merge,
    validate,
    compare,
    overlay,
    export,
    benchmark,
):
    app.command(help=_flowing(_command))(_interruptible(_command))

_GROUPS: dict[str, tuple[str, Mapping[str, Callable[..., None]]]] = {
    "cards": ("Data cards: list them, show one, check one against its files.", cards.COMMANDS),
    "config": ("Configs: what they may hold.", config.COMMANDS),
    "demo": ("Demonstrations, each in one command.", demo.COMMANDS),
}
for _name, (_help, _commands) in _GROUPS.items():
    _group = typer.Typer(help=_help, no_args_is_help=True, rich_markup_mode="rich")
    for _inner, _command in _commands.items():
        _group.command(_inner, help=_flowing(_command))(_interruptible(_command))
    # A single command would be taken for the group itself.
    _group.callback()(lambda: None)
    app.add_typer(_group, name=_name)


def main(program: Callable[[], object] = app) -> None:
    """Run a command line; a foreseen error becomes one message and an exit code."""
    try:
        program()
    except PileupgenError as error:
        sys.exit(_report(error))
    except OSError as error:
        if error.errno == errno.EPIPE:
            sys.exit(141)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = f" {error.filename}" if error.filename else ""
        sys.exit(
            _report(
                OutputError(f"Cannot write{where}: {error.strerror}.", "Free space and repeat.")
            )
        )


def _report(error: PileupgenError) -> int:
    from rich.markup import escape

    from pileupgen.cli.ui.console import error_console

    error_console.print(f"[bold red]error[/]  {escape(error.message)}", soft_wrap=True)
    if error.hint:
        error_console.print(f"[bold]hint[/]   {escape(error.hint)}", soft_wrap=True)
    return error.exit_code


if __name__ == "__main__":
    main()
