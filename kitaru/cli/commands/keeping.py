"""Copy what was recorded, and check it: `cp`, `verify`."""

from __future__ import annotations

import sys

import click

from .. import completion, documents
from ..options import Settings, common, execution_argument, screen_of, settings_of

__all__ = ["cp", "verify"]


@click.command()
@execution_argument
@click.argument("to", metavar="TO")
@common
@settings_of
def cp(settings: Settings, execution: str, to: str) -> None:
    """Copy an execution to another store, where it opens and resumes.

    TO is that store's address: s3://bucket/prefix, or a folder. What it holds is never overwritten. A copy that was
    broken off, or that is behind, is completed by the same command.
    """
    from .. import moving

    copied = moving.copy(settings.client(), execution, to, quiet=settings.json)
    if settings.json:
        click.echo(documents.dumps(copied.to_json()))
        return
    screen_of().say("\n".join(moving.told(copied)))


@click.command()
@click.argument("executions", metavar="[EXEC]...", nargs=-1, shell_complete=completion.executions)
@click.option("--all", "every", is_flag=True, help="All executions of the store.")
@click.option("--repair", is_flag=True, help="Make derived objects again; put segments back that a pack holds.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")
@common
@settings_of
def verify(settings: Settings, executions: tuple[str, ...], every: bool, repair: bool, quiet: bool) -> None:
    """Check that every object of an execution is what was written.

    Without EXEC it is the last one. The chain of its journal, its packs, every value and every blob down to the last
    byte; nothing is loaded or unpickled. Ends with 1 where something is wrong, and names it, and the values that need
    it. What cannot be found without a signature stands in docs/format.md.
    """
    from .. import verifying

    reports = verifying.verify(settings.client(), executions, every=every, repair=repair, quiet=settings.json)
    if not verifying.tell(reports, None if settings.json else screen_of(), quiet=quiet):
        sys.exit(1)
