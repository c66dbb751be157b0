"""SIM against the definition, pixel by pixel in plain Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heuristic_contract import Scene, pixels

from regional_al.acquisition.acquirer import Acquirer
from regional_al.config import grammar
from regional_al.errors import UnsupportedError
from regional_al.heuristics import HEURISTICS, SIM, Observation
from regional_al.heuristics.correction import class_weights
from regional_al.store.labels import LabelStore


def cosine(a: Any, b: Any) -> float:
    return float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))


def by_hand(seen: Observation, regions: Any, count: int, one: bool, weigh: bool) -> list[float]:
    p = torch.softmax(seen.logits.double(), 0).numpy()
    predicted, found = p.argmax(0), []
    weights = np.ones(len(p))
    if weigh:
        assert seen.prelabel_counts is not None
        n = [int(v) for v in seen.prelabel_counts]
        total, present = sum(n), [v for v in n if v]
        k = sum(v / total * math.log(v / total * len(present)) for v in present)
        weights = np.array([(min(present) / v) ** (k**3) if v else 1.0 for v in n])
    for region in range(count):
        inside = [tuple(x) for x in np.argwhere(regions.numpy() == region)]
        if not inside:
            found.append(math.nan)
            continue
        votes = np.bincount([predicted[x] for x in inside], minlength=len(p))
        core = [x for x in inside if predicted[x] == votes.argmax()]
        rep = np.mean([p[:, x[0], x[1]] for x in core], axis=0)
        if one:
            rep = max((p[:, x[0], x[1]] for x in core), key=lambda q: cosine(q, rep))
        score = 0.0
        for r, c in inside:
            if seen.annotated is not None and seen.annotated[r, c]:
                continue
            y = 255 if seen.prelabels is None else int(seen.prelabels[r, c])
            y = int(predicted[r, c]) if y == 255 else y
            q = p[:, r, c]
            score += max(0.0, cosine(q, rep)) * (1 - q[y]) * weights[y]
        found.append(score)
    return found


@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("said", [True, False])
def test_it_is_what_the_definition_says(one: bool, weigh: bool, said: bool) -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(0, 2, (4, 12, 15)).astype(np.float32))
    labels = rng.integers(0, 4, (12, 15)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = 255
    seen = Observation(
        logits,
        annotated=(rng.random(labels.shape) < 0.3).astype(np.uint8),
        prelabels=labels if said else None,
        prelabel_counts=np.array([900, 70, 0, 30]),
    )
    regions = torch.from_numpy(rng.integers(0, 7, labels.shape).astype(np.int32))
    regions[regions == 5] = 6  # without a pixel
    heuristic = SIM("pixel" if one else "mean", class_weight=weigh)
    found = heuristic.unit_scores(seen, regions, 7)
    assert found.dtype == torch.float32
    expected = by_hand(seen, regions, 7, one, weigh)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-4)
    assert np.isnan(expected).sum() == 1


def test_a_wrong_label_ranks_first_and_a_rare_one_before_a_frequent_one() -> None:
    logits = pixels((0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.8, 0.1, 0.1))
    regions, said = torch.tensor([[0, 1, 2]]), np.array([[0, 1, 2]], np.uint8)
    seen = Observation(logits, prelabels=said, prelabel_counts=np.array([100, 80, 2]))
    plain = SIM().unit_scores(seen, regions, 3).tolist()
    assert plain == pytest.approx([0.2, 0.9, 0.9], abs=1e-6)
    _, frequent, rare = SIM(class_weight=True).unit_scores(seen, regions, 3).tolist()
    assert frequent < rare == pytest.approx(0.9, abs=1e-6)


def test_weights_of_classes_by_hand() -> None:
    # shares 0.9 and 0.1 of two classes: K = 0.9 ln 1.8 + 0.1 ln 0.2
    k = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    found = class_weights(np.array([90, 0, 10]))
    assert found.tolist() == pytest.approx([(1 / 9) ** k**3, 1.0, 1.0])
    assert class_weights(np.zeros(3, np.int64)).tolist() == [1.0, 1.0, 1.0]


def test_without_machine_labels_it_is_refused_by_name(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for spec in (
        "SIM",
        {"type": "Stochastic", "heuristic": "SIM"},
        {"type": "Combine", "parts": ["SIM", "Entropy"]},
        {"type": "Combine", "parts": ["SIM", "Entropy"], "normalize": "rank"},
    ):
        raw = {"heuristic": spec, "region": "grid"}
        store = LabelStore(tmp_path / "labels")
        with pytest.raises(UnsupportedError, match=r"prelabels=FOLDER") as caught:
            Acquirer(scene.engine(), grammar.parse(raw), store, tmp_path)
        assert "\n" not in str(caught.value)
    assert not HEURISTICS.build("Entropy").needs_prelabels


def test_what_it_sees_are_classes_of_the_machine_alone(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    acquirer = scene.acquirer("SIM", "grid", tmp_path / "run")
    acquirer.prepare()
    selector = acquirer.selector(1, scene.checkpoints[0])
    pool = selector.request.pool
    seen = dict(selector.scorer.each(selector.request, range(5), lambda i, one: (i, one)))
    counts = np.zeros(acquirer.engine.label_space.num_classes, np.int64)
    for index, item in enumerate(pool[:-1]):
        truth = scene.answer(item.key, None).labels
        machine = np.roll(truth, 6, axis=1)
        assert seen[index].prelabels is not None
        assert np.array_equal(seen[index].prelabels, machine)
        counts += np.bincount(machine[machine != 255], minlength=len(counts))
    assert seen[4].prelabels is None
    assert seen[0].prelabel_counts is not None
    assert np.array_equal(seen[0].prelabel_counts, counts)
    plain = scene.acquirer("Entropy", "grid", tmp_path / "other")
    plain.prepare()
    selector = plain.selector(1, scene.checkpoints[0])
    (one,) = selector.scorer.each(selector.request, [0], lambda i, one: one)
    assert one.prelabels is None
