"""The canvas of a street scene: a pinhole camera that paints objects into a map of paint ids.

Metres: X right of the middle of the road, Y up from the ground, Z ahead. Each paint id has a class
and a base colour, so windows, wheels and lane markings are painted without being classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Point = tuple[float, float, float]
Colour = tuple[float, float, float]

(ROAD, SIDEWALK, BUILDING, FENCE, POLE, SIGN, VEGETATION, SKY, PERSON, CAR, BICYCLE) = range(11)
VOID = 255

NEAR, FAR = 1.8, 90.0  # metres: what is nearer or farther is not painted
MARKING, WINDOW, CROWN = 20, 21, 22  # materials beside the classes, for texture only


@dataclass(frozen=True)
class Look:
    """How a style builds its streets: shares and colours; light is added later."""

    facades: Sequence[Colour]
    cars: Sequence[Colour]
    greenery: Colour
    asphalt: Colour
    pavement: Colour
    tree_share: float
    lit_windows: float


@dataclass
class Scene:
    """Canvas of paint ids [H, W] with the tables that give each id class, material and colour."""

    height: int
    width: int
    rng: np.random.Generator
    look: Look
    void: bool = True  # whether things of no class may occur
    classes: list[int] = field(default_factory=list)
    materials: list[int] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)

    def __post_init__(self) -> None:
        from PIL import Image, ImageDraw

        u = self.rng.uniform
        self.image = Image.new("I", (self.width, self.height))
        self.draw = ImageDraw.Draw(self.image)
        self.horizon = u(0.36, 0.48) * self.height
        self.vanish = u(0.38, 0.62) * self.width
        self.focal = u(0.75, 0.95) * max(self.width, 1.33 * self.height)
        self.camera = u(1.3, 1.7)
        self.offset = u(-1.8, 1.8)  # of the camera from the middle of the road
        self.half_road = u(2.9, 4.0)
        self.kerb = u(2.2, 4.6)  # width of each pavement

    def paint(self, kind: int, colour: Colour, spread: float = 0.0, material: int = -1) -> int:
        """A new paint id; `spread` varies the colour a little from one object to the next."""
        shift = self.rng.standard_normal(4).tolist()  # one for all channels, one for each
        self.classes.append(kind)
        self.materials.append(kind if material < 0 else material)
        r, g, b = (
            min(max(c + spread * (shift[3] + 0.3 * own), 4.0), 250.0)
            for c, own in zip(colour, shift, strict=False)
        )
        self.colours.append((r, g, b))
        return len(self.classes) - 1

    def project(self, point: Point) -> tuple[float, float]:
        scale = self.focal / max(point[2], NEAR)
        return (
            self.vanish + (point[0] - self.offset) * scale,
            self.horizon + (self.camera - point[1]) * scale,
        )

    def polygon(self, points: Sequence[Point], paint: int) -> None:
        self.draw.polygon([self.project(p) for p in points], fill=paint)

    def ground(self, x1: float, x2: float, z1: float, z2: float, paint: int) -> None:
        """A rectangle on the ground."""
        self.polygon([(x1, 0, z1), (x2, 0, z1), (x2, 0, z2), (x1, 0, z2)], paint)

    def wall(
        self, x1: float, z1: float, x2: float, z2: float, low: float, high: float, paint: int
    ) -> None:
        """An upright rectangle from (x1, z1) to (x2, z2), between two heights."""
        self.polygon([(x1, low, z1), (x2, low, z2), (x2, high, z2), (x1, high, z1)], paint)

    def ball(self, centre: Point, rx: float, ry: float, paint: int) -> None:
        """An upright ellipse that faces the camera."""
        x, y = self.project(centre)
        scale = self.focal / max(centre[2], NEAR)
        self.draw.ellipse(
            [x - rx * scale, y - ry * scale, x + rx * scale, y + ry * scale], fill=paint
        )

    def bar(self, low: Point, high: Point, width: float, paint: int, least: float = 0.0) -> None:
        """A thin straight object; `width` in metres, at least `least` canvas pixels."""
        pixels = max(width * self.focal / max(low[2], NEAR), least)
        self.draw.line(
            [self.project(low), self.project(high)], fill=paint, width=max(1, round(pixels))
        )


def choice(scene: Scene, options: Sequence[Colour]) -> Colour:
    return options[int(scene.rng.integers(len(options)))]


def tone(colour: Colour, factor: float) -> Colour:
    """A darker or lighter shade."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
