// The reference server of tus, as its documentation starts it: files in one folder.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.DAYFLY_TUS}/node_modules/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { Server } = await load("@tus/server");
const { FileStore } = await load("@tus/file-store");

const datastore = new FileStore({ directory: process.argv[2] });
const server = new Server({ path: "/files", datastore });
const listening = server.listen({ host: "127.0.0.1", port: 0 });
listening.on("listening", () => console.log(`http://127.0.0.1:${listening.address().port}`));
