"""What a key file is that can't be used: its format, its algorithm, what is wrong, what to do.

Only read when a file has been refused, so nothing here is in a hurry. ``pyasn1`` reads what
``cryptography`` has no name for: it says "unsupported" and no more.
"""

from __future__ import annotations

import base64
import re
import struct

from attrs import frozen

__all__ = ["KeyFile", "comment_of", "describe", "type_name"]

_NAMES = {
    "1.2.840.10040.4.1": "DSA",
    "1.2.840.113549.1.1.1": "RSA",
    "1.2.840.113549.1.1.10": "RSA-PSS",
    "1.2.840.10046.2.1": "Diffie-Hellman",
    "1.2.840.10045.2.1": "ECDSA",
    "1.3.101.110": "X25519",
    "1.3.101.111": "X448",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "1.2.643.7.1.1.1.1": "GOST R 34.10-2012 (256 bits)",
    "1.2.643.7.1.1.1.2": "GOST R 34.10-2012 (512 bits)",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
    "2.16.840.1.101.3.4.4.1": "ML-KEM-512",
    "2.16.840.1.101.3.4.4.2": "ML-KEM-768",
    "2.16.840.1.101.3.4.4.3": "ML-KEM-1024",
    # Curves.
    "1.2.840.10045.3.1.7": "NIST P-256",
    "1.3.132.0.34": "NIST P-384",
    "1.3.132.0.35": "NIST P-521",
    "1.3.132.0.33": "NIST P-224",
    "1.3.132.0.10": "secp256k1",
    "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
    "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
    "1.2.156.10197.1.301": "SM2",
    # Ciphers of encrypted keys.
    "2.16.840.1.101.3.4.1.2": "AES-128-CBC",
    "2.16.840.1.101.3.4.1.22": "AES-192-CBC",
    "2.16.840.1.101.3.4.1.42": "AES-256-CBC",
    "1.2.840.113549.3.7": "3DES-CBC",
}
_SSH_NAMES = {
    "ssh-dss": "DSA",
    "ssh-rsa": "RSA",
    "ssh-ed25519": "Ed25519",
    "ssh-ed448": "Ed448",
    "ecdsa-sha2-nistp256": "ECDSA, NIST P-256",
    "ecdsa-sha2-nistp384": "ECDSA, NIST P-384",
    "ecdsa-sha2-nistp521": "ECDSA, NIST P-521",
    "ecdsa-sha2-1.3.132.0.10": "ECDSA, secp256k1",
    "sk-ssh-ed25519@openssh.com": "Ed25519 on a security key",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA on a security key",
}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)(-----END \1-----|\Z)", re.DOTALL)
_PUTTY = re.compile(rb"PuTTY-User-Key-File-\d+: *(\S*)\s+Encryption: *(\S*)")
_PUBLIC_LINE = re.compile(rb"(?:.* )?((?:ssh|ecdsa|sk)-[a-z0-9.@-]+) AAAA", re.IGNORECASE)
_LABELS = {"RSA ": "RSA", "DSA ": "DSA", "EC ": "ECDSA"}
_MAGIC = b"openssh-key-v1\x00"


@frozen
class KeyFile:
    """What a file turned out to be.

    Attributes:
        what: It, with an article, as in "an encrypted private key (Ed25519)".
        kind: ``private``, ``public``, ``certificate`` or ``unknown``.
        algorithm: Its name; empty where it can't be told.
        encrypted: Whether a passphrase protects it.
        form: ``openssh``, ``pem``, ``putty``, ``rfc4716``, ``der`` or ``unknown``.
        cut: Whether its end is missing, or its middle damaged.
    """

    what: str
    kind: str = "unknown"
    algorithm: str = ""
    encrypted: bool = False
    form: str = "unknown"
    cut: bool = False


def type_name(ssh_type: str) -> str:
    """What people call a key type of SSH's."""
    return _SSH_NAMES.get(ssh_type, ssh_type[:60])


def describe(data: bytes) -> KeyFile:
    """Say what a key file is. Never raises, whatever is in it.

    Args:
        data: The whole file.
    """
    try:
        return _describe(data)
    except Exception:
        # Whatever a damaged file does to a parser, it is damaged.
        return KeyFile("a damaged key file, or none at all", cut=True)


