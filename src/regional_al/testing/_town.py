"""Lay out one street scene: sky, ground, both sides, then everything in it from far to near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._canvas import (
    BUILDING,
    CROWN,
    FAR,
    MARKING,
    NEAR,
    ROAD,
    SIDEWALK,
    SKY,
    VEGETATION,
    WINDOW,
    Scene,
    choice,
    tone,
)
from ._props import bicycle, bin_, car, fence, lamp, person, sign, tree

Prop = tuple[float, Callable[[], None]]


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
