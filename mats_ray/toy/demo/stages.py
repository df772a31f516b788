"""The stages of a demo, announced and timed; an interrupted demo keeps the times it has."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mats_ray.config import RunConfig
from mats_ray.errors import ConfigError

T = TypeVar("T")
FILE = "demo.json"


class Stages:
    """Runs stages one after the other.

    Args:
        folder: Keeps the times.
        announce: Called with a line when a stage begins, and with what it took when it ends.
    """

    def __init__(self, folder: Path, announce: Callable[[str], None]) -> None:
        self._file, self._announce = folder / FILE, announce
        self._tree = json.loads(self._file.read_text("utf-8"))
        self._tree.setdefault("seconds", {})
        self._tree.setdefault("finished", [])

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage."""
        return dict(self._tree["seconds"])

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Run one stage; one that had finished before is only made sure of, and keeps its time."""
        again = name in self._tree["finished"]
        self._announce(f"== {name}{' (done before)' if again else ''}")
        started = time.monotonic()
        try:
            result = work()
            if not again:
                self._tree["finished"].append(name)
            return result
        finally:
            if not again:
                spent = self._tree["seconds"].get(name, 0.0) + time.monotonic() - started
                self._tree["seconds"][name] = round(spent, 1)
                self._file.write_text(json.dumps(self._tree, indent=2) + "\n", "utf-8")


def claim_folder(config: RunConfig) -> Path:
    """Return the folder of a demo, made if absent; a demo of other settings in it is refused before any work.

    Raises:
        ConfigError: The folder is not local, cannot be written, or holds another demo.
    """
    if "://" in config.output_dir:
        raise ConfigError(f"the demo writes to a local folder, output_dir is {config.output_dir}")
    folder = Path(config.output_dir).expanduser()
    file, settings = folder / FILE, _settings(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tree = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        if not tree:
            file.write_text(json.dumps({"settings": settings}, indent=2) + "\n", "utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the demo cannot use its folder {folder}: {error}") from error
    found = tree.get("settings", settings)
    if different := sorted(key for key in settings if found.get(key) != settings[key]):
        now, then = ({key: one.get(key) for key in different} for one in (settings, found))
        raise ConfigError(
            f"{folder} holds a demo of other settings: {then}, not {now}; give another folder with "
            f"--set output_dir=..., or remove this one"
        )
    return folder


def _settings(config: RunConfig) -> dict[str, str | int]:
    """What tells two demos apart: the seed, the number of clips, and a hash of everything else."""
    assert config.toy is not None
    tree = config.model_dump(mode="json", exclude={"output_dir", "seed"})
    tree["toy"].pop("num_test_clips")
    return {
        "seed": config.seed,
        "clips": config.toy.num_test_clips,
        "configuration": hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16],
    }
