"""Subscriptions to a removed service are taken from code, and modules that need it are found."""

from local_platform.remove_service.code import is_about, module_needs, without_subscriptions

EVENTS = '''"""Events."""

ANALYTICS: Final = Subscription("analytics", "/events", body)

SUBSCRIPTIONS: Final = Subscriptions(
    {
        REGISTERED: [ANALYTICS],
        # Ä comment that stays.
        DELETED: [ANALYTICS, Subscription("notes"), Subscription("assets")],
    }
)
'''


def test_a_subscription_is_removed_from_its_list() -> None:
    assert without_subscriptions(EVENTS, "notes") == EVENTS.replace(' Subscription("notes"),', "")


def test_a_subscription_that_has_a_name_is_removed_with_the_name() -> None:
    code = without_subscriptions(EVENTS, "analytics")
    assert "ANALYTICS" not in code
    assert "REGISTERED: []," in code
    assert 'DELETED: [Subscription("notes"), Subscription("assets")],' in code


def test_code_without_the_service_stays_as_it_is() -> None:
    assert without_subscriptions(EVENTS, "billing") == EVENTS


def test_a_module_is_about_the_services_that_it_imports_or_that_its_mark_names() -> None:
    assert is_about("from notes_service.app import create_app", "notes")
    assert is_about('pytestmark = [a, pytest.mark.needs("notes", "assets")]', "assets")
    assert not is_about('@pytest.mark.needs("notes")\ndef test(): ...', "notes")
    assert module_needs('pytestmark = pytest.mark.needs("a", "b")') == {"a", "b"}
