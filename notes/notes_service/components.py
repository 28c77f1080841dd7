"""What routes get from the application that serves them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from notes_service.notes.actions import NoteActions
from notes_service.notes.queries import NoteQueries
from notes_service.publishing.actions import PublicationActions
from notes_service.publishing.queries import PublicationQueries


@dataclass(frozen=True, slots=True)
class Components:
    """What the routes of this service call; `create_app` builds it once."""

    note_actions: NoteActions
    note_queries: NoteQueries
    publication_actions: PublicationActions
    publication_queries: PublicationQueries


async def _components(request: Request) -> Components:
    components: Components = request.app.state.components
    return components


AppComponents = Annotated[Components, Depends(_components)]
