"""A file's type is found in its bytes; files that a program might run are refused."""

import random
import zipfile
from collections.abc import Mapping
from io import BytesIO

import pytest

from assets_service.uploads.media_types import (
    ACCEPTED_TYPES,
    TextCheck,
    TypeMismatch,
    UnsupportedType,
    detect,
    parse_declared_type,
)

HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def test_each_type_is_recognised_by_its_bytes(samples: Mapping[str, bytes]) -> None:
    assert samples.keys() == ACCEPTED_TYPES
    assert {media_type: detect(content) for media_type, content in samples.items()} == {
        name: name for name in ACCEPTED_TYPES
    }


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00" + bytes(64), "image/jpeg"),
        (b"\xff\xd8\xff\xdb" + bytes(64), "image/jpeg"),
        (b"GIF87a" + bytes(32), "image/gif"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42" + bytes(64), "video/mp4"),
        (b"\x00\x00\x00\x18ftypM4V \x00\x00\x00\x00isommp42" + bytes(64), "video/mp4"),
        (b"\x00\x00\x00\x20ftypiso5\x00\x00\x02\x00iso5iso6mp41" + bytes(64), "video/mp4"),
        (b"\x00\x00\x00\x20ftypdash\x00\x00\x02\x00iso6mp41isom" + bytes(64), "video/mp4"),
        ((b"\xff\xfb\x90\x64" + bytes(413)) * 3, "audio/mpeg"),
        ((b"\xff\xf3\x90\x64" + bytes(140)) * 3, "audio/mpeg"),
        # A picture in the tag, so that the audio begins after the head.
        (b"ID3\x03\x00\x00\x00\x10\x00\x00" + b"APIC" + bytes(60_000), "audio/mpeg"),
        (b"PK\x05\x06" + bytes(18), "application/zip"),
        (b"a", "text/plain"),
        (b"\xef\xbb\xbfwith a mark\r\n", "text/plain"),
        (b"MZ is how this text begins, BM another one", "text/plain"),
        (b'{"json": [1, 2]}\n', "text/plain"),
        (b"a;b;c\n1;2;3\n", "text/plain"),
        ("今日は、世界".encode(), "text/plain"),
    ],
)
def test_variants_of_a_type_are_recognised(content: bytes, media_type: str) -> None:
    assert detect(content) == media_type


@pytest.mark.parametrize(
    "content",
    [
        HTML,
        b"\n\n  <HTML>",
        b"<script>alert(1)</script>",
        SVG,
        b'<?xml version="1.0"?>\n' + SVG,
        b"<!-- a comment -->" + SVG,
        b"#!/bin/sh\nrm -rf /\n",
        b"#!/usr/bin/env python3\nprint(1)\n",
        b"<?php system('id'); ?>",
        b"@echo off\r\ndel *.*\r\n",
        b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + bytes(256),
        b"\x7fELF\x02\x01\x01" + bytes(256),
        b"\xca\xfe\xba\xbe\x00\x00\x00\x34" + bytes(64),
        b"\x1f\x8b\x08\x00" + bytes(32),
        b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(32),
        b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  " + bytes(32),
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(32),
        b"BM" + bytes(64),
        bytes(128),
        "UTF-16 is not taken".encode("utf-16"),
    ],
)
def test_other_types_are_refused(content: bytes) -> None:
    with pytest.raises(UnsupportedType):
        _accept(content)


def _accept(content: bytes) -> str:
    media_type = detect(content)
    if media_type == "text/plain":
        TextCheck().read(content, last=True)
    return media_type


def test_a_java_archive_is_no_zip_file() -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
    # libmagic recognizes a Java archive by the extra field of its first entry.
    jar = (
        archive.getvalue()[:28]
        + b"\x04\x00"
        + archive.getvalue()[30:50]
        + b"\xfe\xca\x00\x00"
        + archive.getvalue()[50:]
    )
    with pytest.raises(UnsupportedType):
        detect(jar)


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        (None, None),
        ("", None),
        ("application/octet-stream", None),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/jpg", "image/jpeg"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("application/x-zip-compressed", "application/zip"),
    ],
)
def test_declared_types_are_understood(header: str | None, media_type: str | None) -> None:
    assert parse_declared_type(header) == media_type


@pytest.mark.parametrize(
    "header", ["text/html", "image/svg+xml", "image/png, text/html", "png", "/", "image/", "x" * 9000]
)
def test_other_declared_types_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedType):
        parse_declared_type(header)


def test_a_text_may_be_cut_anywhere_between_two_pieces(samples: Mapping[str, bytes]) -> None:
    content = samples["text/plain"]
    for cut in range(len(content)):
        check = TextCheck()
        check.read(content[:cut])
        check.read(content[cut:])
        check.read(b"", last=True)


@pytest.mark.parametrize("control", [b"\x00", b"\x01", b"\x08", b"\x0b", b"\x1b", b"\x1f", b"\x7f"])
def test_a_text_has_no_control_characters(control: bytes) -> None:
    check = TextCheck()
    check.read(b"text\t\r\n\f")
    with pytest.raises(UnsupportedType):
        check.read(b"more" + control)


@pytest.mark.parametrize("content", [b"caf\xe9", b"\xff\xfe", b"half a character \xc3", b"\xed\xa0\x80"])
def test_a_text_is_utf_8_to_its_end(content: bytes) -> None:
    with pytest.raises(UnsupportedType):
        TextCheck().read(content, last=True)


def test_no_bytes_make_the_detection_fail() -> None:
    generator = random.Random(4)
    for _ in range(300):
        head = generator.choice([b"", b"PK\x03\x04", b"\xff\xfb", b"ID3", b"%PDF-", b"\x00\x00\x00\x18ftyp", b"<"])
        content = head + generator.randbytes(generator.randrange(1, 400))
        try:
            assert detect(content) in ACCEPTED_TYPES
        except UnsupportedType:
            continue


def test_a_mismatch_names_both_types() -> None:
    assert "image/png" in TypeMismatch("image/png", "text/plain").detail
