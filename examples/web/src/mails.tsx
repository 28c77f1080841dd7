/** The pages that links in mails lead to, and the one that asks for a mail. A link has its token after the `#`. */

import { useState } from "preact/hooks";

import { confirmEmail, requestPasswordReset, resetPassword } from "./api";
import { Field, Form, PASSWORD_RULES, ProblemText, textOf, useAction } from "./form";

const tokenOfLink = (): string => new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

export function VerifyEmail() {
  const action = useAction();
  const [isDone, setDone] = useState(false);
  const confirm = () =>
    action.run(async () => {
      await confirmEmail(tokenOfLink());
      setDone(true);
    });
  return (
    <section class="narrow">
      <h1>Confirm your address</h1>
      {isDone ? (
        <p role="status">Your address is confirmed.</p>
      ) : (
        <Form onSubmit={confirm}>
          <ProblemText problem={action.problem} />
          <button disabled={action.isRunning}>Confirm</button>
        </Form>
      )}
      <p>
        <a href="/">Go on</a>
      </p>
    </section>
  );
}

export function ForgotPassword() {
  const action = useAction();
  const [isDone, setDone] = useState(false);
  const submit = (values: FormData) =>
    action.run(async () => {
      await requestPasswordReset(textOf(values, "email"));
      setDone(true);
    });
  return (
    <section class="narrow">
      <h1>Forgotten password</h1>
      {isDone ? (
        <p role="status">If there is an account with this address, a mail is on its way.</p>
      ) : (
        <Form onSubmit={submit}>
          <Field label="E-mail" name="email" type="email" autocomplete="email" required />
          <ProblemText problem={action.problem} />
          <button disabled={action.isRunning}>Send a mail</button>
        </Form>
      )}
      <p>
        <a href="/login">Log in instead</a>
      </p>
    </section>
  );
}

export function ResetPassword() {
  const action = useAction();
  const [isDone, setDone] = useState(false);
  const submit = (values: FormData) =>
    action.run(async () => {
      await resetPassword(tokenOfLink(), textOf(values, "password"));
      setDone(true);
    });
  return (
    <section class="narrow">
      <h1>New password</h1>
      {isDone ? (
        <p role="status">Your password was changed, and all sessions have ended.</p>
      ) : (
        <Form onSubmit={submit}>
          <Field label="New password" name="password" {...PASSWORD_RULES} />
          <ProblemText problem={action.problem} />
          <button disabled={action.isRunning}>Change password</button>
        </Form>
      )}
      <p>
        <a href="/login">Log in</a>
      </p>
    </section>
  );
}
