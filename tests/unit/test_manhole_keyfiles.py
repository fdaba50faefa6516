"""A key file that can't be used is named: its format, its algorithm, what is wrong with it."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import warnings
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from txwatchdog.errors import KeysError
from txwatchdog.manhole.access import fingerprint_of
from txwatchdog.manhole.hostkey import load_host_key, read_host_key
from txwatchdog.manhole.keybook import public_keys
from txwatchdog.manhole.keyfiles import comment_of, describe

if TYPE_CHECKING:
    from pathlib import Path

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER
PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
OPENSSH = serialization.PrivateFormat.OpenSSH
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
BARE = serialization.NoEncryption()
LOCKED = serialization.BestAvailableEncryption(b"secret")

ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
ED448 = ed448.Ed448PrivateKey.from_private_bytes(b"\x07" * 57)
SECP256K1 = ec.derive_private_key(12345, ec.SECP256K1())
P256 = ec.derive_private_key(12345, ec.SECP256R1())
X25519 = x25519.X25519PrivateKey.from_private_bytes(b"\x07" * 32)
# Made once: these take a while.
RSA = rsa.generate_private_key(65537, 2048)
DSA = dsa.generate_private_key(1024)

PUTTY = b"""PuTTY-User-Key-File-3: ssh-ed25519
Encryption: none
Comment: ann
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAIPKtYWivamX3zP84A060DI+fczRWmH4ExyooiHM/
8jOJ
Private-Lines: 1
AAAAIG
Private-MAC: 00
"""
RFC4716 = b'---- BEGIN SSH2 PUBLIC KEY ----\nComment: "a"\nAAAA\n---- END SSH2 PUBLIC KEY ----\n'


def _gost() -> bytes:
    """A PKCS#8 key of an algorithm that cryptography does not know."""
    oid = bytes.fromhex("06082a85030701010101")
    algorithm = b"\x30" + bytes((len(oid),)) + oid
    body = b"\x02\x01\x00" + algorithm + b"\x04\x02\x04\x00"
    der = b"\x30" + bytes((len(body),)) + body
    return b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END PRIVATE KEY-----"


OPENSSH_ED25519 = ED25519.private_bytes(PEM, OPENSSH, BARE)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    OPENSSH_DSA = DSA.private_bytes(PEM, OPENSSH, BARE)

FILES = [
    (DSA.private_bytes(PEM, PKCS8, BARE), "a private key (DSA)"),
    (DSA.private_bytes(PEM, TRADITIONAL, BARE), "a private key (DSA)"),
    (SECP256K1.private_bytes(PEM, PKCS8, BARE), "a private key (ECDSA, secp256k1)"),
    (SECP256K1.private_bytes(PEM, TRADITIONAL, BARE), "a private key (ECDSA, secp256k1)"),
    (ED448.private_bytes(PEM, PKCS8, BARE), "a private key (Ed448)"),
    (ED448.private_bytes(DER, PKCS8, BARE), "a private key in DER (Ed448)"),
    (X25519.private_bytes(PEM, PKCS8, BARE), "a private key (X25519)"),
    (RSA.private_bytes(PEM, TRADITIONAL, BARE), "a private key (RSA)"),
    (P256.private_bytes(PEM, OPENSSH, BARE), "a private key (ECDSA, NIST P-256)"),
    (ED25519.private_bytes(DER, PKCS8, BARE), "a private key in DER (Ed25519)"),
    (_gost(), "a private key (GOST R 34.10-2012 (256 bits))"),
    (ED25519.private_bytes(PEM, PKCS8, LOCKED), "an encrypted private key (AES-256-CBC)"),
    (ED25519.private_bytes(DER, PKCS8, LOCKED), "an encrypted private key in DER (AES-256-CBC)"),
    (RSA.private_bytes(PEM, TRADITIONAL, LOCKED), "an encrypted private key (RSA, AES-256-CBC)"),
    (PUTTY, "a private key in PuTTY's format (Ed25519)"),
    (
        PUTTY.replace(b"none", b"aes256-cbc"),
        "an encrypted private key in PuTTY's format (Ed25519, aes256-cbc)",
    ),
    (
        PUTTY[:-20],
        "a private key in PuTTY's format (Ed25519) that is cut short or damaged",
    ),
    (OPENSSH_ED25519[:150], "a private key (Ed25519) that is cut short or damaged"),
    (OPENSSH_ED25519[:60], "a private key that is cut short or damaged"),
    (OPENSSH_ED25519[:20], "a key file that is cut short"),
    (
        ED448.private_bytes(PEM, PKCS8, BARE)[:60],
        "a private key that is cut short or damaged",
    ),
    (b"", "an empty file"),
    (b"rubbish", "no key file"),
    (b"\x00\xff" * 9, "no key file"),
    (b"\x30\x03rub", "a file in DER that is no key, or damaged"),
    (ED25519.public_key().public_bytes(PEM, SPKI), "a public key (Ed25519)"),
    (SECP256K1.public_key().public_bytes(PEM, SPKI), "a public key (ECDSA, secp256k1)"),
    (SECP256K1.public_key().public_bytes(DER, SPKI), "a public key in DER (ECDSA, secp256k1)"),
    (RFC4716, "a public key in RFC 4716's format"),
    (b"ssh-dss AAAAB3NzaC1kc3MAAACB ann", "a public key (DSA)"),
    (b"sk-ssh-ed25519@openssh.com AAAAGnNr", "a public key (Ed25519 on a security key)"),
    (
        b"ssh-ed25519-cert-v01@openssh.com AAAAIHNza",
        "a certificate (ssh-ed25519-cert-v01@openssh.com)",
    ),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "an X.509 certificate"),
    (b"-----BEGIN PGP MESSAGE-----\nAAAA", "a file of another kind (PGP MESSAGE)"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "what"), FILES, ids=[what for _, what in FILES])