def comment_of(data: bytes) -> str:
    """The comment in an unencrypted Ed25519 key's file; empty where there is none.

    Args:
        data: The whole file, in OpenSSH's format or any other.
    """
    try:
        body = b"".join(data.partition(b"-----\n")[2].partition(b"-----")[0].split())
        rest = base64.b64decode(body).removeprefix(_MAGIC)
        for _ in range(3):  # cipher, kdf, its options
            _, rest = _string(rest)
        _, rest = _string(rest[4:])  # how many keys, the public one
        private, _ = _string(rest)
        rest = private[8:]  # two check numbers
        for _ in range(3):  # type, public, private
            _, rest = _string(rest)
        comment = _string(rest)[0].decode("utf-8", "replace")
    except ValueError:
        return ""
    return "".join(each if each.isprintable() else "?" for each in comment)


def _describe(data: bytes) -> KeyFile:
    text = data.strip()
    if not text:
        return KeyFile("an empty file", cut=True)
    for beginning, read in (
        (b"PuTTY-User-Key-File-", _putty),
        (b"---- BEGIN SSH2 PUBLIC KEY", _rfc4716),
        (b"-----BEGIN ", _pem),
        (b"\x30", _der),
    ):
        if text.startswith(beginning):
            # DER is bytes: what looks like a blank at its end is none.
            return read(data if read is _der else text)
    return _public_line(text)


def _public_line(text: bytes) -> KeyFile:
    line = _PUBLIC_LINE.match(text)
    if line is None:
        return KeyFile("no key file")
    name = line[1].decode()
    if "-cert-v" in name:
        return KeyFile(f"a certificate ({name})", "certificate", form="openssh")
    return _make("public", type_name(name), "openssh")


def _rfc4716(_text: bytes) -> KeyFile:
    return KeyFile("a public key in RFC 4716's format", "public", form="rfc4716")


def _make(  # one place that words it
    kind: str, algorithm: str, form: str, *, cipher: str | None = None, cut: bool = False
) -> KeyFile:
    article = "an encrypted " if cipher is not None else "a "
    where = {"putty": " in PuTTY's format", "der": " in DER"}.get(form, "")
    facts = ", ".join(filter(None, [algorithm, cipher]))
    what = f"{article}{kind} key{where}{f' ({facts})' if facts else ''}"
    if cut:
        what += " that is cut short or damaged"
    return KeyFile(what, kind, algorithm, cipher is not None, form, cut)


def _putty(text: bytes) -> KeyFile:
    found = _PUTTY.match(text)
    if found is None:
        return _make("private", "", "putty", cut=True)
    cipher = found[2].decode("ascii", "replace")
    return _make(
        "private",
        type_name(found[1].decode("ascii", "replace")),
        "putty",
        cipher=None if cipher == "none" else cipher,
        cut=b"Private-MAC:" not in text,
    )


def _pem(text: bytes) -> KeyFile:
    found = _PEM.match(text)
    if found is None:
        return KeyFile("a key file that is cut short", cut=True)
    label = found[1].decode()
    if "CERTIFICATE" in label:
        return KeyFile("an X.509 certificate", "certificate", form="pem")
    if "KEY" not in label:
        return KeyFile(f"a file of another kind ({label})", form="pem")
    return _pem_key(label, found[2], cut=not found[3])


def _pem_key(label: str, body: bytes, *, cut: bool) -> KeyFile:
    kind = "public" if "PUBLIC" in label else "private"
    algorithm = next((name for key, name in _LABELS.items() if label.startswith(key)), "")
    # RFC 1421's way to encrypt a key: a header, and DER that makes no sense to anyone else.
    header = re.search(rb"DEK-Info: *([A-Z0-9-]+)", body)
    if header is not None:
        return _make(kind, algorithm, "pem", cipher=header[1].decode(), cut=cut)
    try:
        text = b"".join(body.split())
        # What is left of a file may still tell what it was.
        whole = len(text) - len(text) % 4 if cut else len(text)
        der = base64.b64decode(text[:whole], validate=True)
        if label == "OPENSSH PRIVATE KEY":
            return _openssh(der, cut=cut)
        if not cut:
            return _read_der(der, label)
    except Exception:
        # Not even base64, or not what the label promises.
        return _make(kind, algorithm, "pem", cut=True)
    return _make(kind, algorithm, "pem", cut=True)


