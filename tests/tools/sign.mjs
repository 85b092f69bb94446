// Signs webhooks with Svix's own JavaScript library. Reads lines of JSON
//
//   {"secret":"whsec_…","id":"msg_…","timestamp":1731705121,"body":"…"}
//
// with the timestamp in unix seconds, and prints one `svix-signature` header for each.

import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

const repository = join(dirname(fileURLToPath(import.meta.url)), "../..");
const tools = process.env.CLERKCAST_TEST_TOOLS ?? join(repository, "target/test-tools");

// `import` looks beside this file only, and knows no NODE_PATH; `require` can be told where.
const { resolve: locate } = createRequire(join(resolve(tools), "node", "anything"));
const { Webhook } = await import(pathToFileURL(locate("svix")));

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, id, timestamp, body } = JSON.parse(line);
  console.log(new Webhook(secret).sign(id, new Date(timestamp * 1000), body));
}
