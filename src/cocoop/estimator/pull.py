"""Models on the Hub, written hf:OWNER/NAME or hf:OWNER/NAME@REVISION, as folders of this machine.

Of a repository two files are asked for by name: `model.json`, and the prompt file that it names. Their sizes
are looked at first, both are data with digests, and nothing else that lies there is fetched, let alone run.
"""

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants

from cocoop.backbones.hub import HUB
from cocoop.backbones.names import TOY
from cocoop.backbones.pretrained import SHIPPED
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.card import ModelInfo
from cocoop.estimator.folder import INFO, prompt_name
from cocoop.utils.display import reason
from cocoop.utils.files import data_digest, read_checked_json

if TYPE_CHECKING:
    from huggingface_hub.file_download import HfFileMetadata

SPELLED = "hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
LARGEST = {INFO: 1 << 26}  # bytes
LARGEST_PROMPT = 1 << 30  # bytes; caches of a thousand classes are a tenth of it
SIGN_IN = "hf auth login (older: huggingface-cli login), or the variable HF_TOKEN"
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
_COMMIT = re.compile("[0-9a-f]{40}")
_SAFE = re.compile(r"\w[\w.-]*")  # names of files that stay where they are put


@dataclass(frozen=True)
class Address:
    """A repository of models on the Hub.

    Attributes:
        repository: OWNER/NAME.
        revision: a branch, a tag or a commit; None for the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def page(self) -> str:
        """Where people look at it."""
        return f"{constants.ENDPOINT}/{self.repository}"


def address(text: str) -> Address:
    """Return the repository that OWNER/NAME, with or without hf: and a revision, means. Raises UsageError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repository, mark, revision = text.removeprefix(HUB).partition("@")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(
            f"{text} is no name of a model on the Hub: {reason(error)} Write {SPELLED}"
        ) from None
    if "/" not in repository or bool(mark) != bool(revision):
        raise UsageError(f"{text} is no name of a model on the Hub: write {SPELLED}")
    return Address(repository, revision or None)


def on_hub(model: str | Path) -> bool:
    """Whether a model is named by a repository of the Hub."""
    return _spelled(model).startswith(HUB)


def model_folder(model: str | Path) -> Path:
    """Return the folder of a model, fetched from the Hub where it is named so and not there yet.

    Raises:
        UsageError: no name of a repository.
        CocoopError: there is none, it is no model of this package, or it cannot be had.
    """
    if not on_hub(model):
        return Path(model)
    place = address(_spelled(model))
    path = _fetch(place, INFO, place.revision)
    try:
        info = read_checked_json(ModelInfo, path.read_bytes())
    except (OSError, ValueError) as error:
        raise CocoopError(
            f"{INFO} of {place} {error}: it is no model of this package, or of another version"
        ) from None
    learned = _fetch(place, prompt_name(info), path.parent.name)  # of the commit that the first is of
    if learned.parent != path.parent or data_digest(learned.read_bytes()) != info.learned:
        raise CocoopError(
            f"{learned.name} of {place} is not the file that its {INFO} tells of; where the Hub has the "
            f"right one, delete {path.parent} and try again"
        )
    return path.parent


def pinned(model: str | Path) -> Path:
    """Return what names the model also where its repository changes meanwhile. Raises CocoopError."""
    if not on_hub(model):
        return Path(model)
    return Path(str(replace(address(_spelled(model)), revision=model_folder(model).name)))


def check_backbone(model: str | Path, name: str) -> None:
    """Refuse a backbone that is a file: a stranger does not choose which of this machine's are opened.

    Raises:
        CocoopError: the model is of the Hub, and its backbone is named as files are.
    """
    if on_hub(model) and is_file(name):
        raise CocoopError(
            f"{_spelled(model)} was trained on a backbone that is a file, {name}, which is not on the Hub. "
            f"Where you have it: cocoop.load({_spelled(model)!r}, cocoop.load_backbone(FILE))"
        )


def is_file(backbone: str) -> bool:
    """Whether a backbone's name is, or has in it, that of a file or folder."""
    parts = [part.rpartition("*")[2] for part in backbone.split("+")]
    return any(
        "@" in part
        or (part not in (*SHIPPED, TOY) and (Path(part).exists() or Path(part).suffix in SUFFIXES))
        for part in parts
    )


