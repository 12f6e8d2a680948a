# The launcher in a container: `docker build -t lazy-launcher .`
#
# Without a network, put the packages into wheels/ (`pip download --dest wheels . hatchling`)
# and build with `--build-arg PIP_NO_INDEX=1`.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# The pattern lets `wheels/` be absent.
COPY pyproject.toml README.md LICENSE wheel[s] ./
COPY launcher ./launcher
ARG PIP_NO_INDEX
RUN python3 -m venv /opt/launcher \
 && /opt/launcher/bin/pip install --no-cache-dir --disable-pip-version-check --find-links . . \
 && /opt/launcher/bin/pip uninstall --yes --quiet pip

FROM ${BASE}
LABEL org.opencontainers.image.title="lazy-launcher" \
      org.opencontainers.image.description="Starts self-hosted models on their first request, stops them when idle" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/launcher /opt/launcher
# Measured start times live here; the launcher runs without it, too.
RUN mkdir -p /etc/launcher /var/lib/launcher && chown 65532:65532 /var/lib/launcher
VOLUME /var/lib/launcher
ENV PATH=/opt/launcher/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LAUNCHER_DEFAULT_LISTEN=0.0.0.0:8000
# Not root. To use Docker's socket it needs the socket's group: `--group-add` with the number
# that `stat -c %g /var/run/docker.sock` prints, as docker-compose.yml does.
USER 65532:65532
EXPOSE 8000
# Whoever listens elsewhere sets LAUNCHER_URL; `docker exec … launcher status` uses it, too.
ENV LAUNCHER_URL=http://127.0.0.1:8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(os.environ['LAUNCHER_URL'] + '/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["launcher"]
CMD ["serve"]
