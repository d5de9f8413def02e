"""STEERSMAN_REDIS_URL: what the client would not understand, or would take otherwise, is one line, and never shows the password."""

import pytest

from steersman_service.errors import StartupError
from steersman_service.sessions.redis_url import OPTIONS, check_redis_url, parse_redis_url
from steersman_service.sessions.store import SessionStore
from steersman_service.settings import load_settings
from steersman_service.telemetry.metrics import Metrics

HOST = "redis://127.0.0.1:6379"
WRONG = [
    ("", "must begin with"),
    ("http://x", "must begin with"),
    ("127.0.0.1:6379", "must begin with"),
    ("REDIS://127.0.0.1", "must begin with"),
    ("redis:127.0.0.1", "must begin with"),
    ("redis://127.0.0.1:0", "port"),
    ("redis://127.0.0.1:99999", "port"),
    ("redis://127.0.0.1:abc", "port"),
    ("redis://[::1:6379", "host"),
    (f"{HOST}/abc", "database"),
    (f"{HOST}/-1", "database"),
    (f"{HOST}/0/1", "database"),
    (f"{HOST}?db=abc", "db: must be a whole number"),
    (f"{HOST}?db=-1", "db: must be a whole number"),
    (f"{HOST}?db=", "db: "),
    (f"{HOST}/1?db=1", "db is given twice"),
    (f"{HOST}?db=1&db=2", "db is given twice"),
    (f"{HOST}?0", "is no option"),
    (f"{HOST}?timeout=5", "timeout is no option; the setting redis_timeout_seconds"),
    (f"{HOST}?tls=true", "tls is no option; for TLS, begin the URL with rediss://"),
    (f"{HOST}?decode_responses=true", "decode_responses is no option; known are"),
    (f"{HOST}?health_check_interval=x", "health_check_interval: must be a whole number"),
    (f"{HOST}?socket_timeout=soon", "socket_timeout: must be a number of seconds"),
    (f"{HOST}?socket_keepalive=maybe", "socket_keepalive: must be one of"),
    (f"{HOST}?protocol=4", "protocol: must be one of 2, 3"),
    (f"{HOST}?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS alone"),
    ("rediss://127.0.0.1?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs: must be one of none, optional, required"),
    ("rediss://127.0.0.1?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs: there is no such file"),
    ("unix://run/redis.sock", "a socket has a whole path"),
    ("unix://", "a socket has a whole path"),
    ("unix:///run/redis.sock?tls=1", "tls is no option"),
    (f"{HOST}/0#one", "#"),
    ("redis://one:1,two:2", "several hosts begin with redis+sentinel"),
    ("redis+other://one", "must begin with"),
    ("unix+cluster://one", "must begin with"),
    ("redis+sentinel://one,two", "the Sentinels' name of the primary follows the hosts"),
    ("redis+sentinel://one,two/", "the Sentinels' name of the primary follows the hosts"),
    ("redis+sentinel://one/name/x", "the path is the number of the database"),
    ("redis+sentinel://one,/name", "a host is empty"),
    ("redis+sentinel:///name", "a host is empty"),
    ("redis+sentinel://one:0/name", "port"),
    ("redis+sentinel://one/name?sentinel_password=", "sentinel_password: has no value"),
    ("redis+cluster://", "a host is empty"),
    ("redis+cluster://one/1", "a cluster has no databases"),
    ("redis+cluster://one?db=1", "a cluster has no databases"),
    ("redis+cluster://one,two?sentinel_password=x", "sentinel_password is no option"),
    ("redis+cluster://one,two:x", "port"),
    ("redis+cluster://one?ssl_ca_certs=/etc/hosts", "ssl_ca_certs is for TLS alone"),
]
# Each holds "secret", in a place where it would be taken for something else.
LEAKING = [
    "redis://:sec/ret@127.0.0.1:6379/0",
    "redis://:secret/x@127.0.0.1:6379/0",
    "redis://:x?secret@127.0.0.1:6379/0",
    "redis://:x?secret=1@127.0.0.1:6379/0",
    "redis://:x#secret@127.0.0.1:6379/0",
    "redis://:[secret@127.0.0.1:6379/0",
    "redis://:secret@127.0.0.1:port/0",
    "redis://:secret\u2100@127.0.0.1:6379/0",
    "redis://:secret word@127.0.0.1:6379/0",
    "redis://:secret@127.0.0.1:6379/0?timeout=5",
    "redis://:secret@127.0.0.1:6379/0?password=secret",
    "secret@127.0.0.1:6379",
    "secret://127.0.0.1:6379",
    "redis://127.0.0.1/secret",
    "redis://127.0.0.1?db=secret",
    "unix://user:secret@run/redis.sock",
    "redis+cluster://:sec/ret@one,two",
    "redis+cluster://:sec?ret@one,two",
    "redis+cluster://:secret@one,two:port",
    "redis+sentinel://:sec/ret@one,two/name",
    "redis+sentinel://:secret@one,two",
    "redis+sentinel://one/name?sentinel_password=sec@ret",
]
RIGHT = [
    "redis://",
    "redis://:6379",
    "redis:///2",
    f"{HOST}/",
    "redis://[::1]:6379/0",
    "redis://user:p%40ss%2F%23%3F@127.0.0.1:6379/3",
    "redis://:p@ss@127.0.0.1:6379",
    "redis://:p%zz%@127.0.0.1:6379",
    "redis://user@127.0.0.1",
    f"{HOST}?db=3&client_name=shop&protocol=3&health_check_interval=30&socket_keepalive=true&max_connections=9",
    f"{HOST}?username=user&password=p%40ss&socket_timeout=2.5&socket_connect_timeout=1&retry_on_timeout=no",
    "rediss://127.0.0.1?ssl_cert_reqs=none&ssl_check_hostname=false",
    "unix:///run/redis%20one.sock?db=2",
    "unix://user:pass@/run/redis.sock",
    "redis+sentinel://user:p%40s,s@one:26379,two,[::1]:1,[::2]/name.1?sentinel_username=u&sentinel_password=p%40",
    "rediss+sentinel://one/name/3?ssl_cert_reqs=none&protocol=3",
    "redis+cluster://user:p%40s,s@one:6379,two,[::1]:7?health_check_interval=9&retry_on_timeout=no&max_connections=9",
    "rediss+cluster://one?ssl_cert_reqs=none&client_name=shop",
]


