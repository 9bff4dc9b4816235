# The programs of yseg in a container, without the tests' packages.
#
#     docker build --tag=yseg .                              # CPU
#     docker build --tag=yseg --build-arg=DEVICE=cuda13 .    # NVIDIA GPU; cuda12, tpu likewise
#     docker run --rm --volume="$PWD:/data" yseg launch.segment --model=/data/models/b --image=/data/c.tif --output=/data/c.zarr
FROM python:3.11-slim
ARG DEVICE=cpu
WORKDIR /yseg
COPY requirements.txt ./
# Of the pinned versions those that users need; the device's JAX is of the same version.
RUN sed -e '/^# used by the tests/,/^$/d' requirements.txt > used.txt \
    && pip install --no-cache-dir --requirement used.txt \
    && if [ "$DEVICE" != cpu ]; then pip install --no-cache-dir "jax[$DEVICE]==$(sed -n 's/^jax==\([^ ]*\).*/\1/p' used.txt)"; fi
COPY . .
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m"]
CMD ["launch.train", "--help"]
