"""One file configures tmsd; every mistake in it is one sentence that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tmsctl.guard.settings import read
from tmsctl.service.config import ConfigError, load_config

GOOD = """
[paths]
runtime = "/run/tmsctl"
state = "/var/lib/tmsctl"
[device]
driver = "tmslink"
url = "/dev/ttyACM0"
serial = "TR000001"
[limits]
mso_max_pct = 80
[protocols]
folders = ["/etc/tmsctl/protocols"]
[guard]
supervise = true
cpu = 1
record = "/var/lib/tmsctl-recordings"
"""
DEVICE = '[device]\ndriver = "tmslink"\nurl = "/dev/ttyACM0"\n'


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "tmsctl.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_whole_file_is_taken(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.guard.record == "/var/lib/tmsctl-recordings"
    assert read(tmp_path / "tmsctl.toml").record == Path("/var/lib/tmsctl-recordings")
    assert config.limits_in_force.mso_max_pct == 80
    assert (config.device.serial, config.guard.cpu) == ("TR000001", 1)


def test_only_the_device_has_no_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, DEVICE))
    assert str(config.runtime) == "/run/tmsctl"
    assert config.guard.supervise
    assert config.guard.record is read(tmp_path / "tmsctl.toml").record is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "device is missing"),
        ("[device]\ndriver = 'tmslink'", "device.url is missing; it has no default."),
        (DEVICE + "[guard]\nsupervise = 1", "guard.supervise is 1; allowed is true or false."),
        (DEVICE + "[guard]\ncpu = '1'", "guard.cpu is '1'; allowed is a whole number."),
        (DEVICE + "[guard]\ncpu = -1", "guard.cpu is -1; allowed is 0 or more."),
        (DEVICE + "[guard]\nrecord = 'here'", "guard.record is 'here'; allowed is a path from the"),
        (DEVICE + "[gaurd]\ncpu = 1", "gaurd is not known here; check its spelling."),
        (DEVICE + "serail = 'X'", "device.serail is not known here"),
        (DEVICE + "[paths]\nstate = 'here'", "paths.state is 'here'; allowed is a path from the"),
        (DEVICE + f"[paths]\nruntime = '/{'x' * 96}'", "allowed are 96 bytes or less."),
        (DEVICE + "[protocols]\nfolders = '/etc'", "protocols.folders is '/etc'; allowed is a li"),
        (DEVICE + "[protocols]\nfolders = [1]", "protocols.folders.0 is 1; allowed is a text."),
        (DEVICE + "[limits]\nmso_max_pct = 101", "limit mso_max_pct = 101 would loosen"),
        (DEVICE + "[limits]\nmso_max_pct = true", "limit mso_max_pct is True"),
        (DEVICE + "[limits]\nmso_max = 10", "limit 'mso_max' cannot be set; allowed are"),
        ("device = 1", "device is 1; allowed is a table."),
        ("[device\n", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        ("a = " + "[" * 5000, "not a TOML file"),
        ("#" * 65_537, "longer than the 65536 bytes"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_key_value_and_what_is_allowed(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(caught.value.sentences) == 1
    assert caught.value.sentences[0].startswith(f"{path}: ")
    assert words in caught.value.sentences[0]
    assert "\n" not in caught.value.sentences[0].strip()


def test_a_runtime_folder_of_just_the_length_that_a_socket_allows_is_taken(tmp_path: Path) -> None:
    load_config(write(tmp_path, DEVICE + f"[paths]\nruntime = '/{'x' * 95}'"))


def test_two_mistakes_are_two_sentences(tmp_path: Path) -> None:
    text = "[device]\ndriver = 1\nurl = '/dev/x'\n[guard]\nsupervise = 'yes'"
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert len(caught.value.sentences) == 2


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path if what == "folder" else tmp_path / "none.toml"
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_config(path)
    assert len(caught.value.sentences) == 1


def test_a_file_that_this_user_may_not_read_is_one_sentence(tmp_path: Path, mocker) -> None:
    mocker.patch.object(Path, "open", side_effect=PermissionError(13, "Permission denied"))
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        load_config(tmp_path / "tmsctl.toml")
