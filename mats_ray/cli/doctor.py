"""``mats doctor``: is this machine fit? Versions, devices, memory, disk, write access."""

import argparse
import importlib.metadata
import platform
import shutil
import sys
import tempfile

PACKAGES = ("ray", "torch", "deepspeed", "transformers", "peft", "pyarrow", "pydantic", "soundfile", "soxr")
MIN_FREE_BYTES = 2 * 1024**3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--path", default=".", help="folder whose disk is checked (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print one line per check; 1 if any failed."""
    checks = [
        _python(),
        *map(_package, PACKAGES),
        _devices(),
        _memory(),
        _disk(args.path),
        _writable(args.path),
    ]
    for good, line in checks:
        print(f"{'ok  ' if good else 'FAIL'}  {line}")
    return 0 if all(good for good, _ in checks) else 1


def _python() -> tuple[bool, str]:
    return sys.version_info >= (
        3,
        11,
    ), f"Python {platform.python_version()} on {platform.system()} (3.11 or newer)"


def _package(name: str) -> tuple[bool, str]:
    try:
        return True, f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return False, f"{name} is not installed"


def _devices() -> tuple[bool, str]:
    try:
        import torch
    except ImportError as error:
        return False, f"torch does not load: {error}"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return True, f"GPUs: {', '.join(names) or 'none, work runs on the CPU'}"


def _memory() -> tuple[bool, str]:
    import psutil

    memory = psutil.virtual_memory()
    return (
        memory.available > MIN_FREE_BYTES,
        f"memory: {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
    )


def _disk(path: str) -> tuple[bool, str]:
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return False, f"disk at {path}: {error.strerror}"
    return free > MIN_FREE_BYTES, f"disk at {path}: {free / 1e9:.1f} GB free (2 GB needed)"


def _writable(path: str) -> tuple[bool, str]:
    try:
        with tempfile.TemporaryFile(dir=path):
            return True, f"{path} can be written to"
    except OSError as error:
        return False, f"{path} cannot be written to: {error.strerror}"
