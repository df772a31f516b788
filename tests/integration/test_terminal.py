"""What commands print while Ray works: their own lines, none of a library, no traceback of a user's fault."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
import ray.data
from all_minilm_l6_v2 import get_model_zip_path
from ray._private.utils import publish_error_to_driver
from ray._private.worker import global_worker
from ray.data import ActorPoolStrategy

from mats_ray.on_ray.data import MAX_RETRIES, execution, finished_blocks
from tests.sounds import sndfile_bytes, tone

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
RUN_ALL = """
import json, sys
from mats_ray.cli.main import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        print("end of command", code, file=stream, flush=True)
"""
OWN_LINE = re.compile(
    r"\S+ \S+ INFO mats_ray\.\S+: .+|(embed|shuffle|caption|train tiny) \d.*|mats \w+: error: .+"
)


def outputs_of(*commands, address):
    """Run commands in one process, with the address `ray job submit` sets; (code, stdout, stderr) of each."""
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", RUN_ALL, json.dumps([[str(word) for word in words] for words in commands])]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    end = re.compile(r"^end of command (\d)\n", re.MULTILINE)
    out, err = end.split(done.stdout), end.split(done.stderr)
    assert len(out) == len(err) == 2 * len(commands) + 1, done.stderr
    return [
        (int(code), text, log.splitlines())
        for text, code, log in zip(out[::2], out[1::2], err[::2], strict=False)
    ]


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.wav").write_bytes(sndfile_bytes(tone(), 16_000, format="WAV"))
    return folder


def damage(file):
    """Overwrite a quarter of a file; its beginning and its end, where its tables are, stay whole."""
    data = bytearray(file.read_bytes())
    place = slice(len(data) // 4, len(data) // 2)
    data[place] = b"\xa5" * len(data[place])
    file.write_bytes(data)


@pytest.fixture
def talkative(ray_cluster):
    """The cluster, which tells every driver of itself all the while, as of a low disk or of many workers."""
    ended = threading.Event()

    def talk():
        for number in itertools.count():
            message = f"WARNING: {number} worker processes have been started"
            publish_error_to_driver("worker_pool_large", message, global_worker.gcs_client)
            if ended.wait(0.2):
                return

    thread = threading.Thread(target=talk)
    thread.start()
    yield ray_cluster
    ended.set()
    thread.join()


def test_a_successful_command_prints_its_own_lines_only(talkative, world, model_dir, clips, tmp_path):
    shutil.copytree(Path(world.output_dir, "toy"), tmp_path / "run" / "toy")
    config = world.replace(output_dir=str(tmp_path / "run"))
    (tmp_path / "run.yaml").write_text(json.dumps(config.model_dump(mode="json")))

    embedded, captioned = outputs_of(
        ["embed", "--config", tmp_path / "run.yaml"],
        ["caption", "--audio", clips, "--out", tmp_path / "out", "--model", model_dir],
        address=talkative["gcs_address"],
    )

    for code, out, err in (embedded, captioned):
        assert (code, [line for line in err if not OWN_LINE.fullmatch(line)]) == (0, [])
        assert "\x1b" not in out
    assert "distinct texts" in embedded[1]
    assert captioned[1].startswith("2 files, 2 rows: 2 ok")


def test_an_evaluation_prints_its_own_lines_only(ray_cluster, model_dir, clips, tmp_path):
    rows = "".join(f"{number}.wav,1,0,{label},True,1,A\n" for number, label in enumerate(("dog", "rain")))
    (tmp_path / "esc50.csv").write_text(f"filename,fold,target,category,esc10,src_file,take\n{rows}")
    with zipfile.ZipFile(get_model_zip_path()) as archive:
        archive.extractall(tmp_path / "encoder")
    encoder = next((tmp_path / "encoder").rglob("modules.json")).parent
    benchmark = ["--benchmark", "esc50", "--annotations", tmp_path / "esc50.csv", "--audio", clips]

    evaluated, again, compared = outputs_of(
        ["evaluate", *benchmark, "--model", model_dir, "--out", tmp_path / "out"],
        ["evaluate", "--rescore", tmp_path / "out", "--embedder", encoder],
        ["evaluate", "--compare", tmp_path / "out", tmp_path / "out"],
        address=ray_cluster["gcs_address"],
    )

    warned = [line for line in evaluated[2] if not OWN_LINE.fullmatch(line)]
    assert [line.partition("WARNING ")[2].partition(": ")[0] for line in warned] == ["mats_ray.evaluate.plan"]
    assert "another set, not to be compared" in warned[0]
    for code, out, err in (again, compared):
        assert (code, [line for line in err if not OWN_LINE.fullmatch(line)]) == (0, [])
        assert "\x1b" not in out
    assert evaluated[1].startswith("esc50: accuracy ")
    assert "difference +0.0000 (+0.0000 to +0.0000), 2 samples" in compared[1]


def test_a_fault_that_a_task_finds_is_the_last_line_and_no_traceback(
    ray_cluster, world, model_dir, clips, tmp_path
):
    shutil.copytree(Path(world.output_dir, "toy"), tmp_path / "run" / "toy")
    config = world.replace(output_dir=str(tmp_path / "run"))
    (tmp_path / "run.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    triplets = next(Path(config.triplets_path).glob("*.parquet"))
    damage(triplets)
    shutil.copytree(model_dir.parent, tmp_path / "models")
    mapper = tmp_path / "models" / model_dir.name / "mapper.safetensors"
    mapper.write_bytes(mapper.read_bytes()[:1000])

    shutil.copytree(world.embedded_path, tmp_path / "embedded")
    for rows in (tmp_path / "embedded").glob("*.parquet"):
        damage(rows)
    ready = config.replace(
        toy=None,
        model={"clap": {"ref": world.clap_ref}, "llm": {"path": world.llm_path}},
        data={"embedded": str(tmp_path / "embedded")},
        memory={"path": world.memory_path},
    )
    (tmp_path / "train.yaml").write_text(json.dumps(ready.model_dump(mode="json")))

    embedded, captioned, trained = outputs_of(
        ["embed", "--config", tmp_path / "run.yaml"],
        ["caption", "--audio", clips, "--out", tmp_path / "out", "--model", mapper.parent],
        ["train", "--config", tmp_path / "train.yaml"],
        address=ray_cluster["gcs_address"],
    )

    faults = ((embedded, triplets), (captioned, mapper), (trained, tmp_path / "embedded" / "part-0000"))
    for (code, out, err), file in faults:
        assert (code, out, [line for line in err if not OWN_LINE.fullmatch(line)]) == (1, "", [])
        assert str(file) in err[-1]


class DiesOnce:
    """Ends its process at its first batch, unless one has done so."""

    def __init__(self, marker, _):
        self.marker = marker

    def __call__(self, table):
        if not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            os._exit(1)
        return pa.table({"process": [os.getpid()] * len(table)})


@pytest.mark.parametrize("num_bytes", [10, 10_000_000], ids=["small", "large"])
def test_an_actor_that_dies_starts_again_with_the_arguments_it_had(ray_cluster, tmp_path, num_bytes):
    with execution():
        actors = ray.data.range(4, override_num_blocks=4).map_batches(
            DiesOnce,
            fn_constructor_args=[tmp_path / "died", b"x" * num_bytes],
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=1),
            num_cpus=0.5,
            max_task_retries=MAX_RETRIES,
        )
        rows = pa.concat_tables(list(finished_blocks(actors))).column("process").to_pylist()

    assert len(rows) == 4
    assert int((tmp_path / "died").read_text()) not in rows
