"""Install mmcv-full and torch-scatter into this interpreter's environment, compiled for its torch.

    .venv-mmseg0/bin/python tools/compiled_wheels.py [--wheelhouse DIR]

They compile for about 10 minutes on two cores, so the wheels are kept: in one folder of the
wheelhouse for each Python, torch and CPU or CUDA. pip's own cache tells none of these apart and
would hand out a wheel built for another torch. A wheel is imported before it is kept and again
before it is used; one that does not import is built again. An interrupted build leaves no wheel.

Compiled for CUDA when torch sees a GPU and nvcc is of torch's CUDA; FORCE_CUDA=1 or =0 decides.
MAX_JOBS: compilers at once (default: as many as cores and memory allow).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GIB_PER_COMPILER = 2


@dataclass(frozen=True)
class Package:
    """source: what pip builds, a requirement or a folder. proof: Python that runs only beside a
    wheel that was compiled, and for this torch. header: of torch, that its sources include."""

    name: str
    version: str
    proof: str
    source: str = ""
    header: str = ""

    @property
    def requirement(self) -> str:
        return self.source or f"{self.name}=={self.version}"

    @property
    def pattern(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-*.whl"


PACKAGES = (
    Package("torch-scatter", "2.1.2", "import torch_scatter", header="torch/script.h"),
    Package("mmcv-full", "1.7.2", "import torch, mmcv._ext", header="torch/types.h"),
)


class BuildError(Exception):
    """One line for the user."""


def key(torch: str, cuda: str | None) -> str:
    """Folder of the wheelhouse: `key('2.1.2+cu121', None)` -> 'cp311-torch2.1.2-cpu-linux_x86_64'.
    cuda: the version compiled for ('12.1'), None for the CPU."""
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    where = re.sub(r"\W", "_", sysconfig.get_platform())
    kind = f"cu{cuda.replace('.', '')}" if cuda else "cpu"
    return f"{python}-torch{torch.split('+')[0]}-{kind}-{where}"


def cuda_of(gpus: int, built_for: str | None, nvcc: str | None, force: str | None) -> str | None:
    """The CUDA to compile for, or None for CPU alone. built_for: torch's CUDA; nvcc: what
    `nvcc --version` prints, None without one; force: FORCE_CUDA. Raises BuildError when it is
    forced and cannot be."""
    release = re.search(r"release (\d+)", nvcc or "")
    fits = bool(built_for and release and release[1] == built_for.split(".")[0])
    if force == "1" and not fits:
        have = f"nvcc is of CUDA {release[1]}" if release else "there is no nvcc"
        raise BuildError(f"FORCE_CUDA=1, but torch is for CUDA {built_for} and {have}")
    if gpus and force is None and not fits:
        print(f"no nvcc for torch's CUDA {built_for}: compiling for the CPU", flush=True)
    return built_for if fits and (force == "1" or (gpus and force is None)) else None


def find_cuda() -> str | None:
    """`cuda_of` this machine."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    nvcc = Path(CUDA_HOME or "/nowhere", "bin", "nvcc")
    said = (
        subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
        if nvcc.is_file()
        else None
    )
    force = os.environ.get("FORCE_CUDA")
    return cuda_of(torch.cuda.device_count(), torch.version.cuda, said, force)


