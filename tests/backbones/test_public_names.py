"""What users import from `cocoop.data` and `cocoop.backbones`, and what that may not import itself."""

import subprocess
import sys

import pytest

import cocoop.backbones
import cocoop.data


def test_public_names_are_there() -> None:
    assert {"open_dataset", "open_image", "select", "subset_labels"} <= set(cocoop.data.__all__)
    assert set(cocoop.backbones.__all__) == {"Backbone", "ImageEncoder", "load_backbone"}
    for package in (cocoop.data, cocoop.backbones):
        assert all(getattr(package, name) for name in package.__all__)
    assert cocoop.backbones.Backbone is cocoop.Backbone
    with pytest.raises(AttributeError, match=r"'cocoop\.backbones' has no attribute 'Encoder'"):
        _ = cocoop.backbones.Encoder


@pytest.mark.parametrize(
    ("code", "late"),
    [("import cocoop.data; cocoop.data.DATASETS.names()", "torch"), ("import cocoop.backbones", "open_clip")],
)
def test_what_takes_seconds_is_imported_late(code: str, late: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print({late!r} in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
