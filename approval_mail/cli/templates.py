"""``approval-mail templates``: which files the mails are made from, and a copy to begin one's own with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from approval_mail import services
from approval_mail.cli.output import as_json_option
from approval_mail.rendering import packaged_folder


@click.group("templates")
def command() -> None:
    """List the template files in use, or copy the packaged ones."""


@command.command("list")
@as_json_option
def list_templates(as_json: bool) -> None:
    """Each file by its name and the path that it is taken from."""
    folder = services.settings().template_dir
    if folder and not folder.is_dir():
        click.echo(
            f"{folder} is not a folder: the packaged templates are used; mend NOTIFICATION_TEMPLATE_DIR", err=True
        )
    sources = services.renderer().sources()
    if as_json:
        click.echo(json.dumps(sources))
        return
    for name, path in sources.items():
        click.echo(f"{name:<24} {path}")


@command.command("copy", short_help="Copy the packaged templates into FOLDER.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def copy(folder: Path) -> None:
    """Copy the packaged templates into FOLDER, to be edited; a file that is there already is kept."""
    packaged = packaged_folder()
    for source in sorted(packaged.rglob("*.*")):
        target = folder / source.relative_to(packaged)
        if target.exists():
            click.echo(f"kept {target}", err=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    click.echo(
        f"Edit what you like in {folder}, delete the rest, and set NOTIFICATION_TEMPLATE_DIR={folder.absolute()}"
    )