def _spelled(model: str | Path) -> str:
    return model if isinstance(model, str) else model.as_posix()


def _fetch(place: Address, file: str, revision: str | None) -> Path:
    """Return the local path of a file, fetched where it is not in the cache yet. Raises CocoopError."""
    from huggingface_hub import hf_hub_download

    if revision and _COMMIT.fullmatch(revision) and (there := _cached(place, file, revision)):
        return there
    about = _about(place, file, revision)
    if about:
        _check(place, file, about)
        try:
            return Path(hf_hub_download(place.repository, file, revision=revision))
        except Exception as error:  # of several libraries: a broken connection, a full disk
            raise CocoopError(f"{file} of {place} cannot be fetched: {reason(error)}; try again") from error
    offline = constants.HF_HUB_OFFLINE
    why = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} cannot be reached"
    if not (there := _cached(place, file, revision)):
        raise CocoopError(
            f"{file} of {place} is neither in {constants.HF_HUB_CACHE} nor to be fetched: {why}"
        )
    if not offline:
        warnings.warn(f"{why}; {place} is taken from the cache", UserWarning, stacklevel=2)
    return there


def _cached(place: Address, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    there = try_to_load_from_cache(place.repository, file, revision=revision)
    return Path(there) if isinstance(there, str) else None


def _about(place: Address, file: str, revision: str | None) -> "HfFileMetadata | None":
    """Return what the Hub says of a file; None where it does not answer."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        return get_hf_file_metadata(hf_hub_url(place.repository, file, revision=revision))
    except EntryNotFoundError:
        raise CocoopError(
            f"{place} on the Hub has no {file}: it is no model folder of this package, as cocoop push puts "
            "it there (a backbone is given with --backbone)"
        ) from None
    except HfHubHTTPError as error:
        if error.response.status_code >= 500:
            return None
        raise refused(place, error) from error
    except Exception:  # of several libraries: no network, or none is to be used
        return None


def refused(place: Address, error: Exception) -> CocoopError:
    """Return what to tell a person of the Hub's refusal, in this package's words."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    inner: BaseException | None = error  # some of these are wrapped in others
    while inner and not isinstance(inner, HfHubHTTPError):
        inner = inner.__cause__
    status = inner.response.status_code if isinstance(inner, HfHubHTTPError) else None
    error = inner if isinstance(inner, HfHubHTTPError) else error
    if isinstance(error, GatedRepoError):
        words = f"is given to those who accept its terms: see {place.page}, and sign in: {SIGN_IN}"
    elif isinstance(error, RepositoryNotFoundError):
        who = "this token may not see it" if get_token() else f"it is private: sign in, with {SIGN_IN}"
        words = f"is not on the Hub ({constants.ENDPOINT}), or {who}"
    elif isinstance(error, RevisionNotFoundError):
        words = "is not on the Hub: there is no such revision"
    elif status == 401:
        words = f"cannot be asked for: the Hub does not know this token. Sign in anew, with {SIGN_IN}"
    elif status == 403:
        words = f"is not for this token: it has no right to do this ({reason(error)}). Sign in with {SIGN_IN}"
    elif status is None:
        words = f"cannot be reached at {constants.ENDPOINT}: {reason(error.__cause__ or error)}"
    else:
        words = f"is refused by the Hub: {reason(error)}"
    return CocoopError(f"{place} {words}")


def _check(place: Address, file: str, about: "HfFileMetadata") -> None:
    """Refuse a file that is too large, or whose marks would be names of files elsewhere."""
    limit = LARGEST.get(file, LARGEST_PROMPT)
    if about.size is None or about.size > limit:
        size = "does not say its size" if about.size is None else f"has {about.size:,} bytes"
        raise CocoopError(f"{file} of {place} {size}; a model's has {limit:,} at most, so it is not fetched")
    for mark in (about.etag, about.commit_hash):
        if not mark or not _SAFE.fullmatch(mark):
            raise CocoopError(
                f"{file} of {place} is not fetched: the answer of {constants.ENDPOINT} is no Hub's"
            )
