"""The grid behind docs/noise.md: strategies without and with annotation errors, three seeds.

    python -m regional_al.testing.streets data/streets_noise --train 64 --val 48
    STREETS_ROOT=data/streets_noise regional-al compare configs/streets/compare.py \
        --grid benchmarks/noise_grid.py --out work_dirs/noise --prune

Every arm is run twice: the simulated person takes the same time in both and makes no errors in one.
All arms start from the same five scattered pixels per image, answered without errors, and the same
first model. The rates of errors are those of ADE20K, whose annotator labelled 61 images again after
six months (Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017): 6.0 % of the pixels got
another name, 5.7 % differ by the outline. One error of `wrong_class` is a whole class of an item;
`boundary` is 5.7 % of all pixels over the 20.7 % of the street scenes' pixels that lie within two
pixels of another class. Missed objects (5.9 %) are not simulated.
"""

# ruff: noqa: C408 - in the style of the configs
SLIC = dict(type="slic", n_segments=100)
PIXELS = dict(amount="1%", unit="pixel", scope="pool")
ERRORS = dict(boundary=0.275, radius=2, wrong_class=0.06)


def pair(name, label, heuristic):
    """The arm without errors and the one with them, each measured against Random alike."""
    made = {}
    for suffix, errors, said in (("", None, ""), ("_errors", ERRORS, ", errors")):
        where = dict(level="region", region=SLIC, budget=PIXELS, heuristic=heuristic)
        where["annotator"] = dict(type="simulated", answer="full", errors=errors)
        made[name + suffix] = dict(acquisition=where, label=label + said)
        if name != "random":
            made[name + suffix]["baseline"] = "random" + suffix
    return made


seeds = (0, 1, 2)
start = dict(annotator=dict(type="simulated"))
arms = {
    **pair("random", "random", "Random"),
    **pair("ripu", "RIPU", "RIPU"),
    **pair("clasp", "ClaSP PE", "ClaSPPE"),
}
