"""Text files of one name a line, as people and Windows write them; JSON with a digest over it."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from cocoop import UsageError
from cocoop.utils.files import checked_json, numbered_lines, read_checked_json, read_lines


def test_one_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffcr\u00e8me br\u00fbl\u00e9e \r\n\r\n\tdog\ndog".encode())
    assert read_lines(path) == ("cr\u00e8me br\u00fbl\u00e9e", "dog", "dog")
    assert numbered_lines(path) == {1: "cr\u00e8me br\u00fbl\u00e9e", 3: "dog", 4: "dog"}
    path.write_bytes(b"caf\xe9")
    for wrong in (path, tmp_path, tmp_path / "gone.txt"):
        with pytest.raises(UsageError, match=f"{wrong} cannot be read"):
            read_lines(wrong)


class Small(BaseModel):
    number: float
    words: list[str]


def test_the_digest_of_checked_json_is_over_every_field() -> None:
    text = checked_json(Small(number=0.1, words=["a", "ü"]))
    assert read_checked_json(Small, text.encode()) == Small(number=0.1, words=["a", "ü"])
    for damaged in (
        text.replace("0.1", "0.2"),
        text.replace('"a"', '"b"'),
        text[:-4],
        "[]",
        "",
        "null",
        "{}",
    ):
        with pytest.raises(ValueError, match="was changed or cut off"):
            read_checked_json(Small, damaged.encode())


def test_checked_json_of_another_kind_is_not_called_damaged() -> None:
    class Other(BaseModel):
        figure: float

    with pytest.raises(ValueError, match=r"not of this version of cocoop \(number: Field required\)"):
        read_checked_json(Small, checked_json(Other(figure=1)).encode())
