# The image of every pod: head, workers and submitter. docs/kubernetes.md tells how to build it.
#
# A Debian base with Python 3.11 in the path; Ray, torch and the CUDA libraries come from PyPI, the driver from the node.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What installs, and stays behind.
FROM ${BASE_IMAGE} AS installer
# For a CPU-only torch: https://download.pytorch.org/whl/cpu
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv /opt/installer \
    && /opt/installer/bin/pip install --quiet pip==26.3 setuptools==84.2.1

# The libraries, at the versions of one file: the layer that changes least and weighs most.
FROM installer AS libraries
COPY image/requirements.txt ./
RUN python3 -m venv --without-pip /opt/venv \
    && /opt/installer/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --only-binary :all: \
        --requirement requirements.txt

# The package itself; `pip check` holds pyproject.toml's ranges against the versions above.
FROM libraries AS package
COPY pyproject.toml README.md LICENSE ./
COPY gan_distributed gan_distributed
RUN /opt/installer/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/installer/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --target /opt/package wheels/*.whl \
    && PYTHONPATH=/opt/package /opt/installer/bin/pip --python /opt/venv/bin/python check

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="gan-distributed" \
      org.opencontainers.image.description="Distributed training of GANs on images" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# Older KubeRay probes pods with wget; a login shell, which some run commands in, forgets ENV PATH.
# hadolint ignore=DL3008,SC2016
RUN if ! command -v wget; then \
        apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/*; \
    fi \
    && useradd --uid 1000 --create-home gan \
    && echo 'export PATH=/opt/package/bin:/opt/venv/bin:$PATH' > /etc/profile.d/gan-distributed.sh
COPY --from=libraries /opt/venv /opt/venv
COPY --from=package /opt/package /opt/package
COPY jobs /opt/jobs
ENV PATH=/opt/package/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/package \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/gan
USER 1000:1000
WORKDIR /home/gan
CMD ["gan-distributed", "--help"]
