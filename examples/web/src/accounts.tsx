/** Registration and login. */

import { logIn, register } from "./api";
import { Field, Form, PASSWORD_RULES, ProblemText, textOf, useAction } from "./form";
import { navigate } from "./router";

interface Props {
  onSignedIn: () => void;
}

export function Register({ onSignedIn }: Props) {
  const action = useAction();
  const submit = (values: FormData) =>
    action.run(async () => {
      const [username, password] = [textOf(values, "username"), textOf(values, "password")];
      await register(username, textOf(values, "email"), password);
      await logIn(username, password);
      navigate("/notes");
      onSignedIn();
    });
  return (
    <section class="narrow">
      <h1>Register</h1>
      <Form onSubmit={submit}>
        <Field label="Username" name="username" autocomplete="username" required />
        <Field label="E-mail" name="email" type="email" autocomplete="email" required />
        <Field label="Password" name="password" {...PASSWORD_RULES} />
        <ProblemText problem={action.problem} />
        <button disabled={action.isRunning}>Register</button>
      </Form>
      <p>
        <a href="/login">Log in instead</a>
      </p>
    </section>
  );
}

export function LogIn({ onSignedIn }: Props) {
  const action = useAction();
  const submit = (values: FormData) =>
    action.run(async () => {
      await logIn(textOf(values, "name"), textOf(values, "password"));
      navigate("/notes");
      onSignedIn();
    });
  return (
    <section class="narrow">
      <h1>Log in</h1>
      <Form onSubmit={submit}>
        <Field label="Username or e-mail" name="name" autocomplete="username" required />
        <Field label="Password" name="password" type="password" autocomplete="current-password" required />
        <ProblemText problem={action.problem} />
        <button disabled={action.isRunning}>Log in</button>
      </Form>
      <p>
        <a href="/register">Register an account</a>
      </p>
      <p>
        <a href="/forgot-password">Forgotten your password?</a>
      </p>
    </section>
  );
}
