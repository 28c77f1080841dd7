/** The user's notes. An edit names the version that it began with; if that is stale, both versions are shown. */

import { useEffect, useState } from "preact/hooks";

import {
  ApiError,
  type Asset,
  changeNote,
  createNote,
  deleteNote,
  listAssets,
  listNotes,
  type Note,
  type NoteContent,
  publishNote,
  readNote,
  withdrawNote,
} from "./api";
import { Field, Form, localTime, ProblemText, TextArea, textOf, useAction } from "./form";

function contentOf(values: FormData): NoteContent {
  return {
    title: textOf(values, "title"),
    body: textOf(values, "body"),
    attachments: values.getAll("attachments").map(String),
  };
}

export function Notes() {
  const [notes, setNotes] = useState<Note[] | null>(null);
  const [files, setFiles] = useState<Asset[]>([]);
  // The form for a new note is a new one after each note, with a key of its own: a repeated request creates one note.
  const [key, setKey] = useState(() => crypto.randomUUID());
  const loading = useAction();
  const creation = useAction();

  useEffect(() => {
    void loading.run(async () => {
      const [loaded, assets] = await Promise.all([listNotes(), listAssets()]);
      setNotes(loaded);
      setFiles(assets);
    });
  }, []);

  const create = (values: FormData) =>
    creation.run(async () => {
      const note = await createNote(contentOf(values), key);
      setNotes((known) => [note, ...(known ?? [])]);
      setKey(crypto.randomUUID());
    });
  const replace = (id: string, note: Note | null) =>
    setNotes((known) => (known ?? []).flatMap((other) => (other.id !== id ? [other] : note ? [note] : [])));

  return (
    <>
      <h1>Notes</h1>
      <section aria-labelledby="new-note">
        <h2 id="new-note">New note</h2>
        <Form key={key} onSubmit={create}>
          <Fields files={files} />
          <ProblemText problem={creation.problem} />
          <button disabled={creation.isRunning}>Add note</button>
        </Form>
      </section>
      <ProblemText problem={loading.problem} />
      <p role="status">{notes === null ? "Loading…" : notes.length === 0 ? "There are no notes yet." : ""}</p>
      <ul class="cards">
        {notes?.map((note) => (
          <li key={note.id}>
            <NoteCard note={note} files={files} onChange={(changed) => replace(note.id, changed)} />
          </li>
        ))}
      </ul>
    </>
  );
}

function Fields({ content, files }: { content?: NoteContent; files: Asset[] }) {
  return (
    <>
      <Field label="Title" name="title" maxLength={200} defaultValue={content?.title ?? ""} required />
      <TextArea label="Text" name="body" rows={4} defaultValue={content?.body ?? ""} />
      {files.length > 0 && (
        <fieldset>
          <legend>Attachments</legend>
          {files.map((file) => (
            <label key={file.id} class="choice">
              <input
                type="checkbox"
                name="attachments"
                value={file.id}
                defaultChecked={content?.attachments.includes(file.id) ?? false}
              />
              {file.filename}
            </label>
          ))}
        </fieldset>
      )}
    </>
  );
}

interface CardProps {
  note: Note;
  files: Asset[];
  onChange: (note: Note | null) => void;
}

function NoteCard({ note, files, onChange }: CardProps) {
  const [isEdited, setEdited] = useState(false);
  const [conflict, setConflict] = useState<{ mine: NoteContent; theirs: Note } | null>(null);
  const action = useAction();

  const save = (mine: NoteContent, etag: string) =>
    action.run(async () => {
      try {
        onChange(await changeNote(note.id, etag, mine));
        setConflict(null);
        setEdited(false);
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "stale-version") {
          throw error;
        }
        setConflict({ mine, theirs: await readNote(note.id) });
      }
    });
  const remove = () =>
    action.run(async () => {
      await deleteNote(note.id, note.etag);
      onChange(null);
    });
  // The version that an edit names does not change when a note is published or withdrawn.
  const publish = () => action.run(async () => onChange({ ...note, slug: await publishNote(note.id) }));
  const withdraw = () =>
    action.run(async () => {
      await withdrawNote(note.id);
      onChange({ ...note, slug: null });
    });

  if (conflict) {
    const { mine, theirs } = conflict;
    return (
      <section aria-labelledby={`conflict-${note.id}`}>
        <div role="alert">
          <h2 id={`conflict-${note.id}`}>“{note.title}” was changed elsewhere</h2>
        </div>
        <div class="versions">
          <Version name="Your version" content={mine} />
          <Version name="Stored version" content={theirs} />
        </div>
        <ProblemText problem={action.problem} />
        <p class="buttons">
          <button type="button" disabled={action.isRunning} onClick={() => save(mine, theirs.etag)}>
            Keep yours
          </button>
          <button
            type="button"
            class="plain"
            onClick={() => {
              onChange(theirs);
              setConflict(null);
              setEdited(false);
            }}
          >
            Take the stored one
          </button>
        </p>
      </section>
    );
  }
  if (isEdited) {
    return (
      <Form onSubmit={(values) => void save(contentOf(values), note.etag)}>
        <Fields content={note} files={files} />
        <ProblemText problem={action.problem} />
        <p class="buttons">
          <button disabled={action.isRunning}>Save</button>
          <button type="button" class="plain" onClick={() => setEdited(false)}>
            Cancel
          </button>
        </p>
      </Form>
    );
  }
  const names = files.filter((file) => note.attachments.includes(file.id)).map((file) => file.filename);
  return (
    <article>
      <h2>{note.title}</h2>
      <p class="text">{note.body}</p>
      {names.length > 0 && <p>Attached: {names.join(", ")}</p>}
      <p class="hint">Changed {localTime(note.updated_at)}</p>
      {note.slug && (
        <p>
          Published at <a href={`/p/${note.slug}`}>its public page</a>
        </p>
      )}
      <ProblemText problem={action.problem} />
      <p class="buttons">
        <button type="button" class="plain" onClick={() => setEdited(true)}>
          Edit<span class="unseen"> “{note.title}”</span>
        </button>
        <button type="button" class="plain" disabled={action.isRunning} onClick={note.slug ? withdraw : publish}>
          {note.slug ? "Withdraw" : "Publish"}
          <span class="unseen"> “{note.title}”</span>
        </button>
        <button type="button" class="plain" disabled={action.isRunning} onClick={remove}>
          Delete<span class="unseen"> “{note.title}”</span>
        </button>
      </p>
    </article>
  );
}

function Version({ name, content }: { name: string; content: NoteContent }) {
  return (
    <article>
      <h3>{name}</h3>
      <p>
        <strong>{content.title}</strong>
      </p>
      <p class="text">{content.body}</p>
    </article>
  );
}
