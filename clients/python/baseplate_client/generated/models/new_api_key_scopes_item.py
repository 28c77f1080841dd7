from enum import StrEnum


class NewApiKeyScopesItem(StrEnum):
    ANALYTICSREAD = "analytics:read"
    ANALYTICSWRITE = "analytics:write"
    ASSETSREAD = "assets:read"
    ASSETSWRITE = "assets:write"
    NOTESREAD = "notes:read"
    NOTESWRITE = "notes:write"
    USERSREAD = "users:read"

    def __str__(self) -> str:
        return str(self.value)
