"""Who sent a request.

access_tokens     verifies ES256 access tokens; CurrentUser, OptionalUser, CurrentAdmin, require_role
scopes            requires_scope: what API keys may do
revoked_sessions  the sessions whose tokens are refused before they expire
"""