def _openssh(blob: bytes, *, cut: bool) -> KeyFile:
    """PROTOCOL.key: magic, cipher, kdf, its options, how many keys, public key, private part."""
    if not blob.startswith(_MAGIC):
        return _make("private", "", "openssh", cut=True)
    try:
        cipher, rest = _string(blob[len(_MAGIC) :])
        _kdf, rest = _string(rest)
        _options, rest = _string(rest)
        # How many keys, the length of the public one, and its type.
        name, _ = _string(rest[8:])
    except ValueError:
        return _make("private", "", "openssh", cut=True)
    try:
        _public, rest = _string(rest[4:])
        _string(rest)
    except ValueError:
        cut = True
    return _make(
        "private",
        type_name(name.decode("ascii", "replace")),
        "openssh",
        cipher=None if cipher == b"none" else cipher.decode("ascii", "replace"),
        cut=cut,
    )


def _string(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < 4:
        raise ValueError("cut short")
    (length,) = struct.unpack_from(">L", data)
    if len(data) < 4 + length:
        raise ValueError("cut short")
    return data[4 : 4 + length], data[4 + length :]


def _der(data: bytes) -> KeyFile:
    """DER without a label: what it is shows in its shape only."""
    for label in ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY"):
        try:
            return _read_der(data, label, form="der")
        except Exception:  # noqa: S112 - another shape, then
            continue
    return KeyFile("a file in DER that is no key, or damaged", form="der", cut=True)


def _read_der(der: bytes, label: str, form: str = "pem") -> KeyFile:
    """What DER with a label says.

    Raises:
        Exception: It is not what its label promises.
    """
    from pyasn1.codec.der import decoder
    from pyasn1.type.base import ConstructedAsn1Type
    from pyasn1.type.univ import Integer, ObjectIdentifier, OctetString

    outer, _ = decoder.decode(der)

    def at(value: object, index: int, kind: type) -> object:
        assert isinstance(value, ConstructedAsn1Type)
        part = value[index]
        if not isinstance(part, kind):
            raise TypeError(f"{type(part).__name__} at {index}")
        return part

    def name(value: object) -> str:
        return _NAMES.get(str(value), f"algorithm {value}")

    if label == "PRIVATE KEY":  # PKCS#8: version, algorithm, octets
        at(outer, 0, Integer)
        at(outer, 2, OctetString)
        return _make("private", _algorithm(at(outer, 1, ConstructedAsn1Type), name), form)
    if label == "PUBLIC KEY":  # SPKI: algorithm, bits
        return _make("public", _algorithm(at(outer, 0, ConstructedAsn1Type), name), form)
    if label == "ENCRYPTED PRIVATE KEY":  # the scheme and its parameters, octets
        scheme = at(outer, 0, ConstructedAsn1Type)
        at(outer, 1, OctetString)
        cipher = name(
            at(at(at(scheme, 1, ConstructedAsn1Type), 1, ConstructedAsn1Type), 0, ObjectIdentifier)
        )
        return _make("private", "", form, cipher=cipher)
    if label == "EC PRIVATE KEY":  # version, octets, curve and public key, both optional
        at(outer, 0, Integer)
        at(outer, 1, OctetString)
        curve = name(at(outer, 2, ObjectIdentifier))
        return _make("private", f"ECDSA, {curve}", form)
    algorithm = next((name for key, name in _LABELS.items() if label.startswith(key)), label)
    return _make("public" if "PUBLIC" in label else "private", algorithm, form)


def _algorithm(identifier: object, name: object) -> str:
    """An AlgorithmIdentifier's: the algorithm, and for elliptic curves the curve."""
    from pyasn1.type.base import ConstructedAsn1Type
    from pyasn1.type.univ import ObjectIdentifier

    assert isinstance(identifier, ConstructedAsn1Type)
    assert callable(name)
    algorithm = str(name(identifier[0]))
    if algorithm == "ECDSA" and len(identifier) > 1 and isinstance(identifier[1], ObjectIdentifier):
        return f"{algorithm}, {name(identifier[1])}"
    return algorithm
