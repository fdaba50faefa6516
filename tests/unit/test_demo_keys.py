"""Who is let into the demo."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from txwatchdog.demo.keys import UnsuitableKeyError, arrange_access, fingerprint, read_public_key
from txwatchdog.errors import KeysError


def public_line(
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> str:
    """Return what ssh-keygen would write into the .pub file."""
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{line.decode()} me@here\n"


def new_line() -> str:
    """Return a new Ed25519 key's .pub line."""
    return public_line(ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """An empty ~/.ssh."""
    directory = tmp_path / "ssh"
    directory.mkdir()
    return directory


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A keys directory that does not exist yet."""
    return tmp_path / "deep" / "keys"


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return path.stat().st_mode & 0o777


def test_own_keys_are_let_in(ssh: Path, keys: Path) -> None:
    """The user's public keys go into a new authorized_keys that only the user can touch."""
    lines = {ssh / "id_ed25519.pub": new_line(), ssh / "id_rsa.pub": new_line()}
    for path, line in lines.items():
        path.write_text(line)
    access = arrange_access(keys, ssh)
    written = access.authorized_keys.read_text()
    assert access.authorized_keys == keys / "authorized_keys"
    assert [line for line in written.splitlines(keepends=True) if not line.startswith("#")] == [
        *lines.values()
    ]
    assert mode(access.authorized_keys) == 0o600
    assert mode(keys) == 0o700
    assert access.identity is None
    for path in lines:
        assert str(path) in access.story
        assert f"# {str(path)!r}" in written
    assert not (keys / "demo_ed25519").exists()


def test_a_throw_away_pair_is_made(ssh: Path, keys: Path) -> None:
    """Without a key of the user's, a pair is made, let in and named to ssh."""
    access = arrange_access(keys, ssh)
    private = keys / "demo_ed25519"
    assert access.identity == private
    assert "throw-away" in access.story
    assert mode(private) == 0o600
    public = (keys / "demo_ed25519.pub").read_text()
    assert public.strip() in access.authorized_keys.read_text()
    # What ssh itself makes of the private key.
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True
    ).stdout
    assert derived.split()[:2] == public.split()[:2]


def test_no_ssh_directory_is_no_key(tmp_path: Path, keys: Path) -> None:
    """A user without ~/.ssh gets a throw-away pair."""
    assert arrange_access(keys, tmp_path / "missing").identity == keys / "demo_ed25519"


def test_the_second_run_changes_nothing(ssh: Path, keys: Path) -> None:
    """A throw-away pair of an earlier run is used again, and named to ssh again."""
    first = arrange_access(keys, ssh)
    before = {path: path.read_bytes() for path in keys.iterdir()}
    second = arrange_access(keys, ssh)
    assert {path: path.read_bytes() for path in keys.iterdir()} == before
    assert second.identity == first.identity
    assert "as it is" in second.story


def test_an_existing_file_is_used_as_it_is(ssh: Path, keys: Path) -> None:
    """An authorized_keys that is there is not touched, whatever keys the user has."""
    keys.mkdir(parents=True)
    authorized = keys / "authorized_keys"
    authorized.write_text(new_line())
    (ssh / "id_ed25519.pub").write_text(new_line())
    before = authorized.read_bytes()
    access = arrange_access(keys, ssh)
    assert authorized.read_bytes() == before
    assert access.identity is None


def test_a_key_that_ssh_would_not_offer_is_named(ssh: Path, keys: Path) -> None:
    """A key under a name of its own needs -i, now and on the next run."""
    (ssh / "work.pub").write_text(new_line())
    (ssh / "work").write_text("the private half")
    assert arrange_access(keys, ssh).identity == ssh / "work"
    assert arrange_access(keys, ssh).identity == ssh / "work"


def test_unsuitable_keys_are_skipped_and_said(ssh: Path, keys: Path) -> None:
    """Public keys that can't be used are left out, each with its reason."""
    good = new_line()
    (ssh / "a.pub").write_text("ssh-dss AAAAB3NzaC1kc3MAAACBAJ me\n")
    (ssh / "b.pub").write_bytes(b"\xff\xfe nonsense")
    (ssh / "c.pub").mkdir()
    (ssh / "id_ed25519.pub").write_text(good)
    access = arrange_access(keys, ssh)
    assert good in access.authorized_keys.read_text()
    assert [said.split(":")[0] for said in access.skipped] == [
        str(ssh / name) for name in ("a.pub", "b.pub", "c.pub")
    ]
    assert "DSA" in access.skipped[0]


