"""A web server on this machine that gives the benchmark's archives, small, and can be told to misbehave."""

import functools
import io
import json
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from scipy.io import savemat

from cocoop.data.benchmark import imagenet_archives as imagenet
from cocoop.data.benchmark.remote import Remote
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.datasets import DATASETS
from cocoop.utils.files import data_digest
from tests.trees import PATHS, class_names, make_imagenet, make_tree, spec

WNIDS = 4  # classes of the small ImageNets


class Mirror:
    """Files by path, and for each path what to do at the next requests; then the file is given as it is.

    What can be done: "html", "404", "503", "416", "loop", "moved", "break" (after half of the bytes),
    "hang" (after three quarters, until `going` is set), "more" and "less" (a wrong Content-Length),
    "elsewhere" (a part that was not asked for), "other" (a new version), "anonymous" (without a version).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str]] = []  # path and Range
        self.going = threading.Event()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, mirror: Mirror, *arguments) -> None:
        self._mirror = mirror
        super().__init__(*arguments)

    def log_message(self, *words) -> None:
        pass

    def do_GET(self) -> None:
        mirror, path = self._mirror, self.path.partition("?")[0].lstrip("/")
        asked = self.headers.get("Range", "")
        mirror.requests.append((path, asked))
        plan = mirror.plans.get(path, [])
        doing = plan.pop(0) if plan else ""
        if doing == "html":
            return self._send(200, b"<html>sign in</html>", {"Content-Type": "text/html"})
        if doing in ("404", "416", "503") or path not in mirror.files:
            headers = {"Retry-After": "0"} if doing == "503" else {}
            return self._send(int(doing or 404), b"no", headers)
        if doing in ("loop", "moved"):
            where = path if doing == "loop" else f"{path}?here"
            if doing == "loop":
                plan.insert(0, "loop")
            return self._send(302, b"", {"Location": f"{mirror.url}{where}"})
        self._file(mirror.files[path], asked, doing)

    def _file(self, data: bytes, asked: str, doing: str) -> None:
        tag = f'"{data_digest(data)[:8]}{"-new" if doing == "other" else ""}"'
        headers = {} if doing == "anonymous" else {"ETag": tag}
        found = re.match(r"bytes=(\d+)-", asked)
        start = int(found[1]) if found and self.headers.get("If-Range") == tag else 0
        if doing == "elsewhere":
            start += 1
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        length = len(data) - start + {"more": 10, "less": -10}.get(doing, 0)
        part = data[start:]
        if doing in ("break", "hang", "anonymous"):
            part = part[: len(part) * (3 if doing == "hang" else 2) // 4]
        self._send(206 if start else 200, part, headers, length)
        if doing == "hang":
            self._mirror.going.wait(60)
        if len(part) != length:
            self.close_connection = True

    def _send(self, status: int, data: bytes, headers: Mapping[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/x-tar"} | dict(headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Mirror]:
    """Serve a mirror."""
    mirror = Mirror()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, mirror))
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield mirror
    finally:
        mirror.going.set()
        server.shutdown()
        server.server_close()


def tar(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """Return a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def pack(name: str, files: Mapping[str, bytes]) -> bytes:
    """Return the files of a dataset's folder in an archive that is laid out as the first source's."""
    images = {path: data for path, data in files.items() if not path.startswith(("split_zhou", "classnames"))}
    if name == "caltech101":
        return zipped({"caltech-101/101_ObjectCategories.tar.gz": tar(images, "w:gz")})
    if name in ("stanford_cars", "ucf101"):
        return zipped({f"{spec(name).folder}/{path}": data for path, data in images.items()})
    if name == "imagenet_sketch":
        return zipped({path.replace("images/", "sketch/"): data for path, data in images.items()})
    inside = {"fgvc_aircraft": "fgvc-aircraft-2013b/data/", "food101": "food-101/", "dtd": "dtd/"}
    named = {f"{inside.get(name, '')}{path}": data for path, data in images.items()}
    if name == "eurosat":
        return zipped(named)
    return tar(named, "w:gz" if spec(name).downloads[0].choices[0][0].name.endswith("gz") else "w")


