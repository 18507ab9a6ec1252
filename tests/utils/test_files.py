"""Text files of one name a line, as people and Windows write them."""

from pathlib import Path

import pytest

from cocoop import UsageError
from cocoop.utils.files import numbered_lines, read_lines


def test_one_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcr\u00e8me br\u00fbl\u00e9e \r\n\r\n\tdog\ndog".encode())
    assert read_lines(path) == ("cr\u00e8me br\u00fbl\u00e9e", "dog", "dog")
    assert numbered_lines(path) == {1: "cr\u00e8me br\u00fbl\u00e9e", 3: "dog", 4: "dog"}
    path.write_bytes(b"caf\xe9")
    for wrong in (path, tmp_path, tmp_path / "gone.txt"):
        with pytest.raises(UsageError, match=f"{wrong} cannot be read"):
            read_lines(wrong)
