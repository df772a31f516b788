"""Rows of an output by their paths, and the parts they are in."""

import pyarrow as pa

from mats_ray.caption.rows import SCHEMA


def table(*paths):
    blank = dict.fromkeys(SCHEMA.names) | dict.fromkeys(
        ["etag", "status", "task", "prompt", "model_id", "decoding"], "x"
    )
    blank |= {"segment": 0, "is_last_segment": True}
    return pa.Table.from_pylist([blank | {"path": path} for path in paths], schema=SCHEMA)


def paths_of(store):
    return [path for part in parts(store) for path in part]


def parts(store):
    return [store.read(name).column("path").to_pylist() for name in store.names()]
