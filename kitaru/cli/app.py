"""The group of all commands, and how an error ends one."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from .. import __version__
from ..errors import ExecutionSuspended, KitaruError
from ..notices import say
from . import completion, documents
from .commands import COMMANDS
from .options import Settings, common, settings_of
from .text import block

__all__ = ["app"]


class _App(click.Group):
    """A group whose commands end with the exit codes of Kitaru's errors."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as e:
            if not _output_is_lost():
                raise
            say(f"kitaru: could not write the output: {e.strerror or e}")
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        settings = ctx.ensure_object(Settings)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KitaruError as e:
            _explain(e, settings)
            ctx.exit(e.exit_code)
        except ExecutionSuspended as e:
            say(f"kitaru: {block(str(e))}")
            ctx.exit(3)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            _drop_output()  # whoever read has seen enough
            ctx.exit(141)
        return result


def _output_is_lost() -> bool:
    """Whether what could not be done was to write the output: what remains of it cannot be written either."""
    try:
        sys.stdout.write("\n")  # an unbuffered stream keeps nothing that a flush could fail on
        sys.stdout.flush()
    except OSError:
        _drop_output()
        return True
    return False


def _drop_output() -> None:
    """The interpreter must not stumble over the rest when it ends."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def _explain(error: KitaruError, settings: Settings) -> None:
    if settings.traceback or os.environ.get("KITARU_TRACEBACK", "0") not in {"", "0"}:
        import traceback

        say(block("".join(traceback.format_exception(error))).rstrip())
    else:
        say(f"kitaru: {block(str(error))}")
    if settings.json:
        click.echo(documents.dumps(documents.error(error)))


@click.group(
    cls=_App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A REF names what to look at: [EXEC:][outer#N/]step[#N][.output], step.in.ARG, @3 for the third checkpoint, "
    "or a saved name: report, report@2 for its second version. EXEC is an exec_id, the start of one, last, or "
    "last-failed. Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 waiting or paused, 4 somebody else runs it, 5 "
    "the store cannot be used, 143 evicted.",
)
@click.version_option(__version__, prog_name="kitaru")
@common
def app() -> None:
    """See what durable runs recorded, and go on with them.

    Every step of a flow leaves a checkpoint in a store: a bucket or a folder. A run that died, or failed, goes on from
    its last finished step.
    """


@app.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
@common
@settings_of
def completion_(settings: Settings, shell: str) -> None:
    """Print what makes a shell complete commands, executions and steps by Tab.

    For bash, put `eval "$(kitaru completion bash)"` into ~/.bashrc; for zsh, the same with zsh into ~/.zshrc; for fish,
    `kitaru completion fish > ~/.config/fish/completions/kitaru.fish`.
    """
    text = completion.script(app, shell)
    click.echo(documents.dumps({"shell": shell, "script": text}) if settings.json else text)


for _command in COMMANDS:
    app.add_command(_command)
