FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock ./
# Everything is checked against its hash here; the image then installs, from these files alone, only what runs.
RUN pip download --no-cache-dir --require-hashes --requirement requirements.lock --dest /wheels
COPY pyproject.toml README.md ./
COPY generated generated
COPY track_server track_server
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --no-index --find-links /wheels hatchling \
 && /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && python -m venv /opt/track \
 && /opt/track/bin/pip install --no-cache-dir --no-index --find-links /wheels /dist/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/track-server track
COPY --from=build /opt/track /opt/track
ENV PATH=/opt/track/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRACK_LISTEN=0.0.0.0:50051 \
    TRACK_STORE=/var/lib/track-server/track-server.sqlite3
USER track
WORKDIR /var/lib/track-server
VOLUME /var/lib/track-server
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["track-server", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["track-server"]
CMD ["serve"]
