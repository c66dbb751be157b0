"""The grid behind docs/results.md: strategies on CamVid at 180x240, three seeds.

    regional-al compare configs/camvid/compare.py --grid benchmarks/camvid_grid.py \
        --out work_dirs/camvid_grid

All arms start from the same five scattered pixels an image (0.0116 %) and the same first model.
Three kinds of questions, each with Random at equal cost: slic superpixels or windows (0.5 % of the
pool's pixels a round, 2 % in all), clicks on superpixels (their dominant class, 4 an image), single
pixels (4 an image a round, 0.049 % in all). Arms are in the order in which they matter.
"""

# ruff: noqa: C408 - in the style of the configs
SLIC = dict(type="slic", n_segments=200)
SHARE = dict(amount="0.5%", unit="pixel", scope="pool")
REGIONS = dict(level="region", region=SLIC, budget=SHARE)
WINDOWS = dict(level="region", region=dict(type="window", radius=1), budget=SHARE)
CLICKS = dict(
    level="region", region=SLIC, budget=dict(amount=4 * 367, unit="click", scope="pool"),
    annotator=dict(type="oracle", answer="dominant"),
)  # fmt: skip
PIXELS = dict(level="pixel", budget=dict(amount=4, unit="pixel", scope="image"))


def arm(where, heuristic, label):
    return dict(acquisition=dict(where, heuristic=heuristic), label=label)


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
    "click_class_balance": arm(CLICKS, "ClassBalance", "BvSB x class balance, clicks"),
    "window_random": arm(WINDOWS, "Random", "random windows"),
    "pixel_pixelpick": arm(PIXELS, "PixelPick", "PixelPick"),
    "pixel_class_random": arm(PIXELS, "ClassAwareRandom", "class-aware random pixels"),
    "slic_entropy": arm(REGIONS, "Entropy", "entropy, superpixels"),
    "slic_clasp": arm(REGIONS, "ClaSPPE", "ClaSP PE"),
    "slic_class_random": arm(REGIONS, "ClassAwareRandom", "class-aware random superpixels"),
    "slic_bald": arm(REGIONS, "BALD", "BALD, superpixels"),
    "pixel_entropy": arm(PIXELS, "Entropy", "entropy, pixels"),
    "window_power_ripu": arm(
        WINDOWS, dict(type="Stochastic", heuristic="RIPU"), "power RIPU, windows"
    ),
}
