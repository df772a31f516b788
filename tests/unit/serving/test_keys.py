import pytest

from mats_ray.errors import ConfigError
from mats_ray.serving.keys import KeyRing, RateLimit


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_keys_come_from_file_and_environment_with_their_names(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nalice: secret-one  # laptop\n\nsecret-two-\n")

    ring = KeyRing(file=str(file), variable="KEYS", environment={"KEYS": "bob:secret-three,secret-four"})

    names = [ring.name_of(key) for key in ("secret-one", "secret-two-", "secret-three", "secret-four", "no")]
    assert names == ["alice", "key-2", "bob", "key-2", None]
    assert not ring.is_open


def test_without_keys_it_is_open():
    assert KeyRing(environment={}).is_open


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path, clock, caplog):
    file = tmp_path / "keys"
    file.write_text("alice:secret-one")
    ring = KeyRing(file=str(file), environment={}, clock=clock)

    file.write_text("alice:secret-two-two")
    assert ring.name_of("secret-one") == "alice"  # looked at a moment ago
    clock.now += 2
    assert (ring.name_of("secret-one"), ring.name_of("secret-two-two")) == (None, "alice")

    file.unlink()
    clock.now += 2
    assert ring.name_of("secret-two-two") == "alice"
    assert "keys stay as they were" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("content", [None, "", "# none\n", "alice:short"], ids=str)
def test_a_file_without_usable_keys_is_refused(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)

    with pytest.raises(ConfigError):
        KeyRing(file=str(file), environment={})


def test_a_rate_is_a_bucket_per_key_that_fills_evenly(clock):
    rate = RateLimit(3, clock=clock)

    assert [rate.wait_seconds("a") for _ in range(4)] == [0, 0, 0, 20]
    assert rate.wait_seconds("b") == 0
    clock.now += 20
    assert [rate.wait_seconds("a") for _ in range(2)] == [0, 20]


def test_no_rate_is_no_limit(clock):
    assert not any(RateLimit(None, clock=clock).wait_seconds("a") for _ in range(1000))
