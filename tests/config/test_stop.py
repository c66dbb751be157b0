"""Values that would show late, or never: `stop`, `seed`, and a budget that the pool cannot pay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import regional_al
from regional_al.config.grammar import MAX_ROUNDS, MAX_SEED, Acquisition, Stop
from regional_al.errors import ConfigError
from regional_al.testing import streets, toy


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (0, "stop must be a dict, not 0"),
        ([], "stop must be a dict"),
        ({"target_mIoU": 0.5}, "has no key 'target_mIoU'. Did you mean 'target_miou'?"),
        ({"target_miou": 60}, "target_miou=60 must be from 0 to 1: did you mean 0.60?"),
        ({"target_miou": 62.5}, "did you mean 0.62?"),
        ({"target_miou": "0.6"}, "target_miou='0.6' must be a number from 0 to 1"),
        ({"target_miou": -0.1}, "target_miou=-0.1 must be a number from 0 to 1"),
        ({"target_miou": float("nan")}, "target_miou=nan must"),
        ({"target_miou": 600}, "target_miou=600 must be a number from 0 to 1"),
        ({"target_miou": True}, "target_miou=True must"),
        ({"plateau": 0}, "plateau=0 must be a whole number of at least 1"),
        ({"plateau": 1.5}, "plateau=1.5 must"),
        ({"plateau": 1, "plateau_gain": -0.01}, "plateau_gain=-0.01 must"),
        ({"max_pixels": 0}, "max_pixels=0 must"),
        ({"max_pixels": "1%"}, "max_pixels='1%' must"),
        ({"max_clicks": -5}, "max_clicks=-5 must"),
        ({"max_seconds": 0}, "max_seconds=0 must be a number above 0"),
        ({"max_seconds": "1h"}, "max_seconds='1h' must be a number above 0"),
        ({"max_seconds": float("inf")}, "max_seconds=inf must be a number above 0"),
        ({"max_seconds": 60}, "max_seconds=60: annotator 'oracle' takes no time; use"),
    ],
)
def test_stop_is_checked(stop: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        Acquisition.parse({"stop": stop})
    assert str(caught.value).startswith("acquisition.stop")
    assert "\n" not in str(caught.value)


def test_good_stops() -> None:
    assert Acquisition.parse({"stop": None}).stop == Stop()
    every = {
        "target_miou": None,
        "max_pixels": 1000,
        "max_clicks": None,
        "plateau": 1,
        "plateau_gain": 0,
    }
    found = Acquisition.parse({"stop": every}).stop
    assert found == Stop(max_pixels=1000, plateau=1, plateau_gain=0.0)
    timed = {"stop": {"max_seconds": 0.5}, "annotator": "simulated"}
    assert Acquisition.parse(timed).stop == Stop(max_seconds=0.5)
    for edge in (0, 0.0, 1, 1.0):
        assert Acquisition.parse({"stop": {"target_miou": edge}}).stop.target_miou == edge


def test_a_seed_fits_every_generator() -> None:
    import numpy as np
    import torch

    assert Acquisition.parse({"seed": MAX_SEED}).seed == MAX_SEED
    with pytest.raises(ConfigError, match=f"seed={MAX_SEED + 1} must be at most {MAX_SEED}"):
        Acquisition.parse({"seed": MAX_SEED + 1})
    largest = MAX_SEED * 1000 + MAX_ROUNDS + 64 * 64  # ranks and their workers
    np.random.RandomState(largest)  # what mm* seeds
    torch.Generator().manual_seed(largest)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(streets.generate(tmp_path_factory.mktemp("s"), train=5, val=1, size=(32, 32)))


@pytest.mark.parametrize(
    ("acquisition", "words"),
    [
        ({"level": "image", "budget": 2, "rounds": 2, "warm_start": 1}, None),
        ({"level": "image", "budget": 2, "rounds": 2, "warm_start": 2}, "(5 images): round 2 gets"),
        ({"level": "image", "budget": 2, "rounds": 3, "warm_start": 1}, "(5 images): round 3 gets"),
        (
            {
                "level": "pixel",
                "budget": {"amount": 500, "unit": "pixel", "scope": "image"},
                "rounds": 3,
                "warm_start": {"amount": 100, "unit": "pixel", "scope": "image"},
            },
            "500 pixels per image in each of 3 rounds is more than the pool has (5120 pixels): "
            "round 2 gets",
        ),
    ],
)
def test_a_pool_that_will_not_last_is_told_and_the_run_ends(
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    acquisition: dict[str, Any],
    words: str | None,
) -> None:
    """The rounds that the warning names are those of the run."""
    acquisition = {"heuristic": "Random", **acquisition}
    loop = regional_al.run(toy.toy_engine(data, iterations=1), acquisition, tmp_path, report=False)
    assert ("is more than the pool has" in caplog.text) == (words is not None)
    assert (words or "") in caplog.text
    assert loop.status == "finished"
    assert loop.round == acquisition["rounds"]
