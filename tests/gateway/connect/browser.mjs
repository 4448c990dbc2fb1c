// One browser, driven line by line: each line of JSON is a step, each answer what is seen after it.
//
//   open: an address · press: a button, by its words · again: load the page again
//   stranger: an address, opened in a browser of somebody else's
//   picture: where to put pictures of the page, light and dark, desktop and phone

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)(process.env.DAYFLY_PLAYWRIGHT);

const browser = await chromium.launch({
  executablePath: await path(process.env.DAYFLY_CHROMIUM),
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

async function path(command) {
  if (command.includes("/")) return command;
  const { execFileSync } = await import("node:child_process");
  return execFileSync("sh", ["-c", `command -v ${command}`]).toString().trim();
}

const own = await browser.newContext({ javaScriptEnabled: false });
const page = await own.newPage();
const errors = [];
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));

const LOOKS = [
  ["desktop-light", 1100, 800, "light"],
  ["desktop-dark", 1100, 800, "dark"],
  ["phone-light", 390, 844, "light"],
  ["phone-dark", 390, 844, "dark"],
];

async function pictures(of, place) {
  for (const [name, width, height, colorScheme] of LOOKS) {
    await of.setViewportSize({ width, height });
    await of.emulateMedia({ colorScheme });
    await of.screenshot({ path: `${place}-${name}.png`, fullPage: true });
  }
}

async function seen(of, status, step) {
  if (step.picture) await pictures(of, step.picture);
  const links = await of.locator("main a").all();
  const onward = links.length ? await links[0].getAttribute("href") : null;
  const text = await of.locator("body").innerText();
  return { url: of.url(), status, text, onward, errors: errors.splice(0) };
}

async function press(words) {
  const button = page.getByRole("button", { name: words });
  const [answer] = await Promise.all([page.waitForNavigation(), button.click()]);
  return answer?.status();
}

async function does(step) {
  if (step.stranger) {
    const other = await browser.newContext({ javaScriptEnabled: false });
    const theirs = await other.newPage();
    const answer = await theirs.goto(step.stranger);
    const result = await seen(theirs, answer.status(), step);
    await other.close();
    return result;
  }
  if (step.open) return seen(page, (await page.goto(step.open)).status(), step);
  if (step.again) return seen(page, (await page.reload()).status(), step);
  return seen(page, await press(step.press), step);
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = await does(JSON.parse(line));
  } catch (error) {
    answer = { error: String(error), url: page.url(), errors };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
