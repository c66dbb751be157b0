"""The compiled CPU loops (numba) over windows: sums and class histograms that slide, so that the
cost does not depend on the radius. Arithmetic and threads as in `_jit`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._jit import ROUND64, njit

WINDOWS = ("mean", "impurity", "ripu", "ripu_pixel")


@njit
def present_classes(label: Any, num_classes: Any) -> Any:
    """(int32 [C] rank of each class among those that occur, their number); (.., -1) on a bad id."""
    seen = np.zeros(num_classes, np.int32)
    for r in range(label.shape[0]):
        for x in range(label.shape[1]):
            c = label[r, x]
            if c < 0 or c >= num_classes:
                return seen, -1
            seen[c] = 1
    number = 0
    for c in range(num_classes):
        if seen[c]:
            seen[c] = number
            number += 1
    return seen, number


@njit
def window_rows(
    values: Any,
    label: Any,
    rank: Any,
    number: Any,
    radius: Any,
    r0: Any,
    r1: Any,
    scale: Any,
    table: Any,
    unit: Any,
    inverse_log: Any,
    mode: Any,
    out: Any,
) -> Any:
    """Rows r0..r1-1 of a statistic over clipped windows, into out [H, W]; mode as in `WINDOWS`.

    values [H, W] are summed as round(v scale); `rank` numbers the classes that occur, `table` and
    `unit` give n ln n. Column sums (and one histogram per column) slide down, then right.
    """
    height, width = out.shape
    needs_values, needs_label = mode == 0 or mode == 2, mode != 0
    sums = np.zeros(width, np.int64)
    column = np.zeros((width, number), np.uint32)
    pure = np.empty(width, np.int32)
    logs = np.empty(width, np.int64)
    means = np.empty(width, np.float64)
    for y in range(max(0, r0 - radius), min(height, r0 + radius)):
        if needs_values:
            _add_row(values, y, scale, np.int64(1), sums)
        if needs_label:
            for x in range(width):
                column[x, rank[label[y, x]]] += 1
    for y in range(r0, r1):
        low, high = max(0, y - radius), min(height, y + radius + 1)
        leave = y - radius - 1 if y > r0 else -1
        if needs_values:
            if y + radius < height:
                _add_row(values, y + radius, scale, np.int64(1), sums)
            if leave >= 0:
                _add_row(values, leave, scale, np.int64(-1), sums)
            _mean_row(sums, radius, high - low, 1.0 / scale, means)
        if needs_label:
            _slide_down(label, rank, y, y + radius, leave, high - low, column, pure)
            _slide_right(label, rank, low, high, radius, table, column, pure, logs)
        for x in range(width):
            area = (high - low) * (min(width, x + radius + 1) - max(0, x - radius))
            impurity = np.float64(table[area] - logs[x]) * unit / np.float64(area)
            if mode == 0:
                out[y, x] = means[x]
            elif mode == 1:
                out[y, x] = impurity
            elif mode == 2:
                out[y, x] = (impurity * inverse_log) * (means[x] * inverse_log)
            else:
                value = np.float64(values[y, x])
                out[y, x] = (impurity * inverse_log) * (value * inverse_log)


@njit
def _add_row(values: Any, y: Any, scale: Any, sign: Any, sums: Any) -> Any:
    row = values[y]
    for x in range(row.shape[0]):
        rounded = (np.float64(row[x]) * scale + ROUND64) - ROUND64
        sums[x] += sign * np.int64(rounded)


@njit
def _mean_row(sums: Any, radius: Any, rows: Any, unit: Any, out: Any) -> Any:
    width = sums.shape[0]
    total = np.int64(0)
    for x in range(min(radius, width)):
        total += sums[x]
    for x in range(width):
        if x + radius < width:
            total += sums[x + radius]
        if x - radius - 1 >= 0:
            total -= sums[x - radius - 1]
        area = rows * (min(width, x + radius + 1) - max(0, x - radius))
        out[x] = np.float64(total) * unit / np.float64(area)


@njit
def _slide_down(
    label: Any, rank: Any, y: Any, enter: Any, leave: Any, rows: Any, column: Any, pure: Any
) -> Any:
    height, width = label.shape
    for x in range(width):
        if enter < height:
            column[x, rank[label[enter, x]]] += 1
        if leave >= 0:
            column[x, rank[label[leave, x]]] -= 1
        c = rank[label[y, x]]
        pure[x] = c if column[x, c] == rows else -1


@njit
def _slide_right(
    label: Any,
    rank: Any,
    low: Any,
    high: Any,
    radius: Any,
    table: Any,
    column: Any,
    pure: Any,
    out: Any,
) -> Any:
    """out[x] = sum over classes of n ln n (fixed point) of the window around x.

    A column of one class (`pure`) costs one update, the same class on both sides nothing, any
    other min(C, pixels of the column).
    """
    width, number = column.shape
    rows = high - low
    by_pixel = 2 * rows < number
    hist = np.zeros(number, np.uint32)
    nothing = np.zeros(number, np.uint32)
    total = np.int64(0)
    radius = min(radius, width)  # a wider window holds no more columns
    for x in range(-radius, width):
        enter, leave = x + radius, x - radius - 1
        came = -2 if enter >= width else pure[enter]
        went = -2 if leave < 0 else pure[leave]
        if came == went and came != -1:
            pass
        elif came != -1 and went != -1:
            if came >= 0:
                total += _change(hist, came, rows, table)
            if went >= 0:
                total += _change(hist, went, -rows, table)
        elif by_pixel:
            if came != -2:
                for y in range(low, high):
                    total += _change(hist, rank[label[y, enter]], 1, table)
            if went != -2:
                for y in range(low, high):
                    total += _change(hist, rank[label[y, leave]], -1, table)
        else:
            entering = nothing if came == -2 else column[enter]
            leaving = nothing if went == -2 else column[leave]
            total = np.int64(0)
            for c in range(number):
                n = hist[c] + entering[c] - leaving[c]  # unsigned: no test for a negative index
                hist[c] = n
                total += table[n]
        if x >= 0:
            out[x] = total


@njit
def _change(hist: Any, c: Any, by: Any, table: Any) -> Any:
    """Add `by` pixels of class c to the histogram; the change of the sum of n ln n."""
    before = np.int64(hist[c])
    hist[c] = before + by
    return table[before + by] - table[before]