def imagenet_archives(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return ImageNet's three archives."""
    train: dict[str, dict[str, bytes]] = {}
    val: list[tuple[str, bytes]] = []
    for path, data in files.items():
        parts = path.split("/")
        if parts[:2] == ["images", "train"]:
            train.setdefault(parts[2], {})[parts[3]] = data
        elif parts[:2] == ["images", "val"]:
            val.append((parts[2], data))
    wnids = sorted(train)
    synsets = np.array(
        [(number, wnid) for number, wnid in enumerate(wnids, 1)],
        dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "O")],
    )
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets.reshape(-1, 1)})
    truth = "".join(f"{wnids.index(wnid) + 1}\n" for wnid, _ in val).encode()
    kit = "ILSVRC2012_devkit_t12/data/"
    return {
        imagenet.TRAIN: tar({f"{wnid}.tar": tar(images) for wnid, images in train.items()}),
        imagenet.VAL: tar({f"ILSVRC2012_val_{n:08}.JPEG": data for n, (_, data) in enumerate(val, 1)}),
        imagenet.DEVKIT: tar(
            {f"{kit}meta.mat": meta.getvalue(), f"{kit}ILSVRC2012_validation_ground_truth.txt": truth}, "w:gz"
        ),
    }


def stock(mirror: Mirror, names: Sequence[str], folder: Path) -> None:
    """Put small copies of datasets on a mirror; ImageNet's archives go into `folder`, as a person puts them.

    The trees they were made of are under `folder`/NAME.
    """
    for name in names:
        made = make_tree if name in PATHS else functools.partial(make_imagenet, wnids=WNIDS)
        tree = made(folder / name, name)
        files = {
            path.relative_to(tree).as_posix(): path.read_bytes()
            for path in sorted(tree.rglob("*"))
            if path.is_file()
        }
        if name == "stanford_cars":
            files["cars_test/00001.jpg"] = b"not asked for"
        if name == "imagenet":
            for file, data in imagenet_archives(files).items():
                (folder / file).write_bytes(data)
        else:
            mirror.files[f"{name}/archive"] = pack(name, files)
        for path, data in files.items():
            if path.startswith("split_zhou"):
                mirror.files[f"{name}/{path}"] = data


def small(name: str, url: str, files: Mapping[str, bytes]) -> Benchmark:
    """Return the spec of a dataset as it is on a mirror: other addresses, digests and counts."""
    facts = spec(name)
    classes = len(class_names(name)) if name in PATHS else WNIDS
    per_class = 1 if name in PATHS else 3

    def remote(path: str, file: str) -> Remote:
        return Remote(f"{url}{path}", len(files[path]), data_digest(files[path]), file=file)

    labels = tuple(
        replace(
            file,
            sha256="",
            remotes=(remote(f"{name}/{file.name}", file.name),) if file.remotes else (),
            made=(lambda: "".join(f"n{n:08} thing {n}\n" for n in range(WNIDS))) if file.made else None,
        )
        for file in facts.labels.files
    )
    downloads = tuple(
        replace(each, sources=(remote(f"{name}/archive", each.choices[0][0].name),))
        for each in facts.downloads
    )
    by_hand = facts.by_hand and replace(
        facts.by_hand, files=tuple(replace(file, size=0, sha256="", md5="") for file in facts.by_hand.files)
    )
    return replace(
        facts,
        labels=replace(facts.labels, files=labels),
        downloads=downloads,
        by_hand=by_hand,
        classes=classes,
        counts=dict.fromkeys(facts.counts, classes * per_class),
    )


def register(specs: Mapping[str, Benchmark]) -> None:
    """Put specs in the place of the registered ones."""
    DATASETS.names()  # all are registered by now
    DATASETS._objects |= specs


def main(root: str, url: str, listing: str, archives: str) -> None:
    """Get all that is on a mirror: for a test that kills the process."""
    from cocoop.data.benchmark.fetch import fetch, lacks

    files = {path: bytes.fromhex(data) for path, data in json.loads(Path(listing).read_text()).items()}
    names = [*dict.fromkeys(path.partition("/")[0] for path in files), "imagenet"]
    jobs = [job for name in names for job in lacks(small(name, url, files), Path(root))]
    problems = fetch(jobs, Path(root), archives=Path(archives), parallel=40, wait=0.01)
    sys.exit(str(problems) if problems else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
