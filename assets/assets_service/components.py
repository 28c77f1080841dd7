"""What routes get from the application that serves them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from assets_service.content.sending import ContentSender
from assets_service.links.signatures import LinkSigner
from assets_service.peers import NotesService
from assets_service.records.actions import AssetActions
from assets_service.records.queries import AssetQueries
from assets_service.uploads.actions import UploadActions


@dataclass(frozen=True, slots=True)
class Components:
    """What the routes of this service call; `create_app` builds it once."""

    upload_actions: UploadActions
    asset_actions: AssetActions
    asset_queries: AssetQueries
    content_sender: ContentSender
    link_signer: LinkSigner
    notes_service: NotesService


async def _components(request: Request) -> Components:
    components: Components = request.app.state.components
    return components


AppComponents = Annotated[Components, Depends(_components)]
