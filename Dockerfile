# syntax=docker/dockerfile:1
# The image of every Ray node: head, workers, drivers of jobs, replicas of the service.
#
#   docker build -t mats-ray:0.1.0-cpu .                                        for CPUs
#   docker build -t mats-ray:0.1.0-cu130 --build-arg ACCELERATOR=cu130 .        for NVIDIA GPUs
#
# pip's settings are build arguments: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS. The public index has torch with
# CUDA only, so an image for CPUs takes it from TORCH_CPU_INDEX_URL; where that is empty, from where pip's settings say.
# docs/deployment.md says which steps have been run without a container engine, how, and what that leaves open.
ARG RAY_VERSION=2.60.0
ARG ACCELERATOR=cpu

FROM rayproject/ray:${RAY_VERSION}-py311-${ACCELERATOR} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG ACCELERATOR
ARG TORCH_CPU_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
USER 0:0
RUN mkdir -p /opt/mats && chown 1000:100 /opt/mats
USER 1000:100
WORKDIR /home/ray/build
# An environment of its own: the lock fixes versions that the base image has otherwise, Ray's own among them.
RUN python3 -m venv /opt/mats
# Everything else before the code, so that a change of code installs none of it again. torch first: a CPU build stays.
COPY --chown=1000:100 requirements.lock ./
RUN torch="$(grep -o '^torch==[^ ]*' requirements.lock)" \
    && if [ "$ACCELERATOR" = cpu ] && [ -n "$TORCH_CPU_INDEX_URL" ]; \
       then /opt/mats/bin/pip install --no-deps --index-url "$TORCH_CPU_INDEX_URL" "$torch"; \
       else /opt/mats/bin/pip install "$torch"; fi
# The packages that run, with the extras evaluate and lance, in the versions of the lock; none for development.
COPY --chown=1000:100 pyproject.toml ./
RUN /opt/mats/bin/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
      extras = project['optional-dependencies']; \
      print(*project['dependencies'], *extras['evaluate'], *extras['lance'], sep='\n')" > dependencies.txt \
    && /opt/mats/bin/pip install --constraint requirements.lock --requirement dependencies.txt
COPY --chown=1000:100 README.md LICENSE NOTICE ./
COPY --chown=1000:100 mats_ray ./mats_ray
RUN /opt/mats/bin/pip install --no-deps . \
    && /opt/mats/bin/pip check \
    && rm -rf build ./*.egg-info \
    && find /opt/mats -name __pycache__ -prune -exec rm -rf {} +

FROM rayproject/ray:${RAY_VERSION}-py311-${ACCELERATOR} AS final
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG RAY_VERSION
ARG ACCELERATOR
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mats_ray" \
      org.opencontainers.image.description="MATS, the audio language model trained on text alone, on Ray" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}-${ACCELERATOR}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/rayproject/ray:${RAY_VERSION}-py311-${ACCELERATOR}"
USER 0:0
# No compiler: nothing is built at run time, and what is not there cannot be used by who gets in. Nor sudo, by which the
# user of Ray's images may become root.
RUN dpkg-query --show --showformat='${Package}\n' \
    | { grep -E '^(g\+\+|gcc|cpp|clang|cmake|make|build-essential|dpkg-dev|libc6-dev|sudo)(-[0-9.]+)?(-x86-64-linux-gnu|-aarch64-linux-gnu)?$' || true; } \
    | SUDO_FORCE_REMOVE=yes xargs --no-run-if-empty apt-get purge --yes \
    && rm -rf /var/lib/apt/lists/*
# Where volumes are mounted.
RUN mkdir -p /mnt/mats /var/mats /etc/mats && chown 1000:100 /mnt/mats /var/mats
COPY --from=build --chown=1000:100 /opt/mats /opt/mats
COPY --chown=1000:100 jobs /home/ray/mats/jobs/
COPY --chown=1000:100 serve /home/ray/mats/serve/
COPY --chown=1000:100 configs /home/ray/mats/configs/
COPY --chown=1000:100 deploy/compose /home/ray/mats/deploy/compose/
# First on the PATH, also in the login shell by which KubeRay starts Ray; serve/ is imported by name.
ENV PATH=/opt/mats/bin:${PATH} \
    PYTHONPATH=/home/ray/mats \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
RUN echo "export PATH=/opt/mats/bin:\$PATH" >> /home/ray/.profile
USER 1000:100
WORKDIR /home/ray/mats
# What was built works, as the user that it runs as, and there is nothing left to build with.
RUN mats --version \
    && python -c "import torch, ray, transformers, serve.app" \
    && for one in gcc g++ cc clang make sudo; do if command -v "$one"; then exit 1; fi; done
EXPOSE 6379 8000 8080 8265
# Whether the Ray node of this container lives; the service's own answer is /readyz.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python", "/home/ray/mats/deploy/compose/healthy.py"]
CMD ["ray", "start", "--head", "--block", "--dashboard-host=0.0.0.0", "--metrics-export-port=8080"]
