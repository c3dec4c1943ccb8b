# On one of NVIDIA's PyTorch images, whose torch, CUDA, NCCL and network libraries are kept:
#     docker build -f docker/ngc.Dockerfile --build-arg BASE=IMAGE:TAG -t vid2vid-dist:ngc .
# IMAGE:TAG is any that brings torch 2.13 or newer, its pre-releases included.
ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DS_BUILD_OPS=0

COPY pyproject.toml setup.py README.md LICENSE NOTICE /opt/vid2vid_dist/
COPY configs /opt/vid2vid_dist/configs
COPY vid2vid_dist /opt/vid2vid_dist/vid2vid_dist
# What the image has of these is not exchanged, or the build ends here.
RUN pip freeze --all | grep -E '^(torch|torchvision|numpy|triton)==' > /tmp/kept.txt \
    && pip install --constraint /tmp/kept.txt '/opt/vid2vid_dist[eval]' \
    && pip freeze --all | grep -E '^(torch|torchvision|numpy|triton)==' | diff /tmp/kept.txt -

# Runs, shards and weights are given relative to this folder.
WORKDIR /work
CMD ["python", "-m", "vid2vid_dist"]
