/** The frame of the application: who is signed in, and which page the path names. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { type Account, isSignedIn as hasSession, logOut, readProfile } from "./api";
import { LogIn, Register } from "./accounts";
import { Events } from "./events";
import { Files } from "./files";
import { useAction } from "./form";
import { ForgotPassword, ResetPassword, VerifyEmail } from "./mails";
import { Notes } from "./notes";
import { PublicPage } from "./public";
import { followLinks, navigate, usePath } from "./router";

const PAGES = [
  { path: "/notes", name: "Notes", page: Notes },
  { path: "/files", name: "Files", page: Files },
  { path: "/events", name: "Events", page: Events },
];

// Links in mails work whether somebody is signed in or not.
const MAIL_PAGES: Record<string, () => JSX.Element> = {
  "/verify-email": VerifyEmail,
  "/forgot-password": ForgotPassword,
  "/reset-password": ResetPassword,
};

export function App() {
  const path = usePath();
  const [isSignedIn, setSignedIn] = useState(hasSession);
  const [account, setAccount] = useState<Account | null>(null);
  const profile = useAction();

  useEffect(() => {
    const ended = () => setSignedIn(false);
    window.addEventListener("session-ended", ended);
    return () => window.removeEventListener("session-ended", ended);
  }, []);
  useEffect(() => {
    setAccount(null);
    if (isSignedIn) {
      void profile.run(async () => setAccount(await readProfile()));
    }
  }, [isSignedIn]);

  const current = PAGES.find((entry) => entry.path === path) ?? PAGES[0];
  const slug = /^\/p\/([A-Za-z0-9_-]+)$/.exec(path)?.[1];
  const Page = current?.page ?? Notes;
  const MailPage = MAIL_PAGES[path];
  return (
    <div onClick={followLinks}>
      <a class="skip" href="#main" data-external>
        Skip to the content
      </a>
      <header>
        <a class="brand" href="/">
          Notebook
        </a>
        {isSignedIn && !slug && (
          <nav aria-label="Pages">
            {PAGES.map((entry) => (
              <a key={entry.path} href={entry.path} {...(entry === current ? { "aria-current": "page" as const } : {})}>
                {entry.name}
              </a>
            ))}
          </nav>
        )}
        {account && (
          <div class="account">
            <span>{account.display_name}</span>
            <button
              type="button"
              class="plain"
              onClick={() => {
                setSignedIn(false);
                navigate("/");
                void profile.run(logOut);
              }}
            >
              Log out
            </button>
          </div>
        )}
      </header>
      <main id="main" tabIndex={-1}>
        {slug ? (
          <PublicPage slug={slug} />
        ) : MailPage ? (
          <MailPage />
        ) : isSignedIn ? (
          <Page />
        ) : path === "/register" ? (
          <Register onSignedIn={() => setSignedIn(true)} />
        ) : (
          <LogIn onSignedIn={() => setSignedIn(true)} />
        )}
      </main>
    </div>
  );
}
