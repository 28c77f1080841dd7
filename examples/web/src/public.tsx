/** A published note, which needs no account. */

import { useEffect, useState } from "preact/hooks";

import { absolute, type PublicNote, readPublicNote } from "./api";
import { localTime, ProblemText, useAction } from "./form";

export function PublicPage({ slug }: { slug: string }) {
  const [note, setNote] = useState<PublicNote | null>(null);
  const loading = useAction();
  useEffect(() => {
    void loading.run(async () => setNote(await readPublicNote(slug)));
  }, [slug]);
  if (note === null) {
    return loading.problem ? <ProblemText problem={loading.problem} /> : <p role="status">Loading…</p>;
  }
  return (
    <article>
      <h1>{note.title}</h1>
      <p class="hint">
        {note.author && <>By {note.author.display_name}, </>}
        {localTime(note.published_at)}
      </p>
      <p class="text">{note.body}</p>
      {note.attachments?.map((file) => (
        <figure key={file.id}>
          {file.media_type.startsWith("image/") && <img src={absolute(file.url)} alt={file.filename} />}
          <figcaption>
            <a href={absolute(file.url)} data-external>
              {file.filename}
            </a>
          </figcaption>
        </figure>
      ))}
    </article>
  );
}
