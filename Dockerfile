# samplerd as an image: no root, no shell needed, and a root file system that may be read-only.
#
#   docker build --target cpu --tag samplerd .
#   docker run --read-only --cap-drop ALL --tmpfs /tmp -p 50051:50051 -p 127.0.0.1:9464:9464 samplerd
#
#   cpu     draws on the CPU, with a torch that has no CUDA in it: the default
#   cuda    draws on a GPU (docker run --gpus all); the image has CUDA's libraries, some gigabytes
#   envoy   cpu, served through Envoy (docs/envoy.md)
#
# Flags of samplerd go after the image's name; SAMPLERD_* variables and --config work too.
#
# Where the package index has only the torch with CUDA, name another index beside it, that of PyTorch's CPU wheels:
# `--build-arg PIP_EXTRA_INDEX_URL=...`. The targets cpu and envoy are not built with a torch that has CUDA.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The kernels lie beside the modules, where every user may read them: no NUMBA_CACHE_DIR here.
RUN python -m venv /opt/samplerd && mkdir -p /var/cache/samplerd
ENV PATH=/opt/samplerd/bin:$PATH
WORKDIR /src
COPY constraints.txt ./


# Torch first, and by itself: the large layer stays when samplerd changes.
FROM build AS build-cpu
ARG TORCH_SPEC=torch==2.13.0
ARG PIP_EXTRA_INDEX_URL=""
RUN pip install --constraint constraints.txt "${TORCH_SPEC}" \
    && python -c "import torch; assert torch.version.cuda is None, 'this torch has CUDA: see PIP_EXTRA_INDEX_URL above'"
COPY . .
RUN pip install --constraint constraints.txt ".[server,http]" \
    && python -m samplerd_server.precompile


FROM build-cpu AS build-envoy
RUN pip install --constraint constraints.txt ".[envoy]"


FROM build AS build-cuda
ARG TORCH_SPEC=torch==2.13.0
RUN pip install --constraint constraints.txt "${TORCH_SPEC}" \
    && python -c "import torch; assert torch.version.cuda, 'this torch has no CUDA'"
COPY . .
# The kernels of every card, compiled here without one.
RUN pip install --constraint constraints.txt ".[server,http,cuda]" \
    && python -m samplerd_server.precompile --cuda


FROM python:${PYTHON_VERSION}-slim-bookworm AS runtime
# The kernels were compiled for the processor of the build. On another kind a start compiles them into this volume, which
# every user may write, under a read-only root too (docs/first_start.md).
COPY --from=build --chmod=1777 /var/cache/samplerd /var/cache/samplerd
VOLUME /var/cache/samplerd
ENV PATH=/opt/samplerd/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/samplerd \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SAMPLERD_DEVICE=cpu \
    SAMPLERD_LISTEN=0.0.0.0:50051 \
    SAMPLERD_METRICS_LISTEN=0.0.0.0:9464
# A number, so that an orchestrator can see that it is not root; any other will do.
USER 10001:10001
WORKDIR /
EXPOSE 50051 9464
# On the port of the metrics, whatever TLS and certificates the calls need.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import urllib.request as own; \
own.build_opener(own.ProxyHandler({})).open('http://127.0.0.1:9464/readyz', timeout=3)"]
ENTRYPOINT ["samplerd"]


FROM runtime AS cuda
COPY --from=build-cuda /opt/samplerd /opt/samplerd
ENV SAMPLERD_DEVICE=cuda


FROM runtime AS envoy
COPY --from=build-envoy /opt/samplerd /opt/samplerd
ENV SAMPLERD_TRANSPORT=envoy


# The last one is built where no target is named.
FROM runtime AS cpu
COPY --from=build-cpu /opt/samplerd /opt/samplerd
