"""A file's type is found in its bytes; files that a program might run are refused."""

import random
import zipfile
from collections.abc import Mapping
from io import BytesIO

import pytest

from assets_service.uploads.media_types import (
    ACCEPTED_TYPES,
    HEAD_BYTES,
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
        # What libmagic takes for mail, code or documents.
        (b"From Monday on, the office is closed.\n", "text/plain"),
        (b"From: the board\nSubject: Minutes\n\nWe met.\n", "text/plain"),
        (b"Subject: minutes of the meeting\nPresent: all\n", "text/plain"),
        (b"Received: three parcels\n", "text/plain"),
        (b"# Readme\n\n```python\nimport os\n\ndef main():\n    print(1)\n```\n", "text/plain"),
        (b"# Readme\n\n```sh\n#!/bin/sh\necho\n```\n", "text/plain"),
        (b'<h1 align="center">Readme</h1>\n\n<!-- badges -->\n', "text/plain"),
        (b"<!-- badges -->\n# Readme\n", "text/plain"),
        (b"A page has <html> and <script> in it.\n", "text/plain"),
        (b"import os\n\nclass A:\n    pass\n", "text/plain"),
        (b"#![allow(dead_code)]\nfn main() {}\n", "text/plain"),
        (b"#include <stdio.h>\nint main(void) { return 0; }\n", "text/plain"),
        (b"var a = function () { return 1; };\n", "text/plain"),
        (b'<?xml version="1.0"?>\n<!-- a comment --><project><name>a</name></project>\n', "text/plain"),
        (b"<!DOCTYPE note [<!ELEMENT note (#PCDATA)>]>\n<note>a</note>\n", "text/plain"),
        (b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "text/plain"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "text/plain"),
        (b"{\\rtf1 text}", "text/plain"),
        # The beginnings of other types.
        (b"ID3 tags are explained here.\n", "text/plain"),
        (b"the ftyp box comes first\n", "text/plain"),
        (b"%PDF is not all that a PDF file has.\n", "text/plain"),
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
        b"\xef\xbb\xbf <!DOCTYPE HTML>",
        b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "a" "b"><svg/>',
        b'<?xml version="1.0"?><?xml-stylesheet href="a"?><!-- > --><x:svg xmlns:x="http://www.w3.org/2000/svg"/>',
        b'<!DOCTYPE a [<!ENTITY b "<c>">]>\n<html xmlns="http://www.w3.org/1999/xhtml"/>',
        b"<SCRIPT\n>alert(1)</SCRIPT>",
        b"<iframe src='a'>",
        b"#!python\n",
        b"#! /bin/sh\n",
        b"\n<?= 1 ?>",
        b"%!PS-Adobe-3.0\n",
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


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (HTML, "The file is an HTML or SVG document."),
        (b"#!/bin/sh\n", "The file is a script, for it begins with #!."),
        (b"\x1f\x8b\x08\x00" + bytes(32), "The file was recognised as application/gzip."),
        (b"caf\xe9", "byte 0xE9 at offset 3 is not UTF-8."),
        ("ä".encode() + b"\x1b[0m", "byte 0x1B at offset 2 is a control character."),
    ],
)
def test_a_refusal_says_what_was_found(content: bytes, found: str) -> None:
    with pytest.raises(UnsupportedType) as refused:
        _accept(content)
    assert found in refused.value.detail


def test_a_refusal_counts_from_the_beginning_of_the_file() -> None:
    check = TextCheck()
    check.read(b"0123\xc3")
    with pytest.raises(UnsupportedType, match="byte 0xC3 at offset 4 is not UTF-8"):
        check.read(b"(")


@pytest.mark.parametrize("part", [b"<?", b"<!--", b"<!a [", b"<!-- -->", b"] ", b"<!a [] ", b" ", b"<?a?>"])
def test_the_search_for_the_first_element_takes_linear_time(part: bytes) -> None:
    content = b"<!DOCTYPE a [" + part * (HEAD_BYTES // len(part))
    # Minutes, if it were quadratic.
    assert detect(content[:HEAD_BYTES]) == "text/plain"
    assert detect((part * HEAD_BYTES)[:HEAD_BYTES]) == "text/plain"


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
        # Text has one type.
        ("text/csv", "text/plain"),
        ("Text/Markdown; charset=utf-8", "text/plain"),
        ("text/x-python", "text/plain"),
        ("text/xml", "text/plain"),
        ("application/json", "text/plain"),
        ("application/ld+json", "text/plain"),
        ("application/xml", "text/plain"),
        ("application/x-yaml", "text/plain"),
    ],
)
def test_declared_types_are_understood(header: str | None, media_type: str | None) -> None:
    assert parse_declared_type(header) == media_type


@pytest.mark.parametrize(
    "header",
    [
        "text/html",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/",
        "text/*",
        "text/a b",
        "application/x-sh",
        "image/png, text/html",
        "png",
        "/",
        "image/",
        "x" * 9000,
    ],
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
