/** Parts of forms: fields with labels, and an action with its progress and its problem. */

import type { ComponentChildren, JSX } from "preact";
import { useId, useState } from "preact/hooks";

import { ApiError } from "./api";

export interface Action {
  isRunning: boolean;
  problem: ApiError | null;
  run: (work: () => Promise<void>) => Promise<void>;
  clear: () => void;
}

/** Run one thing at a time and keep the problem of the last one. */
export function useAction(): Action {
  const [isRunning, setRunning] = useState(false);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const run = async (work: () => Promise<void>): Promise<void> => {
    setRunning(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      if (!(error instanceof ApiError)) {
        throw error;
      }
      setProblem(error);
    } finally {
      setRunning(false);
    }
  };
  return { isRunning, problem, run, clear: () => setProblem(null) };
}

/** A problem is announced as soon as it appears. */
export function ProblemText({ problem }: { problem: ApiError | null }) {
  return (
    <div role="alert">
      {problem && (
        <div class="problem">
          <p>{problem.message}</p>
          {problem.problem.errors && (
            <ul>
              {problem.problem.errors.map((error) => (
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
