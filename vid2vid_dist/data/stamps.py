"""Lines drawn by brushes (spec: data 7.1): compiled, for a brush visits each of their points dozens of times."""

from typing import Any

from vid2vid_dist.compiled import compiled


@compiled
def stamp(canvas: Any, y: Any, x: Any, offsets: Any, color: Any) -> None:
    """Draw a line (n,) moved by each of `offsets` (k, 2), y and x, on `canvas` (H, W, 3) uint8 in `color` (3,) uint8.

    It is painted where all of it is black, else mixed half and half with what is there.
    """
    for k in range(len(offsets)):
        black = True
        for i in range(len(y)):
            row, column = _place(canvas, y[i] + offsets[k, 0], x[i] + offsets[k, 1])
            if canvas[row, column, 0] or canvas[row, column, 1] or canvas[row, column, 2]:
                black = False
                break
        last_row, last_column = -1, -1
        for i in range(len(y)):
            row, column = _place(canvas, y[i] + offsets[k, 0], x[i] + offsets[k, 1])
            if row == last_row and column == last_column:
                continue  # points that the border moved to one pixel follow each other
            last_row, last_column = row, column
            for channel in range(3):
                there = color[channel] if black else canvas[row, column, channel]
                canvas[row, column, channel] = (there + color[channel]) >> 1


@compiled
def _place(canvas: Any, y: int, x: int) -> Any:
    return min(max(y, 0), canvas.shape[0] - 1), min(max(x, 0), canvas.shape[1] - 1)
