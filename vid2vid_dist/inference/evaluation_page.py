"""What evaluation leaves behind: JSON, a page with the table and curves over the frames, and TensorBoard events."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from vid2vid_dist.inference.figures import Evaluation, table_of
from vid2vid_dist.monitor.html import facts, table, write_page
from vid2vid_dist.monitor.svg_curves import curve
from vid2vid_dist.monitor.tensorboard import TensorBoardLog


def write_report(found: Sequence[Evaluation], out: Path, title: str, about: dict[str, str], shown: Sequence[str]
                 ) -> None:
    """Write the page of one run or of two, with `shown` (HTML) in its middle; each run's own numbers lie in `out`, the
    second's in `out/against`."""
    cards = []
    for evaluation, folder in zip(found, (out, out / "against"), strict=False):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(evaluation.to_json())
        board = TensorBoardLog(folder)
        for name in evaluation.names:
            values = evaluation.by_frame(name)
            said = f"{name} over frames" + (f", {evaluation.name}" if len(found) > 1 else "")
            cards.append(curve(said, range(len(values)), values.tolist(), unit="frame"))
            for index in np.flatnonzero(np.isfinite(values)):
                board.scalars(int(index), {f"by_frame/{name}": float(values[index])})
        board.close()
    header, *rows = table_of(found)
    body = [f"<h1>{escape(title)}</h1>", facts(about), table(header, rows), *shown,
            "<h2>Over the frames of a video</h2>", f'<div class="grid">{"".join(cards)}</div>']
    write_page(out / "index.html", title, "\n".join(body))
