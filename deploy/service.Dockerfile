# syntax=docker/dockerfile:1
# The image of a service:
#
#   docker build -f deploy/service.Dockerfile --build-arg SERVICE=notes -t baseplate/notes .
#
# It holds the interpreter, the packages that the service needs, and its code. Packages come first, because they change
# least. What is needed only to install them stays in the first stage.

ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
ARG UV_VERSION=0.13.8
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check --root-user-action=ignore uv==${UV_VERSION}
RUN uv venv /opt/venv
WORKDIR /build
COPY requirements.lock deploy/image_requirements.py ./
COPY shared/pyproject.toml shared/
ARG SERVICE
COPY ${SERVICE}/pyproject.toml service/
# Every direct and indirect package has to match a version and a hash in requirements.lock.
RUN --mount=type=cache,target=/root/.cache/uv \
    python image_requirements.py shared/pyproject.toml service/pyproject.toml > pyproject.toml && \
    uv pip install --python /opt/venv --require-hashes --constraint requirements.lock --requirement pyproject.toml
COPY deploy/gunicorn.conf.py deploy/services.toml /app/deploy/
COPY shared/opskit /app/shared/opskit
COPY shared/servicekit /app/shared/servicekit
COPY ${SERVICE} /app/${SERVICE}
RUN python -m compileall -q /app

FROM python:${PYTHON_VERSION}-slim
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app && \
    # An empty volume gets the owner of the folder that it is mounted on.
    install -d -o app -g app /var/lib/service-keys /var/lib/jwt-keys /var/lib/files && \
    # Nothing is installed from here on, and an intruder should not be able to.
    pip uninstall --yes --quiet --root-user-action=ignore pip
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ARG SERVICE
ENV SERVICE_NAME=${SERVICE} \
    PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app/shared:/app/${SERVICE} \
    # Bytecode was written above, and the root file system may be read-only.
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app/${SERVICE}
# A number, because Kubernetes cannot tell whether a name is root's (runAsNonRoot).
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=500ms --retries=3 \
    CMD ["python", "-m", "servicekit.server.healthcheck", "http://127.0.0.1:8000/ready"]
# `exec` lets gunicorn receive SIGTERM. Each worker writes its metrics to a file, and `/metrics` adds them up.
CMD ["sh", "-c", "PROMETHEUS_MULTIPROC_DIR=/tmp/metrics exec gunicorn --config /app/deploy/gunicorn.conf.py --bind 0.0.0.0:8000 \"${SERVICE_NAME}_service.app:create_app()\""]

# What differs between builds comes last, so that everything above comes from the cache.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="baseplate ${SERVICE}" \
      org.opencontainers.image.description="The ${SERVICE} service of the platform." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
