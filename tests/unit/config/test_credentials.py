"""Files of tokens and policies: what is read, what is refused, and when a changed file is taken up."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from samplerd_server.config import ConfigError
from samplerd_server.config.credentials import read_policy, read_tokens
from samplerd_server.config.watched_file import WatchedFile

DIGEST = hashlib.sha256(b"secret").hexdigest()


def test_lines_of_tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# comment\n\nserving:sha256:{DIGEST}\n plain \nother.one@x:sha256:{DIGEST.upper()}\n")
    tokens = read_tokens(str(file))
    assert [token.name for token in tokens] == ["serving", "", "other.one@x"]
    assert tokens[0].digest == tokens[2].digest == hashlib.sha256(b"secret").digest()
    assert tokens[1].digest == hashlib.sha256(b"plain").digest()
    assert DIGEST[:8] not in repr(tokens)


def test_the_documented_command_makes_a_line(tmp_path):
    command = 'TOKEN=secret; echo "serving:sha256:$(printf %s "$TOKEN" | sha256sum | cut -d" " -f1)"'
    made = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout
    assert made == f"serving:sha256:{DIGEST}\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"anonymous:sha256:{DIGEST}", "line 1: a name has"),
        (f"other:sha256:{DIGEST}", "line 1: a name has"),
        (f":sha256:{DIGEST}", "line 1: a name has"),
        (f"# c\nname:sha256:{DIGEST[1:]}", "line 2: after NAME:sha256:"),
        (f"name:sha256:{DIGEST}0", "line 1: after NAME:sha256:"),
        ("# only a comment", "no token in it"),
    ],
)
def test_lines_that_are_no_tokens(content, told, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(content)
    with pytest.raises(ConfigError, match=told) as caught:
        read_tokens(str(file))
    assert DIGEST[2:10] not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nonsense", "not TOML"),
        ("[other]", "one table, allow"),
        ("allow = 1", "one table, allow"),
        ("[allow]\nx = []\n[more]", "one table, allow"),
        ("[allow]\n'a b' = []", "cannot be the name"),
        ("[allow]\nx = 1", "expected a list"),
        ("[allow]\nx = ['Sample']", "expected a list"),
        ("[allow]\nx = ['/a.B/*', '*']", "expected a list"),
    ],
)
def test_policies_that_cannot_be_used(content, told, tmp_path):
    file = tmp_path / "policy"
    file.write_text(content)
    with pytest.raises(ConfigError, match=told):
        read_policy(str(file))


def test_a_policy(tmp_path):
    file = tmp_path / "policy"
    file.write_text("[allow]\n'*' = []\nanonymous = ['/a.B/C']\nx = ['/a.B/*']\n")
    assert read_policy(str(file)) == {"*": (), "anonymous": ("/a.B/C",), "x": ("/a.B/*",)}
    assert read_policy("") is None


def test_a_watched_file_is_looked_at_once_a_second_and_kept_while_it_is_unusable(tmp_path, caplog):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    now = 0.0
    watched = WatchedFile(str(file), read_tokens, lambda: now)
    (one,) = watched.get()
    file.write_text("two-longer\n")
    now = 0.9
    assert watched.get() == (one,)
    now = 1.0
    (two,) = watched.get()
    assert two.digest == hashlib.sha256(b"two-longer").digest()
    file.unlink()
    for now in (2.0, 3.0, 4.0):  # noqa: B007  # the clock reads it
        assert watched.get() == (two,)
    assert sum("cannot be used" in record.getMessage() for record in caplog.records) == 1
    file.write_text("one\n")
    now = 5.0
    assert watched.get() == (one,)
