"""Contains all the data models used in inputs/outputs"""

from .acceptance import Acceptance
from .account import Account
from .account_count import AccountCount
from .api_key_view import ApiKeyView
from .asset_link import AssetLink
from .asset_out import AssetOut
from .assets_upload_asset_files_body import AssetsUploadAssetFilesBody
from .author import Author
from .batch_in import BatchIn
from .confirmation import Confirmation
from .created_api_key import CreatedApiKey
from .email_change import EmailChange
from .event_in import EventIn
from .event_in_properties import EventInProperties
from .event_out import EventOut
from .event_out_properties import EventOutProperties
from .forgotten_password import ForgottenPassword
from .interval import Interval
from .invitation import Invitation
from .invitation_view import InvitationView
from .link import Link
from .links import Links
from .links_request import LinksRequest
from .login_body import LoginBody
from .logout_body import LogoutBody
from .new_api_key import NewApiKey
from .new_api_key_scopes_item import NewApiKeyScopesItem
from .note_change import NoteChange
from .note_in import NoteIn
from .note_item import NoteItem
from .note_out import NoteOut
from .page_account import PageAccount
from .page_api_key_view import PageApiKeyView
from .page_asset_out import PageAssetOut
from .page_event_out import PageEventOut
from .page_invitation_view import PageInvitationView
from .page_note_item import PageNoteItem
from .page_session_view import PageSessionView
from .password_change import PasswordChange
from .password_reset import PasswordReset
from .point import Point
from .problem import Problem
from .problem_errors_item import ProblemErrorsItem
from .profile_change import ProfileChange
from .public_account import PublicAccount
from .public_attachment import PublicAttachment
from .public_note import PublicNote
from .published import Published
from .recorded import Recorded
from .refresh_body import RefreshBody
from .registration import Registration
from .role import Role
from .role_change import RoleChange
from .scope import Scope
from .series_out import SeriesOut
from .session_view import SessionView
from .stats import Stats
from .stats_by_type import StatsByType
from .token_pair import TokenPair
from .token_response import TokenResponse
from .users_issue_token_client_credentials_grant import UsersIssueTokenClientCredentialsGrant
from .users_issue_token_password_grant import UsersIssueTokenPasswordGrant
from .users_issue_token_refresh_grant import UsersIssueTokenRefreshGrant
from .users_read_jwks_response_users_read_jwks import UsersReadJwksResponseUsersReadJwks
from .users_read_jwks_response_users_read_jwks_additional_property_item import (
    UsersReadJwksResponseUsersReadJwksAdditionalPropertyItem,
)
from .verification_request import VerificationRequest

__all__ = (
    "Acceptance",
    "Account",
    "AccountCount",
    "ApiKeyView",
    "AssetLink",
    "AssetOut",
    "AssetsUploadAssetFilesBody",
    "Author",
    "BatchIn",
    "Confirmation",
    "CreatedApiKey",
    "EmailChange",
    "EventIn",
    "EventInProperties",
    "EventOut",
    "EventOutProperties",
    "ForgottenPassword",
    "Interval",
    "Invitation",
    "InvitationView",
    "Link",
    "Links",
    "LinksRequest",
    "LoginBody",
    "LogoutBody",
    "NewApiKey",
    "NewApiKeyScopesItem",
    "NoteChange",
    "NoteIn",
    "NoteItem",
    "NoteOut",
    "PageAccount",
    "PageApiKeyView",
    "PageAssetOut",
    "PageEventOut",
    "PageInvitationView",
    "PageNoteItem",
    "PageSessionView",
    "PasswordChange",
    "PasswordReset",
    "Point",
    "Problem",
    "ProblemErrorsItem",
    "ProfileChange",
    "PublicAccount",
    "PublicAttachment",
    "PublicNote",
    "Published",
    "Recorded",
    "RefreshBody",
    "Registration",
    "Role",
    "RoleChange",
    "Scope",
    "SeriesOut",
    "SessionView",
    "Stats",
    "StatsByType",
    "TokenPair",
    "TokenResponse",
    "UsersIssueTokenClientCredentialsGrant",
    "UsersIssueTokenPasswordGrant",
    "UsersIssueTokenRefreshGrant",
    "UsersReadJwksResponseUsersReadJwks",
    "UsersReadJwksResponseUsersReadJwksAdditionalPropertyItem",
    "VerificationRequest",
)
