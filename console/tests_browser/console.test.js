/** An operator's way through the console in a real browser, on the real platform. */

import assert from "node:assert/strict";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { accessibilityFaults, overflow, startBrowser } from "./browser.js";
import { logIn, startPlatform, until } from "./platform.js";

const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 375, height: 700 };
const PAGES = ["Overview", "Map", "Requests", "Logs", "Routes", "Users", "Data", "Events", "Mail", "Keys", "Audit", "API"];

describe("the console", () => {
  const faults = [];
  let platform, browser, context, page, admin, visitor;

  before(async () => {
    [browser, platform] = await Promise.all([startBrowser(), startPlatform()]);
    admin = await platform.register("ada");
    visitor = await platform.register("eve");
    await platform.makeAdmin("ada");
    // Colours that change slowly have no contrast meanwhile.
    context = await browser.newContext({ baseURL: platform.gateway, viewport: WIDE, reducedMotion: "reduce" });
    context.setDefaultTimeout(30_000);
    page = await context.newPage();
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => {
      // The browser reports each refused request; the tests cause some on purpose.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
        faults.push(message.text());
      }
    });
  });

  after(async () => {
    await browser?.close();
    await platform?.stop();
  });

  const heading = (name) => page.getByRole("heading", { name, level: 1 });
  const card = (name) => page.locator(`[data-replica="${name}"]`);
  const state = (name, word) => card(name).locator("header").getByText(word);
  const dialog = () => page.getByRole("dialog");
  const open = async (name) => {
    await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
    await heading(name).waitFor();
  };

  test("a user without the role gets nothing: no page, no data, no stream", async () => {
    await page.goto("/console");
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await accessibilityFaults(page), [], colorScheme);
    }
    await logIn(page, "eve");
    await page.getByRole("alert").getByText("does not have the role admin").waitFor();
    assert.equal(await page.getByRole("navigation").count(), 0);

    const { access_token, refresh_token } = visitor;
    const origin = { Origin: platform.gateway };
    const refused = await platform.send("POST", "/console/api/session", { json: { access_token, refresh_token }, headers: origin });
    assert.equal(refused.status, 403);
    assert.equal(refused.headers.get("set-cookie"), null);
    for (const path of ["overview", "requests", "logs", "users", "audit", "stream?topics=logs"]) {
      const response = await platform.send("GET", `/console/api/${path}`, { token: access_token });
      assert.equal(response.status, 401, path);
    }
  });

  test("an administrator sees each replica up, and an open page follows them", async () => {
    await logIn(page, "ada");
    await heading("Overview").waitFor();
    for (const name of ["gateway", "user-1", "analytics-1", "notes-1", "assets-1"]) {
      await state(name, "up").waitFor();
    }
    await page.reload();
    await heading("Overview").waitFor();
  });

  test("a failing request leads by three clicks to its traceback", async () => {
    const { access_token } = await platform.logIn("ada");
    await platform.execute("user", "ALTER TABLE api_keys RENAME TO api_keys_aside");
    let response;
    try {
      response = await platform.send("GET", "/api/v1/users/api-keys", { token: access_token });
    } finally {
      await platform.execute("user", "ALTER TABLE api_keys_aside RENAME TO api_keys");
    }
    assert.equal(response.status, 500);

    await page.getByRole("link", { name: "Errors" }).click();
    await page.getByRole("link", { name: "/api/v1/users/api-keys" }).first().click();
    await page.getByRole("button", { name: "traceback" }).first().click();

    await page.getByText("Traceback (most recent call last)").waitFor();
    assert.deepEqual(await accessibilityFaults(page), []);
  });

  test("a slow route shows in the chart, and its point leads to the waterfall", async () => {
    const { access_token } = await platform.logIn("ada");
    await platform.signal("mongo", "SIGSTOP");
    const response = platform.send("GET", "/api/v1/notes", { token: access_token });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await platform.signal("mongo", "SIGCONT");
    assert.equal((await response).status, 200);

    await open("Routes");
    await page.getByRole("button", { name: "GET /api/v1/notes", exact: true }).first().click();
    const slow = page.getByRole("figure").getByRole("link", { name: /Traced request of [1-9][.\d]* s/ });
    await slow.first().waitFor();
    await slow.first().press("Enter");
    await heading("GET /api/v1/notes").waitFor();
    await page.getByRole("heading", { name: "Waterfall" }).waitFor();
    await page.getByRole("button", { name: /notes.* s$/ }).first().waitFor();
  });

  test("a replica that hangs shows down in words, and up again once it is restarted", async () => {
    await open("Overview");
    await platform.signal("notes-1", "SIGSTOP");
    try {
      await state("notes-1", "down").waitFor();
    } finally {
      await platform.signal("notes-1", "SIGKILL");
    }
    await state("notes-1", "up").waitFor();
    await card("notes-1").getByText("1 restart").waitFor();
  });

  test("requests and log lines show as they come, and filters select them", async () => {
    await open("Requests");
    await platform.send("GET", "/api/v1/notes/unheard-of", { token: admin.access_token });
    await page.getByLabel("Status").selectOption("4xx");
    await page.getByRole("link", { name: "/api/v1/notes/" }).first().waitFor();
    await page.getByLabel("Service").fill("assets");
    await page.getByText("No request matches.").waitFor();

    await open("Logs");
    await page.getByLabel("Text").fill("no line has these words");
    await page.getByText("No line matches.").waitFor();
    await page.getByRole("button", { name: "Clear" }).click();
    await page.getByRole("list", { name: "Log lines" }).getByRole("button").first().waitFor();
  });

  test("a dead letter is retried and gone, and its mail arrives", async () => {
    const folder = join(platform.data, "mail");
    await rename(folder, `${folder}-aside`);
    await platform.register("grace");
    await open("Events");
    const dead = page.getByRole("list", { name: "Dead letters" }).getByRole("listitem");
    await dead.first().waitFor();
    await rename(`${folder}-aside`, folder);

    await dead.first().getByRole("button", { name: "Retry" }).click();
    await dialog().getByText("waits in the outbox of user again").waitFor();
    assert.deepEqual(await accessibilityFaults(page), []);
    await dialog().getByRole("button", { name: "Retry the event" }).click();
    await page.getByText("There are no dead letters.").waitFor();

    await open("Mail");
    await page.getByRole("link", { name: "grace@example.com" }).click();
    await page.frameLocator("iframe").getByRole("link").first().waitFor();
    assert.deepEqual(await accessibilityFaults(page), []);
  });

  test("actions on a user ask first, can be cancelled by Esc, and leave entries in the audit", async () => {
    await open("Users");
    await page.getByLabel("Username or e-mail").fill("eve");
    const account = page.getByRole("list", { name: "Accounts" }).getByRole("listitem");
    await until("one account is left", async () => (await account.count()) === 1);
    const erase = account.getByRole("button", { name: "Erase" });
    await erase.press("Enter");
    await dialog().waitFor();
    assert.ok(await dialog().getByRole("button", { name: "Erase the account" }).isDisabled());
    for (let presses = 0; presses < 6; presses += 1) {
      await page.keyboard.press("Tab");
      assert.ok(await page.evaluate(() => !document.activeElement?.closest("main, header") || document.activeElement.closest("dialog") !== null));
    }
    await page.keyboard.press("Escape");
    await dialog().waitFor({ state: "detached" });
    assert.ok(await erase.evaluate((button) => button === document.activeElement));

    await account.getByRole("button", { name: "Give the role admin" }).click();
    await dialog().getByRole("button", { name: "Give the role admin" }).click();
    await account.getByText("admin", { exact: true }).waitFor();
    await account.getByRole("button", { name: "End sessions" }).click();
    await dialog().getByRole("button", { name: "End all sessions" }).click();
    await dialog().waitFor({ state: "detached" });
    const refresh = { json: { refresh_token: visitor.refresh_token } };
    assert.equal((await platform.send("POST", "/api/v1/users/refresh", refresh)).status, 401);
    await erase.click();
    await dialog().getByLabel("to confirm").fill("eve");
    await dialog().getByRole("button", { name: "Erase the account" }).click();
    await page.getByText("No account matches.").waitFor();

    await open("Audit");
    const entries = page.getByRole("region", { name: "Audit" }).getByRole("row").filter({ hasText: "ada" });
    await until("four actions are recorded", async () => (await entries.count()) >= 4);
    assert.equal(await entries.filter({ hasText: "done" }).count(), await entries.count());
  });

  test("the keys are rotated with progress", async () => {
    await open("Keys");
    await page.getByRole("button", { name: "Rotate the keys" }).click();
    await dialog().getByText("gets a new key").waitFor();
    await dialog().getByRole("button", { name: "Rotate the keys" }).click();
    await page.getByRole("region", { name: "Rotation" }).locator("header").getByText("running").waitFor();
  });

  test("every page is accessible and fits a phone, in light and dark", async () => {
    for (const name of PAGES) {
      await open(name);
      await page.waitForLoadState("networkidle").catch(() => {});
      for (const viewport of [PHONE, WIDE]) {
        await page.setViewportSize(viewport);
        for (const colorScheme of ["light", "dark"]) {
          await page.emulateMedia({ colorScheme });
          assert.deepEqual(await accessibilityFaults(page), [], `${name}, ${colorScheme}, ${viewport.width}`);
          assert.equal(await overflow(page), 0, `${name} is too wide for ${viewport.width}`);
        }
      }
    }
  });

  test("the counts of the data and the address of the API's documentation are shown", async () => {
    await open("Data");
    await page.getByText("user.registered").first().waitFor();
    await open("API");
    assert.equal(await page.getByRole("link", { name: "Open the API documentation" }).getAttribute("href"), "/docs");
  });

  test("the keyboard reaches the content by the skip link", async () => {
    await page.reload();
    await heading("API").waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
  });

  test("the rotation ends", async () => {
    await open("Keys");
    await page.getByRole("region", { name: "Rotation" }).locator("header").getByText("done").waitFor({ timeout: 90_000 });
  });

  test("a console that cannot be reached is told, and after its restart one logs in again", async () => {
    await open("Overview");
    await platform.signal("console", "SIGKILL");
    await page.getByText("The console cannot be reached.").waitFor();
    await page.getByText("Your session has ended. Log in again.").waitFor();
    await logIn(page, "ada");
    await state("notes-1", "up").waitFor();
  });

  test("logging out ends the session", async () => {
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByText("You are logged out.").waitFor();
    assert.equal(await page.evaluate(async () => (await fetch("/console/api/overview")).status), 401);
  });

  test("nothing was refused by the Content-Security-Policy, and no error was left unhandled", () => {
    assert.deepEqual(faults, []);
  });
});
