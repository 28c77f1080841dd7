/** Parts of forms: fields with labels, and an action with its progress and its problem. */

import type { ComponentChildren, JSX } from "preact";
import { useId, useState } from "preact/hooks";

import { api, ApiError } from "./api";

/** What went wrong, in words for the user. */
export interface Trouble {
  text: string;
  faults: { field: string; message: string }[];
}

export interface Action {
  isRunning: boolean;
  problem: Trouble | null;
  run: (work: () => Promise<void>) => Promise<void>;
  clear: () => void;
}

/** Run one thing at a time and keep the problem of the last one. */
export function useAction(): Action {
  const [isRunning, setRunning] = useState(false);
  const [problem, setProblem] = useState<Trouble | null>(null);
  const run = async (work: () => Promise<void>): Promise<void> => {
    setRunning(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(await troubleOf(error));
    } finally {
      setRunning(false);
    }
  };
  return { isRunning, problem, run, clear: () => setProblem(null) };
}

async function troubleOf(error: unknown): Promise<Trouble> {
  if (error instanceof ApiError) {
    if (error.code === "session-ended") {
      await api.session.end();
    }
    return { text: error.problem?.detail ?? error.message, faults: error.problem?.errors ?? [] };
  }
  if (error instanceof TypeError) {
    // `fetch` says no more about a failure of the network.
    return { text: "The server cannot be reached. Check the connection and try again.", faults: [] };
  }
  throw error;
}

/** A problem is announced as soon as it appears. */
export function ProblemText({ problem }: { problem: Trouble | null }) {
  return (
    <div role="alert">
      {problem && (
        <div class="problem">
          <p>{problem.text}</p>
          {problem.faults.length > 0 && (
            <ul>
              {problem.faults.map((error) => (
                <li key={error.field}>
                  {error.field.replace(/^body\./, "")}: {error.message}
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
    </div>
  );
}

/** What a field for a new password has. */
export const PASSWORD_RULES = {
  type: "password",
  autocomplete: "new-password",
  minLength: 8,
  maxLength: 128,
  hint: "At least 8 characters.",
  required: true,
} as const;

type FieldProps = JSX.IntrinsicElements["input"] & { label: string; hint?: string };

export function Field({ label, hint, ...input }: FieldProps) {
  const id = useId();
  return (
    <p class="field">
      <label for={id}>{label}</label>
      <input {...input} id={id} {...(hint ? { "aria-describedby": `${id}-hint` } : {})} />
      {hint && (
        <small id={`${id}-hint`} class="hint">
          {hint}
        </small>
      )}
    </p>
  );
}

export function TextArea({ label, ...area }: JSX.IntrinsicElements["textarea"] & { label: string }) {
  const id = useId();
  return (
    <p class="field">
      <label for={id}>{label}</label>
      <textarea {...area} id={id} />
    </p>
  );
}

export function Form({ onSubmit, children }: { onSubmit: (values: FormData) => void; children: ComponentChildren }) {
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit(new FormData(event.currentTarget));
      }}
    >
      {children}
    </form>
  );
}

export const textOf = (values: FormData, name: string): string => String(values.get(name) ?? "");

export const localTime = (time: string): string => new Date(time).toLocaleString();
