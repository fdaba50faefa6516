"""The keys of a running manhole: modes are checked as sshd's, changes heeded, troubles logged."""

from __future__ import annotations

import base64
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.logger import Logger, formatEvent

from txwatchdog.errors import KeysError
from txwatchdog.manhole.access import AuthorizedKey, Refusal, load_authorized_keys
from txwatchdog.manhole.keyring import Keyring
from txwatchdog.manhole.modes import check_directories, check_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.logger import ILogObserver, LogEvent

KIND = b"ssh-ed25519"


def _line(number: int) -> str:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes((number,)) * 32)
    line = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{line.decode()} key{number}"


def _blob(number: int) -> bytes:
    return base64.b64decode(_line(number).split()[1])


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Modes are what the tests say, whatever the user's umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def _in_its_place(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


class _Ring:
    """A keyring over a directory, a clock that is set by hand, and what was logged."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "authorized_keys"
        self.now = datetime(2027, 1, 1, tzinfo=timezone.utc)
        self.events: list[LogEvent] = []
        log = Logger(namespace="test", observer=cast("ILogObserver", self.events.append))
        self.ring = Keyring(directory, lambda: self.now, log)

    def write(self, *lines: str) -> None:
        """Replace the file by another, as editors do."""
        unfinished = self.path.with_name("unfinished")
        unfinished.write_text("\n".join(lines) + "\n")
        unfinished.chmod(0o600)
        unfinished.replace(self.path)

    def gets_in(self, number: int, address: str = "127.0.0.1") -> int | None:
        """The line by which a key gets in."""
        key = self.ring.admit(_blob(number), KIND, address)
        return key.line if isinstance(key, AuthorizedKey) else None

    def why_not(self, number: int, kind: bytes = KIND, address: str = "127.0.0.1") -> Refusal:
        """Why a key does not get in."""
        refusal = self.ring.admit(_blob(number), kind, address)
        assert isinstance(refusal, Refusal)
        return refusal

    def said(self) -> list[str]:
        """What has been logged since this was last asked."""
        said = [formatEvent(event) for event in self.events]
        self.events.clear()
        return said


@pytest.fixture
def ring(tmp_path: Path) -> _Ring:
    """A keyring that has been loaded, with two keys in it."""
    ring = _Ring(tmp_path)
    ring.write(_line(1), _line(2))
    ring.ring.load()
    return ring


def test_a_change_counts_at_once(ring: _Ring) -> None:
    """A key that is added gets in at the next try, one that is taken out does not."""
    assert (ring.gets_in(1), ring.gets_in(2), ring.gets_in(3)) == (1, 2, None)
    ring.write(_line(3), _line(2))
    assert (ring.gets_in(1), ring.gets_in(2), ring.gets_in(3)) == (None, 2, 1)
    assert ring.said() == []


def test_the_same_size_at_the_same_time_is_a_change(ring: _Ring) -> None:
    """A file of the same length, with its time set back, is read again all the same."""
    before = ring.path.stat()
    text = ring.path.read_text()
    ring.path.write_text(text.replace(_line(1), _line(3)))
    os.utime(ring.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (ring.gets_in(1), ring.gets_in(3)) == (None, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("rubbish\n"),
        lambda path: path.write_text(""),
        lambda path: path.chmod(0o620),
        lambda path: path.parent.chmod(0o770),
        lambda path: _in_its_place(path, Path.mkdir),
        lambda path: _in_its_place(path, os.mkfifo),
        lambda path: path.write_bytes(b"#" * (1 << 20) + b"\n"),
    ],
    ids=["gone", "rubbish", "empty", "writable", "directory", "no file", "fifo", "huge"],
)
def test_a_file_that_is_broken_lets_nobody_in_until_it_is_repaired(
    ring: _Ring, spoil: Callable[[Path], object]
) -> None:
    """Nobody gets in, it is said once, with what to do; repaired, it works again."""
    spoil(ring.path)
    assert [ring.gets_in(1), ring.gets_in(1), ring.gets_in(2)] == [None] * 3
    (said,) = ring.said()
    assert said.startswith("nobody can log in: ")
    assert str(ring.path.parent) in said
    assert ";" in said
    ring.path.parent.chmod(0o700)
    if ring.path.is_dir():
        ring.path.rmdir()
    ring.write(_line(1))
    assert (ring.gets_in(1), ring.gets_in(2)) == (1, None)
    assert ring.said() == []


def test_a_refused_line_is_logged_once_a_change(ring: _Ring) -> None:
    """Line and option are named when they come, and not again while they stay."""
    ring.write(_line(1), f"frobnicate {_line(2)}")
    assert (ring.gets_in(2), ring.gets_in(1), ring.gets_in(2)) == (None, 1, None)
    (said,) = ring.said()
    assert f"{ring.path}, line 2 lets nobody in: option 'frobnicate' is not known" in said
    ring.write(_line(1), f"frobnicate {_line(2)}", f"cert-authority {_line(3)}")
    ring.gets_in(1)
    (said,) = ring.said()
    assert "line 3 lets nobody in: certificates" in said


def test_a_key_expires_while_the_service_runs(ring: _Ring) -> None:
    """Until its time the key gets in; from then on it does not, and why is known."""
    ring.write(f'expiry-time="20270102Z" {_line(1)}')
    assert ring.gets_in(1) == 1
    ring.now += timedelta(days=1)
    refusal = ring.why_not(1)
    assert refusal.reason.startswith("it expired at 2027-01-02")
    assert (refusal.line, refusal.comment, refusal.role) == (1, "key1", "full")
    assert ring.said() == []


def test_of_two_lines_of_a_key_the_first_that_fits_counts(ring: _Ring) -> None:
    """As in sshd: from one place the one line holds, from elsewhere the other."""
    ring.write(f'from="10.0.0.0/8",command="view" {_line(1)}', f'command="tune" {_line(1)}')
    inside = ring.ring.admit(_blob(1), KIND, "::ffff:10.1.1.1")
    outside = ring.ring.admit(_blob(1), KIND, "192.0.2.1")
    assert isinstance(inside, AuthorizedKey)
    assert isinstance(outside, AuthorizedKey)
    assert (inside.terms.role, outside.terms.role) == ("view", "tune")
    operator = inside.operator("ann", "10.1.1.1")
    assert (operator.comment, operator.user, operator.address) == ("key1", "ann", "10.1.1.1")
    assert operator.fingerprint == inside.fingerprint
    assert operator.fingerprint.startswith("SHA256:")


def test_only_the_keys_own_signatures_are_admitted(ring: _Ring) -> None:
    """Another algorithm than the key may use, SHA-1 among them, is refused."""
    assert ring.why_not(1, b"ssh-rsa").reason == "it may not sign by that algorithm"


def test_a_refusal_says_why(ring: _Ring) -> None:
    """What is known of the key is said: its line, its comment, what is wrong with it."""
    assert ring.why_not(3).reason == "it is not in authorized_keys"
    assert ring.why_not(3).fingerprint.startswith("SHA256:")
    ring.write(f'from="10.0.0.0/8",command="view" {_line(1)}', f"cert-authority {_line(2)}")
    here = ring.why_not(1)
    assert (here.line, here.role) == (1, "view")
    assert here.reason == 'it may be used from="10.0.0.0/8" only'
    refused = ring.why_not(2)
    assert (refused.line, refused.comment) == (2, "key2")
    assert "cert-authority" in refused.reason
    ring.path.unlink()
    assert ring.why_not(1).reason == "authorized_keys cannot be used; the log says why"


def test_a_file_of_refused_lines_only_is_an_error(tmp_path: Path) -> None:
    """If nobody can log in, the manhole says so at its start, and why."""
    ring = _Ring(tmp_path)
    ring.write(f"frobnicate {_line(1)}", f"cert-authority {_line(2)}")
    with pytest.raises(KeysError, match="lets nobody in; line 1: option 'frobnicate'"):
        ring.ring.load()


# -- modes ----------------------------------------------------------------------------------------


def test_every_directory_above_is_looked_at(tmp_path: Path) -> None:
    """One that a group may write to is named with its mode and what to type, wherever it is."""
    keys = tmp_path / "a" / "keys"
    keys.mkdir(parents=True)
    (tmp_path / "a").chmod(0o775)
    with pytest.raises(KeysError, match=r"/a has mode 0775: its group .*chmod g-w .*/a$"):
        check_directories(keys)
    (tmp_path / "a").chmod(0o757)
    with pytest.raises(KeysError, match=r"/a has mode 0757: anyone .*chmod o-w .*/a$"):
        check_directories(keys)
    (tmp_path / "a").chmod(0o1777)
    check_directories(keys)


def test_above_the_home_nothing_is_looked_at(tmp_path: Path) -> None:
    """As in sshd, the user's home is where it ends; the home itself is looked at."""
    home = tmp_path / "homes" / "ann"
    keys = home / "keys"
    keys.mkdir(parents=True)
    home.parent.chmod(0o777)
    check_directories(keys, home=home)
    with pytest.raises(KeysError, match="/homes has mode 0777"):
        check_directories(keys, home=tmp_path / "elsewhere")
    home.chmod(0o770)
    with pytest.raises(KeysError, match="/ann has mode 0770"):
        check_directories(keys, home=home)


