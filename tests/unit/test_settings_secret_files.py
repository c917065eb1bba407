"""Files that hold a token or a key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from overmind_config.host import job_environment, service_manager
from overmind_config.secret_files import MAX_BYTES, RotatingSecret, UnusableSecret, read_secret


def _write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"ovr_one", b"ovr_one\n", b"ovr_one\r\n", b"  ovr_one \n\n"])
def test_line_ends_and_space_are_not_part_of_a_secret(tmp_path: Path, content: bytes) -> None:
    assert "ovr_one" == read_secret(_write(tmp_path / "token", content))


def test_a_rotated_secret_is_seen(tmp_path: Path) -> None:
    path = _write(tmp_path / "token", b"ovr_one")
    before = read_secret(path)

    _write(path, b"ovr_two")

    assert ("ovr_one", "ovr_two") == (before, read_secret(path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path / "token", b"ovr_one", mode)

    with pytest.raises(UnusableSecret, match=f"chmod 600 {path}"):
        read_secret(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_the_owner_alone_is_taken(tmp_path: Path, mode: int) -> None:
    assert "ovr_one" == read_secret(_write(tmp_path / "token", b"ovr_one", mode))


def test_the_service_managers_own_file_is_taken_as_it_is(tmp_path: Path) -> None:
    """systemd gives the service's user an access list, which shows as rights of the group."""
    path = _write(tmp_path / "token", b"ovr_one", 0o440)

    assert "ovr_one" == read_secret(path, check_mode=False)


def test_a_link_is_refused(tmp_path: Path) -> None:
    target = _write(tmp_path / "target", b"ovr_one")
    link = tmp_path / "token"
    link.symlink_to(target)

    with pytest.raises(UnusableSecret, match="symbolic link"):
        read_secret(link)


def test_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    for path in (tmp_path, pipe):
        with pytest.raises(UnusableSecret, match="not a regular file"):
            read_secret(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"ovr_one ovr_two", "more than one word"),
        (b"ovr_one\novr_two\n", "more than one word"),
        (b"ovr_\x00one", "more than one word"),
        (b"\xef\xbb\xbfovr_one", "plain ASCII"),
        (b"x" * (MAX_BYTES + 1), "more than 16384 bytes"),
    ],
)
def test_content_that_is_not_one_secret_is_refused_and_not_shown(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(UnusableSecret, match=why) as caught:
        read_secret(_write(tmp_path / "token", content))

    assert "ovr_" not in str(caught.value)


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableSecret, match="does not exist"):
        read_secret(tmp_path / "none")
    with pytest.raises(UnusableSecret, match="cannot be read: not a directory"):
        read_secret(_write(tmp_path / "token", b"x") / "below")
    with pytest.raises(UnusableSecret, match="NUL"):
        read_secret(Path("a\0b"))


def test_a_job_sees_only_what_it_may() -> None:
    environ = {"PATH": "/bin", "HOME": "/root", "OVERMIND_API_KEY": "ovr_one", "LD_PRELOAD": "x", "MINE": "1"}

    assert {"MINE": "1"} == job_environment(["MINE", "NOT_SET"], environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (None, None)),
        ({"NOTIFY_SOCKET": "@a", "WATCHDOG_USEC": "60000000"}, ("@a", 60.0)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, (None, 60.0)),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, (None, None)),
        ({"WATCHDOG_USEC": "0"}, (None, None)),
        ({"WATCHDOG_USEC": "soon"}, (None, None)),
    ],
)
def test_the_service_managers_wishes_are_read(
    environ: dict[str, str], expected: tuple[str | None, float | None]
) -> None:
    manager = service_manager(environ)

    assert expected == (manager.notify_socket, manager.watchdog_s)


def test_a_rotating_secret_follows_its_file_and_outlives_it(tmp_path: Path) -> None:
    """While a new key is being put in place the file may be gone or half written: the last good key is used."""
    path = _write(tmp_path / "token", b"ovr_one")
    secret = RotatingSecret("ovr_one", path)

    seen = [secret.current()]
    _write(path, b"ovr_number_two")
    seen.append(secret.current())
    _write(path, b"")
    seen.append(secret.current())
    path.unlink()
    seen.append(secret.current())
    _write(path, b"ovr_three")
    seen.append(secret.current())

    assert ["ovr_one", "ovr_number_two", "ovr_number_two", "ovr_number_two", "ovr_three"] == seen


def test_a_secret_without_a_file_stays() -> None:
    assert "ovr_one" == RotatingSecret("ovr_one", None).current()
