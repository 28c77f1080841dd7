/** The user's files: upload with progress, pictures by signed links. */

import { useEffect, useId, useState } from "preact/hooks";

import { type Asset, deleteAsset, linksTo, listAssets, upload } from "./api";
import { Form, ProblemText, useAction } from "./form";

const sizeOf = (bytes: number): string =>
  bytes < 1024 ? `${bytes} B` : bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;

export function Files() {
  const id = useId();
  const [files, setFiles] = useState<(Asset & { link: string })[] | null>(null);
  const [progress, setProgress] = useState<number | null>(null);
  const [uploads, setUploads] = useState(0);
  const loading = useAction();
  const sending = useAction();

  const load = async () => {
    const loaded = await listAssets();
    const links = await linksTo(loaded.map((file) => file.id));
    setFiles(loaded.map((file) => ({ ...file, link: links.get(file.id) ?? "" })));
  };
  useEffect(() => void loading.run(load), []);

  const send = (values: FormData) =>
    sending.run(async () => {
      setProgress(0);
      try {
        await upload(values.get("file") as File, setProgress);
        await load();
        // A new form has no chosen file.
        setUploads((number) => number + 1);
      } finally {
        setProgress(null);
      }
    });

  return (
    <>
      <h1>Files</h1>
      <section aria-labelledby={`${id}-upload`}>
        <h2 id={`${id}-upload`}>Upload</h2>
        <Form key={uploads} onSubmit={send}>
          <p class="field">
            <label for={`${id}-file`}>File</label>
            <input id={`${id}-file`} type="file" name="file" required />
          </p>
          {progress !== null && (
            <p class="field">
              <label for={`${id}-progress`}>Progress: {Math.round(progress * 100)} %</label>
              <progress id={`${id}-progress`} value={progress} />
            </p>
          )}
          <ProblemText problem={sending.problem} />
          <button disabled={sending.isRunning}>Upload</button>
        </Form>
      </section>
      <ProblemText problem={loading.problem} />
      <p role="status">{files === null ? "Loading…" : files.length === 0 ? "There are no files yet." : ""}</p>
      <ul class="cards">
        {files?.map((file) => (
          <li key={file.id}>
            <article>
              <h2>{file.filename}</h2>
              {file.media_type.startsWith("image/") && (
                <a href={`${file.link}&inline=1`} data-external>
                  <img src={`${file.link}&inline=1`} alt={file.filename} loading="lazy" />
                </a>
              )}
              <p class="hint">
                {file.media_type}, {sizeOf(file.size)}
              </p>
              <p class="buttons">
                <a href={file.link} data-external>
                  Download<span class="unseen"> {file.filename}</span>
                </a>
                <button
                  type="button"
                  class="plain"
                  disabled={loading.isRunning}
                  onClick={() =>
                    void loading.run(async () => {
                      await deleteAsset(file.id);
                      await load();
                    })
                  }
                >
                  Delete<span class="unseen"> {file.filename}</span>
                </button>
              </p>
            </article>
          </li>
        ))}
      </ul>
    </>
  );
}
