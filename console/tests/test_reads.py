"""What the console reads elsewhere: data and events of services, mails of a folder."""

from email.message import EmailMessage
from pathlib import Path

import pytest

from console_service.data.queries import DataQueries
from console_service.events.queries import EventQueries
from console_service.mail.queries import MailQueries
from console_service.peers import PlatformData, ServiceOutboxes
from servicekit.core.errors import NotFound
from servicekit.dispatcher import PeerUnreachable
from servicekit.testing.dispatch import FakeDispatcher


async def test_data_leaves_out_a_service_that_does_not_respond() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("user", "/internal/summary", json={"counts": [{"name": "accounts", "value": 3}]})
    dispatcher.will_fail("notes", "/internal/summary", PeerUnreachable("notes", "down"))
    dispatcher.will_return("analytics", "/internal/summary", json={"counts": []})
    dispatcher.will_return("analytics", "/api/v1/analytics/stats", json={"by_type": {"a": 1, "b": 5}})
    points = [{"start": "2026-01-01T00:00:00Z", "count": 5}]
    dispatcher.will_return("analytics", "/api/v1/analytics/stats/series", json={"items": points})
    found = await DataQueries(PlatformData(dispatcher), ("user", "notes", "analytics")).data("token", "hour")
    assert found["counts"] == [{"service": "user", "name": "accounts", "value": 3}]
    assert found["by_type"] == {"a": 1, "b": 5}
    assert [each["type"] for each in found["series"]] == ["b", "a"]


async def test_data_is_shown_without_events_while_analytics_is_unavailable() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("user", "/internal/summary", json={"counts": []})
    dispatcher.will_return("analytics", "/internal/summary", json={"counts": []})
    dispatcher.will_fail("analytics", "/api/v1/analytics/stats", PeerUnreachable("analytics", "down"))
    for services in (("user", "analytics"), ("user",)):
        found = await DataQueries(PlatformData(dispatcher), services).data("token", "hour")
        assert found == {"counts": [], "by_type": {}, "series": []}


async def test_events_leave_out_what_is_unavailable_and_what_is_no_outbox() -> None:
    dispatcher = FakeDispatcher()
    outbox = {"destinations": [{"destination": "analytics", "waiting": 1, "oldest_seconds": 2.0}], "dead_letters": []}
    dispatcher.will_return("notes", "/internal/outbox", json=outbox)
    dispatcher.will_return("assets", "/internal/outbox", json=["rubbish"])
    dispatcher.will_fail("user", "/internal/outbox", PeerUnreachable("user", "down"))
    queries = EventQueries(ServiceOutboxes(dispatcher), ("notes", "assets", "user"))
    assert await queries.events() == {"services": [{"service": "notes", **outbox}]}
    with pytest.raises(NotFound):
        await queries.retry("valkey", None)


def mail(folder: Path, name: str, subject: str) -> None:
    message = EmailMessage()
    message["To"], message["Subject"] = "ada@mail.dev", subject
    message.set_content("Use this link: https://a.example")
    message.add_alternative("<p>Use this link</p>", subtype="html")
    (folder / f"{name}.eml").write_bytes(bytes(message))


async def test_mails_are_listed_with_their_text_and_html(tmp_path: Path) -> None:
    mail(tmp_path, "first-1", "Grüße")
    (tmp_path / "broken.eml").write_bytes(b"\xff\xfe")
    queries = MailQueries(tmp_path)
    items = {each["id"]: each for each in (await queries.page())["items"]}
    assert (items["first-1"]["to"], items["first-1"]["subject"]) == ("ada@mail.dev", "Grüße")
    found = await queries.one("first-1")
    assert found["text"].strip() == "Use this link: https://a.example"
    assert found["html"].strip() == "<p>Use this link</p>"


@pytest.mark.parametrize("mail_id", ["other", "../secret", "..", ".hidden", "a/b", ""], ids=repr)
async def test_no_other_file_can_be_read_as_a_mail(mail_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    folder.mkdir()
    mail(tmp_path, "secret", "s")
    mail(folder, ".hidden", "h")
    with pytest.raises(NotFound):
        await MailQueries(folder).one(mail_id)


async def test_without_a_folder_there_are_no_mails() -> None:
    with pytest.raises(NotFound):
        await MailQueries(None).page()
