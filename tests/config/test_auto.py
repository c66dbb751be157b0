"""`heuristic='auto'`: what it becomes, and that its reasons are the measured figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT

import regional_al
from regional_al.acquisition.acquirer import Acquirer
from regional_al.compare import results
from regional_al.compare.plan import baseline_of, heuristic_of
from regional_al.config.auto import recommend
from regional_al.config.grammar import Acquisition
from regional_al.errors import ConfigError
from regional_al.store.labels import LabelStore
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

DOMINANT = {"annotator": {"type": "oracle", "answer": "dominant"}}
MULTICLASS = {"annotator": {"type": "oracle", "answer": "multiclass"}}
KINDS: list[tuple[dict[str, Any], str]] = [
    ({"level": "image"}, "Random"),
    ({"level": "pixel"}, "Margin"),
    ({"level": "region", "region": "window"}, "ByClass"),
    ({"level": "region"}, "ClaSPPE"),
    ({"level": "region", "region": "grid"}, "ClaSPPE"),
    ({"level": "region", **DOMINANT}, "ClassBalance"),
    ({"level": "region", **MULTICLASS}, "ClassBalance"),
]
# Arms of benchmarks/results/camvid_grid.json: the recommended one, and random at equal cost.
MEASURED = {
    ("pixel", "pixel", "full"): ("pixel_margin", "pixel_random"),
    ("region", "window", "full"): ("window_class_ripu", "window_random"),
    ("region", "slic", "full"): ("slic_clasp", "slic_random"),
    ("region", "slic", "dominant"): ("click_class_balance", "click_random"),
}


@pytest.mark.parametrize(("kind", "name"), KINDS)
@pytest.mark.parametrize("spelling", ["auto", {"type": "auto"}])
def test_a_named_heuristic_is_used_and_recorded(kind: Any, name: str, spelling: Any) -> None:
    config = Acquisition.parse({**kind, "heuristic": spelling})
    assert config.heuristic["type"] == config.resolved["heuristic"]["type"] == name
    assert str(config.auto).startswith(f"heuristic='auto' is dict(type='{name}'")
    assert "auto" not in config.resolved
    assert config == Acquisition.parse({**kind, "heuristic": config.heuristic})
    assert Acquisition.parse({**kind, "heuristic": config.heuristic}).auto is None


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_every_choice_can_be_asked(kind: dict[str, Any], tmp_path: Path) -> None:
    data = streets.generate(tmp_path / "data", train=3, val=1, size=(32, 48))
    config = Acquisition.parse({**kind, "heuristic": "auto"})
    Acquirer(toy_engine(data), config, LabelStore(tmp_path / "l"), tmp_path)  # or UnsupportedError


def test_reasons_are_the_measured_figures() -> None:
    comparison = results.read(ROOT / "benchmarks/results/camvid_grid.json")
    ends: dict[str, list[float]] = {}
    for run in comparison.runs:
        if run.state == "finished":
            ends.setdefault(run.arm, []).append(100 * run.evaluated[-1].miou)
    for kind, arms in MEASURED.items():
        found = re.findall(r"(\d+\.\d)(?: ± (\d+\.\d)) %", recommend(*kind).why)  # type: ignore[arg-type]
        wanted = [(f"{np.mean(ends[a]):.1f}", f"{np.std(ends[a], ddof=1):.1f}") for a in arms]
        assert found == wanted, kind
        assert len(ends[arms[0]]) == 3


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"acquisition\.heuristic has no key 'beta'"):
        Acquisition.parse({"heuristic": {"type": "auto", "beta": 2}})
    with pytest.raises(ConfigError, match=r"unknown heuristic 'atuo'.*'auto'"):
        Acquisition.parse({"heuristic": "atuo"})


def test_compare_knows_what_auto_is() -> None:
    assert [heuristic_of({**kind, "heuristic": "auto"}) for kind, _ in KINDS] == [
        name for _, name in KINDS
    ]
    arms = {"a": ({"level": "image", "heuristic": "auto"}, None),
            "b": ({"level": "image", "heuristic": "Entropy"}, None)}  # fmt: skip
    assert (baseline_of("a", arms), baseline_of("b", arms)) == ("a", "a")


def test_a_run_says_its_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = streets.generate(tmp_path / "data", train=3, val=1, size=(32, 48))
    asked = {"level": "pixel", "heuristic": "auto", "rounds": 1, "budget": 2, "previews": 0}
    loop = regional_al.run(toy_engine(data, iterations=1), asked, tmp_path / "run", report=False)
    said = capsys.readouterr().out
    assert said.count("heuristic='auto' is dict(type='Margin'): 0.049 %") == 1
    assert loop.records.origin.acquisition["heuristic"] == {"type": "Margin"}


def test_the_documented_table_is_what_the_code_does() -> None:
    page = (ROOT / "docs/acquisition.md").read_text(encoding="utf-8")
    table = page.split("| query | `'auto'` is |")[1].split("\n\n")[0]
    cells = [row.split("|")[2].strip().split("`")[1] for row in table.splitlines() if "`" in row]
    assert cells == ["Margin", "ByClass", "ClaSPPE", "ClassBalance", "Random"]
    kinds = [("pixel", "pixel", "full"), ("region", "window", "full"), ("region", "slic", "full"),
             ("region", "slic", "dominant"), ("image", "whole", "full")]  # fmt: skip
    assert cells == [recommend(*kind).heuristic["type"] for kind in kinds]  # type: ignore[arg-type]
