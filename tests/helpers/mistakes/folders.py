"""Damage to the folder of a run, to answers, to another run that is taken over, and to grids."""

from __future__ import annotations

from typing import Any

from mistakes.table import Case

R0, R1 = "run/rounds/000/", "run/rounds/001/"
LABEL, SIDECAR = "run/labels/train_0002.png", "run/labels/_annotated/train_0002.png"
SHAPE = (32, 40)
LEDGER: list[tuple[str, tuple[Any, ...]]] = [
    ("empty", ("empty", "run/ledger.sqlite")),
    ("cut", ("cut", "run/ledger.sqlite", 3000)),
    ("a text", ("text", "run/ledger.sqlite", "rounds: 3\n" * 900)),
    ("a folder", ("folder", "run/ledger.sqlite")),
    ("missing", ("remove", "run/ledger.sqlite")),
    ("with a flipped first byte", ("flip", "run/ledger.sqlite", 0)),
    ("without a table", ("sql", "run/ledger.sqlite", "DROP TABLE meta")),
    ("without meta", ("sql", "run/ledger.sqlite", "DELETE FROM meta")),
    (
        "of the future",
        ("sql", "run/ledger.sqlite", "UPDATE meta SET value='99' WHERE key='format'"),
    ),
    (
        "with a damaged acquisition",
        ("sql", "run/ledger.sqlite", "UPDATE meta SET value='{' WHERE key='acquisition'"),
    ),
]

RESULTS: list[tuple[str, tuple[Any, ...], str]] = [
    ("missing", ("remove", "run/results.json"), r"results\.json"),
    ("empty", ("empty", "run/results.json"), r"results\.json cannot be read"),
    ("cut", ("cut", "run/results.json", 100), r"results\.json cannot be read"),
    ("a list", ("text", "run/results.json", "[]"), r"results\.json"),
    ("not UTF-8", ("bytes", "run/results.json", b"\xff"), r"results\.json.*UTF-8"),
    ("a folder", ("folder", "run/results.json"), r"results\.json"),
    ("nested deeply", ("text", "run/results.json", "[" * 99_999), r"results\.json.*nested"),
    ("without classes", ("json", "run/results.json", ("classes",)), "classes"),
    ("classes a number", ("json", "run/results.json", ("classes",), 3), "classes"),
    ("of the future", ("json", "run/results.json", ("format",), 99), "format"),
    ("mIoU of 7", ("json", "run/results.json", ("records", 0, "mIoU"), 7), "mIoU"),
    ("mIoU text", ("json", "run/results.json", ("records", 0, "mIoU"), "high"), "mIoU"),
    ("pixels text", ("json", "run/results.json", ("records", 0, "pixels"), "many"), "pixels"),
    ("rounds text", ("json", "run/results.json", ("acquisition", "rounds"), "x"), "rounds must be"),
    ("stop a list", ("json", "run/results.json", ("acquisition", "stop"), [3]), "stop must be"),
    ("palette of two channels", ("json", "run/results.json", ("palette", 0), [1, 2]), "palette"),
    ("records a dict", ("json", "run/results.json", ("records",), {}), "records"),
]

RESUME: list[tuple[str, tuple[Any, ...], str]] = [
    ("label cut", ("cut", LABEL, 40), r"labels.*train_0002"),
    ("label missing", ("remove", LABEL), "train_0002"),
    ("label changed", ("pixel", LABEL, 9), "train_0002"),
    ("label of another size", ("mask", LABEL, (8, 8)), "train_0002"),
    ("label in colours", ("mask", LABEL, (*SHAPE, 3)), "train_0002"),
    ("label a folder", ("folder", LABEL), "train_0002"),
    ("label a text", ("text", LABEL, "x"), "train_0002"),
    ("label sidecar cut", ("cut", SIDECAR, 40), "train_0002"),
    ("label sidecar missing", ("remove", SIDECAR), "train_0002"),
    ("all labels missing", ("remove", "run/labels"), "labels|train_000"),
    ("label of an unknown image", ("copy", "run/labels/other.png", "train_0002.png"), "other"),
    ("data image missing", ("remove", "data/images/train/train_0002.jpg"), "train_0002"),
    ("data image added", ("copy", "data/images/train/a.jpg", "train_0002.jpg"), "a|pool|images"),
    ("checkpoint cut", ("cut", R1 + "fit/checkpoint.pth", 500), r"checkpoint\.pth"),
    ("checkpoint empty", ("empty", R1 + "fit/checkpoint.pth"), r"checkpoint\.pth"),
    ("checkpoint missing", ("remove", R1 + "fit/checkpoint.pth"), r"checkpoint\.pth"),
    ("checkpoint a pickle", ("pickle", R1 + "fit/checkpoint.pth"), r"checkpoint\.pth"),
    ("query missing", ("remove", R1 + "query"), "query|picks"),
    ("picks cut", ("cut", R1 + "query/picks.npy", 90), r"picks\.npy"),
    ("picks a pickle", ("pickle", R1 + "query/picks.npy"), r"picks\.npy"),
    ("picks of another kind", ("npy", R1 + "query/picks.npy", [1.0], "float64"), r"picks\.npy"),
    ("query.json cut", ("cut", R1 + "query/query.json", 9), r"query\.json"),
    ("query.json without a key", ("json", R1 + "query/query.json", ("info",)), r"query\.json"),
    ("asked cut", ("cut", R1 + "query/asked/train_0002.png", 40), "train_0002"),
]

