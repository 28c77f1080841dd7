// This file is written by `make clients`.

/** The code of an error: docs/errors.md. */
export type ProblemCode =
  | 'conflict'
  | 'deadline-exceeded'
  | 'email-not-verified'
  | 'file-type-mismatch'
  | 'forbidden'
  | 'insufficient-scope'
  | 'internal-error'
  | 'invalid-credentials'
  | 'invalid-filename'
  | 'invalid-grant'
  | 'invalid-json'
  | 'invalid-token-request'
  | 'key-in-flight'
  | 'key-reused'
  | 'link-refused'
  | 'malformed-condition'
  | 'malformed-request'
  | 'not-found'
  | 'origin-refused'
  | 'quota-exceeded'
  | 'range-not-satisfiable'
  | 'rate-limited'
  | 'refresh-token-invalid'
  | 'role-required'
  | 'service-unavailable'
  | 'session-ended'
  | 'stale-version'
  | 'token-expired'
  | 'token-invalid'
  | 'token-missing'
  | 'too-large'
  | 'too-many-failures'
  | 'unsupported-file-type'
  | 'unsupported-grant-type'
  | 'unsupported-media-type'
  | 'upload-incomplete'
  | 'upload-stalled'
  | 'validation'
  | 'version-required'
  | 'wrong-password';

/** The paths whose POST takes an Idempotency-Key. */
export const repeatablePaths: readonly string[] = [
  '/api/v1/analytics/events',
  '/api/v1/assets',
  '/api/v1/notes',
  '/api/v1/users/register',
];