def test_only_unsuitable_keys_are_none(ssh: Path, keys: Path) -> None:
    """A user whose keys are all unsuitable gets a throw-away pair."""
    (ssh / "id_dsa.pub").write_text("ssh-dss AAAA me\n")
    access = arrange_access(keys, ssh)
    assert access.identity == keys / "demo_ed25519"
    assert len(access.skipped) == 1


def test_a_pair_without_its_public_half_is_completed(ssh: Path, keys: Path) -> None:
    """The public half is written from the private one, which is not replaced."""
    arrange_access(keys, ssh)
    private = (keys / "demo_ed25519").read_bytes()
    public = (keys / "demo_ed25519.pub").read_bytes()
    (keys / "demo_ed25519.pub").unlink()
    (keys / "authorized_keys").unlink()
    arrange_access(keys, ssh)
    assert (keys / "demo_ed25519").read_bytes() == private
    assert (keys / "demo_ed25519.pub").read_bytes() == public


def test_a_pair_that_is_not_let_in_is_not_named(ssh: Path, keys: Path) -> None:
    """Whoever took it out of authorized_keys is not told to use it, and it stays as it is."""
    arrange_access(keys, ssh)
    public = (keys / "demo_ed25519.pub").read_bytes()
    (keys / "authorized_keys").write_text("no key\nssh-ed25519 n.o.b.a.s.e.6.4\n" + new_line())
    assert arrange_access(keys, ssh).identity is None
    assert (keys / "demo_ed25519.pub").read_bytes() == public
    (keys / "authorized_keys").write_bytes(b"restrict,pty " + public)
    assert arrange_access(keys, ssh).identity == keys / "demo_ed25519"
    assert (keys / "demo_ed25519.pub").read_bytes() == public


def test_a_damaged_throw_away_key_is_said(ssh: Path, keys: Path) -> None:
    """A private key that can't be read is named with what to do, and stays."""
    keys.mkdir(parents=True)
    (keys / "demo_ed25519").write_text("no key")
    with pytest.raises(KeysError, match=r"demo_ed25519 can't be read .* delete it"):
        arrange_access(keys, ssh)
    assert (keys / "demo_ed25519").read_text() == "no key"


def test_a_directory_that_can_not_be_made_is_said(tmp_path: Path, ssh: Path) -> None:
    """A keys directory below a file is one clear error that names the option."""
    (tmp_path / "file").touch()
    with pytest.raises(KeysError, match="--keys DIR"):
        arrange_access(tmp_path / "file" / "keys", ssh)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "p256", "p521", "rsa"],
)
def test_usual_keys_are_suitable(
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> None:
    """Each usual type of key is taken, its comment kept, comments around it left out."""
    assert read_public_key(f"# mine\n\n{public_line(key)}\n") == public_line(key).strip()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 keys"),
        (new_line() + new_line(), "2 keys"),
        ("ssh-ed25519", "damaged"),
        ("ssh-ed25519 AAAA!", "damaged"),
        (f"ssh-ed25519 {base64.b64encode(b'x' * 51).decode()}", "damaged"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA me", "certificate"),
        ("from=me ssh-ed25519 AAAA", "no type that works here"),
        (public_line(rsa.generate_private_key(65537, 1024)), "1024 bits is too short"),
    ],
)
def test_unsuitable_keys_have_a_reason(text: str, reason: str) -> None:
    """What can't be used is refused with the reason."""
    with pytest.raises(UnsuitableKeyError, match=reason):
        read_public_key(text)


def test_the_fingerprint_is_as_ssh_shows_it(ssh: Path, keys: Path) -> None:
    """A private key's fingerprint is the one that ssh-keygen prints."""
    arrange_access(keys, ssh)
    private = keys / "demo_ed25519"
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", private], capture_output=True, text=True, check=True
    ).stdout
    assert fingerprint(private) in shown.split()


def test_no_key_has_no_fingerprint(tmp_path: Path) -> None:
    """A file that is missing, or is no key, has no fingerprint."""
    assert fingerprint(tmp_path / "missing") is None
    (tmp_path / "nonsense").write_text("nonsense")
    assert fingerprint(tmp_path / "nonsense") is None
