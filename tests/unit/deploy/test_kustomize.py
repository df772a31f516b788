"""deploy/kuberay is what the shipped configurations give, and kustomize reads it so."""

import copy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mats_ray.cli.main import main
from mats_ray.deploy.kustomize import difference
from mats_ray.deploy.render import render
from tests.unit.deploy.configs import CPU, GPU, ROOT, loaded

SHIPPED = ROOT / "deploy" / "kuberay"
OVERLAYS = {"overlays/cpu": CPU, "overlays/gpu-a100": GPU}
FOLDERS = (".", "jobs", "service")
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "a/b", "~"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b/c", "~d", "e"]), inner)
    ),
    max_leaves=12,
)


def flags(names):
    return [word for name in names for word in ("--config", str(ROOT / name))]


def kubectl(folder):
    """Return the resources that kustomize, which kubectl has, makes of a folder, by kind and name."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}


def stand_in(folder):
    """Return the same by what is used of kustomize: no package has it, and not every machine kubectl."""
    tree = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert tree.keys() <= {"apiVersion", "kind", "resources", "patches"}, tree.keys()
    found = {}
    for path in [folder / name for name in tree["resources"]]:
        one = None if path.is_dir() else yaml.safe_load(path.read_text())
        found |= stand_in(path) if one is None else {(one["kind"], one["metadata"]["name"]): one}
    for patch in tree.get("patches", []):
        body = yaml.safe_load(patch["patch"])
        if isinstance(body, dict):
            assert body["$patch"] == "delete"
            del found[body["kind"], body["metadata"]["name"]]
        else:
            for operation in body:
                apply(found[patch["target"]["kind"], patch["target"]["name"]], operation)
    return found


readers = pytest.mark.parametrize("built", [stand_in, *([kubectl] if shutil.which("kubectl") else [])])


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.yaml")}


def test_shipped_files_are_what_the_configurations_give(tmp_path):
    assert main(["deploy", "render", *flags(CPU), "--out", str(tmp_path / "base")]) == 0
    for name, configs in OVERLAYS.items():
        over = ["--overlay-of", str(tmp_path / "base"), "--out", str(tmp_path / name)]
        assert main(["deploy", "render", *flags(configs), *over]) == 0

    assert files(tmp_path) == files(SHIPPED)  # else: make manifests


@readers
@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(("name", "configs"), [("base", CPU), *OVERLAYS.items()])
def test_kustomize_makes_of_an_overlay_what_is_rendered_whole(name, configs, folder, built):
    wanted = {(one["kind"], one["metadata"]["name"]): one for one in render(loaded(configs))[folder].values()}

    assert built(SHIPPED / name / folder) == wanted


@readers
def test_an_overlay_removes_what_its_configuration_lacks(tmp_path, built):
    without = ["--set", "deploy.caption=null"]
    over = ["--overlay-of", str(SHIPPED / "base"), "--out", str(tmp_path)]

    assert main(["deploy", "render", *flags(CPU), *without, *over]) == 0

    wanted = render(loaded(CPU, "deploy.caption=null"))
    for folder, resources in wanted.items():
        expected = {(one["kind"], one["metadata"]["name"]): one for one in resources.values()}
        assert built(tmp_path / folder) == expected


@pytest.mark.parametrize("key", ["deploy.name=other", "deploy.namespace=other"])
def test_an_overlay_keeps_the_names_of_its_base(key, tmp_path, capsys):
    over = ["--overlay-of", str(SHIPPED / "base"), "--out", str(tmp_path)]

    assert main(["deploy", "render", *flags(CPU), "--set", key, *over]) == 2

    assert "keeps deploy.name and deploy.namespace of its base" in capsys.readouterr().err


def test_a_folder_that_is_no_base_is_refused(tmp_path, capsys):
    over = ["--overlay-of", str(tmp_path), "--out", str(tmp_path / "out")]

    assert main(["deploy", "render", *flags(CPU), *over]) == 2

    assert "no configuration file at" not in capsys.readouterr().err


@readers
def test_kustomize_refuses_a_misspelt_key(tmp_path, built):
    shutil.copytree(SHIPPED, tmp_path / "kuberay")
    path = tmp_path / "kuberay/overlays/gpu-a100/kustomization.yaml"
    path.write_text(path.read_text().replace("patches:", "patchess:"))

    with pytest.raises(AssertionError, match="patchess"):
        built(path.parent)


@given(old=TREES, new=TREES)
def test_a_difference_applied_to_the_old_tree_is_the_new_one(old, new):
    root = {"root": copy.deepcopy(old)}
    for operation in list(difference({"root": old}, {"root": new})):
        apply(root, operation)

    assert same(root["root"], new)


def same(one, other):
    """Compare trees whose mappings may be in another order, 1 and true being different."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def apply(tree, operation):
    """Apply one operation of RFC 6902."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in parents:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    if isinstance(tree, list):
        if operation["op"] == "add":
            assert last == "-"
            tree.append(operation["value"])
        elif operation["op"] == "remove":
            del tree[int(last)]
        else:
            tree[int(last)] = operation["value"]
    elif operation["op"] == "remove":
        del tree[last]
    else:
        assert (last in tree) == (operation["op"] == "replace")
        tree[last] = operation["value"]


def test_a_tree_of_the_repository_names_no_file_twice():
    for path in SHIPPED.rglob("kustomization.yaml"):
        resources = yaml.safe_load(path.read_text())["resources"]

        assert len(set(resources)) == len(resources)
        assert all((path.parent / Path(one)).exists() for one in resources)
