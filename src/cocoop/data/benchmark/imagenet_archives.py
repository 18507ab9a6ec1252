"""ImageNet's own archives to its folders: a tar of tars, and validation images that another file labels."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

from cocoop.data.benchmark.download import Unusable
from cocoop.data.benchmark.remote import ByHand, Remote
from cocoop.data.benchmark.unpack import DAMAGED, members, tar_members, write_member
from cocoop.data.splits import leaves
from cocoop.utils.display import brief, reason

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_AT = "https://image-net.org/data/ILSVRC/2012/"
_LARGEST = 1 << 30  # bytes of an image

FILES = (
    Remote(_AT + TRAIN, 147_897_477_120, "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb"),
    Remote(_AT + VAL, 6_744_924_160, "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0"),
    Remote(_AT + DEVKIT, md5="fa75699e90414af021442c21a62c3abf"),
)


def unpack(archives: Mapping[str, Path], folder: Path, told: Callable[[int], None]) -> None:
    """Write images/train/WNID/ and images/val/WNID/.

    Raises:
        Unusable: an archive is none, or not one of ImageNet's.
        OSError: the images cannot be written.
    """
    try:
        wnids = validation_wnids(archives[DEVKIT])
        for name, file in members(archives[TRAIN]):
            for image, content in tar_members(file):
                told(write_member(content, folder / "images/train" / _plain(name) / image, _LARGEST))
        for name, file in members(archives[VAL]):
            image = name.rpartition("/")[2]
            told(write_member(file, folder / "images/val" / _wnid(image, wnids) / image, _LARGEST))
    except DAMAGED as error:
        raise Unusable(f"the archives of ImageNet are not whole: {reason(error)}") from error


def validation_wnids(devkit: Path) -> list[str]:
    """Return the WordNet id of every validation image, in the order of their numbers."""
    from scipy.io import loadmat

    content = {name.rpartition("/")[2]: file.read() for name, file in members(devkit) if name.count("/") == 2}
    try:
        synsets = loadmat(io.BytesIO(content["meta.mat"]), squeeze_me=True)["synsets"]
        numbers = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        wnids = {int(number): str(wnid) for number, wnid in numbers}
        lines = content["ILSVRC2012_validation_ground_truth.txt"].split()
        return [wnids[int(line)] for line in lines]
    except (KeyError, ValueError, TypeError) as error:
        raise Unusable(f"{devkit} is not ImageNet's development kit: {reason(error)}") from error


def _wnid(image: str, wnids: list[str]) -> str:
    """Return the class of a validation image: ILSVRC2012_val_00000001.JPEG is the first."""
    number = image.removeprefix("ILSVRC2012_val_").removesuffix(".JPEG")
    if not number.isdecimal() or not 0 < int(number) <= len(wnids):
        raise Unusable(f"{VAL} holds {brief(image)}, which is no validation image of ImageNet")
    return wnids[int(number) - 1]


def _plain(name: str) -> str:
    if leaves(name) or "/" in name:
        raise Unusable(f"{TRAIN} holds {brief(name)}, which is no class of ImageNet")
    return name.removesuffix(".tar")


BY_HAND = ByHand(
    how="with an account at https://image-net.org, which asks for the purpose and for agreement to its "
    "terms: download the two image archives of ILSVRC 2012 (tasks 1 and 2) and the development kit",
    files=FILES,
    places=("images/train", "images/val"),
    unpack=unpack,
)
