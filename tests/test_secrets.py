import os
from pathlib import Path

import pytest

from reconciler import secrets
from reconciler.secrets import Secret, SecretError, looks_secret, parse
from tests.ordinary import as_ordinary_user

VALUE = "s3cr3t-Value.0"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The credential store of an administrator outside the service."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    directory = tmp_path / "credstore"
    directory.mkdir()
    monkeypatch.setattr(secrets, "CREDENTIAL_STORE", directory)
    return directory


def put(path: Path, content: str | bytes = VALUE, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def in_file(path: Path) -> str:
    return Secret("file", str(path)).resolve().get_secret_value()


@pytest.mark.parametrize("content", [VALUE, f"{VALUE}\n", f"{VALUE}\r\n"])
def test_a_file_gives_its_one_line(tmp_path: Path, content: str) -> None:
    assert in_file(put(tmp_path / "token", content)) == VALUE


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (f"{VALUE}\n\n", "more than one line"),
        (f"{VALUE}\nsecond", "more than one line"),
        (f" {VALUE}", "white space"),
        (f"{VALUE}\x1b[0m", "control characters"),
        (f"{VALUE}\0", "control characters"),
        (f"{VALUE}é", "beyond ASCII"),
        (b"\xff\xfe" + VALUE.encode(), "beyond ASCII"),
        (VALUE * 1000, "longer than"),
    ],
)
def test_what_no_token_looks_like_is_refused_without_showing_it(
    tmp_path: Path, content: str | bytes, complaint: str
) -> None:
    with pytest.raises(SecretError, match=complaint) as caught:
        in_file(put(tmp_path / "token", content))
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretError, match=rf"can be read by others \(mode {mode:04o}\): chmod 600"):
        in_file(put(tmp_path / "token", mode=mode))


def test_a_file_of_systemd_s_own_may_have_any_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    assert in_file(put(tmp_path / "own" / "token", mode=0o440)) == VALUE
    put(tmp_path / "token", mode=0o440)
    with pytest.raises(SecretError, match="by others"):
        in_file(tmp_path / "own" / ".." / "token")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, complaint in [
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        (tmp_path / "absent", "does not exist"),
        (put(tmp_path / "token") / "below", "can't be opened"),
    ]:
        with pytest.raises(SecretError, match=complaint):
            in_file(path)


def test_a_link_to_a_good_file_is_good(tmp_path: Path) -> None:
    put(tmp_path / "token")
    (tmp_path / "link").symlink_to("token")
    assert in_file(tmp_path / "link") == VALUE


def test_the_environment_gives_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_TEST_TOKEN", VALUE)
    assert Secret("env", "RECONCILER_TEST_TOKEN").resolve().get_secret_value() == VALUE


@pytest.mark.parametrize(("value", "complaint"), [(None, "not set"), ("", "is empty"), (f"{VALUE} x", "white space")])
def test_the_environment_without_a_usable_value(
    monkeypatch: pytest.MonkeyPatch, value: str | None, complaint: str
) -> None:
    monkeypatch.delenv("RECONCILER_TEST_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("RECONCILER_TEST_TOKEN", value)
    with pytest.raises(SecretError, match=complaint) as caught:
        Secret("env", "RECONCILER_TEST_TOKEN").resolve()
    assert VALUE not in str(caught.value)
    assert '{ env = "RECONCILER_TEST_TOKEN" }' in str(caught.value)


def test_a_service_s_credential_comes_before_the_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store / "token", "from-the-store")
    assert Secret("credential", "token").resolve().get_secret_value() == "from-the-store"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    (tmp_path / "given").mkdir()
    assert Secret("credential", "token").resolve().get_secret_value() == "from-the-store"
    put(tmp_path / "given" / "token", "from-systemd", mode=0o440)
    assert Secret("credential", "token").resolve().get_secret_value() == "from-systemd"


def test_a_credential_in_the_store_is_a_file_like_any_other(store: Path) -> None:
    put(store / "token", mode=0o644)
    with pytest.raises(SecretError, match="by others"):
        Secret("credential", "token").resolve()


def test_an_absent_credential_says_where_it_was_looked_for(store: Path) -> None:
    with pytest.raises(SecretError, match=r"CREDENTIALS_DIRECTORY is not set.*LoadCredential=token") as caught:
        Secret("credential", "token").resolve()
    assert str(store) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down")
@pytest.mark.parametrize("closed", ["the store", "the file"])
def test_what_systemd_did_not_hand_over_is_absent_to_a_service(
    monkeypatch: pytest.MonkeyPatch, public: Path, closed: str
) -> None:
    store = public / "store"
    store.mkdir(0o700 if closed == "the store" else 0o755)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    put(store / "token")
    monkeypatch.setattr(secrets, "CREDENTIAL_STORE", store)
    with as_ordinary_user():
        with pytest.raises(SecretError, match=r"may not be read by this user.*sudo"):
            Secret("credential", "token").resolve()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(public))
        with pytest.raises(SecretError, match=r"no such credential.*LoadCredential=token.*restart"):
            Secret("credential", "token").resolve()


def test_a_resolved_secret_does_not_show_itself(tmp_path: Path) -> None:
    secret = Secret("file", str(put(tmp_path / "token"))).resolve()
    assert VALUE not in f"{secret} {secret!r}"


def test_a_reference_counts_from_the_settings() -> None:
    base = Path("/etc/reconciler")
    assert parse({"file": "secrets/token"}, base) == Secret("file", "/etc/reconciler/secrets/token")
    assert parse({"file": "/run/token"}, base) == Secret("file", "/run/token")
    assert parse({"env": "TOKEN"}, base) == Secret("env", "TOKEN")
    assert parse({"credential": "keeper-scim-token"}, base) == Secret("credential", "keeper-scim-token")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (VALUE, "never put the secret itself"),
        ({}, "^$"),
        (5, "^$"),
        ({"env": "A", "file": "b"}, "^$"),
        ({"enviroment": VALUE}, "^$"),
        ({"credentials": VALUE}, "did you mean credential?"),
        ({"env": 5}, "env takes a name, in capitals"),
        ({"env": ""}, "env takes a name"),
        ({"env": VALUE}, "never the secret"),
        ({"credential": "../passwd"}, "credential takes a name"),
        ({"credential": ".."}, "credential takes a name"),
        ({"credential": "0123456789abcdef0123456789abcdef01234567"}, "never the secret"),
        ({"file": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"}, "never the secret"),
        ({"file": "a\nb"}, "file takes a path"),
    ],
)
def test_what_is_no_reference_is_refused_without_showing_it(value: object, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        parse(value, Path("/"))
    assert VALUE not in str(caught.value)
    assert "0123456789abcdef" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["jumpcloud-api-key-for-production-2026", "ada@example.com", "123456789012345678901234"]
)
def test_what_people_write_does_not_look_like_a_secret(text: str) -> None:
    assert not looks_secret(text)
