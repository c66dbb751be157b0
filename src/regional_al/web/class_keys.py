"""Which key stands for which class on the page."""

from __future__ import annotations

CLASS_KEYS = "1234567890adiqwy"
"""What no command of the page uses. Further classes are found by a part of their name."""


def class_keys(count: int) -> list[str | None]:
    """The key of each of `count` classes; None past the last key.

    Example:
        >>> class_keys(3), class_keys(17)[-1]
        (['1', '2', '3'], None)
    """
    return [CLASS_KEYS[i] if i < len(CLASS_KEYS) else None for i in range(count)]
