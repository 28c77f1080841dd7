"""Names of files are shown and do no harm, whatever a client sends."""

import random
from urllib.parse import quote

import pytest

from assets_service.content.headers import disposition
from assets_service.uploads.filenames import InvalidFilename, clean_filename, filename_from_form, filename_from_header


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("Grüße, Jürgen 🎉.txt", "Grüße, Jürgen 🎉.txt"),
        # Decomposed and composed are one name.
        ("e\u0301.txt", "é.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\ada\\photo.png", "photo.png"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a..b.txt", "a..b.txt"),
        ('say "hi".txt', 'say "hi".txt'),
        ("50%22.txt", "50%22.txt"),
        # A browser would show this name with .png at its end.
        ("gnp.\u202eexe", "gnp.exe"),
        ("\u2067\u200fmirrored\u2069.txt", "mirrored.txt"),
        ("  spaces around.txt ", "spaces around.txt"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_name_is_kept_without_folders_and_direction_marks(raw: str, name: str) -> None:
    assert clean_filename(raw.encode()) == name
    assert filename_from_header(quote(raw)) == name


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b".",
        b"..",
        b"../",
        b"folder/",
        b"nul\x00.txt",
        b"line\r\nSet-Cookie: a=b",
        b"line\nbreak",
        b"tab\t.txt",
        b"\x1b[31mred",
        b"delete\x7f",
        "next\u0085line".encode(),
        "paragraph\u2029separator".encode(),
        b"\xff\xfe not UTF-8",
        b"\xed\xa0\x80 half a character",
        b"x" * 256,
        b"x" * 5000,
        b"/" * 5000 + b"x",
        # Control characters in the folders do not pass either.
        b"a\x00b/c.txt",
    ],
)
def test_names_that_cannot_be_shown_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidFilename):
        clean_filename(raw)


def test_the_header_is_required_and_percent_encoded() -> None:
    with pytest.raises(InvalidFilename):
        filename_from_header(None)
    with pytest.raises(InvalidFilename):
        filename_from_header("not%FFutf8")
    with pytest.raises(InvalidFilename):
        filename_from_header("evil%0d%0aX-Injected:%201")
    assert filename_from_header("50%.txt") == "50%.txt"


def test_a_name_in_a_form_is_decoded_as_browsers_encode_it() -> None:
    assert filename_from_form(b"say %22hi%22.txt") == 'say "hi".txt'
    assert filename_from_form("grün.txt".encode()) == "grün.txt"
    assert filename_from_form(b"100%25.txt") == "100%25.txt"
    with pytest.raises(InvalidFilename):
        filename_from_form(b"line%0D%0Abreak.txt")


@pytest.mark.parametrize(
    ("extended", "name"),
    [
        (b"utf-8''na%C3%AFve.txt", "naïve.txt"),
        (b"UTF-8'en'%e5%a4%a9%e7%8b%97.txt", "天狗.txt"),
        (b"ISO-8859-1''na%EFve.txt", "naïve.txt"),
        (b"\"utf-8''quoted.txt\"", "quoted.txt"),
        (b"utf-8''50%2522.txt", "50%22.txt"),
        (b"utf-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        # Not understood: the plain name stands.
        (b"utf-8''%FF.txt", "plain.txt"),
        (b"utf-16''a.txt", "plain.txt"),
        (b"utf-8''50%.txt", "plain.txt"),
        (b"naive.txt", "plain.txt"),
        (b"", "plain.txt"),
        (None, "plain.txt"),
    ],
)
def test_the_extended_name_in_a_form_comes_first_if_it_is_understood(extended: bytes | None, name: str) -> None:
    assert filename_from_form(b"plain.txt", extended) == name
    if name == "plain.txt":
        with pytest.raises(InvalidFilename):
            filename_from_form(None, extended)
    else:
        assert filename_from_form(None, extended) == name


def test_an_extended_name_with_control_characters_is_refused() -> None:
    for extended in (b"utf-8''a%0d%0ab", b"utf-8''%00", b"iso-8859-1''%1b"):
        with pytest.raises(InvalidFilename):
            filename_from_form(b"plain.txt", extended)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("Grüße.txt", "attachment; filename=\"Grue.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"),
        ('a"b\\c.txt', "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"),
        ("世界", "attachment; filename=\"download\"; filename*=UTF-8''%E4%B8%96%E7%95%8C"),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        ("a;b=c.txt", 'attachment; filename="a;b=c.txt"'),
        ("天狗.txt", "attachment; filename=\"download.txt\"; filename*=UTF-8''%E5%A4%A9%E7%8B%97.txt"),
        ("天.狗.tar.gz", "attachment; filename=\"download.tar.gz\"; filename*=UTF-8''%E5%A4%A9.%E7%8B%97.tar.gz"),
        ("天狗.", "attachment; filename=\"download\"; filename*=UTF-8''%E5%A4%A9%E7%8B%97."),
        (".profile", "attachment; filename=\"download.profile\"; filename*=UTF-8''.profile"),
        ("...", "attachment; filename=\"download\"; filename*=UTF-8''..."),
        ("a. .", "attachment; filename=\"a\"; filename*=UTF-8''a.%20."),
        ("NUL", "attachment; filename=\"_NUL\"; filename*=UTF-8''NUL"),
        ("con.txt", "attachment; filename=\"_con.txt\"; filename*=UTF-8''con.txt"),
        ("CÖN .txt", "attachment; filename=\"_CON .txt\"; filename*=UTF-8''C%C3%96N%20.txt"),
        ("COM¹", "attachment; filename=\"_COM1\"; filename*=UTF-8''COM%C2%B9"),
        ("console.txt", 'attachment; filename="console.txt"'),
        ("a<b>|c?*.txt", "attachment; filename=\"a_b__c__.txt\"; filename*=UTF-8''a%3Cb%3E|c%3F%2A.txt"),
    ],
)
def test_a_download_offers_the_name(name: str, header: str) -> None:
    assert disposition(name) == header


def test_no_name_breaks_out_of_its_header() -> None:
    generator = random.Random(7)
    alphabet = "ab.\"'\\;=%\r\n\0\t/*üé世🎉\u202e\u0085 "
    for _ in range(2000):
        raw = "".join(generator.choices(alphabet, k=generator.randrange(0, 40)))
        try:
            name = clean_filename(raw.encode())
        except InvalidFilename:
            continue
        header = disposition(name)
        assert header.isascii()
        assert header.isprintable()
        assert header.count('"') == 2
        assert not header.startswith(('attachment; filename="."', 'attachment; filename=""'))
        assert not set("\r\n\0/") & set(name)
