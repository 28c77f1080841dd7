/** A question before an action: what will happen, to be confirmed or cancelled. */

import { ProblemText } from "./parts.js";
import { html, useEffect, useRef, useState } from "./ui.js";

/** @typedef {import("./ui.js").Children} Children */
/**
 * @typedef {object} Question
 * @property {string} title
 * @property {Children} text what will happen
 * @property {string} action the button that does it
 * @property {boolean} [dangerous]
 * @property {string} [typed] a word that must be typed before the action can be confirmed
 * @property {() => Promise<unknown>} run
 */

/** Returns what to render, and a function that asks. @returns {[any, (question: Question) => void]} */
export function useConfirm() {
  const [question, setQuestion] = useState(/** @type {Question | null} */ (null));
  const element = question && html`<${Confirm} question=${question} onClose=${() => setQuestion(null)} />`;
  return [element, setQuestion];
}

/** @param {{question: Question, onClose: () => void}} props */
function Confirm({ question, onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [typed, setTyped] = useState("");
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const [running, setRunning] = useState(false);
  // The browser keeps the focus inside, closes by Esc, and gives the focus back.
  useEffect(() => dialog.current?.showModal(), []);
  const run = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setRunning(true);
    setError(null);
    try {
      await question.run();
      dialog.current?.close();
    } catch (failure) {
      setError(failure);
      setRunning(false);
    }
  };
  return html`<dialog ref=${dialog} aria-labelledby="question" aria-describedby="consequence" onClose=${onClose}>
    <form onSubmit=${run}>
      <h2 id="question">${question.title}</h2>
      <div id="consequence">${question.text}</div>
      ${question.typed &&
      html`<label class="field">
        <span>Type <strong>${question.typed}</strong> to confirm</span>
        <input value=${typed} autocomplete="off" spellcheck=${false} onInput=${(/** @type {any} */ event) => setTyped(event.currentTarget.value)} />
      </label>`}
      <${ProblemText} error=${error} />
      <p class="buttons">
        <button type="button" onClick=${() => dialog.current?.close()}>Cancel</button>
        <button
          class=${question.dangerous ? "danger" : "primary"}
          disabled=${running || (question.typed !== undefined && typed !== question.typed)}
        >
          ${question.action}
        </button>
      </p>
    </form>
  </dialog>`;
}
