"""The grid behind docs/training_results.md: what trainings with few labels gain from unlabelled
pixels and from another average of the loss, CamVid at 180x240.

    regional-al compare configs/camvid/compare.py --grid benchmarks/training_grid.py \
        --out work_dirs/training_grid

The protocol of camvid_grid.py, whose arms are the same with a plain training: the same five
scattered pixels per image and the same first model, trained on them alone, then four rounds of 120
iterations.
"""

# ruff: noqa: C408 - in the style of the configs
PIXELS = dict(level="pixel", budget=dict(amount=4, unit="pixel", scope="image"))
WINDOWS = dict(
    level="region",
    region=dict(type="window", radius=1),
    budget=dict(amount="0.5%", unit="pixel", scope="pool"),
)
SUPERPIXELS = dict(
    level="region",
    region=dict(type="slic", n_segments=200),
    budget=dict(amount="0.5%", unit="pixel", scope="pool"),
)
SHARE = dict(class_share=0.5, views=1)


def arm(where, heuristic, label, **more):
    return dict(acquisition=dict(where, heuristic=heuristic, **more), label=label)


seeds = (0, 1, 2)
arms = {
    "pixel_random_class": arm(
        PIXELS, "Random", "random pixels, loss over classes", loss_average="class"
    ),
    "pixel_random_share": arm(
        PIXELS, "Random", "random pixels + unlabelled, class_share", unlabeled=SHARE
    ),
    "pixel_margin_class": arm(
        PIXELS, "Margin", "margin, pixels, loss over classes", loss_average="class"
    ),
    "slic_random_image": arm(
        SUPERPIXELS, "Random", "random superpixels, loss over images", loss_average="image"
    ),
    "pixel_margin_share": arm(
        PIXELS, "Margin", "margin, pixels + unlabelled, class_share", unlabeled=SHARE
    ),
    "pixel_random_unlabeled": arm(PIXELS, "Random", "random pixels + unlabelled", unlabeled=dict()),
}
