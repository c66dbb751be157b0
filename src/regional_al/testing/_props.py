"""The things that stand or move in a street scene; each function paints one."""

from __future__ import annotations

import numpy as np

from ._canvas import (
    BICYCLE,
    CAR,
    CROWN,
    FENCE,
    PERSON,
    POLE,
    ROAD,
    SIGN,
    VEGETATION,
    VOID,
    WINDOW,
    Colour,
    Scene,
    choice,
    tone,
)

_CIRCLE = np.linspace(0, 2 * np.pi, 9)[:-1]


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
