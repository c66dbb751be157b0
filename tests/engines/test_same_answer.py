"""The same weights give the same picks under MMSegmentation 0.x and 1.x.

The fixture was made in one environment; this runs in both (`mmseg1`, `mmseg0`). Scores may differ
in the last digits, since the two normalise images in different places; picks may not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")
import same_answer

from regional_al import engines

EITHER = [
    pytest.param("mmseg1", marks=pytest.mark.mmseg1),
    pytest.param("mmseg0", marks=pytest.mark.mmseg0),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    root = tmp_path_factory.mktemp("same")
    engine = same_answer.make_engine(root)
    return engine, same_answer.make_checkpoint(engine, root / "weights.pth"), root


@pytest.mark.parametrize("name", EITHER)
def test_pixel_scores(name: str, made: tuple[Any, Path, Path]) -> None:
    engine, checkpoint, _ = made
    assert engines.generation() == name
    found = same_answer.pixel_scores(engine, checkpoint)
    expected = np.load(same_answer.FOLDER / "entropy.npy", allow_pickle=False)
    assert expected.shape == (same_answer.IMAGES, 64, 96)
    assert expected.std() > 0.1, "a model that tells pixels apart"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", EITHER)
def test_state_dict_has_the_same_keys(name: str, made: tuple[Any, Path, Path]) -> None:
    """Every weight came from the formula, which goes by name: so the names are the same."""
    engine, checkpoint, _ = made
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert sorted(state) == (same_answer.FOLDER / "keys.txt").read_text().split()
    for key, value in engine.network(checkpoint).state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize("case", list(same_answer.CASES))
def test_picks(name: str, case: str, made: tuple[Any, Path, Path]) -> None:
    engine, checkpoint, root = made
    found = same_answer.picks(engine, checkpoint, same_answer.CASES[case], root / case)
    expected = np.load(same_answer.FOLDER / f"picks_{case}.npy", allow_pickle=False)
    for field in ("image", "row", "col", "unit", "pixels"):
        assert np.array_equal(found[field], expected[field]), field
    np.testing.assert_allclose(found["score"], expected["score"], rtol=0, atol=1e-4)
