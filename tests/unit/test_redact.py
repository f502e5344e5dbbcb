"""No credential passes, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import re
import time
from importlib.resources import files

import pytest
from tests.credentials import in_context, shaped

from fleetwake.producer.redact import REDACTED, Redactor
from fleetwake.producer.redaction.names import NameRules
from fleetwake.producer.redaction.shapes import gitleaks
from fleetwake.schemas.event import AuditEvent

REDACTOR = Redactor()
SHAPED = shaped(1)
IN_CONTEXT = in_context(2)
GITHUB = SHAPED["github"]


@pytest.mark.parametrize(
    "around", ["%s", "a %s b", "(%s)", "x=%s,y", r"\n%s\n", "é%s;"]
)
@pytest.mark.parametrize("kind", SHAPED)
def test_a_credential_is_known_by_its_shape(kind, around):
    """Wherever it stands, and whatever follows it."""
    redacted = REDACTOR.text(around % SHAPED[kind])

    assert SHAPED[kind][6:] not in redacted
    assert "[redacted:" in redacted


@pytest.mark.parametrize("kind", IN_CONTEXT)
def test_a_credential_is_known_by_what_stands_before_it(kind):
    """Also in a line among others."""
    text, secret = IN_CONTEXT[kind]

    assert secret not in REDACTOR.text(text)
    assert secret not in REDACTOR.text(f"$ cat x\n{text}\n")
    assert secret not in REDACTOR.text(json.dumps({"out": f"ok\n{text}\n"}))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"api_key": "a"}, {"api_key": "[redacted:apikey]"}),
        ({"X-Api-Key": ["a", "b"]}, {"X-Api-Key": ["[redacted:apikey]"] * 2}),
        ({"clientSecret": {"v": "a"}}, {"clientSecret": {"v": "[redacted:secret]"}}),
        ({"password": 12345}, {"password": "[redacted:password]"}),
        ({"password": None}, {"password": None}),
        ({"password": ""}, {"password": ""}),
        ({"token": 5, "max_tokens": 7}, {"token": 5, "max_tokens": 7}),
        ({"next_page_token": "abc1"}, {"next_page_token": "abc1"}),
        ([["authorization", "x"]], [["authorization", "[redacted:authorization]"]]),
        (
            {"name": "Set-Cookie", "value": "a"},
            {"name": "Set-Cookie", "value": "[redacted:cookie]"},
        ),
        (
            {"arguments": '{"password": "a\\"b"}'},
            {"arguments": '{"password": "[redacted:password]"}'},
        ),
        (["auth", "login", "cookie"], ["auth", "login", "cookie"]),
        (
            ["mycli", "--password", "a", "--token", "b", "c"],
            [
                *("mycli", "--password", "[redacted:password]"),
                *("--token", "[redacted:token]", "c"),
            ],
        ),
        (["- see the token", "- a", "b"], ["- see the token", "- a", "b"]),
        (["su", "--ask-password", "--verbose"], ["su", "--ask-password", "--verbose"]),
        (
            {"value": "a", "name": "X-Api-Key"},
            {"value": "[redacted:apikey]", "name": "X-Api-Key"},
        ),
        ({"OPENAI_KEY": "a"}, {"OPENAI_KEY": "[redacted:key]"}),
        ({"PRIMARY_KEY": "a", "my_key": "b"}, {"PRIMARY_KEY": "a", "my_key": "b"}),
    ],
)
def test_json_members_are_known_by_their_names(document, expected):
    """On every level, in JSON inside JSON, and as pairs."""
    assert expected == json.loads(REDACTOR.text(json.dumps(document)))


def test_json_is_redacted_where_it_stands():
    """Numbers keep their digits, and nothing else moves."""
    text = '{ "n": 1.000000000000000000001e400, "password" : "x", "m":NaN }'

    assert text.replace('"x"', '"[redacted:password]"') == REDACTOR.text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mycli --password X1 -v", "mycli --password [redacted:password] -v"),
        ("mycli --token=X1", "mycli --token=[redacted:token]"),
        ("mycli -token 'X 1'", "mycli -token '[redacted:token]'"),
        ("sshpass -p X1 ssh h", "sshpass -p [redacted:password] ssh h"),
        (
            "machine h\n login u\n password X1",
            "machine h\n login u\n password [redacted:password]",
        ),
        ("<password>X 1</password>", "<password>[redacted:password]</password>"),
        ("<ns:apiKey>X1</ns:apiKey>", "<ns:apiKey>[redacted:apikey]</ns:apiKey>"),
        ("OPENAI_KEY=X1", "OPENAI_KEY=[redacted:key]"),
    ],
)
def test_command_lines_and_files_of_passwords_are_read(text, expected):
    """Alone, and in JSON."""
    assert expected == REDACTOR.text(text)
    assert {"out": expected} == json.loads(REDACTOR.text(json.dumps({"out": text})))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a": "\\u0067{GITHUB[1:]}"}}',
        '{"u": "https:\\/\\/app:s3cret99@x.example\\/"}',
        '{"\\u0070assword": "s3cret99"}',
    ],
)
def test_escapes_hide_nothing(text):
    """JSON can write each letter in two ways."""
    redacted = REDACTOR.text(text)

    assert "[redacted:" in redacted
    assert GITHUB[1:] not in redacted
    assert "s3cret99" not in redacted


@pytest.mark.parametrize(
    "text",
    ['{"password": "s3cret99', f'{{"a": ["{GITHUB}', '{"a": 1} password=s3cret99'],
)
def test_a_document_that_was_cut_is_redacted_as_far_as_it_goes(text):
    """Sources cut in the middle of anything."""
    redacted = REDACTOR.text(text)

    assert "s3cret99" not in redacted
    assert GITHUB[4:] not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the password: it must be long",
        "token: string;",
        "token = get_token()",
        "Basic understanding, bearer authentication",
        '{"input_tokens": 12, "output_tokens": 5, "key": "value", "author": "Ann"}',
        "see https://example.com/a@b?x=1 or mail ann@example.com",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "id 550e8400-e29b-41d4-a716-446655440000 path /usr/lib/python3/dist-packages",
        "password=[redacted:password]",
        "PWD=/home/ann OLDPWD=/tmp",
        "mycli --pwd /root --token --verbose - token x1, --token $(get)",
        "Vec<Token> parse(x: Token) <b>x</b> Option<Token>(x1)",
        '{"pwd": "/root"}',
        "İ" * 30 + " nothing here",
    ],
)
def test_what_is_no_credential_stays(text):
    """An audit that blots out everything is none. Same object: nothing was copied."""
    assert text is REDACTOR.text(text)


def test_redacted_text_stays_as_it_is():
    """So that passing twice is passing once."""
    for text, _ in IN_CONTEXT.values():
        once = REDACTOR.text(text)

        assert once == REDACTOR.text(once)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-be"])
def test_bytes_are_redacted_in_any_encoding(encoding):
    """Dead letters are what nobody could read."""
    data = f"naïve {GITHUB} é".encode(encoding)

    assert GITHUB[4:] not in REDACTOR.data(data).replace(b"\0", b"").decode("latin-1")


def test_bytes_without_a_credential_stay():
    """Bit by bit, UTF-8 or not."""
    data = bytes(range(256)) * 9

    assert data is REDACTOR.data(data)
    assert data + b" [redacted:github-pat]" == REDACTOR.data(
        data + b" " + GITHUB.encode()
    )


def test_all_text_of_an_event_is_redacted_and_counted():
    """Columns, attributes by name and value, ids."""
    event = AuditEvent(
        session_id=f"s-{GITHUB}",
        tool_name="read",
        payload=json.dumps({"k": GITHUB}),
        arguments_preview=GITHUB,
        result_preview=f"token={GITHUB}",
        error_message=GITHUB,
        reason=GITHUB,
        error_type=GITHUB,
        attributes={"db_password": "x", "note": GITHUB, GITHUB: "y", "plain": "z"},
    )
    redacted = REDACTOR.event(event)

    assert GITHUB[4:] not in repr(redacted)
    assert "10" == redacted.attributes[REDACTED]
    assert "z" == redacted.attributes["plain"]
    assert "read" == redacted.tool_name


def test_an_id_stays_one_and_two_stay_two():
    """A key that a redaction merges would merge two agents' evidence."""
    one, other = SHAPED["github"], SHAPED["gitlab"]
    ids = [
        REDACTOR.name(f"run-{secret}")
        for secret in (one, one, other, shaped(3)["github"])
    ]

    assert ids[0] == ids[1]
    assert 3 == len(set(ids))
    assert ids[0] != Redactor(key=b"k").name(f"run-{one}")
    assert "a-session-of-mine" == REDACTOR.name("a-session-of-mine")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "https://bob:S3cret@host/run",
            "https://bob:[redacted:password:",
            "]@host/run",
        ),
        ("Bearer abcdefgh", "Bearer [redacted:bearer:", "]"),
        ("Authorization: Bearer abcdefg8", "Authorization: [redacted:auth", "]"),
        ("https://h/?api_key=S3cret", "https://h/?api_key=[redacted:apikey:", "]"),
        ("pwd=abc", "pwd=[redacted:pwd:", "]"),
        ('{"token":"a"}', '{"token":"[redacted:token:', '"}'),
    ],
)
def test_an_id_is_redacted_by_names_and_schemes_too(name, before, after):
    """Also a short one; what is redacted stays as it is when it comes again."""
    event = REDACTOR.event(AuditEvent(session_id=name, tool_name="t"))
    other = REDACTOR.name(name.replace("a", "b").replace("S", "T"))
    again = REDACTOR.event(event)

    assert event.session_id.startswith(before)
    assert event.session_id.endswith(after)
    assert other != event.session_id
    assert again.session_id == event.session_id
    assert f"id {event.session_id}" == REDACTOR.text(f"id {event.session_id}")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("Bearer abcdefghijklmnop", "bearer"), ("acme-007", "acme")],
)
def test_what_is_a_credential_alone_is_one_beside_other_texts(text, kind):
    """In each text of an event."""
    redactor = Redactor(patterns={"acme": re.compile(r"^acme-\d+$")})
    event = AuditEvent(
        result_preview=text,
        reason=text,
        error_message="an authorization was refused",
        attributes={"seen": text},
    )
    redacted = redactor.event(event)

    for found in (
        redacted.result_preview,
        redacted.reason,
        redacted.attributes["seen"],
    ):
        assert found.endswith(f"[redacted:{kind}]")
    assert redacted.attributes[REDACTED] == "3"


