"""Section ``deploy``: where a configuration runs on Kubernetes (``mats deploy render``)."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from mats_ray.config.base import StrictConfig, Within
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.config.paths import StoragePath

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""DNS label (RFC 1035); KubeRay appends to the names of its resources, so at most 40 characters."""
Image = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._/-]*(:\d{1,5}/[a-z0-9._/-]+)?(:[A-Za-z0-9_][\w.-]{0,127}|@sha256:[0-9a-f]{64})$"
    ),
]
"""Image with a tag or a digest."""
Labels = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$")],
        Annotated[str, Field(pattern=r"^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$")],
    ],
    Field(max_length=32),
]
"""Labels as Kubernetes allows them."""
AbsolutePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$", max_length=200)]


class PodConfig(StrictConfig):
    """Resources of one Ray pod; requests and limits are the same."""

    cpus: Annotated[int, Within(1, 1024)]
    memory_gb: Annotated[int, Within(1, 32_768)]
    """GiB."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels of the nodes it may run on."""
    tolerations: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    """Keys of taints that it tolerates, spot nodes say."""


class WorkerGroupConfig(PodConfig):
    """A group of equal worker pods."""

    min_pods: Annotated[int, Within(0, 10_000)] = 0
    """Number of pods of the RayCluster that are kept without work."""
    max_pods: Annotated[int, Within(1, 10_000)]
    """Largest number of pods of one Ray cluster."""

    @model_validator(mode="after")
    def bounds_in_order(self) -> Self:
        """Refuse a minimum above the maximum."""
        if self.min_pods > self.max_pods:
            raise ValueError(f"min_pods={self.min_pods} is more than max_pods={self.max_pods}")
        return self


class GPUGroupConfig(WorkerGroupConfig):
    """A group of worker pods with GPUs."""

    gpus: Annotated[int, Within(1, 64)]
    """Number of GPUs of one pod."""
    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")] = "nvidia.com/gpu"
    """Name of the device plugin's resource; taints of this key are tolerated."""


class VolumeConfig(StrictConfig):
    """A file system that all pods share: a PersistentVolumeClaim with access mode ReadWriteMany."""

    path: AbsolutePath = "/mnt/mats"
    """Folder at which all pods mount it."""
    size_gb: Annotated[int, Within(1, 1_000_000)] = 200
    """GiB."""
    storage_class: Name | None = None
    """StorageClass of the claim; the cluster's default when absent."""


class S3Config(StrictConfig):
    """Access to S3, or to a server that speaks its protocol."""

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{2,32}$")]
    endpoint_url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:\d{1,5})?$")] | None = None
    """URL of a server other than AWS's."""
    role_arn: (
        Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,200}$")] | None
    ) = None
    """IAM role of the pods' service account (EKS), so that no keys are stored."""
    secret: Name | None = None
    """Name of a Secret with ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``."""

    @model_validator(mode="after")
    def one_kind_of_access(self) -> Self:
        """Require a role or a Secret, and not both: a key would win over the role."""
        if (self.role_arn is None) == (self.secret is None):
            raise ValueError("access is by role_arn or by secret: give one of the two")
        return self


class CaptionJobConfig(StrictConfig):
    """What the captioning job works on; how it works is section ``caption``."""

    audio: Annotated[StoragePath, Field(min_length=1)]
    """Folder, s3:// prefix or manifest."""
    out: Annotated[StoragePath, Field(min_length=1)]
    """Folder or s3:// prefix of the rows."""
    questions: Annotated[tuple[str, ...], Field(max_length=1_000)] = ()
    """Questions about every file; empty: captions."""


class DeployConfig(StrictConfig):
    """Ray clusters on Kubernetes by KubeRay: one that stays, one per job, and one that serves."""

    image: Image
    """Image of all Ray pods, built from ``Dockerfile``."""
    name: Name = "mats"
    """Beginning of the names of all resources."""
    namespace: Name = "mats"
    head: PodConfig = PodConfig(cpus=4, memory_gb=16)
    """Pod of Ray's head and of the drivers of jobs; it takes no tasks."""
    cpu: WorkerGroupConfig = WorkerGroupConfig(cpus=8, memory_gb=32, max_pods=4)
    """Pods for everything that needs no GPU."""
    gpu: GPUGroupConfig | None = None
    """Pods with GPUs; none unless given."""
    volume: VolumeConfig | None = None
    """Shared file system; none unless given."""
    s3: S3Config | None = None
    """Access to s3:// paths; none unless given."""
    queue: Name | None = None
    """Kueue LocalQueue of the jobs. They then have a fixed size, as Kueue reserves it; without a queue they
    are scaled by Ray."""
    gateway_class: Name | None = None
    """GatewayClass (Gateway API) by which an upgrade of the service moves its traffic step by step. None: a
    whole second cluster is started, then traffic is switched."""
    monitoring_namespace: Name = "monitoring"
    """Namespace of Prometheus, which may read metrics."""
    monitoring_labels: Labels = Field(default_factory=dict)
    """More labels of the PodMonitor, by which Prometheus finds it, ``release: kube-prometheus-stack`` say."""
    operator_namespace: Name = "kuberay-operator"
    """Namespace of the KubeRay operator, which may submit jobs and deploy the service."""
    caption: CaptionJobConfig | None = None
    """The captioning job; none unless given."""
    evaluate: EvaluateConfig | None = None
    """The evaluation job, as ``mats evaluate --config`` reads it; none unless given."""

    @field_validator("image")
    @classmethod
    def image_stays_the_same(cls, image: str) -> str:
        """Refuse ``latest``: pods that start later would run something else."""
        if image.endswith(":latest"):
            raise ValueError(f"{image!r} may change under a running cluster: name a version, or a digest")
        return image

    @property
    def worker_groups(self) -> Sequence[tuple[str, WorkerGroupConfig]]:
        """All groups with their names."""
        return [("cpu", self.cpu), *([("gpu", self.gpu)] if self.gpu else [])]