def test_each_kind_of_file_is_named(data: bytes, what: str) -> None:
    """Format, kind, algorithm, cipher and damage are told."""
    assert describe(data).what == what


@given(st.data())
def test_no_file_is_too_damaged_to_be_named(data: st.DataObject) -> None:
    """Whatever is cut off, or changed in the middle, something is said of it."""
    whole = data.draw(st.sampled_from([content for content, _ in FILES]) | st.binary())
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    place = data.draw(st.integers(0, len(cut)))
    assert describe(cut[:place] + data.draw(st.binary(max_size=3)) + cut[place + 1 :]).what


def _host(directory: Path, content: bytes) -> Path:
    path = directory / "host_ed25519"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DSA.private_bytes(PEM, PKCS8, BARE), "is a private key (DSA), and must be"),
        (SECP256K1.private_bytes(PEM, PKCS8, BARE), "(ECDSA, secp256k1)"),
        (ED448.private_bytes(PEM, PKCS8, BARE), "(Ed448)"),
        (ED25519.private_bytes(PEM, PKCS8, LOCKED), "openssl pkey -in "),
        (ED25519.private_bytes(PEM, OPENSSH, LOCKED), "ssh-keygen -p -N '' -f "),
        (OPENSSH_DSA, "is a private key (DSA), and must be"),
        (ED25519.public_key().public_bytes(PEM, SPKI), "put the private half here, or remove"),
        (PUTTY, "puttygen KEY.ppk -O private-openssh -o "),
        (OPENSSH_ED25519[:150], "copy it again whole, or remove"),
    ],
)
def test_a_host_key_that_can_not_be_used_is_named(
    tmp_path: Path, content: bytes, says: str
) -> None:
    """Its algorithm or format is told, what can be done about it, and how to have a new one."""
    _host(tmp_path, content)
    with pytest.raises(KeysError, match=r"rm .*/host_ed25519$") as caught:
        load_host_key(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_host_key_from_another_tool_works(tmp_path: Path) -> None:
    """An unencrypted Ed25519 key in PEM is as good as one in OpenSSH's format."""
    _host(tmp_path, ED25519.private_bytes(PEM, PKCS8, BARE))
    from_pem = read_host_key(tmp_path)
    _host(tmp_path, OPENSSH_ED25519)
    assert read_host_key(tmp_path) == from_pem


def test_a_host_key_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A FIFO in its place is no key, and not waited for."""
    os.mkfifo(tmp_path / "host_ed25519", 0o600)
    with pytest.raises(KeysError, match="is an empty file"):
        load_host_key(tmp_path)


def test_directories_are_made_safe(tmp_path: Path) -> None:
    """Whatever the umask, what is made on the way to a host key only its owner can write to."""
    before = os.umask(0)
    try:
        load_host_key(tmp_path / "a" / "b" / "keys")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b", "a/b/keys")]
    assert modes == [0o755, 0o755, 0o700]


def test_the_comment_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    """A key's comment is found in its file; a file that has none, or is none, has an empty one."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the shop\x1b", "-f", tmp_path / "k"],
        check=True,
    )
    data = (tmp_path / "k").read_bytes()
    assert comment_of(data) == "the shop?"
    assert [comment_of(each) for each in (b"", b"-----\nAAAA", OPENSSH_ED25519)] == ["", "", ""]
    (key,) = public_keys((tmp_path / "k.pub").read_bytes(), "k.pub")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "k.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert fingerprint_of(key.blob) in shown.split()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (OPENSSH_ED25519, "is a private key (Ed25519); it belongs to its owner alone"),
        (ED25519.private_bytes(PEM, PKCS8, LOCKED), "an encrypted private key (AES-256-CBC)"),
        (PUTTY, "puttygen -L"),
        (RFC4716, "ssh-keygen -i -m RFC4716 -f key.pub"),
        (ED25519.public_key().public_bytes(PEM, SPKI), "as ssh-keygen writes it into a .pub file"),
        (P256.public_key().public_bytes(PEM, SPKI), "ssh-keygen -i -m PKCS8 -f key.pub"),
        (SECP256K1.public_key().public_bytes(PEM, SPKI), "secp256k1 is not supported"),
        (ED448.public_key().public_bytes(PEM, SPKI), "Ed448 is not supported"),
        (DSA.private_bytes(PEM, PKCS8, BARE), "DSA is not supported"),
        (b"", "key.pub holds no key"),
        (b"# nobody\n", "key.pub holds no key"),
        (b"rubbish", "key.pub, line 1: no public key after 'rubbish'"),
        ("ssh-ed25519 AAAA".encode("utf-16"), "key.pub is no key file"),
        (b"ssh-dss AAAAB3NzaC1kc3MAAACB", "key.pub, line 1: a DSA key"),
        (b"ssh-ed25519 AAAAC3NzaC1lZDI1", "line 1: the key is damaged or cut short"),
    ],
)
def test_what_is_no_public_key_is_not_let_in(data: bytes, says: str) -> None:
    """What is in the file is named, with what to do about it."""
    with pytest.raises(KeysError) as caught:
        public_keys(data, "key.pub")
    assert says in str(caught.value)