def test_what_is_a_credential_alone_is_one_in_a_document():
    """Each of its strings is a text of its own."""
    redacted = REDACTOR.text(json.dumps({"out": "Bearer abcdefghijklmnop"}))

    assert {"out": "Bearer [redacted:bearer]"} == json.loads(redacted)


@pytest.mark.parametrize("letter", "\u0130\u0131\u017f\u212a")
def test_letters_that_only_seem_to_be_of_base64_do_no_harm(letter):
    """An event with such a text is redacted, not lost."""
    redacted = REDACTOR.text(f"Basic dXNlcjpwYXNzd29yZDEy{letter}")

    assert redacted == f"Basic [redacted:basic]{letter}"


def test_a_sign_before_an_escape_is_seen_as_well():
    """Undoing the escape must not be all that is looked at."""
    assert "IhZyhP96WarqjV7" not in REDACTOR.text(r"\u006Bearer IhZyhP96WarqjV7TMf")


def test_a_clean_event_is_not_copied():
    """Nor counted; also if its names were seen before."""
    for number in range(2):
        event = AuditEvent(
            session_id=f"a session of {len('mine')} words",
            payload='{"a": 1}',
            attributes={"b": str(number)},
        )

        assert event is REDACTOR.event(event)


def test_own_names_and_patterns_count_as_well():
    """Every house has secrets of its own."""
    redactor = Redactor(
        names=("X-House-Ticket",), patterns={"badge": re.compile(r"BADGE-[0-9]{4}")}
    )

    assert "[redacted:badge] in" == redactor.text("BADGE-1234 in")
    assert '{"x_house_ticket": "[redacted:xhouseticket]"}' == redactor.text(
        '{"x_house_ticket": "a"}'
    )