def test_a_link_is_followed_first(tmp_path: Path) -> None:
    """What counts are the directories that the files are in, not those of links to them."""
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to(tmp_path / "closed")
    (tmp_path / "closed" / "link").symlink_to(tmp_path / "open")
    check_directories(tmp_path / "open" / "link")
    with pytest.raises(KeysError, match="/open has mode 0777"):
        check_directories(tmp_path / "closed" / "link")


def test_a_linked_file_is_where_it_points_to(tmp_path: Path) -> None:
    """A file by a link into a directory that others may write to is refused."""
    keys, shared = tmp_path / "keys", tmp_path / "shared"
    keys.mkdir(mode=0o700)
    shared.mkdir()
    (shared / "list").write_text(_line(1))
    (shared / "list").chmod(0o600)
    (keys / "authorized_keys").symlink_to(shared / "list")
    load_authorized_keys(keys)
    shared.chmod(0o777)
    with pytest.raises(KeysError, match="/shared has mode 0777"):
        load_authorized_keys(keys)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    """Only root and the user who runs this may own the file and its directories."""
    path = tmp_path / "file"
    path.write_text("")
    path.chmod(0o600)
    owner = path.stat().st_uid
    check_file(path, path.stat(), owner)
    check_directories(tmp_path, owner)
    if owner != 0:
        with pytest.raises(KeysError, match=r"belongs to .* chown 54321 "):
            check_file(path, path.stat(), 54321)
    else:
        os.chown(path, 12345, -1)
        with pytest.raises(KeysError, match=r"belongs to 12345.* chown 54321 .*/file$"):
            check_file(path, path.stat(), 54321)
        check_file(path, path.stat(), 12345)
        os.chown(tmp_path, 12345, -1)
        with pytest.raises(KeysError, match=r"belongs to 12345.* chown 54321 "):
            check_directories(tmp_path, 54321)
