"""Folders as kustomize reads them: resources, or an overlay that patches those of another folder.

A patch is a list of RFC 6902 operations that change one resource into the other; custom resources have no
other patches that add to a list.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mats_ray.config.base import read_yaml
from mats_ray.errors import ConfigError

Tree = dict[str, Any]
Folders = Mapping[str, Mapping[str, Tree]]
"""Resources by folder and file name."""
KUSTOMIZATION = "kustomization.yaml"
HEADER = "# Written by `mats deploy render`; change the configuration, not this file.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and nothing as an alias."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        return super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def to_yaml(tree: object) -> str:
    """Return YAML in the order of the keys."""
    return HEADER + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def whole(folders: Folders) -> Iterator[tuple[str, str]]:
    """Yield path and text of every file of a tree that stands alone."""
    for folder, resources in folders.items():
        for name, resource in resources.items():
            yield os.path.join(folder, name), to_yaml(resource)  # noqa: PTH118
        yield os.path.join(folder, KUSTOMIZATION), to_yaml(_kustomization(list(resources)))  # noqa: PTH118


def read_resources(folder: Path) -> dict[str, Tree]:
    """Read the resources of a folder that ``whole`` wrote, by file name.

    Raises:
        ConfigError: It is none.
    """
    if not (folder / KUSTOMIZATION).is_file():
        raise ConfigError(
            f"{folder} is no base: it has no {KUSTOMIZATION}; mats deploy render --out writes one"
        )
    names = read_yaml(folder / KUSTOMIZATION).get("resources", [])
    return {name: read_yaml(folder / name) for name in names}


def overlay(folders: Folders, base: Folders, *, at: Path, base_at: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of every file of an overlay: with its base, it is what ``whole`` would write.

    Args:
        folders: The resources to end with.
        base: Those of the base.
        at: Folder of the overlay.
        base_at: Folder of the base.

    Raises:
        ConfigError: Names differ, by which a patch finds its resource.
    """
    for folder, wanted in folders.items():
        known = base.get(folder, {})
        if any(_named(known[name]) != _named(wanted[name]) for name in known.keys() & wanted.keys()):
            raise ConfigError(f"an overlay keeps deploy.name and deploy.namespace of its base, {base_at}")
        new = [name for name in wanted if name not in known]
        for name in new:
            yield os.path.join(folder, name), to_yaml(wanted[name])  # noqa: PTH118
        patches = list(_patches(known, wanted))
        resources = [os.path.relpath(base_at / folder, at / folder), *new]
        yield os.path.join(folder, KUSTOMIZATION), to_yaml(_kustomization(resources, patches))  # noqa: PTH118


def _named(resource: Tree) -> tuple[str, str | None]:
    return resource["metadata"]["name"], resource["metadata"].get("namespace")


def _kustomization(resources: list[str], patches: list[Tree] | None = None) -> Tree:
    tree: Tree = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources,
    }
    return {**tree, "patches": patches} if patches else tree


def _patches(known: Mapping[str, Tree], wanted: Mapping[str, Tree]) -> Iterator[Tree]:
    for name, resource in known.items():
        target = {"kind": resource["kind"], "name": resource["metadata"]["name"]}
        if name not in wanted:
            deleted = {"apiVersion": resource["apiVersion"], "kind": resource["kind"]}
            deleted["metadata"] = {"name": target["name"], "namespace": resource["metadata"].get("namespace")}
            yield {"patch": yaml.safe_dump({"$patch": "delete", **deleted}, sort_keys=False)}
        elif operations := list(difference(resource, wanted[name])):
            yield {"target": target, "patch": yaml.safe_dump(operations, sort_keys=False, width=110)}


def difference(old: object, new: object, path: str = "") -> Iterator[Tree]:
    """Yield the operations of RFC 6902 that change one tree into another."""
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _of_mappings(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(old, new, path)
    elif json.dumps(old) != json.dumps(new):  # 1 and true are equal in Python
        yield {"op": "replace", "path": path, "value": new}


def _of_mappings(old: Tree, new: Tree, path: str) -> Iterator[Tree]:
    for key in [key for key in old if key not in new]:
        yield {"op": "remove", "path": f"{path}/{_escaped(key)}"}
    for key, value in new.items():
        where = f"{path}/{_escaped(key)}"
        if key in old:
            yield from difference(old[key], value, where)
        else:
            yield {"op": "add", "path": where, "value": value}


def _of_lists(old: list[Any], new: list[Any], path: str) -> Iterator[Tree]:
    for index, (one, other) in enumerate(zip(old, new, strict=False)):
        yield from difference(one, other, f"{path}/{index}")
    for index in reversed(range(len(new), len(old))):
        yield {"op": "remove", "path": f"{path}/{index}"}
    for value in new[len(old) :]:
        yield {"op": "add", "path": f"{path}/-", "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
