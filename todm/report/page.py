"""HTML page about a run: one file without external resources."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from html import escape
from typing import Any

from todm.report.contents import RunContents
from todm.report.in_use import show_in_use
from todm.report.sections import (
    show_commands,
    show_compared,
    show_decodes,
    show_devices,
    show_environment,
    show_fine_tuned,
    show_ladder,
    show_missing,
    show_pareto,
    show_parity,
    show_search_comparison,
    show_settings,
    show_speeds,
    show_stages,
    show_training,
    show_widths,
    show_worst,
)

SECTIONS = (
    show_missing,
    show_ladder,
    show_fine_tuned,
    show_compared,
    show_pareto,
    show_widths,
    show_search_comparison,
    show_training,
    show_parity,
    show_in_use,
    show_decodes,
    show_worst,
    show_speeds,
    show_devices,
    show_stages,
    show_commands,
    show_settings,
)
"""Sections in the order of the page."""

_STYLE = """
:root { color-scheme: light dark; --ground: #fdfdfb; --ink: #1b1f24; --faint: #a9afb6; --line: #dfe2e6;
  --soft: #f1f3f4; --note: #8a4b00;
  --series-0: #1f62b4; --series-1: #c2571a; --series-2: #2b8a4b; --series-3: #8a3fa0; --series-4: #a08a00;
  --series-5: #b3324a; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --ink: #e4e7ea; --faint: #6b737c;
  --line: #2c3238; --soft: #1e2328; --note: #f0b060;
  --series-0: #6cabf7; --series-1: #f29a5e; --series-2: #64c98a; --series-3: #c78be0; --series-4: #d9c54a;
  --series-5: #f07a90; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 1rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 45rem; }
.when { color: var(--faint); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
td.text, th.text { text-align: left; }
figure { margin: .5rem 0 1.5rem; max-width: 40rem; }
svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .8rem; border-radius: .3rem; }
.missing { border-left: .25rem solid var(--note); padding: .1rem 0 .1rem .8rem; }
.missing li { margin: .2rem 0; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .3rem 0; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
dl { margin: .3rem 0 1rem; font-size: .9rem; }
dt { margin-top: .5rem; overflow-wrap: anywhere; }
dd { margin: 0 0 0 1rem; overflow-wrap: anywhere; }
small { color: var(--faint); }
mark { background: var(--soft); color: var(--note); padding: 0 .2rem; border-radius: .2rem; }
ins { text-decoration: none; font-weight: 600; }
"""


def render_page(run: RunContents, environment: Mapping[str, Any], *, now: datetime | None = None) -> str:
    """Render the page.

    Args:
        run: contents of the run folder.
        environment: versions and machine, by name.
        now: time of the report; by default the current time.
    """
    name = escape(run.name)
    when = (now or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC")
    sections = [
        f'<h1>todm run {name}</h1>\n<p class="when">{when}</p>',
        *(show(run) for show in SECTIONS),
        show_environment(environment),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>todm: {name}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
