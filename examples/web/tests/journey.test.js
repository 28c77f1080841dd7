/** A user's way through the application in a real browser, on the real platform, from both places that serve it. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { accessibilityFaults, overflow, startBrowser } from "./browser.js";
import { picture } from "./picture.js";
import { startPlatform } from "./platform.js";

const PASSWORD = "a harbour of quiet otters";
const PHONE = { width: 375, height: 700 };

let platform, browser;

before(async () => {
  browser = await startBrowser();
  platform = await startPlatform();
});

after(async () => {
  await browser?.close();
  await platform?.stop();
});

/** Return the link of a mail to this address, once it has arrived. */
async function linkTo(page, address) {
  const link = new RegExp(`/${page}#token=[A-Za-z0-9_-]+`);
  for (const deadline = Date.now() + 20_000; ; ) {
    const mails = (await platform.readMails()).filter((mail) => mail.includes(`To: ${address}`));
    const found = mails.map((mail) => link.exec(mail.replace(/=\r?\n/g, "").replace(/=3D/g, "="))).find(Boolean);
    if (found) {
      return found[0];
    }
    assert.ok(Date.now() < deadline, `no mail with ${link} for ${address}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Another client of the same account, without a browser. */
async function clientOf(username) {
  const send = async (method, path, { json, headers = {} } = {}, token) => {
    const authorization = token ? { Authorization: `Bearer ${token}` } : {};
    const body = json && { "Content-Type": "application/json" };
    const response = await fetch(`${platform.gateway}/api/v1${path}`, {
      method,
      headers: { ...authorization, ...body, ...headers },
      ...(json && { body: JSON.stringify(json) }),
    });
    assert.ok(response.ok, `${method} ${path}: ${response.status}`);
    return response.json();
  };
  const login = { username_or_email: username, password: PASSWORD };
  const { access_token } = await send("POST", "/users/login", { json: login });
  return (method, path, options) => send(method, path, options, access_token);
}

for (const place of ["gateway", "another origin"]) {
  describe(`from ${place}`, () => {
    const username = `otter-${place === "gateway" ? "a" : "b"}-${Date.now()}`;
    const faults = [];
    let context, page;

    before(async () => {
      context = await browser.newContext({ baseURL: platform.origins[place], viewport: PHONE });
      context.setDefaultTimeout(20_000);
      page = await context.newPage();
      page.on("pageerror", (error) => faults.push(String(error)));
      page.on("console", (message) => {
        // The browser reports each refused request; the tests cause some on purpose.
        if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
          faults.push(message.text());
        }
      });
    });

    after(() => context?.close());

    const heading = (name) => page.getByRole("heading", { name, level: 1 });
    const card = (title) => page.getByRole("listitem").filter({ has: page.getByRole("heading", { name: title }) });
    const open = (name) => page.getByRole("navigation").getByRole("link", { name }).click();

    test("a wrong password is explained, and registration leads to the notes", async () => {
      await page.goto("/");
      await page.getByLabel("Username or e-mail").fill(username);
      await page.getByLabel("Password").fill(PASSWORD);
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByRole("alert").getByText(/password/i).waitFor();

      await page.getByRole("link", { name: "Register an account" }).click();
      await page.getByLabel("Username").fill(username);
      await page.getByLabel("E-mail").fill(`${username}@example.com`);
      await page.getByLabel("Password").fill(PASSWORD);
      await page.getByRole("button", { name: "Register" }).click();

      await heading("Notes").waitFor();
      await page.getByText("There are no notes yet.").waitFor();
    });

    test("the session survives a reload", async () => {
      await page.reload();

      await heading("Notes").waitFor();
      await page.getByText(username, { exact: true }).waitFor();
    });

    test("the link of a mail confirms the address, once", async () => {
      const link = await linkTo("verify-email", `${username}@example.com`);
      for (const text of ["Your address is confirmed.", "The token is not valid"]) {
        // Only another document reads the token of the link anew.
        await page.goto("about:blank");
        await page.goto(link);
        await page.getByRole("button", { name: "Confirm" }).click();
        await page.getByText(text).waitFor();
        assert.deepEqual(await accessibilityFaults(page), []);
      }
      await page.getByRole("link", { name: "Go on" }).click();
      await heading("Notes").waitFor();
    });

    test("a note is added and edited", async () => {
      await page.getByLabel("Title").fill("Shopping");
      await page.getByLabel("Text").fill("bread");
      await page.getByRole("button", { name: "Add note" }).click();
      await card("Shopping").getByRole("button", { name: "Edit" }).click();
      await page.getByRole("list").getByLabel("Text").fill("bread and apples");
      await page.getByRole("button", { name: "Save" }).click();

      await card("Shopping").getByText("bread and apples").waitFor();
    });

    test("of two edits of one version, both are shown, and the user decides", async () => {
      const client = await clientOf(username);
      const [note] = (await client("GET", "/notes")).items;
      await page.reload();
      await card("Shopping").getByRole("button", { name: "Edit" }).click();
      await client("PATCH", `/notes/${note.id}`, { json: { body: "soap" }, headers: { "If-Match": note.etag } });

      await page.getByRole("list").getByLabel("Text").fill("candles");
      await page.getByRole("button", { name: "Save" }).click();

      const version = (name) => page.getByRole("article").filter({ has: page.getByRole("heading", { name }) });
      await version("Your version").getByText("candles").waitFor();
      await version("Stored version").getByText("soap").waitFor();
      assert.deepEqual(await accessibilityFaults(page), []);
      const saved = page.waitForResponse((response) => response.request().method() === "PATCH" && response.ok());
      await page.getByRole("button", { name: "Keep yours" }).click();
      await saved;
      await card("Shopping").getByText("candles").waitFor();
      assert.equal((await client("GET", `/notes/${note.id}`)).body, "candles");
    });

    test("an upload shows its progress", async () => {
      await open("Files");
      const protocol = await context.newCDPSession(page);
      const conditions = { offline: false, latency: 0, downloadThroughput: -1 };
      await protocol.send("Network.emulateNetworkConditions", { ...conditions, uploadThroughput: 1_000_000 });
      const file = { name: "long.txt", mimeType: "text/plain", buffer: Buffer.alloc(1_500_000, "words ") };
      await page.getByLabel("File").setInputFiles(file);
      await page.getByRole("button", { name: "Upload" }).click();

      await page.waitForFunction(() => {
        const bar = document.querySelector("progress");
        return bar !== null && bar.value > 0 && bar.value < 1;
      });
      await protocol.send("Network.emulateNetworkConditions", { ...conditions, uploadThroughput: -1 });
      await card("long.txt").waitFor();
      await protocol.detach();
    });

    test("a picture is shown by a signed link, which stays the same", async () => {
      await page.getByLabel("File").setInputFiles({ name: "otter.png", mimeType: "image/png", buffer: picture() });
      await page.getByRole("button", { name: "Upload" }).click();
      const image = page.getByRole("img", { name: "otter.png" });
      await image.waitFor();
      await image.scrollIntoViewIfNeeded();
      await page.waitForFunction(() => document.querySelector("main img")?.naturalWidth === 64);

      const link = await image.getAttribute("src");
      await page.reload();
      await image.waitFor();
      // A new window of five minutes may have begun in between.
      const reloaded = await image.getAttribute("src");
      assert.ok(reloaded === link || Math.abs(expiryOf(reloaded) - expiryOf(link)) === 300, `${link} ${reloaded}`);

      const tab = await browser.newPage();
      const response = await tab.goto(new URL(link, platform.origins[place]).href);
      assert.match(await response.headerValue("content-disposition"), /^inline/);
      await tab.waitForFunction(() => document.images[0]?.naturalWidth === 64);
      await tab.close();
    });

    test("a file that no service accepts is explained", async () => {
      const page_ = { name: "page.txt", mimeType: "text/plain", buffer: Buffer.from("<!doctype html><script>1</script>") };
      await page.getByLabel("File").setInputFiles(page_);
      await page.getByRole("button", { name: "Upload" }).click();

      await page.getByRole("alert").getByText(/HTML/i).waitFor();
    });

    test("a published note shows its author and its picture to anyone, until it is withdrawn", async () => {
      await open("Notes");
      await card("Shopping").getByRole("button", { name: "Edit" }).click();
      await page.getByRole("list").getByLabel("otter.png").check();
      await page.getByRole("button", { name: "Save" }).click();
      await card("Shopping").getByText("Attached: otter.png").waitFor();
      await card("Shopping").getByRole("button", { name: "Publish" }).click();
      const path = await card("Shopping").getByRole("link", { name: "its public page" }).getAttribute("href");

      const stranger = await browser.newContext({ baseURL: platform.origins[place] });
      const visit = await stranger.newPage();
      await visit.goto(path);
      await visit.getByText(`By ${username}`).waitFor();
      await visit.waitForFunction(() => document.querySelector("main img")?.naturalWidth === 64);
      assert.deepEqual(await accessibilityFaults(visit), []);

      await card("Shopping").getByRole("button", { name: "Withdraw" }).click();
      await card("Shopping").getByRole("button", { name: "Publish" }).waitFor();
      // The gateway's copy is fresh for two seconds and used for two more.
      for (const deadline = Date.now() + 10_000; ; ) {
        await visit.reload();
        const gone = visit.getByRole("alert").getByText("no published note");
        await gone.or(visit.getByText(`By ${username}`)).waitFor();
        if (await gone.isVisible()) {
          break;
        }
        assert.ok(Date.now() < deadline, "the page is still there");
      }
      await stranger.close();
    });

    test("recorded events show in the totals, the chart and its table", async () => {
      await open("Events");
      for (const total of ["event", "events"]) {
        await page.getByLabel("Type").fill("door.opened");
        await page.getByRole("button", { name: "Record" }).click();
        await page.getByText(total === "event" ? "door.opened: 1" : "door.opened: 2").waitFor();
      }

      await page.getByText("The same as a table").click();
      const counts = await page.getByRole("table").getByRole("cell").allTextContents();
      const sum = counts.filter((_, index) => index % 2 === 1).reduce((total, count) => total + Number(count), 0);
      // The domain events of the account count as well: registered, a note, two files.
      await page.getByRole("img", { name: `Chart of ${sum} events over time` }).waitFor();
      assert.ok(sum >= 2);
      const isDrawn = await page.evaluate(() => {
        const canvas = document.querySelector(".chart canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.some((value, index) => index % 4 === 3 && value > 0);
      });
      assert.ok(isDrawn);
    });

    test("every page is accessible and fits a phone, in light and dark", async () => {
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        for (const name of ["Notes", "Files", "Events"]) {
          await open(name);
          await heading(name).waitFor();
          await page.getByText("Loading…").waitFor({ state: "detached" });
          assert.deepEqual(await accessibilityFaults(page), [], `${name}, ${colorScheme}`);
          assert.equal(await overflow(page), 0, `${name} is too wide`);
        }
      }
    });

    test("a path of the application can be opened, and logging out ends the session", async () => {
      await page.goto("/files");
      await heading("Files").waitFor();
      const token = await page.evaluate(() => JSON.parse(sessionStorage.getItem("session")).refresh_token);
      await page.getByRole("button", { name: "Log out" }).click();
      await heading("Log in").waitFor();
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        assert.deepEqual(await accessibilityFaults(page), [], colorScheme);
      }

      await page.reload();
      await heading("Log in").waitFor();
      const refresh = await fetch(`${platform.gateway}/api/v1/users/refresh`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ refresh_token: token }),
      });
      assert.equal(refresh.status, 401);
    });

    test("a forgotten password is replaced by the link of a mail", async () => {
      const replacement = "a lagoon of patient herons";
      await page.getByRole("link", { name: "Forgotten your password?" }).click();
      await page.getByLabel("E-mail").fill(`${username}@example.com`);
      await page.getByRole("button", { name: "Send a mail" }).click();
      await page.getByRole("status").waitFor();
      await page.goto(await linkTo("reset-password", `${username}@example.com`));
      await page.getByLabel("New password").fill(replacement);
      await page.getByRole("button", { name: "Change password" }).click();
      await page.getByText("Your password was changed").waitFor();

      await page.getByRole("link", { name: "Log in" }).click();
      await page.getByLabel("Username or e-mail").fill(username);
      await page.getByLabel("Password").fill(replacement);
      await page.getByRole("button", { name: "Log in" }).click();
      await heading("Notes").waitFor();
    });

    test("nothing was refused by the Content-Security-Policy, and no error was left unhandled", () => {
      assert.deepEqual(faults, []);
    });
  });
}

const expiryOf = (link) => Number(new URL(link, "http://a").searchParams.get("expires"));
