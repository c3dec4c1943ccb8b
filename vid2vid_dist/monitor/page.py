"""The page of a training run, drawn from its journal: `web/index.html`."""

import time
from html import escape
from pathlib import Path

from vid2vid_dist.config.load import to_yaml
from vid2vid_dist.config.schema import Config
from vid2vid_dist.monitor.console import duration
from vid2vid_dist.monitor.html import facts, mosaic, table, write_page
from vid2vid_dist.monitor.metrics import Journal, Record
from vid2vid_dist.monitor.svg_curves import curve, number

SAMPLES_SHOWN = 40
EVENTS_SHOWN = 200
RELOAD_SECONDS = 30


def write_training_page(web_dir: Path, cfg: Config, journal: Journal, state: str) -> None:
    """Write `index.html` into `web_dir`. `state`: a word; "running" makes the page reload itself."""
    samples = _thinned(journal.samples)[::-1]
    parts = [_header(cfg, journal, state)]
    parts += [_sample(record, autoplay=True) for record in samples[:1]]
    parts += [_validation(record) for record in journal.validations[-1:] if "clip" in record]
    if journal.reports:
        parts.append(_curves(journal))
        parts.append(_gpus(journal.reports[-1]))
    parts += [_sample(record, autoplay=False) for record in samples[1:]]
    parts.append(_details("Events", _events(journal)))
    parts.append(_details("Configuration", escape(to_yaml(cfg))))
    reload = RELOAD_SECONDS if state == "running" else None
    write_page(web_dir / "index.html", cfg.run.name, "\n".join(parts), reload_seconds=reload)


def _header(cfg: Config, journal: Journal, state: str) -> str:
    pill = f'<span class="state {state}">{state}</span>'
    title = f"<header><h1>{escape(cfg.run.name)}</h1>{pill}</header>"
    if not journal.reports:
        return title
    last = journal.reports[-1]
    items = {
        "steps": str(last["step"]),
        "epoch": str(last["epoch"]),
        "frames/s": number(float(last["frames_per_second"])),
        "s/step": number(float(last["seconds_per_step"])),
        "frames per clip": str(last["n_frames_total"]),
        "frames per step": str(last["chunk_frames"]),
    }
    if state == "running":
        items["left"] = duration(float(last["eta"]))
    items["last report"] = _clock(last)
    return title + facts(items)


def _sample(record: Record, *, autoplay: bool) -> str:
    folder, frames = record["sample"], record["frames"]
    video = f"{folder}/clip.mp4" if frames > 1 else None
    title = f"Step {record['step']} · L1 to real {number(float(record['l1']))} · {_clock(record)}"
    if video and not autoplay:
        title += f" · {frames} frames, click to play"
    tiles = mosaic(f"{folder}/first.png", video, record["panels"], autoplay=autoplay, controls=False)
    return f"<h2>{escape(title)}</h2>{tiles}"


def _validation(record: Record) -> str:
    video = f"{record['clip']}/clip.mp4" if record["frames"] > 1 else None
    figures = " · ".join(f"{name} {number(float(x))}" for name, x in record["validation"].items())
    title = f"Validation clip, step {record['step']} · {figures}"
    tiles = mosaic(f"{record['clip']}/first.png", video, record["panels"], autoplay=True, controls=False)
    return f"<h2>{escape(title)}</h2>{tiles}"


def _curves(journal: Journal) -> str:
    reports = journal.reports
    cards = [_card(reports, "losses", name) for name in _names(reports, "losses")]
    cards += [_card(reports, "lr", name, label=f"learning rate {name}") for name in _names(reports, "lr")]
    cards += [_card(journal.validations, "validation", name, label=f"validation: {name}")
              for name in _names(journal.validations, "validation")]
    steps = [record["step"] for record in reports]
    for key, label in (("frames_per_second", "frames/s"), ("seconds_per_step", "s/step"),
                       ("loader_share", "waiting for data, share"),
                       ("n_frames_total", "frames per clip")):
        cards.append(curve(label, steps, [float(record[key]) for record in reports]))
    return f'<h2>Curves</h2><div class="grid">{"".join(cards)}</div>'


def _names(reports: list[Record], group: str) -> list[str]:
    """Every name of a group in order of appearance: losses come and go with the curriculum."""
    return list(dict.fromkeys(name for record in reports for name in record[group]))


def _card(reports: list[Record], group: str, name: str, label: str | None = None) -> str:
    points = [(record["step"], float(record[group][name])) for record in reports if name in record[group]]
    return curve(label or name, [step for step, _ in points], [value for _, value in points])


def _gpus(report: Record) -> str:
    readings = [(rank, gpu) for rank, gpu in enumerate(report["gpus"]) if gpu is not None]
    if not readings:
        return ""

    def cell(value: float | None, unit: str) -> str:
        return "–" if value is None else f"{value:.0f} {unit}"

    rows = [
        (str(rank), gpu["name"], cell(gpu["utilisation"], "%"), cell(gpu["memory_used"], "GiB"),
         cell(gpu["memory_total"], "GiB"), cell(gpu["power"], "W"), cell(gpu["temperature"], "°C"),
         cell(gpu["sm_clock"], "MHz"), cell(gpu["memory_clock"], "MHz"))
        for rank, gpu in readings
    ]
    header = ("rank", "GPU", "busy", "memory", "of", "power", "temperature", "SM clock", "memory clock")
    return "<h2>GPUs</h2>" + table(header, rows)


def _events(journal: Journal) -> str:
    lines = [f"{_clock(record)}  {record['event']}" for record in journal.events[-EVENTS_SHOWN:]]
    return escape("\n".join(reversed(lines)))


def _details(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary><pre>{text}</pre></details>"


def _thinned(samples: list[Record]) -> list[Record]:
    """At most SAMPLES_SHOWN samples, evenly over the run, with the first and the newest."""
    n = len(samples)
    if n <= SAMPLES_SHOWN:
        return samples
    return [samples[round(i * (n - 1) / (SAMPLES_SHOWN - 1))] for i in range(SAMPLES_SHOWN)]


def _clock(record: Record) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["time"]))
