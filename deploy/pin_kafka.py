"""
Write the pinned list of the embedded Apache Kafka: `python deploy/pin_kafka.py`.

Resolves the coordinates below with all they need at run time, downloads each artifact
from the configured repositories and writes its SHA-256 and size. Run it once for each
new version, read the difference, commit it.
"""  # noqa: INP001

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import jgo
from jgo.config import GlobalSettings
from jgo.maven import MavenContext

from fleetwake.consumers.broker.jars import KAFKA_VERSION, PINNED, remote_repositories

ENDPOINTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka depends on the slf4j API only: without a back end it logs nothing.
    "org.slf4j:slf4j-simple:1.7.36",
)


def main() -> None:
    """Resolve, download, hash, write."""
    repositories = remote_repositories(GlobalSettings.load())
    artifacts = jgo.resolve("+".join(ENDPOINTS), repositories)
    with tempfile.TemporaryDirectory() as fresh:
        context = MavenContext(repo_cache=Path(fresh), remote_repos=repositories)
        lines = sorted(_pin(context, artifact) for artifact in artifacts)
    header = f"# {' '.join(ENDPOINTS)} and what they need (deploy/pin_kafka.py)\n"
    PINNED.write_text(header + "".join(lines), encoding="utf-8")
    sys.stdout.write(f"{len(lines)} artifacts in {PINNED}\n")


def _pin(context: MavenContext, artifact: jgo.maven.Artifact) -> str:
    project = context.project(artifact.groupId, artifact.artifactId)
    jar = project.at_version(artifact.version).artifact().resolve().read_bytes()
    name = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    return f"{name} {len(jar)} {hashlib.sha256(jar).hexdigest()}\n"


if __name__ == "__main__":
    main()
