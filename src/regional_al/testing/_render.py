"""Render a scene as an image: texture by material, sky, shadows, light, lens and sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import U8
from ._scene import (
    BICYCLE,
    BUILDING,
    CAR,
    CROWN,
    FENCE,
    MARKING,
    PERSON,
    POLE,
    ROAD,
    SIDEWALK,
    SIGN,
    SKY,
    VEGETATION,
    VOID,
    WINDOW,
    Colour,
    Look,
    Scene,
    build,
)

Floats = npt.NDArray[np.float32]

SUPERSAMPLE = 2

# strength of noise at 1, 3, 8 and 24 canvas pixels, in grey levels
_TEXTURE = {
    ROAD: (9, 5, 4, 8),
    SIDEWALK: (8, 7, 5, 6),
    BUILDING: (5, 6, 5, 7),
    FENCE: (6, 5, 2, 2),
    POLE: (4, 3, 0, 0),
    SIGN: (3, 2, 0, 0),
    VEGETATION: (12, 14, 10, 8),
    SKY: (1, 1, 2, 3),
    PERSON: (6, 7, 3, 0),
    CAR: (3, 3, 5, 3),
    BICYCLE: (3, 2, 0, 0),
    MARKING: (9, 14, 8, 4),
    WINDOW: (4, 8, 8, 4),
    CROWN: (18, 26, 14, 8),
    VOID % 32: (6, 6, 3, 0),
}


@dataclass(frozen=True)
class Style:
    """What a style builds, and its light, lens and sensor."""

    look: Look
    zenith: Colour
    haze: Colour  # sky at the horizon
    light: Colour  # gain per channel
    gain: tuple[float, float]  # range of exposure
    shadow: float  # remaining light in a cast shadow
    clouds: float
    texture: float
    noise: float  # sensor noise, grey levels
    blur: float  # lens, output pixels


_HOUSES: tuple[Colour, ...] = (
    (150, 92, 76),
    (176, 156, 128),
    (140, 136, 130),
    (198, 188, 170),
    (168, 130, 92),
    (122, 110, 104),
    (186, 170, 140),
)
_CARS: tuple[Colour, ...] = (
    (168, 30, 30),
    (34, 52, 110),
    (200, 200, 202),
    (58, 60, 64),
    (120, 124, 128),
    (28, 28, 30),
    (196, 170, 60),
    (50, 92, 66),
)

STYLES: dict[str, Style] = {
    "day": Style(
        Look(_HOUSES, _CARS, (66, 92, 44), (98, 98, 102), (142, 136, 130), 0.4, 0.05),
        (92, 142, 204),
        (206, 218, 228),
        (1.02, 1.0, 0.96),
        (0.78, 1.2),
        0.56,
        1.0,
        1.0,
        5.0,
        0.5,
    ),
    "dusk": Style(
        Look(
            _HOUSES[1:4] + _HOUSES[5:],
            _CARS,
            (58, 76, 48),
            (84, 84, 90),
            (120, 116, 116),
            0.55,
            0.5,
        ),
        (58, 66, 110),
        (214, 150, 108),
        (0.86, 0.72, 0.68),
        (0.8, 1.15),
        0.8,
        1.6,
        0.9,
        7.0,
        0.8,
    ),
    "game": Style(
        Look(
            ((206, 120, 70), (90, 130, 160), (220, 206, 160), (160, 160, 176), (132, 82, 110)),
            ((230, 40, 40), (40, 90, 220), (240, 200, 40), (240, 240, 240), (40, 40, 44)),
            (60, 130, 40),
            (112, 108, 104),
            (178, 170, 156),
            0.5,
            0.0,
        ),
        (50, 120, 230),
        (190, 220, 250),
        (1.1, 1.08, 1.02),
        (0.95, 1.1),
        0.5,
        0.6,
        0.45,
        1.5,
        0.0,
    ),
}


def render(
    height: int, width: int, rng: np.random.Generator, style: Style, void: bool
) -> tuple[U8, U8]:
    """One scene: RGB uint8 [H, W, 3] and class ids uint8 [H, W], 255 = void (only if `void`)."""
    size = (height * SUPERSAMPLE, width * SUPERSAMPLE)
    scene = Scene(*size, rng, style.look, void)
    build(scene)
    paint = np.asarray(scene.image)
    classes = np.asarray(scene.classes, dtype=np.uint8)[paint]
    materials = np.asarray(scene.materials)[paint] % 32
    colour = np.asarray(scene.colours, dtype=np.float32)[paint]
    sky = materials == SKY
    colour[sky] = _sky(scene, style)[sky]
    colour += (_texture(materials, rng) * style.texture)[..., None]
    colour *= _shade(scene, style, classes)[..., None]
    picture = _develop(_shrink(colour), rng, style)
    labels = classes[SUPERSAMPLE - 1 :: SUPERSAMPLE, SUPERSAMPLE - 1 :: SUPERSAMPLE].copy()
    if void:
        _void(picture, labels, rng)
    return picture, labels


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Floats:
    """Value noise of unit variance, about, with features of `scale` pixels, float32 [H, W]."""
    from PIL import Image

    coarse = (max(2, round(shape[1] / scale)), max(2, round(shape[0] / scale)))
    seeds = rng.standard_normal((coarse[1], coarse[0]), dtype=np.float32)
    grown = Image.fromarray(seeds).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float32)


def _texture(materials: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    table = np.zeros((32, 4), dtype=np.float32)
    for material, strengths in _TEXTURE.items():
        table[material] = strengths
    shape = (materials.shape[0], materials.shape[1])
    out: Floats = rng.standard_normal(shape, dtype=np.float32) * table[materials, 0]
    for column, scale in ((1, 3.0), (2, 8.0), (3, 24.0)):
        out += smooth_noise(shape, scale, rng) * table[materials, column]
    return out


def _sky(scene: Scene, style: Style) -> Floats:
    rng, shape = scene.rng, (scene.height, scene.width)
    fall = np.clip(np.arange(shape[0], dtype=np.float32) / scene.horizon, 0, 1)[:, None, None]
    sky = np.asarray(style.zenith, np.float32) * (1 - fall) + np.asarray(style.haze) * fall
    bank = smooth_noise(shape, shape[1] / 5, rng) + 0.5 * smooth_noise(shape, shape[1] / 14, rng)
    cover = rng.uniform(-0.9, 1.3) * style.clouds  # from clear to overcast
    cloud = np.clip((bank + cover) * 0.7, 0, 1)[..., None]
    tint = (np.asarray(style.haze, np.float32) + 225) / 2
    return np.asarray(sky * (1 - cloud) + tint * cloud, dtype=np.float32)


def _shade(scene: Scene, style: Style, classes: U8) -> Floats:
    """Light on each canvas pixel: a horizontal gradient, and shadows cast on the ground."""
    from PIL import Image, ImageDraw, ImageFilter

    rng = scene.rng
    slope = rng.uniform(-0.16, 0.16)
    light = 1 + slope * np.linspace(-1, 1, scene.width, dtype=np.float32)[None, :]
    light = np.repeat(light, scene.height, axis=0)
    if rng.random() < 0.65:
        mask = Image.new("L", (scene.width, scene.height))
        draw = ImageDraw.Draw(mask)
        side = rng.choice([-1, 1])
        z = 0.5
        while z < 60:
            length, reach = rng.uniform(3, 12), rng.uniform(-0.4, 1.0) * scene.half_road
            corners = [
                (side * 30, z),
                (side * -reach, z),
                (side * -reach, z + length),
                (side * 30, z + length),
            ]
            draw.polygon([scene.project((x, 0, depth)) for x, depth in corners], fill=255)
            z += length
        soft = mask.filter(ImageFilter.GaussianBlur(1.5))
        ground = (classes == ROAD) | (classes == SIDEWALK)
        cast = np.asarray(soft, dtype=np.float32) / 255 * (1 - style.shadow)
        light = light * np.where(ground, 1 - cast, 1 - 0.25 * cast)
    return np.asarray(light, dtype=np.float32)


def _shrink(colour: Floats) -> Floats:
    """Mean of each SUPERSAMPLE x SUPERSAMPLE block."""
    height, width = colour.shape[0] // SUPERSAMPLE, colour.shape[1] // SUPERSAMPLE
    blocks = colour.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 3)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _develop(colour: Floats, rng: np.random.Generator, style: Style) -> U8:
    """Exposure, colour of the light, lens blur, sensor noise; uint8."""
    from PIL import Image, ImageFilter

    exposed = colour * np.asarray(style.light, np.float32) * rng.uniform(*style.gain)
    middle = exposed.mean()
    exposed = middle + (exposed - middle) * rng.uniform(0.85, 1.12)
    picture = Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8))
    if style.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(style.blur * rng.uniform(0.6, 1.2)))
    noise = rng.standard_normal(colour.shape, dtype=np.float32) * style.noise
    return np.clip(np.asarray(picture, dtype=np.float32) + noise, 0, 255).astype(np.uint8)


def _void(picture: U8, labels: U8, rng: np.random.Generator) -> None:
    """Add void in place: broken borders between large objects, and in a third of the scenes the
    bonnet of the camera car at the lower edge."""
    height, width = labels.shape
    edge = np.zeros(labels.shape, dtype=np.bool_)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    thin = np.isin(labels, (POLE, SIGN, PERSON, BICYCLE, FENCE))
    labels[edge & ~thin & (smooth_noise((height, width), 10, rng) > 0.1)] = VOID
    if rng.random() < 1 / 3:
        rows, columns = np.mgrid[:height, :width]
        centre, rise = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.05, 0.09)
        bonnet = rows > height - rise * (1 - ((columns - centre) / (0.62 * width)) ** 2)
        labels[bonnet] = VOID
        tint = rng.uniform(20, 90, 3) + rng.normal(0, 4, (height, width, 1))
        picture[bonnet] = np.clip(tint, 0, 255).astype(np.uint8)[bonnet]
