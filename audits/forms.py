"""Requests for audits/serving.py: files that no server has seen, forms, and what must be refused."""

import io
import struct
import zlib

from PIL import Image

Body = tuple[dict[str, str], bytes | list[bytes]]  # headers and what is sent; a list goes in chunks


def png(data: bytes) -> bytes:
    """Encode any image as PNG."""
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "PNG")
    return file.getvalue()


def marked(data: bytes, number: int) -> bytes:
    """Return another file with the same pixels, so that the server has to decode it anew."""
    chunk = b"tEXt" + b"n\0" + str(number).encode()
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + chunk + data[33:]  # behind the signature and the header


def form(images: list[bytes], **texts: str) -> Body:
    """Return the headers and the body of a form."""
    parts = [(f'name="images"; filename="{i}.png"', data) for i, data in enumerate(images)]
    parts += [(f'name="{name}"', text.encode()) for name, text in texts.items()]
    lines = [b"--B\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (h.encode(), d) for h, d in parts]
    return {"Content-Type": "multipart/form-data; boundary=B"}, b"".join(lines) + b"--B--\r\n"


def hostile(image: bytes) -> list[tuple[str, str, Body, int]]:
    """Return what must be refused: method, path, headers and body, and the status."""
    bomb = bytearray(image)
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    headers, body = form([image])
    assert isinstance(body, bytes)
    large = form([b"0" * 3_000_000])
    nothing: Body = ({}, b"")
    posts = [
        (large, 413),
        ((large[0], [large[1][i : i + 65_536] for i in range(0, len(large[1]), 65_536)]), 413),
        (form([bytes(bomb)]), 413),
        (form([b"no image"]), 415),
        (form([image[: len(image) // 2]]), 415),
        ((headers | {"Content-Type": "multipart/form-data; boundary=B; charset=punycode"}, body), 415),
        (({"Content-Type": "application/json"}, b'{"images": ["/etc/passwd"]}'), 415),
        (form([]), 422),
        (form([image], classes=",".join(map(str, range(51)))), 422),
        (form([image], classes="a" * 201), 422),
        (form([image], top_k="0"), 422),
        (form([image] * 9), 400),
        (form([image], **{f"field{i}": "" for i in range(100)}), 400),
        ((headers, body[:-20]), 400),
        ((headers | {"Host": "evil.example"}, body), 400),
        ((headers | {"Origin": "http://evil.example"}, body), 403),
    ]
    others = [("DELETE", "/api/predict", 405), ("GET", "/api/predict", 405), ("GET", "/etc/passwd", 404)]
    others += [("GET", f"/static/{path}", 404) for path in ("", "..%2f..%2fapp.py", "%2e%2e/page.py", "%00")]
    return [("POST", "/api/predict", *each) for each in posts] + [
        (method, path, nothing, status) for method, path, status in others
    ]
