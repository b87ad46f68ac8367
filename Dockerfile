# samplerd as an image: no root, no shell needed, and a root file system that may be read-only.
#
#   docker build -t samplerd .
#   docker run --read-only --cap-drop ALL -p 50051:50051 -p 127.0.0.1:9464:9464 samplerd
#
# Flags of samplerd go after the image's name; SAMPLERD_* variables and --config work too.
#
# It draws on the CPU. For CUDA, build with `--build-arg DEVICE=cuda` and run with `--gpus all`.
# TORCH_SPEC and PIP_EXTRA_ARGS choose another build of torch: for a smaller image, PyTorch's CPU-only wheels
# (`--build-arg TORCH_SPEC=torch==2.13.0+cpu --build-arg PIP_EXTRA_ARGS="--extra-index-url ..."`).

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_SPEC=torch==2.13.0
ARG PIP_EXTRA_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/samplerd
ENV PATH=/opt/samplerd/bin:$PATH

# Torch first, and by itself: the large layer stays when samplerd changes.
WORKDIR /src
COPY constraints.txt ./
# PIP_EXTRA_ARGS holds several words.
# hadolint ignore=SC2086
RUN pip install ${PIP_EXTRA_ARGS} --constraint constraints.txt "${TORCH_SPEC}"
COPY . .
# hadolint ignore=SC2086
RUN pip install ${PIP_EXTRA_ARGS} --constraint constraints.txt ".[server,http]"

# Compiled for this machine's processor; on another kind the first start compiles them again (docs/first_start.md).
ENV NUMBA_CACHE_DIR=/var/cache/samplerd
RUN python -m samplerd_server.precompile


FROM python:${PYTHON_VERSION}-slim-bookworm
ARG DEVICE=cpu
COPY --from=build /opt/samplerd /opt/samplerd
COPY --from=build --chown=10001:10001 /var/cache/samplerd /var/cache/samplerd
# A volume begins with what the image has there, and can be written under a read-only root. Where volumes begin empty
# (Kubernetes' emptyDir), the first start compiles into it.
VOLUME /var/cache/samplerd
ENV PATH=/opt/samplerd/bin:$PATH \
    NUMBA_CACHE_DIR=/var/cache/samplerd \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SAMPLERD_DEVICE=${DEVICE} \
    SAMPLERD_LISTEN=0.0.0.0:50051 \
    SAMPLERD_METRICS_LISTEN=0.0.0.0:9464
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import grpc; \
from grpc_health.v1 import health_pb2 as messages, health_pb2_grpc as stubs; \
health = stubs.HealthStub(grpc.insecure_channel('127.0.0.1:50051', [('grpc.enable_http_proxy', 0)])); \
reply = health.Check(messages.HealthCheckRequest(), timeout=3); \
raise SystemExit(reply.status != messages.HealthCheckResponse.SERVING)"]
ENTRYPOINT ["samplerd"]
