import type { ApiClient } from './client.js';
import { pause } from './client.js';
import { ApiError } from './errors.js';

export interface UploadOptions {
  /** The name of a Blob that is no File. */
  filename?: string;
  onProgress?: (sent: number, total: number) => void;
  signal?: AbortSignal;
  tries?: number;
}

interface Sending {
  url: string;
  headers: Record<string, string>;
  file: Blob;
  options: UploadOptions;
}

const CHUNK_BYTES = 64 * 1024;
const REPEATED_STATUSES = new Set([408, 409, 429, 502, 503, 504]);

/**
 * Store a file. Its bytes are streamed; all tries have one Idempotency-Key, so that the file is stored once.
 *
 * `Asset` is what the service responds with: `AssetsAssetOut`, unless the platform has another service of files.
 */
export async function upload<Asset = Record<string, unknown>>(
  api: ApiClient,
  file: Blob,
  options: UploadOptions = {},
): Promise<Asset> {
  const filename = options.filename ?? ('name' in file ? String(file.name) : '');
  const key = crypto.randomUUID();
  for (let attempt = 1; ; attempt++) {
    const headers: Record<string, string> = {
      'Content-Type': file.type || 'application/octet-stream',
      'X-Filename': encodeURIComponent(filename),
      'Idempotency-Key': key,
    };
    const token = await api.session.accessToken();
    if (token) headers['Authorization'] = `Bearer ${token}`;
    const sending = { url: `${api.baseUrl}/api/v1/assets`, headers, file, options };
    let response: Response | undefined;
    try {
      response = await ('XMLHttpRequest' in globalThis ? sendByXhr(sending) : sendByFetch(sending));
      if (response.ok) return (await response.json()) as Asset;
      const error = new ApiError(await response.json().catch(() => undefined), response);
      const expired = error.code === 'token-expired' && token !== undefined;
      if (expired) await api.session.refresh(token);
      if (!expired && !(REPEATED_STATUSES.has(error.status) && error.code !== 'conflict')) throw error;
      if (attempt >= (options.tries ?? 4)) throw error;
      if (expired) continue;
    } catch (error) {
      if (error instanceof ApiError || options.signal?.aborted || attempt >= (options.tries ?? 4)) throw error;
    }
    await pause(response, attempt, options.signal);
  }
}

/** A browser tells the progress of an upload here alone. */
function sendByXhr({ url, headers, file, options }: Sending): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => options.onProgress?.(event.loaded, file.size);
    request.onload = () => resolve(new Response(request.responseText, { status: request.status, headers: headersOf(request) }));
    request.onerror = () => reject(new TypeError('The upload was broken off.'));
    request.onabort = () => reject(options.signal?.reason ?? new DOMException('Aborted', 'AbortError'));
    if (options.signal?.aborted) return reject(options.signal.reason);
    options.signal?.addEventListener('abort', () => request.abort(), { once: true });
    request.send(file);
  });
}

function headersOf(request: XMLHttpRequest): Headers {
  const lines = request.getAllResponseHeaders().trim().split(/\r?\n/).filter(Boolean);
  return new Headers(lines.map((line): [string, string] => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
}

function sendByFetch({ url, headers, file, options }: Sending): Promise<Response> {
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (sent >= file.size) return controller.close();
      const chunk = new Uint8Array(await file.slice(sent, sent + CHUNK_BYTES).arrayBuffer());
      controller.enqueue(chunk);
      sent += chunk.length;
      options.onProgress?.(sent, file.size);
    },
  });
  const init = { method: 'POST', headers, body, duplex: 'half', signal: options.signal ?? null };
  return fetch(url, init as RequestInit);
}
