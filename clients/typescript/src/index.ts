export { ApiClient, edit, etagOf, items, type ApiClientOptions } from './client.js';
export { ApiError, EditConflict } from './errors.js';
export { repeatablePaths, type ProblemCode } from './generated/contract.gen.js';
export * from './generated/index.js';
export { memoryStore, Session, storageStore, type Tokens, type TokenStore } from './session.js';
export { upload, type UploadOptions } from './upload.js';
