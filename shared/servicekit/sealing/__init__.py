"""Sealed messages between services: encrypted, authenticated, bound to one request, accepted once.

Import from the modules; the package itself loads nothing.

    client         `MessageSealer` seals the dispatcher's requests and opens the responses
    middleware     `SealedReceiver` opens requests and seals the responses; `request` and `response` are its two halves
    route_policy   `sealed` and `optional` declare on a route which services may call it
    envelope       the format of a message, and what it is bound to; `wire` is its form in HTTP
    ciphers        Fernet and AES-256-GCM behind one interface
    keyring        the current keys of one service; `key_files` is their form on disk
    replay         `ReplayGuard` refuses a message that was accepted before
"""
