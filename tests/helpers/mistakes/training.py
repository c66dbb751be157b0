"""Mistakes in the keys of `acquisition` that say how a training uses its labels."""

from __future__ import annotations

from typing import Any

NAN, INF = float("nan"), float("inf")


def unlabeled(**keys: Any) -> dict[str, Any]:
    return {"unlabeled": keys}


def pseudo(value: Any) -> dict[str, Any]:
    return {"region_classes": {"pseudo": value}}


TRAINING: list[tuple[str, Any, str]] = [
    # unlabeled
    (
        "unlabeled with the toy engine",
        {"unlabeled": True},
        r"acquisition\.unlabeled needs a config",
    ),
    ("unlabeled a number", {"unlabeled": 0.95}, r"unlabeled=0\.95 must be a dict"),
    ("unlabeled a list", {"unlabeled": ["ema"]}, r"unlabeled=\['ema'\] must be a dict"),
    ("unlabeled key unknown", unlabeled(wieght=1), "'wieght'.*Did you mean 'weight'"),
    ("unlabeled threshold in percent", unlabeled(threshold=95), r"unlabeled\.threshold=95"),
    ("unlabeled threshold text", unlabeled(threshold="0.9"), r"unlabeled\.threshold='0\.9'"),
    ("unlabeled ema 1", unlabeled(ema=1), r"unlabeled\.ema=1 would leave.*below 1"),
    ("unlabeled ema negative", unlabeled(ema=-0.1), r"unlabeled\.ema=-0\.1"),
    ("unlabeled weight negative", unlabeled(weight=-1), r"unlabeled\.weight=-1"),
    ("unlabeled weight NaN", unlabeled(weight=NAN), r"unlabeled\.weight=nan"),
    ("unlabeled weight infinite", unlabeled(weight=INF), r"unlabeled\.weight=inf"),
    ("unlabeled batch 0", unlabeled(batch_size=0), r"unlabeled\.batch_size=0"),
    ("unlabeled views True", unlabeled(views=True), r"unlabeled\.views=True"),
    ("unlabeled share 2", unlabeled(class_share=2), r"unlabeled\.class_share=2"),
    ("unlabeled cutmix None", unlabeled(cutmix=None), r"unlabeled\.cutmix=None"),
    ("unlabeled color too strong", unlabeled(color=2), r"unlabeled\.color=2"),
    ("unlabeled color key", unlabeled(color={"hue": 0.1}), r"unlabeled\.color has no key 'hue'"),
    ("unlabeled gray", unlabeled(color={"gray": 1.5}), r"unlabeled\.color\.gray=1\.5"),
    ("unlabeled drop text", unlabeled(drop="x"), r"unlabeled\.drop='x'"),
    ("unlabeled keep", unlabeled(keep="teacherr"), "keep='teacherr'.*Did you mean 'teacher'"),
    # loss_average
    (
        "average with the toy engine",
        {"loss_average": "image"},
        r"loss_average='image' needs a conf",
    ),
    (
        "average over units with the toy engine",
        {"loss_average": "unit"},
        r"loss_average='unit' needs a conf",
    ),
    ("average misspelt", {"loss_average": "units"}, r"loss_average='units'.*Did you mean 'unit'"),
    ("average None", {"loss_average": None}, r"acquisition\.loss_average=None"),
    # sieve
    ("sieve of full answers", {"sieve": True}, r"acquisition\.sieve is about regions.*leave sieve"),
    ("sieve a number", {"sieve": 3}, r"acquisition\.sieve=3 must be a dict"),
    ("sieve key", {"sieve": {"min_pixel": 1}}, "'min_pixel'.*Did you mean 'min_pixels'"),
    # region_classes
    (
        "class sets with the toy engine",
        {"region_classes": True},
        r"acquisition\.region_classes needs a config",
    ),
    ("class sets a number", {"region_classes": 3}, r"region_classes=3 must be a dict"),
    ("class sets key", {"region_classes": {"merge": 1}}, "'merge'.*Did you mean 'merged'"),
    ("class sets weight", {"region_classes": {"merged": -1}}, r"region_classes\.merged=-1"),
    ("class sets NaN", {"region_classes": {"prototype": NAN}}, r"prototype=nan"),
    ("class sets too cold", {"region_classes": {"temperature": 0}}, r"temperature=0"),
    ("pseudo a number", pseudo(3), r"region_classes\.pseudo=3 must be a dict"),
    ("pseudo key", pseudo({"trimm": 3}), "'trimm'.*Did you mean 'trim'"),
    ("pseudo trim even", pseudo({"trim": 4}), r"pseudo\.trim=4 must be odd"),
    ("pseudo trim negative", pseudo({"trim": -1}), r"pseudo\.trim=-1 must be a whole number"),
    ("pseudo trim too wide", pseudo({"trim": 999}), r"pseudo\.trim=999 must be at most 255"),
    ("pseudo spread text", pseudo({"spread": "yes"}), r"pseudo\.spread='yes' must be True or Fa"),
    (
        "pseudo labels without a partition",
        {"level": "pixel", "region": None, "budget": {"amount": 4}, **pseudo(True)},
        r"pseudo\.spread is about neighbouring regions.*spread=False",
    ),
]
