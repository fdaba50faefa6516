"""Who gets in: `authorized_keys` is read as OpenSSH does, and fails closed."""

from __future__ import annotations

import base64
import hashlib
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from twisted.conch.ssh.keys import Key

from txwatchdog.errors import KeysError
from txwatchdog.manhole.access import (
    fingerprint_of,
    load_authorized_keys,
    parse_authorized_keys,
)
from txwatchdog.manhole.hostkey import load_host_key
from txwatchdog.manhole.roles import Operator
from txwatchdog.manhole.runner import Runner
from txwatchdog.manhole.ssh import _verifies

if TYPE_CHECKING:
    from pathlib import Path


def _line(
    private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> str:
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


ED25519 = _line(ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
ECDSA = _line(ec.derive_private_key(12345, ec.SECP256R1()))
# Made once: an RSA key takes a while.
RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA = _line(RSA_KEY)
WEAK_RSA = _line(rsa.generate_private_key(65537, 1024))


def test_comments_and_blank_lines_are_skipped() -> None:
    """Keys keep their line's number and their comment."""
    keys, _ = parse_authorized_keys(f"# who\n\n  {ED25519} ann@host, her laptop \r\n\t\n{ECDSA}\n")
    assert [(key.line, key.comment) for key in keys] == [(3, "ann@host, her laptop"), (5, "")]


def test_a_refused_line_tells_what_it_holds() -> None:
    """Its type, key, comment and options are there, for a list of the lines."""
    for line, kind in (
        (f'frobnicate,from="10.*" {ED25519}  ann', "ssh-ed25519"),
        (f"no-frobnicate {WEAK_RSA}\tann", "ssh-rsa"),
        ("restrict sk-ssh-ed25519@openssh.com AAAA ann", "sk-ssh-ed25519@openssh.com"),
    ):
        _, (refused,) = parse_authorized_keys(f"{ED25519}\n{line}")
        encoded = line.split(kind)[1].split()[0]
        assert (refused.line, refused.type, refused.comment) == (2, kind, "ann")
        assert refused.blob == base64.b64decode(encoded)
        assert refused.options[0][0] == line.split(",")[0].split()[0]
    _, (refused,) = parse_authorized_keys("ssh-ed448 AAA!A ann")
    assert (refused.blob, refused.fingerprint) == (b"", "")


def test_a_fingerprint_is_as_ssh_keygen_prints_it() -> None:
    """SHA-256 in base64, without what fills it up."""
    blob = base64.b64decode(ED25519.split()[1])
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    assert digest.endswith("=")
    assert fingerprint_of(blob) == f"SHA256:{digest[:-1]}"


def test_an_operator_has_the_terms_of_the_key() -> None:
    """Role, verb line and terminal come from the options, name and address from the client."""
    lines = f'command="view",no-pty {ED25519} ann\ncommand="top --json" {ECDSA}'
    (view, top), _ = parse_authorized_keys(lines)
    operator = view.operator("root", "10.0.0.1")
    assert (operator.comment, operator.user, operator.address) == ("ann", "root", "10.0.0.1")
    assert (operator.role, operator.command, operator.has_pty) == ("view", None, False)
    assert operator.fingerprint == view.fingerprint
    operator = top.operator("root", "")
    assert (operator.command, operator.has_pty) == ("top --json", True)


def test_only_blanks_part_words() -> None:
    """As in sshd: a form feed is part of a word, and of a comment."""
    ((key,), _) = parse_authorized_keys(f"{ED25519}  \fann\f ")
    assert key.comment == "\fann\f"
    with pytest.raises(KeysError):
        parse_authorized_keys(f"\f{ED25519}")


def test_the_blob_is_what_a_client_sends() -> None:
    """A key is found by the bytes that go over the wire."""
    ((key,), _) = parse_authorized_keys(RSA)
    assert key.blob == base64.b64decode(RSA.split()[1])
    assert key.signature_algorithms == (b"rsa-sha2-512", b"rsa-sha2-256")


def test_options_that_forbid_what_is_never_done_are_honoured() -> None:
    """no-port-forwarding and its like take nothing to enforce."""
    ((key,), _) = parse_authorized_keys(f"no-port-forwarding,No-X11-Forwarding {ED25519} ann")
    assert key.options == (("no-port-forwarding", None), ("no-x11-forwarding", None))
    assert key.comment == "ann"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f'from="10.0.0.0/8 {ED25519}', "no closing quote"),
        (f"from=10.0.0.0/8 {ED25519}", "not in double quotes"),
        ("restrict", "no public key after 'restrict'"),
        ("ssh-ed25519", "damaged or cut short"),
        (ED25519[:-8], "damaged or cut short"),
        (ED25519.replace("AAAA", "AA!A", 1), "damaged or cut short"),
        (ED25519.replace("ssh-ed25519", "ecdsa-sha2-nistp256", 1), "damaged or cut short"),
        (ED25519.replace("AAAA", "AAAA!", 1), "damaged or cut short"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "the one line of its .pub file"),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "the one line of its .pub file"),
        ("é", "no public key after"),
        ("!", "neither a public key nor options"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, says: str) -> None:
    """An error names the line's number and the reason."""
    with pytest.raises(KeysError, match=r"^line 2: ") as caught:
        parse_authorized_keys(f"{ED25519}\n{line}\n{ECDSA}\n")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"frobnicate {ED25519}", "option 'frobnicate' is not known here"),
        (f'environment="A=B" {ED25519}', "option 'environment' is not known here"),
        (f"no-frobnicate {ED25519}", "option 'no-frobnicate' is not known here"),
        (f"cert-authority {ED25519}", "certificates (option 'cert-authority') are not supported"),
        (f'restrict="yes" {ED25519}', "option 'restrict' takes no value"),
        (f"from {ED25519}", "option 'from' needs a value"),
        (f'from="" {ED25519}', "'' is no pattern"),
        (f'from="10.0.0.0/33" {ED25519}', "no address range"),
        (f'from="10.0.0.1/8" {ED25519}', "no address range"),
        (f'from="*,!evil.example" {ED25519}', "names are not looked up"),
        (f'from="*",from="10.*" {ED25519}', "comes twice"),
        (f'expiry-time="tomorrow" {ED25519}', "'tomorrow' is no time"),
        (f'expiry-time="20261301" {ED25519}', "is no time"),
        (f'command="a \\"b\\", c",restrict {ED25519}', "neither view, tune nor a verb"),
        (f'command="full" {ED25519}', "neither view, tune nor a verb"),
        (f'command="" {ED25519}', "neither view, tune nor a verb"),
        (f'command="view",command="view" {ED25519}', "comes twice"),
        (f'command="top --jsn" {ED25519}', "No such option"),
        (f'command="python -" {ED25519}', "would allow all of Python"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "a DSA key (ssh-dss) is too weak"),
        ("rsa-sha2-512 AAAA", "keys of type 'rsa-sha2-512'"),
        ("ssh-" + 36 * "x" + " A", "of type 'ssh-" + 36 * "x" + "' are"),
        ("ssh-" + 37 * "x" + " A", "of type 'ssh-" + 33 * "x" + "...' are"),
        ("ssh-\udcff A", "not supported; use one of ssh-ed25519, ecdsa-sha2-nistp256, "),
        ("sk-ssh-ed25519@openssh.com AAAA", "can't be verified by Conch"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificates"),
        ("ssh-ed448 AAAA", "'ssh-ed448' (Ed448) are not supported"),
        (WEAK_RSA, "1024 bits is too weak"),
    ],
)
def test_a_line_that_asks_for_what_is_not_done_is_refused_alone(line: str, says: str) -> None:
    """Its key does not get in, its number and the reason are told, and the others get in."""
    keys, (refused,) = parse_authorized_keys(f"{ED25519}\n{line} ann\n{ECDSA}\n")
    assert [key.line for key in keys] == [1, 3]
    assert (refused.line, refused.comment) == (2, "ann")
    assert says in refused.reason


