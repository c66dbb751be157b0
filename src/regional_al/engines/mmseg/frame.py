"""Back from what a network saw to the image: padding, flip and resizing undone.

One description for everything that comes out of a network, logits and features alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the input of a network.

    Args:
        padding: Pixels of the input that are padding: left, right, top, bottom.
        flip: 'horizontal' or 'vertical' if the test pipeline has flipped the image.
        size: (H, W) of the image.

    Example:
        >>> frame = Frame(padding=(0, 0, 0, 24), flip=None, size=(360, 480))
        >>> rows, cols = frame.cells(input_size=(384, 480), map_size=(96, 120))
        >>> int(rows[-1]), int(cols[-1])
        (89, 119)
    """

    padding: tuple[int, int, int, int]
    flip: str | None
    size: tuple[int, int]

    def shown(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) at which a network sees the image, in an input of a size.

        Example:
            >>> Frame(padding=(0, 0, 0, 24), flip=None, size=(360, 480)).shown((384, 480))
            (360, 480)
        """
        left, right, top, bottom = self.padding
        return input_size[0] - top - bottom, input_size[1] - left - right

    def visible(self, x: torch.Tensor) -> torch.Tensor:
        """[..., h, w] of the input's size -> the part that shows the image, turned as the image."""
        left, right, top, bottom = self.padding
        height, width = x.shape[-2:]
        x = x[..., top : height - bottom, left : width - right]
        if self.flip is not None:
            x = x.flip(-1 if self.flip == "horizontal" else -2)
        return x

    def logits(self, out: torch.Tensor, align_corners: bool) -> torch.Tensor:
        """Network output [1, C, h, w] -> [C, H, W], bilinear, as mmseg does before the argmax."""
        out = self.visible(out)
        if tuple(out.shape[-2:]) != self.size:
            out = F.interpolate(out, self.size, mode="bilinear", align_corners=align_corners)
        return out[0]

    def cells(
        self, input_size: tuple[int, int], map_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which cell of a coarse map of the whole input lies under each pixel of the image.

        Args:
            input_size: (h, w) of the network's input, padding included.
            map_size: (rows, columns) of the map, whose equal cells cover the input.

        Returns:
            int64 [H], the row of the map under each row of the image, and int64 [W], the column.
        """
        rows = _spread(torch.arange(map_size[0]), input_size[0])
        cols = _spread(torch.arange(map_size[1]), input_size[1])
        rows = self.visible(rows[:, None].expand(input_size))[:, 0]
        cols = self.visible(cols[None, :].expand(input_size))[0]
        return _spread(rows, self.size[0]), _spread(cols, self.size[1])


def _spread(values: torch.Tensor, length: int) -> torch.Tensor:
    """Values repeated, or thinned out, to `length` (nearest neighbour, equal cells)."""
    places = torch.div(torch.arange(length) * len(values), length, rounding_mode="floor")
    return values[places]
