import os

import pytest

from mats_ray.errors import ConfigError
from mats_ray.serving.http.authentication import KeyRing, RateLimit, check_loopback
from mats_ray.serving.metrics import Metrics


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Counted:
    """Keeps what is recorded of the key file."""

    def __init__(self):
        self.values = []

    def record(self, metric, value, labels):
        assert metric.name == "mats_key_file_errors"
        self.values.append(value)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def ring_of(file, clock):
    def make(content, **environment):
        file.write_text(content)
        return KeyRing(file=str(file), variable="KEYS", environment=environment, clock=clock)

    return make


def test_keys_come_from_file_and_environment_with_their_names(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nalice: secret-one  # laptop\n\nsecret-two-\n")

    ring = KeyRing(file=str(file), variable="KEYS", environment={"KEYS": "bob:secret-three,secret-four"})

    names = [ring.name_of(key) for key in ("secret-one", "secret-two-", "secret-three", "secret-four", "no")]
    assert names == ["alice", "key-2", "bob", "key-2", None]
    assert not ring.is_open


def test_without_keys_it_is_open():
    assert KeyRing(environment={}).is_open


def test_a_changed_file_is_read_again_within_a_second(ring_of, file, clock):
    ring = ring_of("alice:secret-one")

    file.write_text("alice:secret-two")
    assert ring.name_of("secret-one") == "alice"  # read a moment ago
    clock.now += 2
    assert (ring.name_of("secret-one"), ring.name_of("secret-two")) == (None, "alice")


def test_a_key_is_revoked_also_where_size_and_time_stay_the_same(ring_of, file, clock):
    ring = ring_of("alice:secret-one")
    before = file.stat()

    file.write_text("alice:secret-two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += 2

    assert (ring.name_of("secret-one"), ring.name_of("secret-two")) == (None, "alice")


@pytest.mark.parametrize("content", [None, "", "# none\n"], ids=["deleted", "emptied", "comments only"])
def test_without_keys_left_in_the_file_no_request_is_accepted(ring_of, file, clock, content):
    ring = ring_of("alice:secret-one", KEYS="bob:secret-three")

    file.unlink() if content is None else file.write_text(content)
    clock.now += 2

    assert ring.name_of("secret-one") is None
    assert not ring.is_open
    assert ring.name_of("secret-three") == "bob"  # the environment's is another place


def test_a_file_that_comes_back_as_it_was_counts_again(ring_of, file, clock):
    ring = ring_of("alice:secret-one")

    for step in (file.unlink, lambda: file.write_text("alice:secret-one")):
        step()
        clock.now += 2
        name = ring.name_of("secret-one")

    assert name == "alice"


@pytest.mark.parametrize(
    "line", ["bob:short", "bob:two words-long", "bob:schl\u00fcssel-lang", b"bob:\xff\xfe-not-utf-8"], ids=str
)
def test_a_line_that_holds_no_key_costs_that_line_only_and_is_counted(ring_of, file, clock, caplog, line):
    ring, counted = ring_of("alice:secret-one\nbob:secret-two"), Counted()
    ring.report_to(Metrics([counted]))
    raw = line if isinstance(line, bytes) else line.encode()

    file.write_bytes(b"# ours\nalice:secret-new\n" + raw + b"\ncarol:secret-six")
    clock.now += 2

    names = [ring.name_of(key) for key in ("secret-one", "secret-two", "secret-new", "secret-six")]
    assert names == [None, None, "alice", "carol"]
    assert counted.values == [0, 1]
    assert "line 3" in caplog.text
    assert not any(word in caplog.text for word in ("secret", "short", "words", "lang"))

    file.write_text("alice:secret-new")
    clock.now += 2
    ring.name_of("x")
    assert counted.values == [0, 1, 0]


def test_a_file_that_cannot_be_read_is_logged_once(ring_of, file, clock, caplog):
    ring = ring_of("alice:secret-one")
    file.unlink()

    for _ in range(3):
        clock.now += 2
        ring.name_of("secret-one")

    assert caplog.text.count("cannot be read") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "there are no API keys"),
        ("# none\n", "there are no API keys"),
        ("alice:long-enough\n\nbob:short", "line 3"),
    ],
    ids=str,
)
def test_at_the_start_a_file_with_a_fault_is_refused(file, content, message):
    if content is not None:
        file.write_text(content)

    with pytest.raises(ConfigError, match=message) as caught:
        KeyRing(file=str(file), environment={})
    assert "short" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_in_the_environment_is_refused():
    with pytest.raises(ConfigError, match=r"\$KEYS: the key in item 2 has fewer"):
        KeyRing(variable="KEYS", environment={"KEYS": "long-enough,short"})


def test_a_rate_is_a_bucket_per_key_that_fills_evenly(clock):
    rate = RateLimit(3, clock=clock)

    assert [rate.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 20]
    assert rate.wait_seconds("b") == 0
    clock.now += 20
    assert [rate.wait_seconds("a") for _ in range(2)] == [0, 20]


def test_no_rate_is_no_limit(clock):
    assert not any(RateLimit(None, clock=clock).wait_seconds("a") for _ in range(1000))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_keys(host):
    check_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_do(host):
    with pytest.raises(ConfigError, match="no API keys"):
        check_loopback(host)
