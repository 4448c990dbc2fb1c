// tus-js-client, as applications use it: in Node, or in a browser on a page of another origin.
//
// The first line out is the page's origin. The one line in says what to do:
//   where: "node" or "browser" · endpoint · token · size · parallel · seed
// The last line out says how it went.

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { execFileSync } from "node:child_process";

const modules = `${process.env.DAYFLY_TUS}/node_modules`;
const require = createRequire(`${modules}/`);

// The same bytes as the test makes: a byte for each place, no two stretches alike.
const fill = (size) => {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = Math.imul(at, 2654435761) >>> 24;
  return bytes;
};

const page = createServer((request, response) => {
  if (request.url === "/tus.js") {
    response.setHeader("Content-Type", "text/javascript");
    response.end(readFileSync(`${modules}/tus-js-client/dist/tus.min.js`));
  } else {
    response.setHeader("Content-Type", "text/html");
    response.end("<!doctype html><title>Uploads</title><script src='/tus.js'></script>");
  }
});
await new Promise((ready) => page.listen(0, "127.0.0.1", ready));
const origin = `http://127.0.0.1:${page.address().port}`;
console.log(JSON.stringify({ origin }));

const [line] = await new Promise((read) => {
  const lines = [];
  createInterface({ input: process.stdin })
    .on("line", (line) => read([...lines, line]));
});
const asked = JSON.parse(line);

// Runs in Node and in the page alike.
const upload = (tus, source, asked) =>
  new Promise((done) => {
    let tries = 0;
    const began = performance.now();
    const one = new tus.Upload(source, {
      endpoint: asked.endpoint,
      headers: { Authorization: `Bearer ${asked.token}` },
      metadata: { filename: "big.bin", filetype: "application/x-test" },
      parallelUploads: asked.parallel ?? 1,
      retryDelays: [0, 50, 100, 200, 400, 800, 1600],
      onShouldRetry: () => ((tries += 1), true),
      onError: (error) => done({ error: String(error), tries }),
      onSuccess: () => done({ url: one.url, tries, seconds: (performance.now() - began) / 1000 }),
    });
    one.start();
  });

let told;
if (asked.where === "node") {
  told = await upload(require("tus-js-client"), Buffer.from(fill(asked.size)), asked);
} else {
  const { chromium } = createRequire(import.meta.url)(process.env.DAYFLY_PLAYWRIGHT);
  const command = process.env.DAYFLY_CHROMIUM;
  const path = command.includes("/")
    ? command
    : execFileSync("sh", ["-c", `command -v ${command}`]).toString().trim();
  const browser = await chromium.launch({
    executablePath: path,
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  const view = await browser.newPage();
  await view.goto(`${origin}/`);
  const body = `(asked) => (${upload})(tus, new Blob([(${fill})(asked.size)]), asked)`;
  told = await view.evaluate(`(${body})(${JSON.stringify(asked)})`);
  await browser.close();
}
console.log(JSON.stringify(told));
page.close();
process.exit(0);
