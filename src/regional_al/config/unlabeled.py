"""The keys of `acquisition.unlabeled`: training on pixels without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..checks import check_keys, choice, integer, within
from ..errors import ConfigError
from ..types import JSON

KEY = "acquisition.unlabeled"
KEEP = ("student", "teacher")
_LARGEST = 1e6


@dataclass(frozen=True)
class Color:
    """How strongly the colours of a view are changed.

    Args:
        brightness: Each image is multiplied by a factor from [max(0, 1 - x), 1 + x].
        contrast: Likewise its distance from the mean grey of the image.
        saturation: Likewise its distance from the grey of each pixel.
        probability: Of changing these three in an image, [0, 1].
        gray: Probability of taking the colour out of an image, [0, 1].

    Example:
        >>> Color(brightness=0.2).contrast
        0.5
    """

    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    probability: float = 0.8
    gray: float = 0.2


NO_COLOR = Color(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Unlabeled:
    """How pixels without an answer are trained on.

    Args:
        threshold: Confidence of the teacher from which a pixel counts, [0, 1].
        class_share: Of the pixels of a batch that the teacher gives to a class, at least this share
            counts, the most confident ones, [0, 1].
        ema: Largest share of itself that the teacher keeps at an optimizer step, [0, 1).
        weight: Of the loss on these pixels beside that of the labels.
        batch_size: Images per process and iteration that are drawn from the pool beside the
            labelled ones; None: as many as those.
        views: Strongly changed views of each image.
        cutmix: Probability that a view holds a box of another image, [0, 1].
        color: How colours are changed.
        drop: Probability that the channels of an image's features are shared out among two views,
            [0, 1].
        keep: 'student' or 'teacher': the model that is scored, evaluated and kept.

    Example:
        >>> Unlabeled.parse({"threshold": 0.9}).threshold, Unlabeled.parse(None)
        (0.9, None)
    """

    threshold: float = 0.95
    class_share: float = 0.0
    ema: float = 0.996
    weight: float = 1.0
    batch_size: int | None = None
    views: int = 2
    cutmix: float = 0.5
    color: Color = field(default_factory=Color)
    drop: float = 0.5
    keep: str = "student"

    @staticmethod
    def parse(raw: Any) -> Unlabeled | None:
        """Check the value of `acquisition.unlabeled`.

        Args:
            raw: A dict; True is an empty one; None and False switch it off.

        Returns:
            The settings; None when it is off.

        Raises:
            ConfigError: A key or value is invalid.

        Example:
            >>> Unlabeled.parse({"ema": 2})
            Traceback (most recent call last):
            regional_al.errors.ConfigError: acquisition.unlabeled.ema=2 must be a number from 0 to 1
        """
        if raw is None or raw is False:
            return None
        given = {} if raw is True else raw
        if not isinstance(given, Mapping):
            raise ConfigError(f"{KEY}={raw!r} must be a dict(threshold=0.95, ...), True or None")
        check_keys(KEY, given, tuple(one.name for one in fields(Unlabeled)))
        found: dict[str, Any] = dict(given)
        for name in ("threshold", "class_share", "cutmix", "drop"):
            if name in found:
                found[name] = within(f"{KEY}.{name}", found[name], 0, 1)
        if "ema" in found:
            found["ema"] = within(f"{KEY}.ema", found["ema"], 0, 1)
            if found["ema"] == 1:
                raise ConfigError(
                    f"{KEY}.ema=1 would leave the teacher as it began: give a number below 1"
                )
        if "weight" in found:
            found["weight"] = within(f"{KEY}.weight", found["weight"], 0, _LARGEST)
        if found.get("batch_size") is not None:
            found["batch_size"] = integer(f"{KEY}.batch_size", found["batch_size"], 1)
        if "views" in found:
            found["views"] = integer(f"{KEY}.views", found["views"], 1)
        if "color" in found:
            found["color"] = _color(found["color"])
        if "keep" in found:
            found["keep"] = choice(f"{KEY}.keep", found["keep"], KEEP)
        return Unlabeled(**found)

    def resolved(self) -> JSON:
        """Every key with its value, JSON-able."""
        return asdict(self)


def _color(raw: Any) -> Color:
    """None or False: colours stay; True: the default; a number: brightness, contrast and saturation
    alike; a dict: see `Color`."""
    where = f"{KEY}.color"
    if raw is None or raw is False:
        return NO_COLOR
    if raw is True:
        return Color()
    if isinstance(raw, Color):
        return raw
    if not isinstance(raw, Mapping):
        strength = within(where, raw, 0, 1)
        return Color(strength, strength, strength) if strength else NO_COLOR
    check_keys(where, raw, tuple(one.name for one in fields(Color)))
    return Color(**{key: within(f"{where}.{key}", value, 0, 1) for key, value in raw.items()})
