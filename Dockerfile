# A gateway in a container: docs/operations/kubernetes.md. `docker build -t atoll .`

FROM python:3.11-slim AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/atoll/.venv
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
# What changes seldom first: the libraries are a layer of their own.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project --python /usr/local/bin/python
COPY accounts accounts
COPY atoll atoll
COPY backends backends
COPY catalog catalog
COPY core core
COPY engine engine
COPY erasure erasure
COPY gateway gateway
RUN uv sync --locked --no-dev --no-editable --python /usr/local/bin/python

FROM python:3.11-slim
COPY --from=build /opt/atoll/.venv /opt/atoll/.venv
# The number is what a cluster's policies and volumes know; no shell, no home.
RUN groupadd --gid 10001 atoll \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/atoll --shell /usr/sbin/nologin atoll \
    && install -d -o atoll -g atoll -m 0700 /var/lib/atoll
ENV PATH=/opt/atoll/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ATOLL_DATA=/var/lib/atoll \
    ATOLL_LISTEN=:9000
USER 10001:10001
WORKDIR /var/lib/atoll
VOLUME /var/lib/atoll
EXPOSE 9000
# Over the admin socket, so that it holds with TLS and on any port. Writes nothing outside the volume.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["atoll", "status", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["atoll"]
CMD ["serve"]