@pytest.mark.parametrize(("url", "why"), WRONG)
def test_what_is_wrong_is_one_line(url: str, why: str) -> None:
    with pytest.raises(StartupError) as caught:
        load_settings(redis_url=url)
    assert str(caught.value).startswith("settings: redis_url: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", LEAKING)
def test_no_part_of_a_password_is_shown(url: str) -> None:
    with pytest.raises(StartupError) as caught:
        load_settings(redis_url=url)
    assert "sec" not in str(caught.value).replace("_seconds", "").replace("_SECONDS", "").replace(" seconds", "")


@pytest.mark.parametrize("url", RIGHT)
async def test_what_is_right_is_understood_by_the_client(url: str) -> None:
    check_redis_url(url)
    store = SessionStore(url, max_events=1, ttl_seconds=1.0, timeout_seconds=1.0, metrics=Metrics())
    await store.close()


@pytest.mark.parametrize("name", OPTIONS)
async def test_the_client_knows_every_option(name: str) -> None:
    values = {"protocol": "3", "ssl_cert_reqs": "none", "client_name": "a", "username": "a", "password": "a"}
    value = values.get(name, __file__ if name.startswith("ssl_") else "1")
    if name == "ssl_ca_path":
        value = "/"
    if name == "ssl_check_hostname":
        value = "false"
    url = f"rediss://127.0.0.1?{name}={value}"
    check_redis_url(url)
    store = SessionStore(url, max_events=1, ttl_seconds=1.0, timeout_seconds=1.0, metrics=Metrics())
    await store.close()


def test_hosts_users_and_names_are_read() -> None:
    found = parse_redis_url("rediss+sentinel://u:p%40@one,[::1]:7/name/2?sentinel_password=a%2Bb&protocol=3")
    assert (found.kind, found.service, found.sentinel_user) == ("sentinel", "name", {"password": "a+b"})
    assert found.nodes == [f"rediss://u:p%40@{host}/2?protocol=3" for host in ("one:26379", "[::1]:7")]
    assert parse_redis_url("redis+cluster://one").nodes == ["redis://one:6379/"]
    assert parse_redis_url(f"{HOST}/1") == ("single", [f"{HOST}/1"], "", {})
