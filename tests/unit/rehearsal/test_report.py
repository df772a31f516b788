"""Tables show every change, stage and number, and mark a plan that is off."""

from mats_ray.rehearsal.changes import Change
from mats_ray.rehearsal.comparison import Comparison
from mats_ray.rehearsal.report import report_lines
from mats_ray.rehearsal.stages import StageResult


def test_tables():
    stage = StageResult(
        name="train",
        seconds=12.4,
        total_gb=3.21,
        peaks_gb={"raylet": 0.01, "RayTrainWorker": 2.9},
        disk_bytes=1_500_000,
    )
    pairs = [(1.0, 1.1), (1.0, 2.0)]
    comparisons = [Comparison(stage="train", quantity="GB", planned=a, measured=b) for a, b in pairs]

    lines = list(report_lines([Change("train.num_steps", 90_000, 4, "steps")], [stage], comparisons))

    assert "| train.num_steps | 90000 | 4 | steps |" in lines
    assert "| train | 12 | 3.2 | RayTrainWorker 2.9 | 1.5 |" in lines
    assert lines[-2] == "| train | GB | 1 | 1.1 | 0.91 |"
    assert lines[-1] == "| train | GB | 1 | 2 | 0.50 (off by more than 20%) |"