KEYS: list[tuple[str, Any, str]] = [
    ("another seed", {"seed": 5}, "acquisition.seed was 0, now it is 5"),
    ("another heuristic", {"heuristic": "Margin"}, r"heuristic\.type was"),
    ("another region", {"region": {"type": "grid", "cell": 4}}, "region"),
    ("another level", {"level": "pixel", "region": None, "budget": 4}, "level was"),
    ("another budget unit", {"budget": {"amount": 4, "unit": "pixel"}}, "budget"),
    ("queries", {"queries": [1], "rounds": 1}, "queries"),
]

ANSWER = R0 + "answers/train_0002.png"
ANSWERS: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", ANSWER), r"answers/train_0002\.png"),
    ("cut", ("cut", ANSWER, -40), r"answers/train_0002\.png"),
    ("cut in its header", ("cut", ANSWER, 20), r"answers/train_0002\.png"),
    ("a text", ("text", ANSWER, "road"), r"answers/train_0002\.png"),
    ("a folder", ("folder", ANSWER), r"answers/train_0002\.png"),
    ("a JPEG", ("jpeg", ANSWER, SHAPE), r"answers/train_0002\.png"),
    ("of another size", ("mask", ANSWER, (8, 8)), r"answers/train_0002\.png is 8x8"),
    ("of half the size", ("mask", ANSWER, (16, 20)), r"answers/train_0002\.png is 16x20"),
    ("in colours", ("mask", ANSWER, (*SHAPE, 3)), r"answers/train_0002\.png"),
    ("with alpha", ("mask", ANSWER, (*SHAPE, 4)), r"answers/train_0002\.png"),
    ("of 16 bits", ("mask", ANSWER, SHAPE, 300, "uint16"), r"answers/train_0002\.png"),
    ("with an unknown id", ("pixel", ANSWER, 77), r"answers/train_0002\.png contains id 77"),
    ("of ids one too high", ("mask", ANSWER, SHAPE, 11), r"answers/train_0002\.png contains id 11"),
    ("that claims 3600 megapixels", ("bomb", ANSWER), r"answers/train_0002\.png.*pixels"),
    ("a pickle", ("pickle", ANSWER), r"answers/train_0002\.png"),
    ("a link to itself", ("loop", ANSWER), r"answers/train_0002\.png"),
]

NOTE = "out/runs/RIPU/seed0.json"
GRID: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", "out/grid.json"), r"grid\.json cannot be read"),
    ("cut", ("cut", "out/grid.json", 60), r"grid\.json cannot be read"),
    ("missing", ("remove", "out/grid.json"), "out"),
    ("a list", ("text", "out/grid.json", "[]"), r"grid\.json"),
    ("not UTF-8", ("bytes", "out/grid.json", b"\xff"), r"grid\.json.*UTF-8"),
    ("nested deeply", ("text", "out/grid.json", "[" * 99_999), r"grid\.json.*nested"),
    ("of the future", ("json", "out/grid.json", ("format",), 99), r"grid\.json.*format"),
    ("without arms", ("json", "out/grid.json", ("arms",)), "arms"),
    ("arms a list", ("json", "out/grid.json", ("arms",), []), "arms"),
    ("arm a name", ("json", "out/grid.json", ("arms", "RIPU"), "x"), "RIPU"),
    ("arm without acquisition", ("json", "out/grid.json", ("arms", "RIPU", "acquisition")), "acq"),
    ("seeds text", ("json", "out/grid.json", ("arms", "RIPU", "seeds"), ["a"]), "seeds"),
    (
        "rounds text",
        ("json", "out/grid.json", ("arms", "RIPU", "acquisition", "rounds"), "x"),
        "acquisition rounds must be",
    ),
    ("title a number", ("json", "out/grid.json", ("title",), 3), "title"),
    ("results cut", ("cut", "out/runs/RIPU/seed0/results.json", 60), r"RIPU/seed0/results\.json"),
    ("results a list", ("text", "out/runs/RIPU/seed0/results.json", "[]"), r"RIPU/seed0/results"),
    ("note cut", ("text", NOTE, "{"), r"seed0\.json"),
    ("note a list", ("text", NOTE, "[]"), r"seed0\.json"),
    ("attempts a number", ("text", NOTE, '{"attempts": 3}'), r"seed0\.json.*attempts"),
    ("no run", ("remove", "out/runs"), "out"),
]
ARCHIVE = "out/compare.json"
ARCHIVES: list[tuple[str, tuple[Any, ...], str]] = [
    ("empty", ("empty", ARCHIVE), r"compare\.json cannot be read"),
    ("cut", ("cut", ARCHIVE, 400), r"compare\.json cannot be read"),
    ("of the future", ("json", ARCHIVE, ("format",), 99), "format"),
    ("without arms", ("json", ARCHIVE, ("arms",)), "arms"),
    ("runs a dict", ("json", ARCHIVE, ("runs",), {}), "runs"),
    ("run without its arm", ("json", ARCHIVE, ("runs", 0, "arm"), "nobody"), "nobody"),
    ("run seed text", ("json", ARCHIVE, ("runs", 0, "seed"), "x"), "seed"),
    ("classes a number", ("json", ARCHIVE, ("classes",), 3), "classes"),
]

