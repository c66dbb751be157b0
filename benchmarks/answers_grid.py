"""The grid behind the answers in docs/training_results.md: what kind of answer pays, at equal
clicks and at equal time, and what is made of answers by one class. CamVid at 180x240.

    regional-al compare configs/camvid/compare.py --grid benchmarks/answers_grid.py \
        --out work_dirs/answers_grid

The protocol of camvid_grid.py: the same five scattered pixels per image and the same first model,
then four rounds of 120 iterations. Answers by one class are one click each, 1,468 of them a round.
How many clicks other answers take is not known before they are given: superpixels of random choice
hold 1.7 classes, so the numbers of regions are chosen to come to about as many clicks, and arms are
compared over clicks. A simulated person without errors answers, for the time.
"""

# ruff: noqa: C408 - in the style of the configs
SLIC = dict(type="slic", n_segments=200)
CLICKS = 4 * 367


def asked(heuristic, answer, regions, label, region=SLIC, **more):
    """An arm; `regions` are asked about in a round."""
    unit = "click" if answer == "dominant" else "region"
    acquisition = dict(
        level="region",
        region=region,
        heuristic=heuristic,
        budget=dict(amount=regions, unit=unit, scope="pool"),
        annotator=dict(type="simulated", answer=answer),
        **more,
    )
    return dict(acquisition=acquisition, label=label, baseline="click_random")


ADAPTIVE = dict(type="AdaptiveSuperpixels", heuristic="ClassBalance", threshold=0.1)
SMALL = dict(type="slic", n_segments=400)

seeds = (0, 1, 2)
start = dict(annotator=dict(type="simulated"))
arms = {
    "multi_pixbal": asked("PixBal", "multiclass", 600, "PixBal, all classes"),
    "multi_pixbal_pseudo": asked(
        "PixBal",
        "multiclass",
        600,
        "PixBal, all classes, pseudo labels",
        region_classes=dict(pseudo=True),
    ),
    "click_class_balance_unit": asked(
        "ClassBalance",
        "dominant",
        CLICKS,
        "class balance, clicks, loss over answers",
        loss_average="unit",
    ),
    "multi_random": asked("Random", "multiclass", 865, "random, all classes"),
    "click_sieve": asked(
        "ClassBalance",
        "dominant",
        CLICKS,
        "class balance, clicks, sieved",
        sieve=dict(min_pixels=64),
    ),
    "click_adaptive": asked(
        ADAPTIVE, "dominant", CLICKS, "class balance, adaptive superpixels", region=SMALL
    ),
    "full_clasp": asked("ClaSPPE", "full", 445, "ClaSP PE, outlined"),
    "full_random": asked("Random", "full", 445, "random, outlined"),
    "click_random": asked("Random", "dominant", CLICKS, "random clicks"),
    "click_class_balance": asked("ClassBalance", "dominant", CLICKS, "class balance, clicks"),
}
