"""The arguments; their effect is tested in tests/integration/test_prepare.py."""

import argparse

from mats_ray.cli.main import main
from mats_ray.cli.prepare import EPILOG, add_arguments


def test_licences_can_be_given_several_times():
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    args = parser.parse_args(
        ["--config", "x", "--license-allow", "MIT", "--license-allow", "CC BY 4.0", "--dry-run"]
    )

    assert (args.license_allow, args.dry_run, args.report) == (["MIT", "CC BY 4.0"], True, False)


def test_missing_sources_are_reported_before_a_cluster_starts(capsys):
    assert main(["prepare", "--config", "configs/toy.yaml", "--dry-run"]) == 2
    assert "data.prepare.sources names nothing to read" in capsys.readouterr().err
    assert "sources:" in EPILOG
