"""txwatchdog keys: who gets in is listed, added to and taken from, a whole file at a time."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from txwatchdog import cli
from txwatchdog.errors import KeysError
from txwatchdog.manhole.access import AuthorizedKey, read_lines
from txwatchdog.manhole.hostkey import load_host_key
from txwatchdog.manhole.keybook import authorize, options_text, public_keys, revoke, rows

if TYPE_CHECKING:
    from pathlib import Path


def _line(number: int, comment: str = "") -> str:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes((number,)) * 32)
    line = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{line.decode()} {comment or f'key{number}'}"


def _fingerprint(number: int) -> str:
    (row,) = rows(_line(number))
    return row.fingerprint


def _keys(directory: Path, *words: str, stdin: str = "") -> Result:
    arguments = ["keys", *words, "--keys", str(directory / "keys")]
    return CliRunner().invoke(cli.main, arguments, input=stdin)


def _file(directory: Path) -> Path:
    return directory / "keys" / "authorized_keys"


def _write(directory: Path, text: str) -> None:
    _file(directory).parent.mkdir(mode=0o700, exist_ok=True)
    _file(directory).write_text(text)
    _file(directory).chmod(0o600)


def test_the_first_key_makes_what_is_missing(tmp_path: Path) -> None:
    """Directory (0700) and file (0600) are made; what was authorized is said."""
    (tmp_path / "ann.pub").write_text(_line(1, "ann@host") + "\n")
    result = _keys(tmp_path, "authorize", str(tmp_path / "ann.pub"))
    assert result.output == (
        f"authorized: line 1: {_fingerprint(1)} (ED25519) ann@host, role full\n"
    )
    assert result.exit_code == 0
    assert _file(tmp_path).read_text() == _line(1, "ann@host") + "\n"
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (_file(tmp_path).parent, _file(tmp_path))
    ]
    assert modes == [0o700, 0o600]
    assert [path.name for path in _file(tmp_path).parent.iterdir()] == ["authorized_keys"]


def test_terms_are_written_as_options(tmp_path: Path) -> None:
    """Role, places and time stand before the key, and are read again as they were given."""
    words = ("--role", "view", "--from", "10.0.0.0/8,!10.0.0.1", "--expires", "2999-01-31T18:30Z")
    result = _keys(tmp_path, "authorize", "-", *words, stdin=_line(1))
    assert result.exit_code == 0
    assert _file(tmp_path).read_text() == (
        'command="view",from="10.0.0.0/8,!10.0.0.1",expiry-time="299901311830Z" ' + _line(1) + "\n"
    )
    (row,) = json.loads(_keys(tmp_path, "list", "--json").output)
    assert row == {
        "number": 1,
        "type": "ED25519",
        "bits": 256,
        "fingerprint": _fingerprint(1),
        "role": "view",
        "command": None,
        "from": "10.0.0.0/8,!10.0.0.1",
        "expires": "2999-01-31T18:30:00+00:00",
        "pty": True,
        "comment": "key1",
        "refused": None,
    }


def test_a_verb_line_is_quoted(tmp_path: Path) -> None:
    """A key may be confined to a verb line with quotes in it."""
    result = _keys(tmp_path, "authorize", "-", "--command", 'export "json"', stdin=_line(1))
    assert "may run 'export \"json\"'" in result.output
    assert _file(tmp_path).read_text().startswith('command="export \\"json\\"" ssh-ed25519 ')


def test_several_keys_at_once(tmp_path: Path) -> None:
    """All keys of a file are added behind what is there, its last line ended if need be."""
    _write(tmp_path, f"# ours\n{_line(1)}")
    result = _keys(tmp_path, "authorize", "-", stdin=f"{_line(2)}\n\n# and\n{_line(3)}\n")
    assert [line.split(":")[1] for line in result.output.splitlines()] == [" line 3", " line 4"]
    assert _file(tmp_path).read_text() == "".join(
        f"{line}\n" for line in ("# ours", _line(1), _line(2), _line(3))
    )


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        (_line(1), "stands in line 2 of"),
        (f"{_line(2)}\n{_line(1)}", "stands in line 2 of"),
        (f"{_line(2)}\n{_line(2)}", "stands in line 1 of what is to be authorized"),
        (f"restrict {_line(2)}", "there are options before the key"),
        ("", "standard input holds no key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "is a private key"),
    ],
)
def test_what_can_not_be_added_changes_nothing(tmp_path: Path, stdin: str, says: str) -> None:
    """A key that is there already, or is none, is one line on stderr, and 1."""
    _write(tmp_path, f"\n{_line(1)}\n")
    result = _keys(tmp_path, "authorize", "-", stdin=stdin)
    assert result.exit_code == 1
    assert says in result.output
    assert result.output.count("\n") == 1
    assert _file(tmp_path).read_text() == f"\n{_line(1)}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--role", "root"), "'root' is not one of"),
        (("--role", "view", "--command", "top"), "exclude each other"),
        (("--command", "bash"), "neither view, tune nor a verb"),
        (("--command", "view"), "--role view"),
        (("--command", "python"), "all of Python"),
        (("--command", "top --jsn"), "No such option"),
        (("--from", "10.0.0.1/8"), "no address range"),
        (("--from", "a b"), "no pattern"),
        (("--from", 'a"\\'), "can't be written"),
        (("--expires", "2020-01-01"), "is over"),
        (("--expires", "soon"), "is no time"),
        (("--expires", "2999-02-30"), "is no time"),
    ],
)
def test_a_mistake_in_an_option_is_2(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """What the manhole would not understand is never written."""
    result = _keys(tmp_path, "authorize", "-", *words, stdin=_line(1))
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not _file(tmp_path).exists()


def test_the_list_shows_who_gets_in_and_who_does_not(tmp_path: Path) -> None:
    """A line for each key with its terms; refused ones with the reason; control characters not."""
    coloured = _line(2, "bo\x1b[31m")
    lines = (
        "# ours",
        _line(1, "ann"),
        f'command="view",restrict {coloured}',
        f'command="top --json" {_line(3)}',
        f"frobnicate {_line(4)}",
        f'expiry-time="20200101Z" {_line(5)}',
        "ssh-dss AAAAB3NzaC1kc3MAAACB old",
    )
    _write(tmp_path, "\n".join(lines))
    result = _keys(tmp_path, "list")
    assert result.exit_code == 0
    shown = [line.split() for line in result.output.splitlines()]
    assert shown[0] == ["line", "type", "bits", "fingerprint", "role", "from", "expires", "comment"]
    assert shown[1] == ["2", "ED25519", "256", _fingerprint(1), "full", "ann"]
    assert shown[2][4:] == ["view", "bo?[31m"]
    assert shown[3][4:] == ["top", "--json", "key3"]
    assert shown[4][3] == "refused"
    assert "line 5 is refused: option 'frobnicate'" in result.output
    assert "line 6 is refused: it has expired" in result.output
    assert "line 7 is refused: a DSA key" in result.output
    data = json.loads(_keys(tmp_path, "list", "--json").output)
    assert [row["number"] for row in data] == [2, 3, 4, 5, 6, 7]
    assert [row["role"] for row in data] == ["full", "view", "view", "", "full", ""]
    assert [bool(row["refused"]) for row in data] == [False] * 3 + [True] * 3
    assert data[3]["fingerprint"] == _fingerprint(4)
    assert data[1]["pty"] is False


def test_the_list_names_each_type_shortly(tmp_path: Path) -> None:
    """As ssh-keygen does, whatever the curve."""
    lines = []
    for curve in (ec.SECP256R1(), ec.SECP521R1()):
        public = ec.generate_private_key(curve).public_key()
        encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        lines.append(public.public_bytes(encoding, form).decode())
    _write(tmp_path, "\n".join(lines))
    _, *shown = (line.split() for line in _keys(tmp_path, "list").output.splitlines())
    assert [row[1:3] for row in shown[:2]] == [["ECDSA", "256"], ["ECDSA", "521"]]


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0o600, "there is no "),
        ("", 0o600, "holds no key"),
        (f"{_line(1)}\nrubbish\n", 0o600, "line 2: no public key after"),
        (f"{_line(1)}\n", 0o660, "chmod 600"),
    ],
)
def test_the_list_says_if_nobody_gets_in(
    tmp_path: Path, text: str | None, mode: int, says: str
) -> None:
    """What there is is shown, the trouble is the last line, and the status 1."""
    if text is not None:
        _write(tmp_path, text)
        _file(tmp_path).chmod(mode)
    result = _keys(tmp_path, "list")
    assert result.exit_code == 1
    assert says in result.output.splitlines()[-1]
    assert ("key1" in result.output) is bool(text)


@pytest.mark.parametrize("which", ["4", "key3", _fingerprint(3), _fingerprint(3)[7:]])
def test_a_key_is_revoked_by_any_of_its_names(tmp_path: Path, which: str) -> None:
    """Number, comment or fingerprint; every other byte stays, odd ones among them."""
    _write(tmp_path, "")
    before = f"# caf\xe9\r\n\n{_line(1)}\r\n".encode("latin-1")
    after = f"\t\n{_line(2)}".encode()
    _file(tmp_path).write_bytes(before + f"{_line(3)}\n".encode() + after)
    _file(tmp_path).chmod(0o640)
    result = _keys(tmp_path, "revoke", which)
    assert result.output == f"revoked: line 4: {_fingerprint(3)} (ED25519) key3\n"
    assert _file(tmp_path).read_bytes() == before + after
    assert stat.S_IMODE(_file(tmp_path).stat().st_mode) == 0o640


def test_a_key_is_revoked_wherever_it_stands(tmp_path: Path) -> None:
    """By fingerprint all its lines go; by number that line only, and the other is pointed out."""
    text = f"{_line(1)}\nrestrict {_line(1)}\n{_line(2)}\n"
    _write(tmp_path, text)
    assert _keys(tmp_path, "revoke", _fingerprint(1)).output.count("revoked: ") == 2
    assert _file(tmp_path).read_text() == f"{_line(2)}\n"
    _write(tmp_path, text)
    assert "still gets in by line 1" in _keys(tmp_path, "revoke", "2").output
    _write(tmp_path, f"{_line(1)}\n")
    assert "now nobody can log in" in _keys(tmp_path, "revoke", "1").output


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("ann", [f"line 1: {_fingerprint(1)}", f"line 2: {_fingerprint(2)}", "Give a fingerprint"]),
        ("1", ["line 1: ", "line 3: "]),
        ("nobody", ["keys list shows them"]),
        ("", ["keys list shows them"]),
        ("99", ["keys list shows them"]),
    ],
)
def test_what_may_mean_several_keys_revokes_none(
    tmp_path: Path, which: str, says: list[str]
) -> None:
    """The candidates are listed, and nothing is changed."""
    text = f"{_line(1, 'ann')}\n{_line(2, 'ann')}\n{_line(3, '1')}\n"
    _write(tmp_path, text)
    result = _keys(tmp_path, "revoke", which)
    assert result.exit_code == 1
    assert all(each in result.output for each in says)
    assert _file(tmp_path).read_text() == text


def test_a_line_that_can_not_be_read_can_be_taken_out(tmp_path: Path) -> None:
    """That is how a file is repaired without an editor."""
    _write(tmp_path, f"{_line(1)}\nrubbish\n")
    assert _keys(tmp_path, "authorize", "-", stdin=_line(2)).exit_code == 1
    assert _keys(tmp_path, "revoke", "2").output == "revoked: line 2:\n"
    assert _keys(tmp_path, "authorize", "-", stdin=_line(2)).exit_code == 0


def test_a_link_stays_one(tmp_path: Path) -> None:
    """A file that is a symbolic link is changed where it points to."""
    _write(tmp_path, "")
    _file(tmp_path).unlink()
    real = tmp_path / "real"
    real.write_text("")
    real.chmod(0o600)
    _file(tmp_path).symlink_to(real)
    assert _keys(tmp_path, "authorize", "-", stdin=_line(1)).exit_code == 0
    assert _file(tmp_path).is_symlink()
    assert real.read_text() == f"{_line(1)}\n"


@pytest.mark.parametrize("words", [("authorize", "-"), ("revoke", "1")])
def test_a_directory_that_is_not_safe_is_left_alone(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Nothing is written where the manhole would not trust it."""
    _write(tmp_path, f"{_line(1)}\n")
    _file(tmp_path).parent.chmod(0o777)
    result = _keys(tmp_path, *words, stdin=_line(2))
    assert result.exit_code == 1
    assert "chmod go-w" in result.output
    assert _file(tmp_path).read_text() == f"{_line(1)}\n"


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is one clear line; nothing half-written stays."""
    _write(tmp_path, f"{_line(1)}\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = _keys(tmp_path, "authorize", "-", stdin=_line(2))
    assert result.exit_code == 1
    assert "no space left on device" in result.output
    assert [path.name for path in _file(tmp_path).parent.iterdir()] == ["authorized_keys"]
    assert _file(tmp_path).read_text() == f"{_line(1)}\n"


def test_the_fingerprint_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    """The host key's line, to the letter; where there is none, none is made."""
    result = _keys(tmp_path, "fingerprint")
    assert result.exit_code == 1
    assert "makes one at its first start" in result.output
    assert not _file(tmp_path).parent.exists()
    load_host_key(_file(tmp_path).parent)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", _file(tmp_path).parent / "host_ed25519"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert _keys(tmp_path, "fingerprint").output == shown


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A name that is wrong is one line, and 1."""
    result = _keys(tmp_path, "authorize", str(tmp_path / "nobody.pub"))
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "no such file" in result.output
    assert not _file(tmp_path).exists()


NOISE = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20).map(
        lambda text: "#" + text
    )
    | st.sampled_from(["", " ", "\t\r", f"restrict {_line(8)}", f"frobnicate {_line(9)}"]),
    max_size=5,
)


@given(NOISE, st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_in_and_out_again_changes_no_byte(tmp_path: Path, noise: list[str], ended: bool) -> None:
    """Whatever stands in the file, authorizing a key and revoking it leaves it as it was."""
    text = "\n".join(noise) + ("\n" if ended else "")
    _write(tmp_path, "")
    _file(tmp_path).write_bytes(text.encode())
    (added,) = authorize(
        _file(tmp_path).parent,
        public_keys(_line(1).encode(), "key"),
        options_text("tune", sources="*"),
    )
    assert (added.role, added.sources) == ("tune", "*")
    assert [row.number for row in revoke(_file(tmp_path).parent, added.fingerprint)] == [
        added.number
    ]
    end = "" if not text or text.endswith("\n") else "\n"
    assert _file(tmp_path).read_bytes() == (text + end).encode()


def test_a_comment_can_not_forge_a_line(tmp_path: Path) -> None:
    """What moves a cursor or ends a line elsewhere is not written."""
    keys = public_keys(_line(1, "a\x1b[2Jb\x85c\u2028d").encode(), "key")
    authorize(tmp_path, keys)
    (found,) = read_lines((tmp_path / "authorized_keys").read_text())
    assert isinstance(found, AuthorizedKey)
    assert found.comment == "a?[2Jb?c?d"


def test_nothing_to_revoke_is_said(tmp_path: Path) -> None:
    """Without a file there is nobody to be let in no more."""
    with pytest.raises(KeysError, match="nothing to revoke"):
        revoke(tmp_path, "1")
