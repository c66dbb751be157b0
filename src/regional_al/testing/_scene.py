"""What a street scene consists of: a pinhole camera, the objects, and their layout.

Objects are painted from far to near into a map of paint ids. Each paint id has a class and a base
colour, so windows, wheels and lane markings are painted without being classes. Coordinates are in
metres: X to the right of the middle of the road, Y up from the ground, Z ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Point = tuple[float, float, float]
Colour = tuple[float, float, float]
Prop = tuple[float, Callable[[], None]]  # distance in metres, and what paints the object

(ROAD, SIDEWALK, BUILDING, FENCE, POLE, SIGN, VEGETATION, SKY, PERSON, CAR, BICYCLE) = range(11)
VOID = 255

NEAR, FAR = 1.8, 90.0  # metres; nothing nearer or farther is painted
MARKING, WINDOW, CROWN = 20, 21, 22  # materials in addition to the classes, for texture only

_CIRCLE = np.linspace(0, 2 * np.pi, 9)[:-1]


@dataclass(frozen=True)
class Look:
    """Shares and colours of a style's streets; lighting is added later."""

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
    void: bool = True  # whether objects without a class may occur
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
    """Draw one of the colours."""
    return options[int(scene.rng.integers(len(options)))]


def tone(colour: Colour, factor: float) -> Colour:
    """A darker or lighter shade."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def build(scene: Scene) -> None:
    """Paint a whole scene: sky, ground, both sides of the street, then objects by distance."""
    sky = scene.paint(SKY, (0.0, 0.0, 0.0))
    scene.draw.rectangle([0, 0, scene.width, scene.height], fill=sky)
    _skyline(scene)
    _ground(scene)
    props: list[Prop] = []
    for side in (-1, 1):
        props += _street_side(scene, side)
        props += _furniture(scene, side)
    props += _traffic(scene)
    for _, painter in sorted(props, key=lambda prop: -prop[0]):
        painter()


def _skyline(scene: Scene) -> None:
    """Far houses and trees that close the street at the horizon."""
    x = -60.0
    while x < 60.0:
        width, tree = scene.rng.uniform(4, 14), scene.rng.random() < 0.5
        height = scene.rng.uniform(3, 9) if tree else scene.rng.uniform(5, 16)
        if tree:
            paint = scene.paint(VEGETATION, scene.look.greenery, 14, CROWN)
            scene.ball((x + width / 2, height * 0.4, FAR), width * 0.7, height * 0.6, paint)
        else:
            paint = scene.paint(BUILDING, choice(scene, scene.look.facades), 14)
        scene.wall(x, FAR, x + width, FAR, 0, height * (0.5 if tree else 1.0), paint)
        x += width


def _ground(scene: Scene) -> None:
    half, kerb, rng = scene.half_road, scene.kerb, scene.rng
    for side in (-1, 1):
        grass = rng.random() < 0.35
        kind, colour = (
            (VEGETATION, scene.look.greenery) if grass else (SIDEWALK, scene.look.pavement)
        )
        scene.ground(side * half, side * 80, 0.5, FAR * 2, scene.paint(kind, colour, 10))
        pavement = scene.paint(SIDEWALK, scene.look.pavement, 8)
        scene.ground(side * half, side * (half + kerb), 0.5, FAR * 2, pavement)
    scene.ground(-half, half, 0.5, FAR * 2, scene.paint(ROAD, scene.look.asphalt, 8))
    for side in (-1, 1):  # the kerb stone belongs to the pavement
        stone = scene.paint(SIDEWALK, tone(scene.look.pavement, 1.12), 6)
        scene.ground(side * half, side * (half + 0.2), 0.5, FAR, stone)
    white = scene.paint(ROAD, (205, 205, 200), 10, MARKING)
    gap, phase = rng.uniform(3.0, 6.0), rng.uniform(0, 4)
    centre = rng.uniform(-0.6, 0.6)
    for z in np.arange(1.0 + phase, 60, gap + 2.5):
        scene.ground(centre - 0.08, centre + 0.08, z, z + 2.5, white)
    if rng.random() < 0.4:
        for side in (-1, 1):
            scene.ground(side * (half - 0.45), side * (half - 0.3), 0.5, 60, white)
    if rng.random() < 0.25:  # a zebra crossing
        z = rng.uniform(6, 18)
        for x in np.arange(-half + 0.3, half - 0.5, 1.1):
            scene.ground(x, x + 0.55, z, z + 3.0, white)
    for _ in range(rng.integers(0, 4)):  # mended asphalt
        factor = float(rng.uniform(0.75, 1.1))
        patch = scene.paint(ROAD, tone(scene.look.asphalt, factor), 4)
        x, z = rng.uniform(-half, half - 1), rng.uniform(3, 25)
        scene.ground(x, min(x + rng.uniform(0.5, 2), half), z, z + rng.uniform(1, 6), patch)


def _street_side(scene: Scene, side: int) -> list[Prop]:
    """Houses, gaps with trees, hedges and fences along one side, from near to far."""
    rng, props = scene.rng, []
    back = side * (scene.half_road + scene.kerb + rng.choice([0.0, 0.0, 1.5, 3.0]))
    z = rng.uniform(-6, 2)
    while z < FAR:
        length = rng.uniform(6, 16)
        near, far = max(z, NEAR), z + length
        if far > NEAR + 0.5:
            draw = rng.random()
            if draw < 0.58:
                props.append((far, _bind(_house, scene, back, near, far, rng.uniform(4.5, 17))))
            else:
                props.append((far, _bind(_garden, scene, side, back, near, far)))
        z = far
    return props


def _house(scene: Scene, x: float, near: float, far: float, height: float) -> None:
    """A facade along the street, the end wall that faces the camera, and rows of windows."""
    rng, side = scene.rng, np.sign(x)
    base = choice(scene, scene.look.facades)
    shade = rng.uniform(0.72, 0.95)
    end = scene.paint(BUILDING, tone(base, shade), 8)
    scene.wall(x, near, x + side * 14, near, 0, height, end)
    front = scene.paint(BUILDING, base, 8)
    scene.wall(x, near, x, far, 0, height, front)
    if rng.random() < 0.6:  # a darker ground floor: shops
        shop = scene.paint(BUILDING, tone(base, 0.6), 14)
        scene.wall(x, near, x, far, 0, min(2.8, height * 0.5), shop)
    lit = rng.random() < scene.look.lit_windows
    glass = (225.0, 195.0, 120.0) if lit else (58.0, 68.0, 80.0)
    panes = [scene.paint(BUILDING, glass, 16, WINDOW) for _ in range(3)]
    floor, step = rng.uniform(2.6, 3.4), rng.uniform(1.8, 3.2)
    for y in np.arange(floor + 0.6, height - 1.2, floor):
        for z in np.arange(near + 0.7, far - 1.1, step):
            scene.wall(x, z, x, z + step * 0.5, y, y + 1.4, panes[int(rng.integers(3))])
    if rng.random() < 0.5:
        roof = scene.paint(BUILDING, (112, 66, 54), 14)
        scene.wall(x, near, x, far, height - 0.5, height + 0.4, roof)


def _garden(scene: Scene, side: int, x: float, near: float, far: float) -> None:
    """Open ground: trees behind, and a hedge, a fence or nothing along the pavement."""
    rng = scene.rng
    for _ in range(int(rng.integers(1, 4))):
        tree(scene, x + side * rng.uniform(1.5, 7), rng.uniform(near, far), rng.uniform(0.8, 1.4))
    draw = rng.random()
    if draw < 0.55:
        fence(scene, x, near, far)
    elif draw < 0.8:
        hedge = scene.paint(VEGETATION, scene.look.greenery, 12, CROWN)
        scene.wall(x, near, x, far, 0, rng.uniform(0.8, 1.8), hedge)


def _furniture(scene: Scene, side: int) -> list[Prop]:
    """Lamps, signs, street trees, people, bicycles and parked cars along one kerb."""
    rng, props = scene.rng, []
    edge = side * (scene.half_road + 0.5)
    z = rng.uniform(5, 14)
    while z < 55:
        if rng.random() < scene.look.tree_share:
            props.append(
                (z + 3, _bind(tree, scene, edge + side * 0.5, z + 3, rng.uniform(0.7, 1.1)))
            )
        else:
            props.append((z, _bind(lamp, scene, edge, z, side)))
        z += rng.uniform(10, 19)
    for _ in range(int(rng.integers(1, 3))):
        z = rng.uniform(5, 26)
        props.append((z, _bind(sign, scene, edge + side * rng.uniform(-0.1, 0.5), z)))
    for _ in range(int(rng.poisson(1.8))):
        z = rng.uniform(4.5, 26)
        x = side * (scene.half_road + rng.uniform(0.4, scene.kerb))
        props.append((z, _bind(person, scene, x, z)))
    if scene.void and rng.random() < 0.25:
        z = rng.uniform(6, 22)
        props.append((z, _bind(bin_, scene, edge + side * scene.kerb * 0.7, z)))
    if rng.random() < 0.2:  # a railing between pavement and road
        z = rng.uniform(4, 20)
        end = z + rng.uniform(4, 12)
        props.append((end, _bind(fence, scene, edge - side * 0.35, z, end)))
    if rng.random() < 0.75:
        z = rng.uniform(4.5, 14)
        props.append((z, _bind(bicycle, scene, edge + side * rng.uniform(0, 0.8), z)))
    z = rng.uniform(4, 18)
    while z < 45 and rng.random() < 0.6:
        props.append((z, _bind(car, scene, side * (scene.half_road - 1.05), z, side > 0)))
        z += rng.uniform(5.2, 9)
    return props


def _traffic(scene: Scene) -> list[Prop]:
    """Cars that drive, and now and then somebody crossing the road."""
    rng, props = scene.rng, []
    for _ in range(int(rng.integers(0, 3))):
        z = rng.uniform(9, 45)
        lane = rng.choice([-1, 1])
        props.append((z, _bind(car, scene, lane * scene.half_road * 0.38, z, lane > 0)))
    if rng.random() < 0.3:
        z = rng.uniform(7, 18)
        props.append((z, _bind(person, scene, rng.uniform(-2, 2), z)))
    return props


def _bind(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: function(*arguments)


def fence(scene: Scene, x: float, near: float, far: float) -> None:
    """Pickets close enough to be one panel, with two rails; its class covers the whole panel."""
    rng, height = scene.rng, scene.rng.uniform(1.0, 1.7)
    colour: Colour = choice(scene, ((120, 92, 66), (92, 96, 100), (150, 146, 138), (70, 84, 72)))
    dark = scene.paint(FENCE, tone(colour, 0.62), 6)
    light = scene.paint(FENCE, colour, 8)
    scene.wall(x, near, x, far, 0, height, dark)
    step = rng.uniform(0.22, 0.4)
    for z in np.arange(near, min(far, 25.0), step):
        scene.wall(x, z, x, z + step * 0.5, 0, height, light)
    for level in (0.3, 0.85):
        scene.wall(x, near, x, far, height * level, height * level + 0.08, light)


def tree(scene: Scene, x: float, z: float, size: float) -> None:
    rng = scene.rng
    trunk = scene.paint(VEGETATION, (74, 60, 48), 10)
    top = 2.4 * size
    scene.bar((x, 0, z), (x, top, z), 0.32 * size, trunk, 2)
    crowns = [scene.paint(VEGETATION, scene.look.greenery, 12, CROWN) for _ in range(3)]
    for _ in range(9):
        dx, dy = rng.normal(0, 0.9 * size), rng.uniform(-0.2, 2.2) * size
        radius = rng.uniform(0.55, 1.1) * size
        scene.ball((x + dx, top + dy, z), radius, radius * 0.85, crowns[int(rng.integers(3))])


def lamp(scene: Scene, x: float, z: float, side: int) -> None:
    grey = scene.paint(POLE, (96, 98, 100), 18)
    height = scene.rng.uniform(4.5, 6.5)
    scene.bar((x, 0, z), (x, height, z), 0.16, grey, 2)
    scene.bar((x, height, z), (x - side * 1.4, height + 0.2, z), 0.12, grey, 2)


def sign(scene: Scene, x: float, z: float) -> None:
    rng = scene.rng
    pole = scene.paint(POLE, (120, 122, 124), 14)
    height = rng.uniform(2.2, 2.9)
    scene.bar((x, 0, z), (x, height, z), 0.09, pole, 2)
    rim: Colour = choice(scene, ((196, 30, 36), (30, 70, 170), (214, 180, 30)))
    plate, heart = scene.paint(SIGN, rim, 8), scene.paint(SIGN, (226, 226, 222), 8)
    size = rng.uniform(0.32, 0.46)
    shape = rng.random()
    if shape < 0.45:
        scene.ball((x, height, z), size, size, plate)
        scene.ball((x, height, z), size * 0.6, size * 0.6, heart)
    elif shape < 0.75:
        scene.polygon(
            [(x - size, height - size, z), (x + size, height - size, z), (x, height + size, z)],
            plate,
        )
        scene.ball((x, height - size * 0.35, z), size * 0.35, size * 0.35, heart)
    else:
        scene.wall(x - size, z, x + size, z, height - size, height + size, plate)
        scene.wall(x - size / 2, z, x + size / 2, z, height - size / 2, height, heart)


def person(scene: Scene, x: float, z: float) -> None:
    rng, tall = scene.rng, scene.rng.uniform(1.5, 1.9)
    coat = scene.paint(PERSON, (90, 90, 90), 45)
    legs = scene.paint(PERSON, (60, 62, 70), 25)
    skin = scene.paint(PERSON, choice(scene, ((206, 160, 132), (140, 98, 74), (92, 64, 50))), 6)
    stride = rng.uniform(0.05, 0.28)
    for foot in (-stride, stride):
        scene.bar((x + foot, 0, z), (x, tall * 0.5, z), 0.17, legs, 2)
    scene.ball((x, tall * 0.66, z), 0.25, tall * 0.21, coat)
    scene.ball((x, tall * 0.92, z), 0.12, tall * 0.08, skin)


def bicycle(scene: Scene, x: float, z: float) -> None:
    """Seen from the side or leaning along the kerb; tyres and frame are thin."""
    frame = scene.paint(BICYCLE, (100, 90, 90), 40)
    tyre = scene.paint(BICYCLE, (34, 34, 36), 6)
    reach = scene.rng.uniform(0.3, 0.55)
    scale = scene.focal / z
    for wheel in (-reach, reach):
        cx, cy = scene.project((x + wheel, 0.34, z))
        radius = 0.34 * scale
        box = [cx - radius * reach / 0.55, cy - radius, cx + radius * reach / 0.55, cy + radius]
        scene.draw.ellipse(box, outline=tyre, width=max(2, round(0.07 * scale)))
    seat, head = (x - reach * 0.45, 0.85, z), (x + reach * 0.7, 0.95, z)
    for start, stop in (
        ((x - reach, 0.34, z), seat),
        (seat, head),
        ((x + reach, 0.34, z), head),
        ((x - reach, 0.34, z), (x, 0.32, z)),
        ((x, 0.32, z), head),
    ):
        scene.bar(start, stop, 0.06, frame, 2)


def car(scene: Scene, x: float, z: float, away: bool) -> None:
    """A box with a cabin: its end towards the camera, and the flank on the camera's side."""
    rng = scene.rng
    colour = choice(scene, scene.look.cars)
    half, tall, length = rng.uniform(0.82, 0.95), rng.uniform(1.35, 1.7), rng.uniform(3.6, 4.5)
    belt = tall * 0.58
    shadow = scene.paint(ROAD, tone(scene.look.asphalt, 0.4), 4)
    scene.ground(x - half - 0.25, x + half + 0.25, z - 0.25, z + length, shadow)
    body = scene.paint(CAR, colour, 10)
    flank = scene.paint(CAR, tone(colour, 0.78), 6)
    glass = scene.paint(CAR, (42, 50, 58), 10, WINDOW)
    tyre = scene.paint(CAR, (24, 24, 26), 4)
    right = x > scene.offset
    near_x = x - half if right else x + half
    inner = near_x + (0.12 if right else -0.12)
    scene.wall(near_x, z, near_x, z + length, 0.22, belt, flank)
    for w in (z + 0.75, z + length - 0.8):
        scene.polygon(
            [(near_x, 0.62 * np.sin(a) / 2 + 0.31, w + 0.31 * np.cos(a)) for a in _CIRCLE], tyre
        )
    cabin = [
        (inner, belt, z + 0.25),
        (inner, belt, z + length * 0.8),
        (inner, tall, z + length * 0.62),
        (inner, tall, z + 0.7),
    ]
    scene.polygon(cabin, glass)
    roof = [
        (x - half * 0.8, tall, z + 0.7),
        (x + half * 0.8, tall, z + 0.7),
        (x + half, belt, z + 0.1),
        (x - half, belt, z + 0.1),
    ]
    scene.polygon(roof, body)
    pane = [
        (x - half * 0.72, tall * 0.96, z + 0.6),
        (x + half * 0.72, tall * 0.96, z + 0.6),
        (x + half * 0.84, belt, z + 0.1),
        (x - half * 0.84, belt, z + 0.1),
    ]
    scene.polygon(pane, glass)
    scene.wall(x - half, z, x + half, z, 0.3, belt, body)
    for tread in (-half + 0.15, half - 0.15):
        scene.wall(x + tread - 0.13, z, x + tread + 0.13, z, 0.0, 0.34, tyre)
    lamp = scene.paint(CAR, (168, 24, 24) if away else (236, 232, 206), 10)
    for corner in (-half * 0.8, half * 0.8):
        scene.wall(x + corner - 0.14, z, x + corner + 0.14, z, belt - 0.28, belt - 0.1, lamp)
    plate = scene.paint(CAR, (214, 214, 206), 6)
    scene.wall(x - 0.26, z, x + 0.26, z, 0.42, 0.54, plate)


def bin_(scene: Scene, x: float, z: float) -> None:
    """A rubbish container, which is none of the classes: annotated void."""
    colour = choice(scene, ((48, 78, 60), (88, 88, 90), (120, 80, 44)))
    half, tall = scene.rng.uniform(0.3, 0.55), scene.rng.uniform(0.9, 1.3)
    scene.wall(x - half, z, x + half, z, 0, tall, scene.paint(VOID, colour, 8))
    scene.wall(x - half, z, x + half, z, tall, tall + 0.12, scene.paint(VOID, tone(colour, 1.3), 6))
