"""A config for a folder of images: `regional-al init` looks, recognises, proposes and renders."""

from .classes import Labels, labels_of
from .convert import blank, convert
from .layout import Layout, Split, look
from .machine import MODELS, Machine, find, model_for
from .masks import Masks, Value, recognise
from .proposal import Plan, Sizes, propose, sizes_of
from .render import config, lists_of

__all__ = [
    "MODELS",
    "Labels",
    "Layout",
    "Machine",
    "Masks",
    "Plan",
    "Sizes",
    "Split",
    "Value",
    "blank",
    "config",
    "convert",
    "find",
    "labels_of",
    "lists_of",
    "look",
    "model_for",
    "propose",
    "recognise",
    "sizes_of",
]
