import type { ProblemCode } from './generated/contract.gen.js';
import type { Problem } from './generated/index.js';

const PREFIX = /^urn:[a-z0-9-]+:problem:/;

/** An error that the platform responded with. `code` says which: docs/errors.md. */
export class ApiError extends Error {
  override readonly name: string = 'ApiError';
  readonly status: number;
  /** Empty where the status says it all, as with 304 or an unknown path. */
  readonly code: ProblemCode | '';
  readonly problem: Problem | undefined;
  readonly requestId: string;

  constructor(
    body: unknown,
    readonly response: Response,
  ) {
    const problem = typeof body === 'object' && body !== null && 'type' in body ? (body as Problem) : undefined;
    super(problem ? `${problem.status} ${problem.title}: ${problem.detail}` : `HTTP status ${response.status}`);
    this.status = response.status;
    this.problem = problem;
    this.code = (problem && PREFIX.test(problem.type) ? problem.type.replace(PREFIX, '') : '') as ProblemCode | '';
    this.requestId = problem?.request_id ?? response.headers.get('X-Request-Id') ?? '';
  }
}

/** A change of what someone else has changed: `mine` was not stored, `theirs` is. */
export class EditConflict<T, C> extends Error {
  override readonly name = 'EditConflict';

  constructor(
    /** What was read before the edit. */
    readonly base: T,
    /** The change that was refused. */
    readonly mine: C,
    /** What is stored now, and its entity tag, with which the change can be sent again. */
    readonly theirs: T,
    readonly etag: string,
  ) {
    super('It has changed since it was read.');
  }
}
