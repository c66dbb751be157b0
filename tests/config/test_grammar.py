"""The acquisition grammar: defaults, and one clear line for each mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regional_al.config import grammar as config
from regional_al.errors import RegionalALError
from regional_al.types import Costs


def test_the_two_key_form_has_defaults_for_everything() -> None:
    parsed = config.parse({"level": "region", "heuristic": "RIPU"})
    assert parsed.region["type"] == "slic"
    assert (parsed.rounds, parsed.round_init, parsed.answer) == (5, "scratch", "full")
    assert parsed.warm_start is not None
    assert parsed.warm_start.budget == parsed.budget
    assert set(parsed.resolved) == set(config.KEYS)
    json.dumps(parsed.resolved)  # goes into the ledger and results.json


def test_queries_set_the_rounds_and_the_stretches() -> None:
    parsed = config.parse({"level": "region", "heuristic": "RIPU", "queries": [10, 20]})
    assert [parsed.until(r) for r in range(3)] == [10, 20, -1]
    assert parsed.rounds == 2
    assert config.parse({}).until(0) is None


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"level": "regions"}, "Did you mean 'region'"),
    ({"levl": "region"}, "'levl'.*Did you mean 'level'"),
    ({"region": "slick"}, "Did you mean 'slic'"),
    ({"region": {"type": "window", "radus": 2}}, "'radus'.*Did you mean 'radius'"),
    ({"region": {"type": "window", "radius": -1}}, "radius=-1"),
    ({"region": {"n_segments": 3}}, "region.*type"),
    ({"level": "pixel", "region": "slic"}, "level='pixel'"),
    ({"level": "image", "region": "slic"}, "level='image'"),
    ({"budget": {"amount": 0}}, "0"),
    ({"budget": {"amount": "101%"}}, "101%"),
    ({"budget": {"amount": 3, "unit": "pixels"}}, "Did you mean 'pixel'"),
    ({"budget": {"amount": 3, "unit": "click"}}, "clicks of a 'full' answer"),
    ({"rounds": -1}, "rounds=-1"),
    ({"rounds": 254}, "253"),
    ({"rounds": True}, "rounds=True"),
    ({"round_init": "scratches"}, "Did you mean 'scratch'"),
    ({"queries": []}, "queries"),
    ({"queries": [20, 10]}, "strictly increasing"),
    ({"queries": [10, 20], "rounds": 3}, "rounds=3"),
    ({"annotator": {"answer": "full"}}, "annotator"),
    ({"annotator": {"type": "oracle", "answer": "dominat"}}, "Did you mean 'dominant'"),
    ({"level": "pixel", "annotator": {"type": "oracle", "answer": "dominant"}}, "dominant"),
    ({"annotator": {"type": "oracle", "answer": "correction"}}, "prelabels=FOLDER"),
    (
        {"annotator": {"type": "web", "answer": "correction"}, "warm_start": {"prelabels": "x"}},
        "answer='correction' is not supported by annotator 'web'",
    ),
    (
        {
            "level": "pixel",
            "annotator": {"type": "oracle", "answer": "correction"},
            "warm_start": {"prelabels": "x"},
        },
        "is about whole regions",
    ),
    ({"stop": {"target_mIoU": 0.5}}, "Did you mean 'target_miou'"),
    ({"seed": -1}, "seed=-1"),
    ({"tiles": 8}, "tiles=8.*16"),
]


@pytest.mark.parametrize(("raw", "match"), MISTAKES)
def test_a_mistake_is_one_line_that_names_key_and_fix(raw: dict[str, Any], match: str) -> None:
    with pytest.raises(RegionalALError, match=match) as caught:
        config.parse({"level": "region", "heuristic": "RIPU", **raw})
    assert "\n" not in str(caught.value)


def test_not_a_dict() -> None:
    with pytest.raises(RegionalALError, match="must be a dict"):
        config.parse("RIPU")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "spent", "expected"),
    [
        (700, Costs(), 700),
        ({"amount": 3}, Costs(images=9), 3),
        ({"amount": 0.5, "per": "region"}, Costs(regions=7), 4),
        ({"amount": 2, "per": "image", "least": 50}, Costs(images=7), 50),
        ({"amount": 2, "per": "click", "most": 60}, Costs(clicks=500), 60),
        ({"amount": 0.01, "per": "pixel"}, Costs(pixels=0), 1),
    ],
)
def test_iterations_of_a_round(raw: Any, spent: Costs, expected: int) -> None:
    rule = config.parse({"iterations": raw}).iterations
    assert rule is not None
    assert rule.of(spent) == expected


@pytest.mark.parametrize(
    "raw",
    [
        0,
        True,
        {"amount": -1},
        {"amount": 1, "per": "label"},
        {"most": 3},
        {"amount": 1.5},
        {"amount": 2, "per": "image", "least": 9, "most": 8},
    ],
)
def test_wrong_iterations_name_the_key(raw: Any) -> None:
    with pytest.raises(RegionalALError, match=r"acquisition\.iterations"):
        config.parse({"iterations": raw})


def test_iterations_have_no_place_in_a_continuous_run_and_need_known_clicks() -> None:
    with pytest.raises(RegionalALError, match="queries"):
        config.parse({"iterations": 5, "queries": [1, 2]})
    rule = config.parse({"iterations": {"amount": 1, "per": "click"}}).iterations
    assert rule is not None
    with pytest.raises(RegionalALError, match="not known"):
        rule.of(Costs(clicks=None))