TAKEN: list[tuple[str, tuple[Any, ...], str]] = [
    ("ledger cut", ("cut", "run/ledger.sqlite", 3000), "run"),
    ("ledger missing", ("remove", "run/ledger.sqlite"), "run"),
    ("label cut", ("cut", LABEL, 40), "train_0002"),
    ("label missing", ("remove", LABEL), "train_0002"),
    ("label of another size", ("mask", LABEL, (8, 8)), "train_0002"),
    ("checkpoint missing", ("remove", R0 + "fit/checkpoint.pth"), "checkpoint"),
    ("checkpoint cut", ("cut", R0 + "fit/checkpoint.pth", 500), "checkpoint"),
]

CASES: list[Case] = [
    *(
        Case(f"status ledger {name}", "command", ["status", "run"], "run", "run", (damage,))
        for name, damage in LEDGER
        if name not in ("missing", "a folder")  # then it tells what results.json says
    ),
    *(
        Case(
            f"check ledger {name}",
            "command",
            ["check", "run"],
            "ledger",
            "run",
            (damage,),
            1,
            "stdout",
        )
        for name, damage in LEDGER
    ),
    *(
        Case(f"resume ledger {name}", "resume", {"rounds": 2}, "run", "run", (damage,))
        for name, damage in LEDGER
        if name not in ("missing",)
    ),
    *(
        Case(f"report results {name}", "command", ["report", "run"], match, "run", (damage,))
        for name, damage, match in RESULTS
    ),
    *(
        Case(
            f"resume with {name}",
            "resume",
            {"rounds": 2},
            match,
            "run",
            (damage,),
            writes="ledger|results" if name == "checkpoint a pickle" else "",
        )
        for name, damage, match in RESUME
        if not name.startswith("asked")  # not needed any more
    ),
    *(
        Case(
            f"check with {name}", "command", ["check", "run"], match, "run", (damage,), 1, "stdout"
        )
        for name, damage, match in RESUME
        if not name.startswith(("data", "checkpoint"))  # not needed by a run that has ended
    ),
    *(Case(f"resume with {name}", "resume", given, match, "run") for name, given, match in KEYS),
    *(
        Case(f"answer {name}", "resume waiting", {}, match, "waiting", (damage,), writes="ledger")
        for name, damage, match in ANSWERS
    ),
    *(
        Case(
            f"grid in out: {name}",
            "command",
            ["compare", "--out", "out", "--only-report"],
            match,
            "grid",
            (damage,),
        )
        for name, damage, match in GRID
    ),
    *(
        Case(
            f"archive {name}",
            "command",
            ["compare", "--out", "new", "--from-json", ARCHIVE],
            match,
            "grid",
            (damage,),
        )
        for name, damage, match in ARCHIVES
    ),
    *(
        Case(
            f"warm_start run {name}", "toy", {"warm_start": {"run": "run"}}, match, "run", (damage,)
        )
        for name, damage, match in TAKEN
        if not name.startswith("label")  # the annotator is asked again
    ),
    *(
        Case(
            f"warm_start labels {name}",
            "toy",
            {"warm_start": {"labels": "run"}, "rounds": 0},
            match,
            "run",
            (damage,),
        )
        for name, damage, match in TAKEN
        if not name.startswith("checkpoint")
    ),
]