def environment(cuda: str | None, cores: int, gib: float) -> dict[str, str]:
    """Variables for the compile. Without `cuda` both packages must not see a GPU: they would ask
    for nvcc. -g0: debug symbols, which Python's own flags ask for, cost time and are stripped."""
    jobs = max(1, min(cores, int(gib / GIB_PER_COMPILER)))
    chosen = {"MMCV_WITH_OPS": "1", "MAX_JOBS": str(jobs), "FORCE_CUDA": "1" if cuda else "0"}
    if not cuda:
        chosen |= {"FORCE_ONLY_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
    if "MAX_JOBS" in os.environ:
        chosen["MAX_JOBS"] = os.environ["MAX_JOBS"]
    return chosen | {"CFLAGS": f"{os.environ.get('CFLAGS', '')} -g0".strip()}


def import_error(wheel: Path, proof: str) -> str | None:
    """Why `proof` does not run beside the unpacked wheel; None when it does."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); {proof}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        except zipfile.BadZipFile:
            return "not a zip file"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, folder], capture_output=True, text=True
        )
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"exit {done.returncode}") if done.returncode else None


def provide(package: Package, house: Path, variables: Mapping[str, str]) -> Path:
    """The wheel of `package` in `house`, built when it is not there or does not import."""
    for wheel in sorted(house.glob(package.pattern)):
        error = import_error(wheel, package.proof)
        if error is None:
            print(f"{wheel.name}: from {house}", flush=True)
            return wheel
        print(f"{wheel.name} in {house} does not work ({error}): building it again", flush=True)
    check_compiler(package)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=house) as folder:
        build(package, Path(folder), house / f"{package.name}.log", variables)
        wheels = list(Path(folder).glob("*.whl"))
        error = import_error(wheels[0], package.proof) if wheels else "pip made no wheel"
        if error:
            raise BuildError(f"{package.requirement} was built but does not import: {error}")
        return wheels[0].replace(house / wheels[0].name)


def check_compiler(package: Package) -> None:
    """Raises BuildError without a C++ compiler or Python's headers."""
    compiler = os.environ.get("CXX", "g++").split()[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    for there, what in ((shutil.which(compiler), compiler), (header.is_file(), str(header))):
        if not there:
            raise BuildError(
                f"{package.name} must be compiled, which needs {what}; on Debian: "
                "apt-get install g++ python3-dev"
            )


def build(package: Package, folder: Path, log: Path, variables: Mapping[str, str]) -> None:
    """Let pip compile a wheel into `folder`; what it prints goes to `log`."""
    print(f"compiling {package.requirement}; see {log}", flush=True)
    variables = {**variables, **faster(folder, package.header)}
    command = [*pip("wheel"), "-v", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    command += ["--no-binary", package.name, "-w", str(folder), package.requirement]
    start = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **variables},
    ) as process:
        assert process.stdout is not None
        follow(process.stdout, log, start)
    minutes = (time.monotonic() - start) / 60
    if process.returncode:
        said = log.read_text(errors="replace").splitlines()
        said = [line for line in said if "error:" in line.lower()][:15] or said[-15:]
        print("\n".join(f"  {line.strip()[:300]}" for line in said), flush=True)
        raise BuildError(f"{package.requirement} did not compile; all that was said is in {log}")
    print(f"compiled {package.requirement} in {minutes:.1f} min", flush=True)


def faster(folder: Path, header: str) -> dict[str, str]:
    """CC and CXX: GCC that reads a header of torch once, see gcc_precompiled.py; nothing where
    somebody has chosen a compiler, or g++ is not GCC."""
    chosen = {name: shutil.which(real) for name, real in (("CC", "gcc"), ("CXX", "g++"))}
    if not header or set(chosen) & set(os.environ) or not all(map(_is_gcc, chosen.values())):
        return {}
    place = folder / "precompiled"
    place.mkdir()
    tool = Path(__file__).with_name("gcc_precompiled.py").resolve()
    for name, real in chosen.items():
        assert real is not None
        script = place / Path(real).name  # torch looks for a compiler of this name
        words = [sys.executable, "-I", "-S", str(tool), str(place), header, real]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)
        chosen[name] = str(script)
    return {name: str(script) for name, script in chosen.items()}


def _is_gcc(compiler: str | None) -> bool:
    if compiler is None:
        return False
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    return "Free Software Foundation" in said


def follow(lines: Iterable[str], log: Path, start: float, every: float = 60.0) -> None:
    """Copy lines to `log`; every minute say how far ninja is ('[12/130] g++ ...')."""
    said, done = start, ""
    with log.open("w") as out:
        for line in lines:
            out.write(line)
            out.flush()
            counted = re.match(r"\s*\[(\d+)/(\d+)\]", line)
            done = f", file {counted[1]} of {counted[2]}" if counted else done
            now = time.monotonic()
            if now - said >= every:
                said = now
                print(f"  {log.stem}: {(now - start) / 60:.0f} min{done}", flush=True)


def pip(command: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", command]


@contextlib.contextmanager
def held(house: Path) -> Iterator[None]:
    """One builder at a time; under its lock, what a killed builder left can be swept."""
    house.mkdir(parents=True, exist_ok=True)
    with (house / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another build is using {house}: waiting", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in house.glob(".build-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def main() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description="Compile and install mmcv-full and torch-scatter.")
    parser.add_argument("--wheelhouse", type=Path, default=cache / "regional_al" / "wheels")
    root = parser.parse_args().wheelhouse
    import torch

    try:
        cuda = find_cuda()
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        variables = environment(cuda, len(os.sched_getaffinity(0)), gib)
        house = root.expanduser().absolute() / key(torch.__version__, cuda)
        with held(house):
            # torch-scatter compiles one file after another, so the other cores are free meanwhile.
            with ThreadPoolExecutor(len(PACKAGES)) as builders:
                wheels = list(builders.map(lambda one: provide(one, house, variables), PACKAGES))
            # --no-deps: mmcv-full would pull in opencv-python beside the headless build.
            options = ["-q", "--no-compile", "--no-deps", "--force-reinstall"]
            subprocess.run([*pip("install"), *options, *map(str, wheels)], check=True)
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; wheels that were done are kept")


if __name__ == "__main__":
    main()
