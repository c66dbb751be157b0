"""Train with active learning on one process: python tools/train.py CONFIG [--work-dir DIR] ...

The same as `regional-al train`; torchrun may start it too.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from regional_al.cli import entry

if __name__ == "__main__":
    entry(["train", *sys.argv[1:]])
