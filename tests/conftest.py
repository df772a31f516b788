"""Shared by all tests: one thread per process, one local Ray cluster per session, one tiny model."""

import os
import secrets
import shutil
import tempfile

# As `make test` does: the cluster of a test run has a token of its own, and reports nowhere.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from tests.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401  hooks
from tests.world import tiny_model_dir

torch.set_num_threads(1)
LOGICAL_CPUS = 6
"""More than this machine may have: Ray counts them, tests are small."""


def pytest_addoption(parser):
    """Let the tests for a GPU run on the CPU of a machine that has one."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.addoption("--device", default=found, choices=("cuda", "cpu"), help="of the tests marked gpu")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out whole files to the processes of ``-n``, and tests on one cluster or service as one piece."""
    from xdist.scheduler import LoadScopeScheduling

    class PieceScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return piece_of(nodeid)

    config.option.loadscopereorder = False
    return PieceScheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """Put tests of the service last, as it runs until they end; one of several processes starts with jobs."""
    parallel = hasattr(config, "workerinput")
    places = {"service": 2, "jobs": 0 if parallel else 1}
    items.sort(key=lambda item: places.get(piece_of(item.nodeid), 1))


def piece_of(nodeid):
    """Return the unit of scheduling of a test: its file, or all tests on one cluster or service."""
    file = nodeid.split("::")[0]
    if file.startswith("tests/integration/test_serving"):
        return "service"
    return "jobs" if file.startswith("tests/integration/") else file


@pytest.fixture(autouse=True)
def one_thread():
    """Undo what an earlier test has set: with other threads results differ in their last bits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def storage_environment(monkeypatch):
    """Undo after a test what it adopts of another process's environment (``storage.Environment.use``)."""
    try:
        from mats_ray.storage import Environment
    except ModuleNotFoundError:  # on a machine with a card and little else
        return

    use = Environment.use

    def use_until_the_end(environment):
        for name, value in environment._variables.items():
            monkeypatch.setenv(name, value)
        use(environment)

    monkeypatch.setattr(Environment, "use", use_until_the_end)


@pytest.fixture(scope="session")
def ray_cluster():
    """Start the session's cluster; yields its addresses.

    Its folder is its own: a submitted job looks there for its cluster, and would find the other process's.
    """
    import ray
    from ray.data import DataContext

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    context = ray.init(
        address="local",
        _temp_dir=folder,
        num_cpus=LOGICAL_CPUS,
        include_dashboard=True,
        dashboard_port=0,
        log_to_driver=False,
        logging_level="ERROR",
    )
    DataContext.get_current().enable_progress_bars = False
    yield context.address_info
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A model directory of random weights."""
    return tiny_model_dir(tmp_path_factory.mktemp("world"))
