# gluon2torch with CPU-only PyTorch:
#   docker build --tag gluon2torch .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" gluon2torch convert auto out/ --params my.params
# With MXNet and GluonCV, the stronger reference (x86-64 only):
#   docker build --tag gluon2torch --build-arg EXTRAS=gluon,report .

FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY mappings mappings
COPY resnext_torch resnext_torch
COPY converter converter
RUN uv build --wheel --out-dir /wheel
ARG EXTRAS=report
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_TORCH_BACKEND=cpu
RUN uv venv /opt/gluon2torch && \
    uv pip install --python /opt/gluon2torch/bin/python torch==2.13.0 "$(echo /wheel/*.whl)[$EXTRAS]"

FROM python:3.11-slim
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libgomp1 libquadmath0 && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --create-home converter
COPY --from=build /opt/gluon2torch /opt/gluon2torch
ENV HOME=/home/converter PATH=/opt/gluon2torch/bin:$PATH
USER converter
WORKDIR /work
ENTRYPOINT ["gluon2torch"]
CMD ["--help"]
