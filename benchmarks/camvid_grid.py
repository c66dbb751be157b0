"""The grid behind docs/results.md: strategies on CamVid at 180x240, three seeds.

    regional-al compare configs/camvid/compare.py --grid benchmarks/camvid_grid.py \
        --out work_dirs/camvid_grid

All arms start from the same five scattered pixels per image (0.0116 %) and the same first model,
and train alike. Four kinds of queries, each with Random at equal cost: SLIC superpixels or windows
(0.5 % of the pool's pixels per round, 2 % in total), clicks on superpixels (their dominant class, 4
per image), single pixels (4 per image and round, 0.049 % in total), and many pixels (0.25 % of each
image per round, 1 % in total; 1.25 %, 5 % in total). The arm named x4 is Random with four times the
budget: it shows what a strategy saves in labels after equal training. Those named afresh are
retrained once, as full supervision is, on the labels of another arm. "By class": power acquisition
with equal shares per predicted class. Arms are in order of importance; those after pixel_random_x4
were run with one or two seeds only.
"""

# ruff: noqa: C408 - in the style of the configs
SLIC = dict(type="slic", n_segments=200)
SHARE = dict(amount="0.5%", unit="pixel", scope="pool")
REGIONS = dict(level="region", region=SLIC, budget=SHARE)
WINDOWS = dict(level="region", region=dict(type="window", radius=1), budget=SHARE)
CLICKS = dict(
    level="region",
    region=SLIC,
    budget=dict(amount=4 * 367, unit="click", scope="pool"),
    annotator=dict(type="oracle", answer="dominant"),
)
PIXELS = dict(level="pixel", budget=dict(amount=4, unit="pixel", scope="image"))
MANY = dict(level="pixel", budget=dict(amount="0.25%", unit="pixel", scope="image"))


def arm(where, heuristic, label, **more):
    return dict(acquisition=dict(where, heuristic=heuristic), label=label, **more)


def by_class(heuristic, **more):
    return dict(type="Stochastic", heuristic=heuristic, per_class=True, **more)


def with_budget(where, amount):
    return dict(where, budget=dict(where["budget"], amount=amount))


seeds = (0, 1, 2)
full = "../configs/camvid/compare_full.py"
arms = {
    "slic_random": arm(REGIONS, "Random", "random superpixels"),
    "slic_ripu": arm(REGIONS, "RIPU", "RIPU, superpixels"),
    "slic_real": arm(REGIONS, "ReAL", "ReAL"),
    "window_ripu": arm(WINDOWS, "RIPU", "RIPU, windows"),
    "pixel_random": arm(PIXELS, "Random", "random pixels"),
    "pixel_margin": arm(PIXELS, "Margin", "margin, pixels"),
    "click_random": arm(CLICKS, "Random", "random clicks"),
    "click_class_balance": arm(CLICKS, "ClassBalance", "class balance, clicks"),
    "window_random": arm(WINDOWS, "Random", "random windows"),
    "window_class_random": arm(WINDOWS, "ClassAwareRandom", "class-aware windows"),
    "window_class_ripu": arm(WINDOWS, by_class("RIPU", beta=2.0), "RIPU by class, windows"),
    "pixel_class_random": arm(PIXELS, "ClassAwareRandom", "class-aware pixels"),
    "pixel_pixelpick": arm(PIXELS, "PixelPick", "PixelPick"),
    "slic_entropy": arm(REGIONS, "Entropy", "entropy, superpixels"),
    "slic_clasp": arm(REGIONS, "ClaSPPE", "ClaSP PE"),
    "slic_bald": arm(REGIONS, "BALD", "BALD, superpixels"),
    "pixel_random_x4": arm(with_budget(PIXELS, 16), "Random", "random pixels, x4"),
    "pixel_class_margin": arm(PIXELS, by_class("Margin", beta=4.0), "margin by class, pixels"),
    "many_random": arm(MANY, "Random", "random pixels, 1 %"),
    "many_margin": arm(MANY, "Margin", "margin, 1 %", baseline="many_random"),
    "many_class_random": arm(
        MANY, "ClassAwareRandom", "class-aware pixels, 1 %", baseline="many_random"
    ),
    "five_class_margin": arm(
        with_budget(MANY, "1.25%"),
        by_class("Margin"),
        "margin by class, 5 %",
        baseline="many_random",
    ),
    "window_class_ripu_final": dict(labels_of="window_class_ripu"),
    "pixel_margin_final": dict(labels_of="pixel_margin"),
    "many_class_random_final": dict(labels_of="many_class_random"),
    "five_class_margin_final": dict(labels_of="five_class_margin"),
}
