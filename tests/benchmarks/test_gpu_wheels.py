"""Wheels for a GPU machine: what the lock says is needed, what a machine has, what fits."""

import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from benchmarks.gpu_wheels import WANTED, Fetching, Locked, needed, pinned, plan, read_freeze, read_lock, tell

ROOT = Path(__file__).parents[2]
LOCK = """\
# written by uv
accelerate==1.0           # via peft
numpy==2.5                # via torch, transformers
peft==0.2                 # via mats-ray (pyproject.toml)
regex==5                  # via transformers
Sym_Py==1.14              # via torch
tokenizers==0.23          # via transformers, mats-ray (pyproject.toml)
torch==2.13.0             # via peft, mats-ray (pyproject.toml)
transformers[torch]==5.23 # via peft
unrelated==1              # via somebody
"""


def test_the_lock_gives_versions_and_who_needs_what():
    lock = read_lock(LOCK)

    assert lock["transformers"] == Locked("transformers", "5.23", frozenset({"peft"}))
    assert lock["sym-py"].version == "1.14"
    assert len(lock) == 9


def test_what_comes_with_torch_is_not_needed():
    assert needed(read_lock(LOCK), ["peft"]) == ["accelerate", "peft", "regex", "tokenizers", "transformers"]


def test_a_freeze_is_read_by_canonical_names():
    assert read_freeze("Py_YAML==6.0\n-e .\nfoo==1.2\n") == {"py-yaml": "6.0", "foo": "1.2"}


def wheel(folder, name, version, *, size=100, requires=()):
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(path, "w") as content:
        content.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
        content.writestr("payload", bytes(size))
    return path


def fetched(tmp_path, *, have=(), allowed=(), limit=2**20, sizes=(), requires=()):
    """Fetch made wheels in the order of a plan: models before DeepSpeed."""
    needs = {"transformers": {"peft"}, "tokenizers": {"transformers"}, "peft": set(), "deepspeed": set()}
    lock = {name: Locked(name, "2.0", frozenset(via)) for name, via in needs.items()}
    asked = []

    def fetch(locked, folder):
        asked.append(locked.name)
        size, needed_ = dict(sizes).get(locked.name, 100), dict(requires).get(locked.name, ())
        return wheel(folder, locked.name, locked.version, size=size, requires=needed_)

    specifiers = {name: SpecifierSet(text) for name, text in dict(allowed).items()}
    found, left_out = Fetching(lock, tmp_path, dict(have), specifiers, fetch, limit).run()
    assert asked == [*found, *left_out] or set(asked) == {*found, *left_out}
    return found, left_out


def test_everything_is_fetched_for_a_machine_that_has_nothing(tmp_path):
    found, left_out = fetched(tmp_path)

    assert set(found) == {"peft", "transformers", "tokenizers", "deepspeed"}
    assert not left_out


def test_what_the_machine_has_in_an_allowed_version_is_not_fetched(tmp_path):
    have = {"transformers": "1.9", "peft": "1.9"}

    found, _ = fetched(tmp_path, have=have, allowed={"transformers": ">=2"})

    assert set(found) == {"transformers", "tokenizers", "deepspeed"}


def test_a_fetched_package_may_rule_out_what_the_machine_has(tmp_path):
    found, _ = fetched(
        tmp_path,
        have={"tokenizers": "1.0", "peft": "3.0"},
        requires={"transformers": ["tokenizers>=2", 'peft<3; extra == "more"']},
    )

    assert "tokenizers" in found
    assert "peft" not in found


def test_what_does_not_fit_is_left_out_and_named_with_its_purpose(tmp_path):
    found, left_out = fetched(tmp_path, limit=6000, sizes={"deepspeed": 5000})

    assert set(found) == {"peft", "transformers", "tokenizers"}
    assert left_out["deepspeed"].startswith("training by DeepSpeed, ")
    assert sum(path.stat().st_size for path in tmp_path.glob("*.whl")) <= 6000


def test_the_total_is_stated_and_checked(tmp_path, capsys):
    wheels = {name: wheel(tmp_path, name, "1.0", size=2**20) for name in ("one", "two")}

    assert tell(wheels, {"ray": "the job, 70 MiB"}, limit_mib=3) == 0
    assert tell(wheels, {}, limit_mib=1) == 1

    out = capsys.readouterr().out
    assert "2.0 MiB in 2 wheels, of 3 MiB" in out
    assert "left out, as it does not fit: ray (the job, 70 MiB)" in out


@pytest.mark.parametrize("purpose", WANTED)
def test_every_wanted_package_is_in_our_lock(purpose):
    lock = read_lock((ROOT / "requirements.lock").read_text())

    assert set(WANTED[purpose]) <= set(lock)


def test_our_own_plan_leaves_out_what_is_too_large_or_comes_with_torch():
    names = set(plan(read_lock((ROOT / "requirements.lock").read_text())))

    assert {"transformers", "peft", "pydantic-core", "uvicorn"} <= names
    assert not names & {"torch", "ray", "numpy", "sympy", "triton"}


def test_our_own_bounds_are_read():
    allowed = pinned((ROOT / "pyproject.toml").read_text())

    assert "5.23.0" in allowed["transformers"]
    assert "5.17.0" not in allowed["transformers"]