@pytest.mark.parametrize(
    "unit",
    [
        *("ey", "eyJ.", "xapp-1-A", "ghp_", "://a:", "password", "token=", "bearer "),
        *("sk-", '{"a":', '"', "\\", '[["auth",', "-----BEGIN PRIVATE KEY-----", "a@"),
        *("--token ", "<token>", '{"value":"a",', '"val":"', "sshpass -p ", "-a"),
        *("machine a login b password ", "default login ", "A_KEY=", "--a b "),
        *("A3T", "Q~", "s.", "curl -u ", "basic ", "[", "cookie: a="),
    ],
)
def test_twice_the_text_takes_about_twice_the_time(unit):
    """No text of an attacker's holds a producer up: measured against itself."""

    def seconds(count):
        text = unit * (count // len(unit))
        best = []
        for _ in range(3):
            start = time.thread_time()
            REDACTOR.text(text)
            best.append(time.thread_time() - start)
        return min(best)

    seconds(1_000)

    assert seconds(80_000) < 10 * seconds(20_000) + 0.05


def test_the_rules_are_those_of_the_named_version():
    """Unchanged, so that they can be replaced by a later one."""
    folder = files("fleetwake.producer.redaction")
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    rules = (folder / "gitleaks.toml").read_bytes()

    assert hashlib.sha256(rules).hexdigest() in source
    assert "MIT License" in (folder / "LICENSE.gitleaks").read_text(encoding="utf-8")
    assert len(gitleaks()) > 100
    for shape in gitleaks():
        assert re.compile(shape.regex, re.ASCII)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Authorization", "authorization"),
        ("HTTP_PROXY_AUTHORIZATION", "authorization"),
        ("awsSecretAccessKey", "accesskey"),
        ("github.token", "token"),
        ("monkey", None),
        ("GROQ_KEY", "key"),
        ("CACHE_KEY", None),
        ("tokens", None),
        ("stop_token", None),
        ("key", None),
    ],
)
def test_names_are_compared_without_case_and_punctuation(name, kind):
    """camelCase, snake_case and Header-Case are one."""
    assert kind == NameRules().secret(name)
