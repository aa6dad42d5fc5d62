"""``approval-mail preview``: a mail as its recipients would see it, without sending one."""

from __future__ import annotations

import html
import sys
import tempfile
import webbrowser
from pathlib import Path
from string import Template

import click

from approval_mail import services
from approval_mail.cli.event_fields import field_option, parse
from approval_mail.cli.sample import render_example
from approval_mail.events import EVENT_TYPES
from approval_mail.rendering import DIGEST, Content
from approval_mail.settings import LANGUAGES

#: In place of a type: every mail in every language.
_ALL = "all"

_PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>approval_mail: preview</title><style>
:root { color-scheme: light dark; }
body { margin: 16px; font: 14px/1.4 sans-serif; display: grid; gap: 16px; align-items: start;
  grid-template-columns: minmax(0, 1fr); }
@media (min-width: 800px) { body { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (min-width: 1600px) { body { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
figure { margin: 0; } figcaption { padding: 4px 0; font-weight: 600; }
iframe { width: 100%; height: 900px; border: 1px solid #8888; }
</style></head><body>
$mails
</body></html>
""")
#: The frame shows all of its mail at once; no script of the mail's own runs.
_MAIL = Template(
    '<figure><figcaption>$subject</figcaption><iframe sandbox="allow-same-origin" srcdoc="$page" title="$subject" '
    "onload=\"this.style.height = this.contentDocument.documentElement.scrollHeight + 2 + 'px'\"></iframe></figure>"
)


@click.command("preview", short_help="Show a mail as its recipients would see it.")
@click.argument("event_type", metavar="TYPE", type=click.Choice((*EVENT_TYPES, DIGEST, _ALL)))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write there.")
@click.option("--lang", type=click.Choice([*LANGUAGES]), help="NOTIFICATION_LANGUAGE if not given.")
@click.option("--text", "as_text", is_flag=True, help="The text part in place of the HTML.")
@click.option("--open", "in_browser", is_flag=True, help="Show it in a web browser.")
@field_option
def command(
    event_type: str, out: Path | None, lang: str | None, as_text: bool, in_browser: bool, fields: tuple[str, ...]
) -> None:
    """Render the mail of TYPE with example data, by your templates where there are any; nothing is sent.

    TYPE is an event type, `digest` for one mail about several events, or `all` for every event type's mail in every
    language on one page. Exit code 1 if a template of yours failed and the packaged one stands in.
    """
    given = parse(fields)
    types = list(EVENT_TYPES) if event_type == _ALL else [event_type]
    languages = [lang] if lang else list(LANGUAGES) if event_type == _ALL else [services.settings().language]
    contents = [render_example(name, language, given) for name in types for language in languages]
    if as_text:
        page = "\n".join(f"{content.subject}\n\n{content.text}" for content in contents)
    elif event_type == _ALL:
        page = _PAGE.substitute(mails="\n".join(_figure(content) for content in contents))
    else:
        page = contents[0].html
    if in_browser and not out:
        out = Path(tempfile.mkdtemp(prefix="approval-mail-"), "preview.txt" if as_text else "preview.html")
    if out is None:
        click.echo(page, nl=False)
    else:
        out.write_text(page, "utf-8")
        click.echo(str(out), err=True)
    if out and in_browser and not webbrowser.open(out.absolute().as_uri()):
        click.echo(f"no web browser could be started: open {out}", err=True)
        sys.exit(1)
    sys.exit(any(services.renderer(language).fault(name) for name in types for language in languages))


def _figure(content: Content) -> str:
    return _MAIL.substitute(subject=html.escape(content.subject), page=html.escape(content.html))
