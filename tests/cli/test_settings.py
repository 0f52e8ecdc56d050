"""Settings: precedence, units, and refusals that name the key, its source and the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import Secret, parse_duration, parse_size
from core.errors import ConfigError
from gateway.wiring.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    path = Path("atoll.toml")
    path.write_text(text)
    return path


def test_defaults_are_the_documented_ones() -> None:
    settings = load_settings({})
    assert (settings.data, settings.listen, settings.region) == (Path("data"), "127.0.0.1:9000", "us-east-1")
    assert settings.address() == ("127.0.0.1", 9000)
    assert settings.limits.max_connections == 4096


def test_file_environment_flags_in_rising_precedence() -> None:
    write('listen = "127.0.0.1:1"\nregion = "file"\n[http]\nidle_timeout = "5m"\nheader_timeout = 7\n')
    settings = load_settings(
        {"ATOLL_LISTEN": "127.0.0.1:2", "ATOLL_HTTP_HEADER_TIMEOUT": "250ms", "HOME": "x"},
        flags={"listen": "127.0.0.1:3"},
    )
    assert settings.listen == "127.0.0.1:3"
    assert settings.region == "file"
    assert settings.http.idle_timeout == 300.0
    assert settings.http.header_timeout == 0.25


def test_another_file_by_flag_or_variable() -> None:
    Path("a.toml").write_text('region = "a"')
    Path("b.toml").write_text('region = "b"')
    assert load_settings({"ATOLL_CONFIG": "a.toml"}).region == "a"
    assert load_settings({"ATOLL_CONFIG": "a.toml"}, config=Path("b.toml")).region == "b"


def test_users_and_lists() -> None:
    write(
        'domains = ["localhost", "s3.example"]\ntrusted_proxies = ["10.0.0.0/8"]\n'
        '[[users]]\nname = "ann"\nemail = "a@b.example"\naccess_key_id = "ANN"\nsecret_access_key = "secretsecret"\n'
    )
    settings = load_settings({"ATOLL_DOMAINS": "one.example, two.example"})
    assert settings.domains == ("one.example", "two.example")
    assert settings.users[0].name == "ann"
    assert settings.users[0].secret_access_key.reveal() == "secretsecret"


KEYS = "access_key_id = '{}'\nsecret_access_key = '{}'\n"


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ('lisen = "x:1"', {}, r"atoll.toml: unknown key lisen, did you mean listen\?"),
        ("[limits]\nmax_conections = 3", {}, r"unknown key limits.max_conections, did you mean max_connections\?"),
        ("[[users]]\nnam = 'x'", {}, r"unknown key users\[0\].nam, did you mean name\?"),
        ("[[users]]\nname = 'x'", {}, r"users\[0\].access_key_id is missing"),
        ("", {"ATOLL_LISTE": "x:1"}, r"unknown variable ATOLL_LISTE, did you mean ATOLL_LISTEN\?"),
        ("free_space_floor = 'many'", {}, "atoll.toml: free_space_floor must be a size such as"),
        ("[http]\nidle_timeout = '5 parsecs'", {}, "http.idle_timeout must be a duration such as"),
        ("[limits]\nmax_requests = 'x'", {}, "limits.max_requests must be a whole number"),
        ("[limits]\nmax_requests = 1.5", {}, "limits.max_requests must be a whole number"),
        ("region = 5", {}, "region must be text"),
        ("[log]\naccess = 'maybe'", {}, "log.access must be true or false"),
        ("http = 5", {}, "http must be a table"),
        ("users = 5", {}, "users must be a list"),
        ("listen = 'nowhere'", {}, "listen must be HOST:PORT"),
        ("listen = '127.0.0.1:70000'", {}, "listen must be HOST:PORT"),
        ("[tls]\ncertificate = 'x.pem'", {}, "certificate and key belong together"),
        ("trusted_proxies = ['all']", {}, "'all' does not appear to be an IPv4 or IPv6 network"),
        ("= 5", {}, "atoll.toml is not valid TOML"),
        ("access_key_id = 'A'", {}, "access_key_id and secret_access_key belong together"),
        (KEYS.format("ab", "secretsecret"), {}, "^(?!.*users).*access_key_id must be 3 to 128 letters"),
        (KEYS.format("abc", "seven77"), {}, "^(?!.*users).*secret_access_key must be 8 to 256 printable"),
        ("[[users]]\nname = 'x'\n" + KEYS.format("ab", "secretsecret"), {}, r"users\[0\]: access_key_id must be 3 to"),
        ("[[users]]\nname = 'x'\n" + KEYS.format("abc", "seven77"), {}, r"users\[0\]: secret_access_key must be 8 to"),
        ("[[users]]\nname = ' x'\n" + KEYS.format("abc", "secretsecret"), {}, r"users\[0\]: name must be 1 to 128"),
        (
            "[[users]]\nname = 'x'\nid = 'a b'\n" + KEYS.format("abc", "secretsecret"),
            {},
            r"users\[0\]: id must be 1 to",
        ),
        ("[[users]]\nname = 'x'\nemail = 'x'\n" + KEYS.format("abc", "secretsecret"), {}, r"email must be name@domain"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, environ: dict[str, str], message: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=message):
        load_settings(environ)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read none.toml: No such file"):
        load_settings({}, config=Path("none.toml"))


def test_a_refused_secret_is_not_told() -> None:
    write(KEYS.format("abc", "seven77"))
    with pytest.raises(ConfigError) as caught:
        load_settings({})
    assert "seven77" not in str(caught.value)


def test_two_users_with_one_key_are_refused() -> None:
    user = '[[users]]\nname = "{}"\naccess_key_id = "KEY"\nsecret_access_key = "secretsecret"\n'
    write(user.format("ann") + user.format("bob"))
    with pytest.raises(ConfigError, match="two users have the access_key_id KEY"):
        load_settings({})


def test_secrets_do_not_show_themselves() -> None:
    settings = load_settings({"ATOLL_ACCESS_KEY_ID": "KEY", "ATOLL_SECRET_ACCESS_KEY": "very-secret"})
    assert "very-secret" not in repr(settings)
    assert settings.secret_access_key == Secret("very-secret")


def test_every_default_survives_being_written_out() -> None:
    text = f'data = "{Settings().data}"\nlisten = "{Settings().listen}"\nfree_space_floor = "1GiB"\n'
    write(text)
    assert load_settings({}) == Settings()


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("64KiB", 65536), ("64 kib", 65536), ("1.5GB", 1_500_000_000), ("2Ti", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("30", 30.0), ("250ms", 0.25), ("5m", 300.0), ("1.5h", 5400.0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.text(max_size=12))
def test_parsers_take_a_quantity_or_raise_value_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            quantity = parse(text)
        except ValueError:
            quantity = 0
        assert quantity >= 0


def test_the_processes_of_a_gateway_share_its_limits() -> None:
    environ = {"ATOLL_PROCESSES": "3", "ATOLL_LIMITS_MAX_CONNECTIONS": "10", "ATOLL_LIMITS_MAX_REQUESTS": "0"}
    own = load_settings(environ).own_limits
    assert (own.max_connections, own.max_requests) == (4, 0)


def test_a_catalog_in_a_database_has_gateways_of_one_process_by_default() -> None:
    assert load_settings({"ATOLL_CATALOG": "postgresql://127.0.0.1/x"}).process_count == 1
    assert 1 <= load_settings({}).process_count <= 4
