import pytest

from asyncload_lib.redaction import redact, redacted, redacted_command
from asyncload_lib.settings import OPTIONS

FLAGS = {option.flag: option.secret for option in OPTIONS.values()}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--asyncload-loop-probe-token", "s3cret", "-u", "5"], "--asyncload-loop-probe-token *** -u 5"),
        (["--asyncload-loop-probe-token=s3cret"], "--asyncload-loop-probe-token=***"),
        (["--asyncload-loop-probe-t", "s3cret"], "--asyncload-loop-probe-t ***"),
        (["--asyncload-loop-probe-t=s3=cret"], "--asyncload-loop-probe-t=***"),
        (["--asyncload-redis-url", "redis://:s3cret@h:1/0"], "--asyncload-redis-url 'redis://:***@h:1/0'"),
        (["--asyncload-redis-url=redis://u:s3cret@h"], "'--asyncload-redis-url=redis://u:***@h'"),
        (["-H", "http://u:s3cret@h:1"], "-H 'http://u:***@h:1'"),
        (["--asyncload-chat-path", "/a?api_key=s3cret"], "--asyncload-chat-path '/a?api_key=***'"),
        (["--api-key", "s3cret", "--my-password=s3cret"], "--api-key *** --my-password=***"),
        (["--authenticate", "--headless"], "--authenticate --headless"),
        (["--asyncload-redis-key-prefix", "mine:", "a b"], "--asyncload-redis-key-prefix mine: 'a b'"),
        (["locust", "--headless", "-t", "3s"], "locust --headless -t 3s"),
    ],
)
def test_a_command_keeps_everything_but_its_secrets(arguments: list[str], shown: str) -> None:
    assert redacted_command(arguments, FLAGS) == shown


def test_every_text_of_a_document_is_redacted() -> None:
    document = {"a": ["http://u:pw@h", 1, None, {"b": ("/x?token=pw&y=1",)}], "n": 1.5, "t": True}
    shown = {"a": ["http://u:***@h", 1, None, {"b": ["/x?token=***&y=1"]}], "n": 1.5, "t": True}
    assert redacted(document) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ValueError: Invalid header value: Bearer sk-live-s3cret", "ValueError: Invalid header value: Bearer ***"),
        ("refused: Basic dXNlcjpzM2NyZXQ=", "refused: Basic ***"),
        ("login with password=s3cret failed", "login with password=*** failed"),
        ("api_key = s3cret, again", "api_key = ***, again"),
        ("redis://default:8/s3cret@h:6379/0", "redis://default:***@h:6379/0"),
        ("rediss://:8/s3cret@h:6379/0", "rediss://:***@h:6379/0"),
    ],
)
def test_a_secret_in_the_text_of_an_error_goes(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


def test_what_is_no_secret_stays() -> None:
    for text in ("the bearer of news", "CSRF token missing", "Basic understanding", "basic authentication needed"):
        assert redact(text) == text
    assert redact("chat[/a?key=***] p95 < 1 s") == "chat[/a?key=***] p95 < 1 s"
    assert redact("GET /a?b=c sent to me@host, 3 s") == "GET /a?b=c sent to me@host, 3 s"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8001/users/@me",
        "http://host/users/@me",
        "http://[::1]:8001/users/@me",
        "/search?keyword=abc&author=x&authors=y&signal=1&sight=2&keyboard=3",
    ],
)
def test_an_address_without_a_secret_stays(address: str) -> None:
    assert redact(address) == address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://:s3/cr@et@h:1/0", "redis://:***@h:1/0"),
        ("redis://u:8001@h:1/0", "redis://u:***@h:1/0"),
        ("http://s3cret@h/a", "http://***@h/a"),
        (
            "/a?apikey=s3cret&Authorization=s3cret&X-Amz-Signature=s3cret",
            "/a?apikey=***&Authorization=***&X-Amz-Signature=***",
        ),
        ("/a?auth=s3cret&sig=s3cret&key=s3cret&authToken=s3cret", "/a?auth=***&sig=***&key=***&authToken=***"),
    ],
)
def test_a_secret_of_an_address_goes(address: str, shown: str) -> None:
    assert redact(address) == shown


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("piece", "end"), [("redis://", ""), ("redis://h/", "@h"), ("a://[/", "@h"), ("?key", ""), ("?", "")]
)
def test_a_long_text_costs_no_more_than_its_length(piece: str, end: str) -> None:
    text = 50_000 * piece + end
    assert redact(text) == text
    assert redact(f"redis://u:s3cret@h {text} ?token=s3cret") == f"redis://u:***@h {text} ?token=***"
