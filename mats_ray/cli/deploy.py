"""``mats deploy render|fetch``: Kubernetes resources of a configuration; a model directory from a bucket."""

import argparse
from pathlib import Path

from mats_ray.cli.args import add_config_arguments, config_of
from mats_ray.errors import ConfigError

EPILOG = """\
Examples:
  mats deploy render --config configs/mats_llama_7b.yaml --config configs/overlays/kuberay_gpu_a100.yaml \\
      --set output_dir=s3://my-bucket/mats --out out/kuberay
  kubectl apply -k out/kuberay                      namespace, Redis, policies, a RayCluster
  kubectl apply -k out/kuberay/jobs -l step=train   one job: prepare, embed, memory, train, caption, evaluate
  kubectl apply -k out/kuberay/service              the service, once there is a model
  mats deploy fetch s3://my-bucket/mats/model --out /var/mats/model
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "action",
        choices=["render", "fetch"],
        help="write the resources; or copy a model directory, as pods do before they start",
    )
    parser.add_argument("source", nargs="?", metavar="URL", help="of fetch: the model directory")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--overlay-of", metavar="DIR", help="write patches of these resources, which render wrote before"
    )
    add_config_arguments(parser, required=False, example="deploy.namespace=audio")


def run(args: argparse.Namespace) -> int:
    """Write the files and name what must be there before they are applied.

    Raises:
        MATSError: The configuration cannot run on Kubernetes, or the folder cannot be written.
    """
    if args.action == "fetch":
        return _fetch(args)
    if args.source is not None:
        raise ConfigError(f"render takes no URL, {args.source!r} was given; see --config")
    from mats_ray.deploy.render import render, secrets_of

    config = config_of(args)
    folders = render(config)
    files = _files(folders, args)
    _write(Path(args.out), files)
    count = sum(map(len, folders.values()))
    print(f"{count} resources in {args.out}")
    namespace = config.deploy.namespace if config.deploy else ""
    for name, values in secrets_of(config).items():
        print(f"needs: kubectl -n {namespace} create secret generic {name} {values}")
    return 0


def _files(folders: dict[str, dict[str, dict[str, object]]], args: argparse.Namespace) -> dict[str, str]:
    from mats_ray.deploy.kustomize import overlay, read_resources, whole

    if args.overlay_of is None:
        return dict(whole(folders))
    base_at = Path(args.overlay_of)
    base = {folder: read_resources(base_at / folder) for folder in folders}
    return dict(overlay(folders, base, at=Path(args.out), base_at=base_at))


def _write(out: Path, files: dict[str, str]) -> None:
    """Write the files; those that an earlier call wrote are removed, others are never touched.

    Raises:
        ConfigError: A file that is in the way was written by someone else, or the folder cannot be written.
    """
    from mats_ray.deploy.kustomize import HEADER

    try:
        for path in [path for path in out.rglob("*.yaml") if path.is_file()]:
            if path.read_text("utf-8", errors="replace").startswith(HEADER):
                path.unlink()
        for name, text in files.items():
            path = out / name
            if path.exists():
                raise ConfigError(
                    f"{path} was not written by mats deploy render: move it away, or take another --out"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error


def _fetch(args: argparse.Namespace) -> int:
    """Copy a model directory; into a folder that holds a part of it after a crash, too."""
    from mats_ray.storage import download, read_bytes

    if args.source is None:
        raise ConfigError("fetch needs the URL of a model directory")
    if args.config or args.overrides or args.overlay_of:
        raise ConfigError("fetch takes no configuration: it copies a folder")
    out, source = Path(args.out), args.source.rstrip("/")
    wanted = read_bytes(f"{source}/config.json")
    settings = out / "config.json"
    if out.is_dir() and any(out.iterdir()) and not (settings.is_file() and settings.read_bytes() == wanted):
        raise ConfigError(f"--out {out} is not empty, and holds something other than {source}")
    download(source, out)
    print(f"{source} is in {out}")
    return 0
