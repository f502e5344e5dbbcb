"""The container files fit the project. Docker is not needed, so none is started."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.consumers.broker.jars import KAFKA_VERSION

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {n: one for n, one in SERVICES.items() if one["image"].startswith("fleetwake:")}
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

every_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def test_every_entry_point_is_a_service_of_its_name() -> None:
    """A service has one name: entry point, command and compose service."""
    running = {
        n: one["command"] for n, one in OURS.items() if one["command"][0] == "run"
    }
    names = {point.name for point in entry_points(group="fleetwake.services")}

    assert {name: ["run", name] for name in names} == running


def test_services_wait_for_the_topics() -> None:
    """Topics are never created by accident, so one job creates them first."""
    waits = {
        name: one["depends_on"]["topics"]["condition"]
        for name, one in OURS.items()
        if name != "topics"
    }

    assert OURS["topics"]["command"] == ["topics", "--create"]
    assert OURS["topics"]["restart"] == "no"
    assert set(waits.values()) == {"service_completed_successfully"}


@every_service
def test_what_stays_up_has_a_health_check(name: str) -> None:
    """A service that hangs is seen."""
    one = SERVICES[name]
    ends = one["restart"] == "no"

    assert ends == bool(one["healthcheck"].get("disable"))
    assert ends != bool(one["healthcheck"].get("test"))


@every_service
def test_ports_are_open_on_loopback_only(name: str) -> None:
    """Nobody on the network can reach anything."""
    ports = SERVICES[name].get("ports", [])

    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_no_two_services_want_one_port() -> None:
    """All profiles can run at once."""
    ports = [p.split(":")[1] for one in SERVICES.values() for p in one.get("ports", ())]

    assert len(set(ports)) == len(ports)


@every_service
def test_images_are_pinned(name: str) -> None:
    """The same file gives the same deployment."""
    image, _, tag = SERVICES[name]["image"].rpartition(":")

    assert image
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(\.Final)?", tag)


def test_the_versions_are_ours() -> None:
    """Our image has the project's version; Kafka is the embedded broker's."""
    assert {one["image"] for one in OURS.values()} == {
        f"fleetwake:{PROJECT['version']}"
    }
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@each_of_ours
def test_variables_are_settings(name: str) -> None:
    """A variable that nobody reads is a setting that is silently not set."""
    known = (ROOT / "docs" / "configuration.md").read_text()
    variables = OURS[name]["environment"]

    assert [one for one in variables if f"`{one}`" not in known] == []


@each_of_ours
def test_a_service_has_time_to_stop(name: str) -> None:
    """Docker kills after ten seconds otherwise, in the middle of a flush."""
    assert OURS[name]["stop_grace_period"] == "30s"


@each_of_ours
def test_a_service_has_no_rights_that_it_does_not_need(name: str) -> None:
    """Hostile events meet a process that can do little."""
    assert OURS[name]["read_only"] is True
    assert OURS[name]["cap_drop"] == ["ALL"]
    assert re.search(r"^USER fleetwake$", DOCKERFILE, re.MULTILINE)


def test_the_archive_outlives_its_container() -> None:
    """Its folders are named volumes at FLEETWAKE_HOME of the image."""
    home = re.search(r"FLEETWAKE_HOME=(\S+)", DOCKERFILE)

    assert home
    assert SERVICES["archive"]["volumes"] == [
        f"archive:{home[1]}",
        f"keys:{home[1]}/keys",
    ]
    assert {"archive", "keys"} <= COMPOSE["volumes"].keys()
    # A new volume belongs to who has its folder in the image.
    assert f"{home[1]} {home[1]}/keys" in DOCKERFILE


def test_only_those_who_sign_have_the_keys() -> None:
    """The page reads the archive and cannot write it, nor sign for it."""
    mounts = {name: one.get("volumes", []) for name, one in OURS.items()}
    signers = {n for n, all_ in mounts.items() if any("keys:" in v for v in all_)}

    assert {"archive", "compactor"} == signers
    assert [v for v in mounts["fleet"] if not v.endswith(":ro")] == []


def test_the_image_is_built_once() -> None:
    """Seven services that each build it would leave six images behind."""
    assert {"topics"} == {name for name, one in OURS.items() if "build" in one}
    assert {"never"} == {one["pull_policy"] for one in OURS.values()}


def test_a_build_needs_nothing_but_its_base_images() -> None:
    """No frontend of a floating tag is fetched; bases are of one Python."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert "# syntax=" not in DOCKERFILE
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases[0])


@each_of_ours
def test_a_health_check_is_cheap(name: str) -> None:
    """It starts a Python: often while a service starts, seldom afterwards."""
    check = OURS[name]["healthcheck"]

    assert check.get("disable") or check["interval"] == "30s"
    assert check.get("disable") or check["start_interval"] == "3s"
    assert "python -m compileall" in DOCKERFILE


def test_what_is_mounted_exists() -> None:
    """Docker makes an empty folder of a file that is not there."""
    mounted = [v for one in SERVICES.values() for v in one.get("volumes", ())]
    paths = [v.split(":")[0] for v in mounted if v.startswith("./")]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_prometheus_watches_every_service() -> None:
    """A new service is not forgotten."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    targets = [t for one in job["static_configs"] for t in one["targets"]]

    assert sorted(targets) == sorted(f"{n}:8711" for n in OURS if n != "topics")


def test_the_image_has_the_extras_of_the_services() -> None:
    """All services and the fast decoder, and no broker."""
    extras = re.search(r"fleetwake\[([a-z,]+)\]", DOCKERFILE)
    names = {point.name for point in entry_points(group="fleetwake.services")}

    assert extras
    assert names | {"fast"} == set(extras[1].split(","))
    assert names <= PROJECT["optional-dependencies"].keys()


def test_the_image_is_built_from_what_docker_is_given() -> None:
    """What the Dockerfile copies exists, and .dockerignore lets it through."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    given = {line[1:] for line in ignore if line.startswith("!")}

    assert given == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