@given(st.text(), st.integers(0, 2))
def test_no_text_gets_anything_but_keys_or_an_error(text: str, place: int) -> None:
    """Whatever a file holds, the parser returns keys that are in it, or raises KeysError."""
    lines = [ED25519, ECDSA]
    lines.insert(place, text)
    try:
        keys, _ = parse_authorized_keys("\n".join(lines))
    except KeysError as error:
        assert str(error).startswith("line ")  # noqa: PT017 - either outcome is right
    else:
        assert {key.key.sshType() for key in keys} >= {b"ssh-ed25519"}


@given(st.binary(max_size=200))
def test_no_blob_is_taken_for_another_key(blob: bytes) -> None:
    """Base64 of anything is a key only if it is one in its canonical form."""
    line = f"ssh-ed25519 {base64.b64encode(blob).decode()}"
    try:
        ((key,), _) = parse_authorized_keys(line)
    except KeysError:
        return
    assert key.blob == blob


def test_no_signature_is_made_with_sha_1() -> None:
    """What was announced as SHA-2 must be SHA-2; ssh-rsa, as an algorithm, is SHA-1."""
    private = Key(RSA_KEY)
    ((key,), _) = parse_authorized_keys(RSA)
    good = private.sign(b"data", b"rsa-sha2-512")
    assert _verifies(key.key, b"rsa-sha2-512", good, b"data")
    assert not _verifies(key.key, b"rsa-sha2-512", good, b"other")
    assert not _verifies(key.key, b"rsa-sha2-256", good, b"data")
    weak = private.sign(b"data", b"ssh-rsa")
    assert not _verifies(key.key, b"rsa-sha2-512", weak, b"data")
    assert b"ssh-rsa" not in key.signature_algorithms
    for length in range(len(good)):
        assert not _verifies(key.key, b"rsa-sha2-512", good[:length], b"data")


