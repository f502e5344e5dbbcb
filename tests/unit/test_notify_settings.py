"""Whom to tell: the file, the environment, and what is refused at start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.payloads import HOSTILE, alert

from fleetwake.consumers.notify.route import Route
from fleetwake.consumers.notify.settings import NotifySettings, SlackSettings, load
from fleetwake.consumers.notify.template import checked, cut, link_to, rfc3339, text_of
from fleetwake.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "https://hooks.example/T0/B0/very-secret"


@pytest.fixture(name="config")
def _config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], NotifySettings]:
    def write(text: str) -> NotifySettings:
        file = tmp_path / "fleetwake.toml"
        file.write_text(text)
        monkeypatch.setenv("FLEETWAKE_CONFIG", str(file))
        return load()

    return write


def test_without_settings_nobody_is_told(config: Any) -> None:
    """And that is no error: `fleetwake up` starts every service."""
    assert config("").sinks == {}


def test_a_secret_stands_in_a_file(config: Any, tmp_path: Path) -> None:
    """As a container's orchestrator mounts it."""
    (tmp_path / "url").write_text(f" {SECRET}\n")
    settings = config(
        f'[notify.sinks.team]\nkind = "slack"\nurl_file = "{tmp_path}/url"\n'
    )

    assert settings.sinks["team"].url.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


def test_a_secret_stands_in_the_environment(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the sink stays in the file."""
    monkeypatch.setenv("FLEETWAKE_NOTIFY_SINKS__TEAM__URL", SECRET)
    settings = config('[notify.sinks.team]\nkind = "slack"\nmin_level = "critical"\n')
    one = settings.sinks["team"]

    assert isinstance(one, SlackSettings)
    assert one.min_level == "critical"
    assert one.url.get_secret_value() == SECRET


def test_all_of_it_stands_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who has no file."""
    monkeypatch.setenv(
        "FLEETWAKE_NOTIFY_SINKS",
        '{"a": {"kind": "pagerduty", "routing_key": "0123456789abcdef"}}',
    )

    assert list(load().sinks) == ["a"]


WRONG = {
    'kind = "carrier-pigeon"': "notify.sinks.team",
    'kind = "slack"': "notify.sinks.team.url: field required",
    f'kind = "slack"\nurl = "{SECRET}"\ncolour = 1': "team.colour: extra inputs",
    'kind = "slack"\nurl = "ftp://very-secret/x"': "expected http://HOST",
    'kind = "slack"\nurl = "http://very-secret:99999999"': "expected http://HOST",
    'kind = "slack"\nurl_file = "/no/such/file"': "url_file: No such file",
    f'kind = "slack"\nurl = "{SECRET}"\nurl_file = "x"': "give one of them",
    f'kind = "slack"\nurl = "{SECRET}"\ntemplate = "$secret"': "there is no $secret",
    f'kind = "slack"\nurl = "{SECRET}"\ntemplate = "100 $"': "a $ must begin a name",
    f'kind = "slack"\nurl = "{SECRET}"\ncafile = "/no/such"': "there is no such file",
    f'kind = "slack"\nurl = "{SECRET}"\nmin_level = "low"': "min_level",
    f'kind = "webhook"\nurl = "{SECRET}"\nheaders = {{"a b" = "x"}}': "of a header",
    f'kind = "webhook"\nurl = "{SECRET}"\nheaders = {{a = "\\nvery-secret"}}': "ASCII",
    f'kind = "alertmanager"\nurl = "{SECRET}"\nlabels = {{"a-b" = "x"}}': "of a label",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_used_is_named(config: Any, text: str) -> None:
    """With its place, and without a value: it may be a secret."""
    with pytest.raises(ConfigurationError) as error:
        config("[notify.sinks.team]\n" + text)

    assert WRONG[text] in str(error.value)
    assert "very-secret" not in str(error.value)


@pytest.mark.parametrize("name", ["Team", "a b", "", "x" * 41, "-a"])
def test_names_of_sinks_are_short_and_plain(config: Any, name: str) -> None:
    """They are labels of metrics."""
    with pytest.raises(ConfigurationError, match="is no name of a sink"):
        config(f'[notify.sinks."{name}"]\nkind = "slack"\nurl = "{SECRET}"')


@pytest.mark.parametrize(
    ("route", "taken"),
    [
        ({}, True),
        ({"min_level": "critical"}, False),
        ({"states": ["open", "resolved"]}, True),
        ({"states": ["resolved"]}, False),
        ({"kinds": ["fleet"]}, False),
        ({"rules": ["identical_*", "x"]}, True),
        ({"rules": ["Identical_*"]}, False),
        ({"agents": ["cod?r"]}, True),
        ({"tools": ["[a-f]*"]}, False),
        ({"sessions": ["prod-*"]}, False),
        ({"rules": ["*"], "sessions": ["s-*"], "agents": ["x"]}, False),
    ],
)
def test_a_route_takes_what_all_its_filters_match(
    route: dict[str, Any],
    taken: bool,  # noqa: FBT001
) -> None:
    """An empty one matches everything."""
    assert Route(**route).takes(alert()) == taken


def test_an_alert_without_an_agent_matches_the_empty_text() -> None:
    """So `*` takes it, and `?*` does not."""
    fleet = alert(agent_id=None)

    assert Route(agents=("*",)).takes(fleet)
    assert not Route(agents=("?*",)).takes(fleet)


def test_a_level_that_is_not_known_passes() -> None:
    """A newer writer's worst must not be lost."""
    assert Route(min_level="block").takes(alert(level="meltdown"))


def test_a_template_is_filled_in_once() -> None:
    """What an event brings is text."""
    one = alert(reason="$session ${rule} {0.__class__} %(x)s", tool_name="$$")

    assert text_of(checked("$$ ${tool}: $reason"), one) == (
        "$ $$: $session ${rule} {0.__class__} %(x)s"
    )


def test_a_link_holds_quoted_values() -> None:
    """No value can leave its place in an address."""
    link = link_to("https://f/s/$session?a=$agent", alert(session_id="a/../b?x#\n>|"))

    assert link == "https://f/s/a%2F..%2Fb%3Fx%23%0A%3E%7C?a=coder"
    assert link_to("https://f/$reason", alert(reason=HOSTILE * 100)) is None


def test_times_are_written_to_the_millisecond() -> None:
    """To the end of the year 9999."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(253_402_300_799_999_999) == "9999-12-31T23:59:59.999Z"
    assert cut("abcdef", 4) == "abc…"
