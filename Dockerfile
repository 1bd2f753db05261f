# syntax=docker/dockerfile:1
# Two images from one file: `--target epp` (the default) is the picker, `--target vllm-sim` the
# simulator. Everything is installed from the hash-pinned lock, as wheels: no compiler anywhere.
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS dependencies
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
COPY requirements/runtime.txt requirements/runtime.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --only-binary :all: --require-hashes --no-compile \
      --requirement requirements/runtime.txt
# Tests of dependencies and what only a compiler reads.
RUN find /opt/venv -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
 && find /opt/venv -name '*.pyi' -delete
# Here, once: the user of the image may write nowhere, and each start would compile a thousand
# modules for itself, 2.4 s of CPU on top of 1.8. No file's time is looked at.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM python:${PYTHON} AS packages
WORKDIR /build
COPY epp epp
COPY vllm_sim vllm_sim
RUN mkdir -p /out/epp /out/sim && cp -r epp /out/epp/epp && cp -r vllm_sim /out/sim/vllm_sim \
 && for image in epp sim; do \
      python -m compileall -q --invalidation-mode unchecked-hash -s /out/$image -p /app /out/$image \
      || exit 1; \
    done

# What both images stand on: the interpreter, the dependencies, a user that is nobody.
FROM python:${PYTHON} AS base
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip* \
 && groupadd --gid 65532 nonroot \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent nonroot
COPY --from=dependencies /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 65532:65532

FROM base AS vllm-sim
COPY --from=packages /out/sim /app
EXPOSE 8000
# A simulator on a developer's machine listens on loopback; in an image it is there for others.
ENTRYPOINT ["python", "-m", "vllm_sim", "--host=0.0.0.0"]

FROM base AS epp
COPY --from=packages /out/epp /app
# What `llm_d_epp_info` says of the build: --build-arg COMMIT_SHA=$(git rev-parse HEAD)
ARG COMMIT_SHA=
ARG BUILD_REF=
ENV EPP_COMMIT=${COMMIT_SHA} EPP_BUILD_REF=${BUILD_REF}
EXPOSE 9002 9003 9090
# Flags of the Go pickers follow as they are.
ENTRYPOINT ["python", "-m", "epp", "run"]
