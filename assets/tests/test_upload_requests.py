"""The two forms of an upload's request, as streams of any chunks, and what is wrong with malformed ones."""

from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import Request

from assets_service.uploads.request import IncomingFile, open_upload
from servicekit.core.errors import ServiceError

FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
LIMIT = 1_000_000


async def _open(body: Iterable[bytes] | None, **headers: str) -> IncomingFile:
    """Open a request with these chunks as its body, or with a body that must not be read."""
    chunks = iter(body or ())

    async def receive() -> dict[str, Any]:
        assert body is not None, "the body was read"
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return await open_upload(Request({"type": "http", "method": "POST", "headers": encoded}, receive), LIMIT)


async def _read(file: IncomingFile) -> bytes:
    return b"".join([chunk async for chunk in file.chunks])


def _byte_by_byte(content: bytes) -> list[bytes]:
    return [content[number : number + 1] for number in range(len(content))]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"--b\r\n", 400),
        (FORM, b"", 400),
        (FORM, b"no form at all", 400),
        (FORM, b"--b--\r\n", 422),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n', 422),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx\r\n--b--\r\n', 422),
        (FORM, PART + b"x\r\n" + PART + b"y\r\n--b--\r\n", 422),
        # The closing boundary is missing, so part of the file may be missing, too.
        (FORM, PART + b"x", 400),
        ("multipart/form-data; boundary=" + "b" * 500, b"--b\r\n", 400),
        (FORM, b"--b\r\n" + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n", 400),
        (FORM, b"--b\r\n" + b"X-Many: x\r\n" * 2000 + b"\r\n", 400),
    ],
)
@pytest.mark.parametrize("split", [lambda body: [body], _byte_by_byte], ids=["whole", "byte by byte"])
async def test_malformed_forms_are_refused(content_type: str, body: bytes, status: int, split: Any) -> None:
    with pytest.raises(ServiceError) as refused:
        await _read(await _open(split(body), content_type=content_type))

    assert refused.value.status == status


async def test_a_form_is_read_from_chunks_of_any_size() -> None:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nline\r\n--xy is no boundary\r\n\r\n--xyz--\r\nepilogue"
    )
    for chunks in ([body], _byte_by_byte(body)):
        file = await _open(chunks, content_type="multipart/form-data; boundary=xyz")
        assert (file.filename, file.declared_type, file.expected_size) == ("a.txt", "text/plain", None)
        assert await _read(file) == b"line\r\n--xy is no boundary\r\n"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        # As .NET and PowerShell send them.
        ("name=file; filename=\"=?utf-8?B?5aSp54uXLnR4dA==?=\"; filename*=utf-8''%E5%A4%A9%E7%8B%97.txt", "天狗.txt"),
        ("name=file; filename=a.txt; filename*=utf-8''a.txt", "a.txt"),
        ("name=\"file\"; filename*=utf-8''%E5%A4%A9%E7%8B%97.txt", "天狗.txt"),
        ("filename*=iso-8859-1''na%EFve.txt; name=file", "naïve.txt"),
        ("name=file; FileName*=utf-8''a.txt", "a.txt"),
        # A parameter's name within another one's value.
        ("name=file; filename=\"a; filename*=utf-8''b.txt\"", "a; filename*=utf-8''b.txt"),
        ('name=file; filename="a\\"; filename*=utf-8\'\'b.txt"', "a\"; filename*=utf-8''b.txt"),
    ],
)
async def test_a_form_may_name_its_file_by_an_extended_parameter(parameters: str, name: str) -> None:
    part = f"--b\r\nContent-Disposition: form-data; {parameters}\r\n\r\nx\r\n--b--\r\n"

    assert (await _open([part.encode()], content_type=FORM)).filename == name


async def test_a_raw_body_is_the_file() -> None:
    file = await _open([b"12", b"345"], content_type="image/png", x_filename="b%20c", content_length="5")

    assert (file.filename, file.declared_type, file.expected_size) == ("b c", "image/png", 5)
    assert await _read(file) == b"12345"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_encoding": "gzip"}, 415),
        ({"content_type": "text/html"}, 415),
        ({"x_filename": "a%00b"}, 422),
        ({"content_length": str(LIMIT + 1)}, 413),
        ({"content_length": "9" * 5000}, 413),
        ({"content_type": FORM, "content_length": str(2 * LIMIT)}, 413),
    ],
)
async def test_wrong_headers_are_refused_before_the_body_is_read(headers: dict[str, str], status: int) -> None:
    with pytest.raises(ServiceError) as refused:
        await _open(None, **{"x_filename": "a", **headers})

    assert refused.value.status == status


async def test_a_body_that_exceeds_the_limit_is_refused_while_it_is_read() -> None:
    file = await _open([b"x" * 600_000, b"x" * 600_000, b"unread"], x_filename="a")

    with pytest.raises(ServiceError) as refused:
        await _read(file)

    assert refused.value.status == 413
