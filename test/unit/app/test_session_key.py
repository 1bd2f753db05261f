"""The key that signs session tokens: from a file it outlives the picker, else it dies with it."""

import pytest

from epp.app.picker import secret_of
from epp.config.options import RunOptions
from epp.errors import ConfigError


def test_a_picker_that_starts_again_signs_with_the_key_of_the_file(tmp_path):
    (tmp_path / "key").write_bytes(b"sixteen bytes or more\n")
    options = RunOptions(session_key_file=str(tmp_path / "key"))

    assert secret_of(options) == secret_of(options) == b"sixteen bytes or more"


def test_without_a_file_each_picker_has_a_key_of_its_own():
    assert secret_of(RunOptions()) != secret_of(RunOptions())


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"short", "16 bytes")])
def test_a_key_that_cannot_be_used_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        secret_of(RunOptions(session_key_file=str(tmp_path / "key")))
