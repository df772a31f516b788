"""A path is used exactly as written, on S3 and on disk; S3's settings come from the environment."""

import os
import pickle

import pytest
from ray.data._internal.metadata_exporter import sanitize_for_struct

from mats_ray.caption.decode import AudioOpener
from mats_ray.data.audio import Limits
from mats_ray.errors import DataError
from mats_ray.storage import Environment, access, locate, read_bytes, write_bytes
from tests.s3 import s3_server

KEYS = ["run#1/a", "my run/a", "café/a", "a?b", "a?versionId=1", "100%20/a", "1+1=2", "a//b", "~/a", "[x]*"]


@pytest.fixture(scope="module")
def bucket():
    with s3_server("store") as files:
        yield files


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_used_exactly_as_written(bucket, key):
    assert locate(f"s3://store/{key}")[1] == f"store/{key}"
    assert locate(f"s3a://store/{key}/")[1] == f"store/{key}"

    write_bytes(f"s3://store/{key}", key.encode())

    assert key in [one["Key"] for one in bucket.call_s3("list_objects_v2", Bucket="store")["Contents"]]
    assert read_bytes(f"s3://store/{key}") == key.encode()


@pytest.mark.parametrize("name", [*KEYS, "a\nb", " a ", "~a", "a:b"])
def test_a_local_path_is_used_exactly_as_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_bytes(f"{tmp_path}/{name}", name.encode())

    assert (tmp_path / name).read_bytes() == name.encode()
    assert read_bytes(f"file://{tmp_path}/{name}") == name.encode()
    if not name.startswith("~/"):
        assert read_bytes(name) == name.encode()


def test_prefixes_that_differ_only_behind_a_hash_are_two(bucket):
    write_bytes("s3://store/out#1/part", b"one")
    write_bytes("s3://store/out#2/part", b"two")

    assert read_bytes("s3://store/out#1/part") == b"one"


def test_a_path_is_absolute_and_home_is_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert locate("out/x")[1] == str(tmp_path / "out" / "x")
    assert locate("../x/")[1] == str(tmp_path.parent / "x")
    assert locate("~/x")[1] == str(tmp_path / "home" / "x")
    assert locate("~")[1] == str(tmp_path / "home")
    assert locate(f"file://{tmp_path}/%20#x")[1] == str(tmp_path / "%20#x")


def test_a_whole_bucket():
    assert locate("s3://store")[1] == locate("s3://store/")[1] == "store"


@pytest.mark.parametrize("path", ["gopher://host/x", "gs://bucket/clips"])
def test_a_protocol_without_its_package_is_named(path):
    with pytest.raises(DataError, match=f"^{path}: no access to {path[:2]}"):
        locate(path)


@pytest.mark.parametrize("path", ["://x", "s3://", "s3:///x"])
def test_a_path_that_names_no_place_is_refused(path):
    with pytest.raises(DataError, match=f"^{path}: no such storage"):
        locate(path)


def test_a_password_in_a_path_is_refused_and_not_repeated():
    with pytest.raises(DataError, match="keys come from the environment") as raised:
        locate("s3://KEY:hush@bucket/x")

    assert "hush" not in str(raised.value)


def test_s3_settings_of_one_process_can_be_used_in_another(monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:1")
    known = pickle.loads(pickle.dumps(Environment()))

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://there:2")
    monkeypatch.setenv("AWS_REGION", "mine")
    known.use()

    assert (os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_REGION"]) == ("http://here:1", "mine")


def test_secrets_are_not_logged(monkeypatch):
    """Ray writes the arguments of tasks and actors into its logs, data classes field by field."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    opener = AudioOpener(environment=Environment(), limits=Limits())

    assert "hush" not in f"{Environment()} {Environment()!r} {opener!r} {sanitize_for_struct(opener)}"


def test_a_file_system_carries_its_settings(bucket, monkeypatch):
    write_bytes("s3://store/sent", b"here")
    files, key = locate("s3://store/sent")
    sent = pickle.dumps(files)
    for name in access._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    files.clear_instance_cache()

    assert pickle.loads(sent).cat_file(key) == b"here"
