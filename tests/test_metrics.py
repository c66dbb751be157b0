"""Confusion matrix and what follows from it, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regional_al.errors import DataError
from regional_al.metrics import accuracy, class_accuracy, confusion_matrix, iou, mean_iou

pytestmark = pytest.mark.filterwarnings("error")

TRUTH = np.array([[0, 0, 0, 1], [1, 1, 255, 255]], np.uint8)
PRED = np.array([[0, 0, 1, 1], [1, 0, 0, 3]], np.int64)
MATRIX = [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_by_hand():
    matrix = confusion_matrix(preds=PRED, target=TRUTH, num_classes=4)
    assert matrix.tolist() == MATRIX
    assert matrix.dtype == np.int64
    # each class: 2 hits of a union of 4; classes 2 and 3 occur nowhere (3 only under void)
    assert iou(matrix).tolist()[:2] == [0.5, 0.5]
    assert np.isnan(iou(matrix)[2:]).all()
    assert mean_iou(matrix) == 0.5
    assert accuracy(matrix) == 4 / 6
    assert class_accuracy(matrix).tolist()[:2] == [2 / 3, 2 / 3]


def test_a_class_only_predicted_counts_as_zero():
    matrix = confusion_matrix(np.array([0, 2]), np.array([0, 0]), 3)
    assert iou(matrix)[0] == 0.5
    assert np.isnan(iou(matrix)[1])
    assert iou(matrix)[2] == 0.0
    assert mean_iou(matrix) == 0.25
    assert np.isnan(class_accuracy(matrix)[2])


def test_tensors_and_another_ignore_index():
    matrix = confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 1, -1]), 2, ignore_index=-1)
    assert matrix.tolist() == [[1, 0], [0, 1]]


def test_nothing_to_count():
    matrix = confusion_matrix(np.zeros(3, int), np.full(3, 255), 2)
    assert matrix.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(mean_iou(matrix))
    assert np.isnan(accuracy(matrix))


def test_refusals():
    with pytest.raises(DataError, match="target contains class 7"):
        confusion_matrix(np.array([0]), np.array([7]), 3)
    with pytest.raises(DataError, match="target contains class -1"):
        confusion_matrix(np.array([0]), np.array([-1]), 3)
    with pytest.raises(ValueError, match="preds contains class 3"):
        confusion_matrix(np.array([3]), np.array([0]), 3)
    with pytest.raises(ValueError, match="target has shape"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros(4, int), 3)


@given(
    arrays(np.uint8, (3, 4), elements=st.integers(0, 4)),
    arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 3, 4, 255])),
)
def test_against_a_loop(pred, truth):
    expected = np.zeros((5, 5), int)
    for p, t in zip(pred.ravel(), truth.ravel(), strict=True):
        if t != 255:
            expected[t, p] += 1
    matrix = confusion_matrix(pred, truth, 5)
    assert np.array_equal(matrix, expected)
    for c, value in enumerate(iou(matrix)):
        kept = truth != 255
        both = ((pred == c) & (truth == c)).sum()
        either = (((pred == c) | (truth == c)) & kept).sum()
        assert np.isnan(value) if either == 0 else value == both / either
