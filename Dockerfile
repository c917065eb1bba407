# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/overmind-agent
COPY pyproject.toml README.md LICENSE ./
COPY agent agent
COPY executors executors
COPY config config
COPY controlplane controlplane
RUN /opt/overmind-agent/bin/pip install ".[llm,metrics]" && /opt/overmind-agent/bin/pip uninstall --yes pip

FROM python:3.13-slim
# Whatever ends in the container without a parent is process 1's to reap, and an engine need not bring one that does.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
# The number is fixed, so that a token file on the host can be given to it.
RUN useradd --system --uid 10001 --home-dir /var/lib/overmind-agent --shell /usr/sbin/nologin overmind-agent \
    && install -d -m 0700 -o overmind-agent -g overmind-agent /var/lib/overmind-agent
COPY --from=build /opt/overmind-agent /opt/overmind-agent
ENV PATH=/opt/overmind-agent/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    OVERMIND_AGENT_AGENT__STATE_DIR=/var/lib/overmind-agent \
    OVERMIND_AGENT_LOGGING__FORMAT=json
USER overmind-agent
WORKDIR /var/lib/overmind-agent
VOLUME /var/lib/overmind-agent
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["overmind-agent", "health"]
ENTRYPOINT ["tini", "--", "overmind-agent"]
CMD ["run"]
