"""The shell of our pages: one static file that needs no server and nothing from elsewhere."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from vid2vid_dist.monitor.pictures import tile_columns

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667080; --paper: #fbfbfa; --card: #fff;
  --line: #e3e5e8; --accent: #2563a8; --good: #2e7d4f; --bad: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #98a2b0; --paper: #14171b;
  --card: #1c2026; --line: #2c323a; --accent: #7cb0ea; --good: #6fc192; --bad: #ef857c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2rem) 4rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .3rem .9rem; }
.state { border: 1px solid currentColor; border-radius: 1em; padding: 0 .7em; font-size: .85rem;
  color: var(--soft); }
.running { color: var(--good); } .failed { color: var(--bad); }
.facts { display: flex; flex-wrap: wrap; gap: .1rem 1.4rem; margin: .3rem 0 .6rem; color: var(--soft); }
.facts b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.mosaic { position: relative; border-radius: 6px; overflow: hidden; background: #000; }
.mosaic > img, .mosaic > video { display: block; width: 100%; }
.mosaic > video[onclick] { cursor: pointer; }
.chips { position: absolute; inset: 0; display: grid; pointer-events: none; }
.chips span { place-self: start; margin: .4rem; padding: 0 .5em; border-radius: 3px; font-size: .75rem;
  color: #fff; background: rgb(0 0 0 / .55); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.card .name { display: flex; justify-content: space-between; gap: 1rem; font-size: .85rem; }
.card .name b { font-variant-numeric: tabular-nums; } .card .name span { overflow-wrap: anywhere; }
.card .axis { display: flex; justify-content: space-between; color: var(--soft); font-size: .7rem; }
.card svg { display: block; width: 100%; height: 90px; margin: .2rem 0; overflow: visible; }
.band { fill: var(--accent); opacity: .15; } .mean { fill: none; stroke: var(--accent); stroke-width: 1.6; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem 1.2rem .2rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
summary { cursor: pointer; margin-top: 2rem; font-weight: 600; }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.45; }
a { color: var(--accent); }
"""


def write_page(path: Path, title: str, body: str, *, reload_seconds: int | None = None) -> None:
    """Write a page in one go: a browser never reads half of it. `body` is HTML, `title` plain text."""
    reload = f'<meta http-equiv="refresh" content="{reload_seconds}">\n' if reload_seconds else ""
    part = path.with_name(f".{path.name}.part")
    part.write_text(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{reload}'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n", encoding="utf-8")
    os.replace(part, path)


def facts(items: dict[str, str]) -> str:
    """A line of figures, `value name`."""
    spans = "".join(f"<span><b>{escape(value)}</b> {escape(name)}</span>" for name, value in items.items())
    return f'<p class="facts">{spans}</p>'


def mosaic(picture: str, video: str | None, captions: Sequence[str], *, autoplay: bool, controls: bool) -> str:
    """A tiled picture or video (paths relative to the page) with a caption in the corner of each tile.

    Without `controls`, whose bar covers the lower tiles, a click plays and pauses.
    """
    if video is None:
        media = f'<img src="{quote(picture)}" loading="lazy" alt="{escape(", ".join(captions))}">'
    else:
        play = "autoplay" if autoplay else 'preload="none"'
        play += " controls" if controls else ' onclick="this.paused ? this.play() : this.pause()"'
        files = f'src="{quote(video)}" poster="{quote(picture)}"'
        media = f"<video {files} {play} muted loop playsinline></video>"
    chips = "".join(f"<span>{escape(caption)}</span>" for caption in captions)
    columns = f"grid-template-columns: repeat({tile_columns(len(captions))}, 1fr); grid-auto-rows: 1fr"
    return f'<div class="mosaic">{media}<div class="chips" style="{columns}">{chips}</div></div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table of texts."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