@pytest.mark.parametrize("role", ["view", "tune"])
def test_there_is_no_interpreter_for_lesser_roles(role: str) -> None:
    """Whoever would run Python for them has been sent the wrong way, and gets no further."""
    channel: Any = SimpleNamespace(operator=Operator("ann", "SHA256:", role))
    with pytest.raises(PermissionError, match=role):
        Runner(SimpleNamespace(), {}, channel)


def _write(directory: Path, text: str, mode: int = 0o600) -> None:
    path = directory / "authorized_keys"
    path.write_text(text)
    path.chmod(mode)


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    """Without authorized_keys the error holds the command that makes it."""
    with pytest.raises(KeysError, match=r"keys authorize ~/\.ssh/id_ed25519\.pub --keys .+$"):
        load_authorized_keys(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n"])
def test_an_empty_file_says_what_to_type(tmp_path: Path, text: str) -> None:
    """A file without keys is an error, too: nobody could log in."""
    _write(tmp_path, text)
    with pytest.raises(KeysError, match=r"holds no key.*keys authorize "):
        load_authorized_keys(tmp_path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Who may write to the file may let himself in."""
    _write(tmp_path, ED25519, mode)
    with pytest.raises(KeysError, match=r"chmod 600 .*/authorized_keys$"):
        load_authorized_keys(tmp_path)


def test_a_directory_that_anyone_may_write_to_is_refused(tmp_path: Path) -> None:
    """Who may put files into the directory may let himself in by a new one."""
    _write(tmp_path, ED25519)
    tmp_path.chmod(0o777)
    with pytest.raises(KeysError, match=r"has mode 0777.*chmod go-w "):
        load_authorized_keys(tmp_path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """What can't be read is an error that names it."""
    (tmp_path / "authorized_keys").mkdir()
    with pytest.raises(KeysError, match=r"cannot read .*/authorized_keys: is a directory"):
        load_authorized_keys(tmp_path)


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A mebibyte is read, and not a byte more."""
    text = f"{ED25519}\n".ljust(1 << 20, "#")
    _write(tmp_path, text)
    assert load_authorized_keys(tmp_path).keys
    _write(tmp_path, text + "#")
    with pytest.raises(KeysError, match="longer than 1048576 bytes"):
        load_authorized_keys(tmp_path)


def test_what_is_no_utf_8_is_kept(tmp_path: Path) -> None:
    """A comment in another encoding lets its key in, and can be written back as it was."""
    _write(tmp_path, "")
    (tmp_path / "authorized_keys").write_bytes(ED25519.encode() + b" Andr\xe9\n")
    ((key,),) = load_authorized_keys(tmp_path).keys.values()
    assert key.comment.encode("utf-8", "surrogateescape") == b"Andr\xe9"


def test_a_bad_line_is_named_with_its_file(tmp_path: Path) -> None:
    """The error of a line names the file, too."""
    _write(tmp_path, f"{ED25519}\nrubbish\n", 0o644)
    with pytest.raises(KeysError, match=r"/authorized_keys, line 2: "):
        load_authorized_keys(tmp_path)


def test_the_host_key_is_made_once(tmp_path: Path) -> None:
    """The first start makes the directory and the key, for the owner alone; later ones read it."""
    directory = tmp_path / "service" / "keys"
    made = load_host_key(directory)
    path = directory / "host_ed25519"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert load_host_key(directory) == made
    assert [entry.name for entry in directory.iterdir()] == ["host_ed25519"]


def test_a_host_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The error holds the command that mends it."""
    load_host_key(tmp_path)
    (tmp_path / "host_ed25519").chmod(0o640)
    with pytest.raises(KeysError, match=r"mode 0640.*chmod 600 "):
        load_host_key(tmp_path)


def test_a_host_key_that_is_none_is_refused(tmp_path: Path) -> None:
    """Rubbish, and a key of another type, are errors that say how to get a new one."""
    path = tmp_path / "host_ed25519"
    other = ec.derive_private_key(12345, ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    for text in (b"rubbish", b"", other):
        path.write_bytes(text)
        path.chmod(0o600)
        with pytest.raises(KeysError, match=r"rm .*/host_ed25519$"):
            load_host_key(tmp_path)
