"""The root of the configuration, the paths that follow from it, and ``load_config``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, model_validator

from mats_ray.config.base import StrictConfig, Tree, assemble, merge, read_yaml, validate
from mats_ray.config.bridge import STATE_FILES, TEXT_MEMORY, BridgeName, ProjectionConfig, SpectralConfig
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.data import DataConfig
from mats_ray.config.deploy import DeployConfig
from mats_ray.config.generation import GenerationConfig
from mats_ray.config.model import CLAPConfig, ModelConfig
from mats_ray.config.paths import StoragePath
from mats_ray.config.santa import MemoryConfig, SantaConfig, bridge_in_use
from mats_ray.config.scaling import ScalingConfig
from mats_ray.config.serve import ServeConfig
from mats_ray.config.toy import ToyConfig
from mats_ray.config.train import TrainConfig
from mats_ray.errors import ConfigError


class RunConfig(StrictConfig):
    """Everything one run needs; every section has a default, so a file holds only what it changes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "mats"
    """Name of the training run; running it again resumes it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    output_dir: Annotated[StoragePath, Field(min_length=1)] = "out"
    """Local folder or s3:// prefix below which every stage writes."""
    model: ModelConfig = ModelConfig()
    memory: MemoryConfig = MemoryConfig()
    santa: SantaConfig = SantaConfig()
    projection: ProjectionConfig = ProjectionConfig()
    spectral: SpectralConfig = SpectralConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    scaling: ScalingConfig = ScalingConfig()
    generation: GenerationConfig = GenerationConfig()
    caption: CaptionConfig = CaptionConfig()
    serve: ServeConfig = ServeConfig()
    deploy: DeployConfig | None = None
    """Where this runs on Kubernetes; only ``mats deploy`` reads it."""
    toy: ToyConfig | None = None
    """Present: CLAP, language model and texts that no other key names are built offline."""

    @model_validator(mode="after")
    def parts_have_a_source(self) -> "RunConfig":
        """Require both pretrained parts unless there is a toy world."""
        if self.toy is None:
            for key, value in (
                ("model.clap.ref", self.model.clap.ref),
                ("model.llm.path", self.model.llm.path),
            ):
                if value is None:
                    raise ValueError(
                        f"{key} must name a checkpoint (only a config with a toy section may not)"
                    )
        return self

    @model_validator(mode="after")
    def one_key_decides_the_bridge(self) -> "RunConfig":
        """Refuse ``santa.enabled: false``, the earlier way to have no bridge, beside another bridge."""
        if not self.santa.enabled and self.model.bridge not in ("santa", "none"):
            raise ValueError(
                f"santa.enabled=False means no bridge, and model.bridge is {self.model.bridge!r}; leave "
                "santa.enabled out"
            )
        return self

    @model_validator(mode="after")
    def batch_splits_evenly(self) -> "RunConfig":
        """Check the batch sizes on the head node, before any worker starts."""
        for num_workers in self.scaling.worker_counts:
            self.train.accumulation_steps(num_workers)
        if self.train.engine.type == "torch" and self.scaling.max_workers > 1:
            raise ValueError(
                f"train.engine.type 'torch' runs one worker, scaling.num_workers is "
                f"{self.scaling.num_workers}; use 'deepspeed'"
            )
        return self

    @model_validator(mode="after")
    def precision_fits_the_language_model(self) -> "RunConfig":
        """A bf16 engine casts weights of any dtype; an fp32 engine casts none."""
        dtype, precision = self.model.llm.dtype, self.train.engine.precision
        if dtype != "float32" and precision == "fp32":
            raise ValueError(
                f"model.llm.dtype={dtype} needs train.engine.precision: bf16 (and engine type deepspeed), "
                f"it is {precision}; or use model.llm.dtype: float32"
            )
        return self

    @property
    def toy_dir(self) -> str:
        """Folder of the toy world."""
        return join(self.output_dir, "toy")

    @property
    def clap_ref(self) -> str:
        """Reference of the CLAP checkpoint in use."""
        return self.model.clap.ref or join(self.toy_dir, "clap")

    @property
    def clap(self) -> CLAPConfig:
        """Settings of the CLAP in use, ``ref`` filled in."""
        return self.model.clap.model_copy(update={"ref": self.clap_ref})

    @property
    def llm_path(self) -> str:
        """Path of the language model in use."""
        return self.model.llm.path or join(self.toy_dir, "llm")

    @property
    def triplets_path(self) -> str:
        """Path of the triplets' Parquet: named, prepared from annotations, or the toy world's own."""
        from_toy = self.toy is not None and not self.data.prepare.sources
        return self.data.triplets or join(self.toy_dir if from_toy else self.output_dir, "triplets")

    @property
    def embedded_path(self) -> str:
        """Path of the Parquet of triplets with embeddings."""
        return self.data.embedded or join(self.output_dir, "embedded")

    @property
    def bridge(self) -> BridgeName:
        """The bridge in use; ``santa.enabled: false`` is "none"."""
        return bridge_in_use(self.model.bridge, self.santa)

    @property
    def memory_path(self) -> str:
        """Path of the bridge's state: of the Santa memory, if it is Santa."""
        return self.memory.path or join(self.output_dir, STATE_FILES.get(self.bridge, TEXT_MEMORY))

    @property
    def model_dir(self) -> str:
        """Path of the trained model directory."""
        return join(self.output_dir, "model")

    @property
    def runs_dir(self) -> str:
        """Ray Train's storage path: checkpoints and metrics of every run name."""
        return join(self.output_dir, "runs")

    @property
    def run_dir(self) -> str:
        """Folder of this run's metrics and checkpoints."""
        return join(self.runs_dir, self.name)

    @property
    def own_folder_flags(self) -> str:
        """``--set`` flags for another run on the same inputs with an ``output_dir`` of its own."""
        flags = {"output_dir": f"{self.output_dir.rstrip('/')}-2"}
        if self.toy is None:  # a toy world is built again, as its seed may be another
            flags["data.embedded"] = self.embedded_path
            if self.bridge != "none":
                flags["memory.path"] = self.memory_path
        return " ".join(f"--set {key}={value}" for key, value in flags.items())

    @property
    def generation_override(self) -> GenerationConfig | None:
        """Section ``generation`` where the configuration has one; None: a model directory's own applies."""
        return self.generation if "generation" in self.model_fields_set else None

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def replace(self, **changes: Any) -> "RunConfig":
        """Return a copy with nested changes, ``replace(train={"num_steps": 3})``, validated again."""
        return validate(RunConfig, merge(self.model_dump(mode="json"), changes), where="replace()")


def join(base: str, name: str) -> str:
    """Join a folder or s3:// prefix and a name."""
    return base.rstrip("/") + "/" + name


def load_config(path: str | Path | Sequence[str | Path], overrides: Sequence[str] = ()) -> RunConfig:
    """Load YAML files, later ones over earlier ones, then ``a.b=c`` overrides.

    Raises:
        ConfigError: One line with the file, the key, the value and what is allowed.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise ConfigError("no configuration file given: --config YAML")
    tree: Tree = {}
    for one in paths:
        tree = merge(tree, read_yaml(Path(one)))
    return assemble(RunConfig, tree, overrides, sources=[str(one) for one in paths])
